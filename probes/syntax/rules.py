"""Rules without a model for syntactic questions: a fixed offset (b1), the nearest word of a part of speech (b2).

Source of the offsets: Clark et al. 2019 (arXiv:1906.04341, section 4.2). The nearest verb to the left finds more than
nine objects in ten, so that offsets alone are no bar.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from probes.family import Rule

__all__ = ["OFFSETS", "RULES", "TAGS", "points"]

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


def points(
    asking: Int64[np.ndarray, " entry"],
    answer: Int64[np.ndarray, " entry"],
    upos: Sequence[str],
    kept: Bool[np.ndarray, " word"],
) -> Bool[np.ndarray, "entry rule"]:
    """Which of `RULES` answer the word `asking` with the word `answer` (another one).

    Words that the model did not see are not counted when the nearest word of a part of speech is looked for; offsets
    count all words.
    """
    found = np.zeros((len(asking), len(RULES)), dtype=bool)
    entries = np.arange(len(asking))
    offset = answer - asking
    near = (offset != 0) & (np.abs(offset) <= _FURTHEST)
    column = offset + _FURTHEST - (offset > 0)
    found[entries[near], column[near]] = True
    tag = np.array([_NUMBER.get(name, -1) for name in upos], dtype=np.int64)
    tag[~kept] = -1
    before = np.zeros((len(tag) + 1, len(TAGS)), dtype=np.int64)  # words of each tag before a word
    known = np.flatnonzero(tag >= 0)
    before[known + 1, tag[known]] = 1
    before = before.cumsum(axis=0)
    of = tag[answer]
    right = answer > asking
    first, last = np.minimum(asking + right, answer), np.maximum(asking, answer + right)
    place = before[last, of] - before[first, of]  # the answer is the so-manieth of its kind, counted from `asking`
    named = (of >= 0) & (place >= 1) & (place <= len(_ORDINALS)) & (offset != 0)
    column = len(OFFSETS) + (of * len(_SIDES) + right) * len(_ORDINALS) + place - 1
    found[entries[named], column[named]] = True
    return found
