"""What a layer's attention over a batch of texts looks like to a family that measures rows without annotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from probes.kept import kept_plans
from probes.tally import Key
from probes.winners import Winners, bars, strongest
from probes.words import Reading

__all__ = ["LayerView", "Sums", "Values", "in_order", "padded"]


@dataclass(frozen=True)
class LayerView:
    """The heads of one layer over a batch of texts; shorter texts are padded on the right with zeros.

    Attributes:
        readings: the texts.
        tokens: token-level weights.
        visible: which keys a query can see; nothing of the padding.
        words: word-level weights, see `probes.words.word_attention`.
    """

    readings: tuple[Reading, ...]
    tokens: Float[Tensor, "text head query key"]
    visible: Bool[Tensor, "text query key"]
    words: Float64[Tensor, "text head word other"]

    @cached_property
    def token_candidates(self) -> Bool[Tensor, "text query key"]:
        """Tokens that may win, see `Reading.token_candidates`."""
        return padded([reading.token_candidates for reading in self.readings], self.tokens.shape[-1])

    @cached_property
    def word_candidates(self) -> Bool[Tensor, "text word other"]:
        """Words that may win, see `Reading.candidates`."""
        return padded([reading.candidates for reading in self.readings], self.words.shape[-1])

    @cached_property
    def token_wins(self) -> Winners:
        """Who wins each row of tokens, as a list: 1/n_ties at each of the strongest candidates."""
        return strongest(self.tokens.numpy(), _rivals(self.readings, ("token", self.tokens.shape[-1])).barred)

    @cached_property
    def word_wins(self) -> Winners:
        """The same for words."""
        return strongest(self.words.numpy(), _rivals(self.readings, ("word", self.words.shape[-1])).barred)

    @cached_property
    def column_wins(self) -> Winners:
        """Who wins each column of words: who looks at a word the most."""
        return strongest(self.words.numpy(), _rivals(self.readings, ("word", self.words.shape[-1])).barred, axis=-2)

    @cached_property
    def received(self) -> Float64[np.ndarray, "text head word"]:
        """Weight that each word gets from the words that may attend to it (`word_candidates`)."""
        seen = _rivals(self.readings, ("word", self.words.shape[-1])).candidates
        return np.asarray(np.einsum("tqk,thqk->thk", seen, self.words.numpy()))

    @cached_property
    def text_tokens(self) -> Bool[Tensor, "text token"]:
        """Tokens of the text: neither special nor padding."""
        n = self.tokens.shape[-1]
        rows = torch.zeros(len(self.readings), n, dtype=torch.bool)
        for row, reading in zip(rows, self.readings, strict=True):
            row[: len(reading.special)] = torch.from_numpy(~reading.special)
        return rows


@dataclass(frozen=True)
class Values:
    """One question's values over a batch: per query or per text, NaN where it is not defined.

    Attributes:
        key: the question.
        hits: the share of a win, or the value itself for measures that are no accuracy. Where it is defined does not
            depend on the head.
        mass: attention on the target; `hits` where None.
        chance: what uniform attention, or a uniform choice, would give; 0 where None.
        mass_chance: mass that uniform attention over all visible tokens puts on the target; `chance` where None.
    """

    key: Key
    hits: Float64[Tensor, "text head item"]
    mass: Float64[Tensor, "text head item"] | None = None
    chance: Float64[Tensor, "text item"] | None = None
    mass_chance: Float64[Tensor, "text item"] | None = None


@dataclass(frozen=True)
class Sums:
    """Several questions' values, summed over each text: what to give where the corpus is large.

    Attributes:
        keys: the questions.
        trials: how often each was scored in each text; it does not depend on the head.
        hits: sum over these trials of the share of a win, or of the value itself.
        mass, chance, mass_chance: sums of what `Values` calls so, with the same defaults.
    """

    keys: tuple[Key, ...]
    trials: Int64[Tensor, "text question"]
    hits: Float64[Tensor, "text question head"]
    mass: Float64[Tensor, "text question head"] | None = None
    chance: Float64[Tensor, "text question"] | None = None
    mass_chance: Float64[Tensor, "text question"] | None = None

    def spread(self, n_texts: int, texts: Int64[Tensor, " text"]) -> Sums:
        """The same over a batch of `n_texts`, of which these are the sums of `texts`; the others have no trial."""

        def over_all(part: Tensor | None) -> Tensor | None:
            if part is None:
                return None
            whole = torch.zeros(n_texts, *part.shape[1:], dtype=part.dtype)
            whole[texts] = part
            return whole

        trials, hits = over_all(self.trials), over_all(self.hits)
        assert trials is not None
        assert hits is not None
        return Sums(self.keys, trials, hits, over_all(self.mass), over_all(self.chance), over_all(self.mass_chance))


def in_order(values: Float64[np.ndarray, "*shape item"]) -> Float64[np.ndarray, "*shape"]:
    """Sums over the last axis, one item after the other: zeros at the end, the padding of a batch, change no bit.

    A sum of shares like 1/46 may lie halfway between two units, where the last bit decides how it is rounded.
    """
    return np.asarray(np.add.accumulate(values, axis=-1)[..., -1]) if values.shape[-1] else values.sum(-1)


def padded(masks: Sequence[Bool[object, "_ _"]], n: int) -> Bool[Tensor, "text query key"]:
    """Square masks of several texts in one tensor, False beyond each text's end."""
    together = np.zeros((len(masks), n, n), dtype=bool)
    for page, mask in zip(together, masks, strict=True):
        size = len(mask)  # type: ignore[arg-type]
        page[:size, :size] = mask
    return torch.from_numpy(together)


@dataclass(frozen=True)
class _Rivals:
    """Who may win, as numbers; the same for every layer of a batch.

    Attributes:
        candidates: 1 at candidates.
        barred: see `probes.winners.bars`.
    """

    candidates: Float64[np.ndarray, "text query key"]
    barred: Float64[np.ndarray, "text 1 query key"]


def _rivals_of(readings: tuple[Reading, ...], level: tuple[str, int]) -> _Rivals:
    kind, n = level
    masks = [reading.candidates if kind == "word" else reading.token_candidates for reading in readings]
    candidates = padded(masks, n).numpy()
    return _Rivals(candidates.astype(np.float64), bars(candidates))


_rivals = kept_plans(_rivals_of)
