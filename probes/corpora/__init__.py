"""Corpora: annotated text in CoNLL-U, read with its trees and mentions; faults are named by line."""
