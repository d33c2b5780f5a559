"""Rules without a model for syntactic questions: a fixed offset (b1), the nearest word of a part of speech (b2).

Source of the offsets: Clark et al. 2019 (arXiv:1906.04341, section 4.2). The nearest verb to the left finds more than
nine objects in ten, so that offsets alone are no bar.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from probes.family import Rule

__all__ = ["OFFSETS", "RULES", "TAGS", "Near"]

OFFSETS = tuple(offset for offset in range(-10, 11) if offset)
TAGS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PRON", "PROPN", "SCONJ", "VERB")
"""Universal parts of speech that a rule looks for. PART, PUNCT, SYM and X are left out: in the dev parts of the English
treebanks EWT and GUM they are the best rule for no relation in either direction.
"""

_ORDINALS = ("nearest", "second")
_SIDES = ("left", "right")
_FURTHEST = OFFSETS[-1]

RULES: tuple[Rule, ...] = (
    *(Rule(f"offset {offset:+d}", "offset") for offset in OFFSETS),
    *(Rule(f"{ordinal} {tag} {side}", "pos") for tag in TAGS for side in _SIDES for ordinal in _ORDINALS),
)
_NUMBER = {tag: number for number, tag in enumerate(TAGS)}


class Near:
    """Parts of speech of a text's words, counted so that the k-th nearest of each is found at once.

    Words that the model did not see are not counted; offsets count all words.
    """

    def __init__(self, upos: Sequence[str], kept: Bool[np.ndarray, " word"]) -> None:
        """The text's words and which of them the model saw."""
        self._tag = np.array([_NUMBER.get(name, -1) for name in upos], dtype=np.int64)
        self._tag[~kept] = -1
        known = (self._tag >= 0).nonzero()[0]
        self._before = np.zeros((len(self._tag) + 1, len(TAGS)), dtype=np.int64)  # words of each tag before a word
        self._before[known + 1, self._tag[known]] = 1
        np.cumsum(self._before, axis=0, out=self._before)
        self._known = bool(self._before[-1].any())

    def points(
        self, asking: Int64[np.ndarray, " entry"], answer: Int64[np.ndarray, " entry"]
    ) -> Bool[np.ndarray, "entry rule"]:
        """Which of `RULES` answer the word `asking` with the word `answer`; none does where they are the same."""
        found = np.zeros((len(asking), len(RULES)), dtype=bool)
        offset = answer - asking
        right = offset > 0
        near = (offset != 0) & (np.abs(offset) <= _FURTHEST)
        entry = near.nonzero()[0]
        found[entry, (offset + _FURTHEST - right)[entry]] = True
        of = self._tag[answer]
        first, last = np.minimum(asking + right, answer), np.maximum(asking, answer + right)
        place = self._before[last, of] - self._before[first, of]  # first, second, ... of its kind, from `asking`
        entry = ((of >= 0) & (place >= 1) & (place <= len(_ORDINALS)) & (offset != 0)).nonzero()[0]
        column = len(OFFSETS) + (of * len(_SIDES) + right) * len(_ORDINALS) + place - 1
        found[entry, column[entry]] = True
        return found

    def silent(self, asking: Int64[np.ndarray, " trial"]) -> Bool[np.ndarray, "trial rule"]:
        """Which of `RULES` find no such word from the word `asking`; an offset always names a place.

        An offset that leaves the sentence is a wrong answer (Clark et al. 2019 count it so). Of a text without parts of
        speech nothing is known, so that no rule is silent there: none can answer anywhere.
        """
        if not self._known:
            return np.zeros((len(asking), len(RULES)), dtype=bool)
        sides = (self._before[asking], self._before[-1] - self._before[asking + 1])
        n_words = np.stack(sides, axis=-1)[..., None]  # [trial tag side 1]
        lacking = (n_words < np.arange(1, len(_ORDINALS) + 1)).reshape(len(asking), len(RULES) - len(OFFSETS))
        return np.concatenate([np.zeros((len(asking), len(OFFSETS)), dtype=bool), lacking], axis=1)

    def undecided(
        self, points: Bool[np.ndarray, "option rule"], trial: Int64[np.ndarray, " option"], n_trials: int
    ) -> Bool[np.ndarray, "trial rule"]:
        """Which of `RULES` choose between options, but none of a trial's: neither right nor wrong there.

        Args:
            points: the options that the rules answer with.
            trial: of each option.
            n_trials: number of trials.
        """
        answered = np.zeros((n_trials, len(RULES)), dtype=bool)
        np.logical_or.at(answered, trial, points)
        chooses = np.ones(len(RULES), dtype=bool)
        chooses[len(OFFSETS) :] = self._known
        return ~answered & chooses
