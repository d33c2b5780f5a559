"""The pages below `/inside`: every step of attention and of the block, with the model's own numbers."""
