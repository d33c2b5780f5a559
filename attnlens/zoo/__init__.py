"""Embedded models and text, and the recipe that makes them again."""
