"""Capture: what a model's attention computed for a text, held exactly and saved without a pickle."""
