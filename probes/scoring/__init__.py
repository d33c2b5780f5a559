"""The fast way of scoring: a batch's questions are laid out once, then answered layer by layer in array passes."""
