"""The lexical family: does a head look at rare words, or at words of named entities?"""

from probes.lexical.probe import LexicalProbe

__all__ = ["LexicalProbe"]
