"""Probes: what every attention head of a model does, measured on annotated text against rules without a model."""
