"""Runs and results in the forms of other tools; each is an entry point, `run.X` or `results.X`."""
