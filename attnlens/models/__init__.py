"""Models: found by name, opened without running foreign code, taken apart, and checked before anything is shown."""
