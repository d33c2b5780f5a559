"""One of everything that attnlens can be extended by."""
