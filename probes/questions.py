"""What a family asks of one text: trials, the cells of the attention that answer them, and what rules would answer.

Everything here follows from annotation and tokenizer alone, so it is the same for every head and every layer; a model
only fills in the weights. Two kinds of trial cover the families that compare heads with rules:

- `RowTrials`: the strongest of everything that a row may look at (`Reading.candidates`) should be a target.
- `OptionTrials`: the strongest of a few options, each the sum over cells of the attention, should be a right one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike

from probes.tally import Key

__all__ = ["Cells", "Level", "OptionTrials", "RowTrials", "no_cells"]

Level = Literal["word", "token", "column"]
"""What competes in a row of trials: the words of a word's row, the tokens of a token's row; or, in a word's column, the
words that look at it ("which word looks at me most?"), where a rule answers as if the column's word asked."""


@dataclass(frozen=True)
class Cells:
    """Places in the attention that belong to trials (or to options): one entry per cell.

    Attributes:
        of: trial (or option) of each entry.
        query, key: indices of words, or of tokens.
        weight: the entry's share in its trial's amount; 1 for targets, 1/n for n control words.
    """

    of: Int64[np.ndarray, " entry"]
    query: Int64[np.ndarray, " entry"]
    key: Int64[np.ndarray, " entry"]
    weight: Float64[np.ndarray, " entry"]

    @classmethod
    def at(cls, of: ArrayLike, query: ArrayLike, key: ArrayLike) -> Cells:
        """Entries of weight 1."""
        places = np.asarray(of, dtype=np.int64)
        return cls(places, np.asarray(query, np.int64), np.asarray(key, np.int64), np.ones(len(places)))

    def __len__(self) -> int:
        return len(self.of)


def no_cells() -> Cells:
    """No entry."""
    return Cells.at([], [], [])


@dataclass(frozen=True)
class RowTrials:
    """Trials that ask for the strongest candidate of a row.

    Attributes:
        keys: the questions, each once.
        asked: how often each occurs in the text, whether it could be scored or not.
        question: index in `keys` of each trial. A trial counts once; its score is the sum over its targets.
        chance: what a uniform choice among the row's candidates would hit.
        targets: the right cells; those of one trial lie in one row (in one column at level "column").
        points: rules (columns, as in `Probe.rules`) that answer with this target.
        paired: trials that have control words.
        controls: cells where the same offsets mean nothing; see `Cell.control_hits`.
        shuffled: targets after the annotation was shuffled within the sentence (baseline b5).
        level: whether cells count words or tokens, and whether rows or columns are contested; see `Level`.
        mass_chance: mass that uniform attention over all visible tokens puts on the targets; `chance` where None.
        silent: rules that answer nothing here, for want of such a word: they get `chance`, as a head does whose
            candidates tie. None where every rule answers, or where none is a wrong answer.
    """

    keys: tuple[Key, ...]
    asked: Int64[np.ndarray, " key"]
    question: Int64[np.ndarray, " trial"]
    chance: Float64[np.ndarray, " trial"]
    targets: Cells
    points: Bool[np.ndarray, "entry rule"]
    paired: Bool[np.ndarray, " trial"]
    controls: Cells = field(default_factory=no_cells)
    shuffled: Cells = field(default_factory=no_cells)
    level: Level = "word"
    mass_chance: Float64[np.ndarray, " trial"] | None = None
    silent: Bool[np.ndarray, "trial rule"] | None = None


@dataclass(frozen=True)
class OptionTrials:
    """Trials that ask for the strongest of a few options; the amount of an option is the weighted sum of its cells.

    Attributes:
        keys, asked, question, chance: as in `RowTrials`.
        level: "word" or "token": what the cells count.
        option_trial: trial of each option.
        right: options that are right.
        cells: their `of` is the option.
        points: rules that answer with this option.
        silent: rules that choose none of the options here: they get `chance`, as a head does that puts all its weight
            there, since the options tie. None where a rule that names no option is wrong.
    """

    keys: tuple[Key, ...]
    asked: Int64[np.ndarray, " key"]
    question: Int64[np.ndarray, " trial"]
    chance: Float64[np.ndarray, " trial"]
    option_trial: Int64[np.ndarray, " option"]
    right: Bool[np.ndarray, " option"]
    cells: Cells
    points: Bool[np.ndarray, "option rule"]
    level: Level = "word"
    silent: Bool[np.ndarray, "trial rule"] | None = None
