"""What a step of a model computes, worked out again from the tensors that the model itself gave."""
