"""The report file: what stands inside it, how its pages are made of it, and how it is read back."""
