"""Probes that the page starts: they run in processes of their own, and everything about them lies in a folder."""
