"""Measures: pure functions on arrays, and the attribution of a score to heads."""
