"""Corpora: annotated text in several formats, with trees, mentions, choices and links; faults are named by line."""
