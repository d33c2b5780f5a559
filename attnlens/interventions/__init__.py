"""Ablate heads, cut edges, patch activations, steer patterns; what that does, and whether it is causal."""
