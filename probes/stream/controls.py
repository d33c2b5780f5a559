"""What a probe's score is held against: a model that learnt nothing, words out of order, labels without a meaning.

Source: Hewitt and Liang 2019, "Designing and Interpreting Probes with Control Tasks" (arXiv:1909.03368), sections 2 and
3, for labels that depend on the word type alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from attnlens.errors import AttnlensError
from probes.random_models import copies
from probes.stream.sample import Sampled
from probes.stream.states import Reading

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["RandomCopy", "control_labels", "random_copy", "shuffled", "type_majority"]


@dataclass(frozen=True)
class RandomCopy:
    """The same architecture with weights as training begins; where there is none, `lens` is None and `why` says so."""

    lens: Lens | None
    why: str | None = None


def random_copy(lens: Lens, seed: int) -> RandomCopy:
    """A copy of the model with freshly drawn weights, on the same device, in the same precision, with its tokenizer.

    The weights are drawn by the family's own initialisation; the state of torch's generator stays as it is.
    """
    from transformers import PreTrainedModel

    name = type(lens.model).__name__
    if not isinstance(lens.model, PreTrainedModel):
        return RandomCopy(None, f"{name} is no model of transformers, which could be made anew")
    try:
        return RandomCopy(next(copies(lens, (seed,))))
    except (AttnlensError, TypeError, ValueError, ImportError) as error:
        return RandomCopy(None, f"{name} could not be made anew ({type(error).__name__}: {error})")


def shuffled(sampled: Sampled, seed: int) -> tuple[Reading, Int64[np.ndarray, " word"]]:
    """A sentence's written words in random order, a space between; and which word of the sentence stands where.

    Words that are written nowhere keep out of the text.
    """
    forms, spans = sampled.sentence.forms, sampled.sentence.spans
    written = [word for word, (start, end) in enumerate(spans) if end > start]
    digest = hashlib.sha256(f"{seed} order {sampled.key}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(written).astype(np.int64)
    at, placed = 0, []
    for word in order:
        placed.append((at, at + len(forms[word])))
        at += len(forms[word]) + 1
    return Reading(" ".join(forms[word] for word in order), tuple(placed)), order


def control_labels(
    types: Sequence[str], labels: Int64[np.ndarray, " word"], drawn_from: Int64[np.ndarray, " other"], seed: int
) -> Int64[np.ndarray, " word"]:
    """A random label for every word type, the same wherever the type stands; -1 stays -1.

    Args:
        types: of the words.
        labels: of the words, numbers from 0; -1 where there is none.
        drawn_from: the labels whose frequencies the random ones have.
        seed: another one gives other labels. A type's label depends on its letters, the seed and the frequencies alone.
    """
    counts = np.bincount(drawn_from[drawn_from >= 0])
    bounds = np.cumsum(counts) / counts.sum()
    drawn = {name: int(np.searchsorted(bounds, _share_of(name, seed), side="right")) for name in set(types)}
    own = np.array([drawn[name] for name in types], dtype=np.int64)
    return np.where(labels >= 0, own, -1)


def type_majority(
    types: Sequence[str], labels: Int64[np.ndarray, " word"], fit: Sequence[int] | np.ndarray
) -> Int64[np.ndarray, " word"]:
    """What one would say of each word from its type alone: its commonest label among the words `fit`.

    A type that is not among them gets the commonest label of all.
    """
    seen: dict[str, Counter[int]] = defaultdict(Counter)
    for word in fit:
        if labels[word] >= 0:
            seen[types[word]][int(labels[word])] += 1
    overall = sum(seen.values(), Counter())
    commonest = _commonest(overall)
    known = {name: _commonest(counter) for name, counter in seen.items()}
    return np.array([known.get(name, commonest) for name in types], dtype=np.int64)


def _commonest(counter: Counter[int]) -> int:
    """The label with the highest count, of several the lowest number."""
    return min(counter, key=lambda label: (-counter[label], label))


def _share_of(name: str, seed: int) -> float:
    """A number from 0 to 1 that a name and a seed settle."""
    digest = hashlib.sha256(f"{seed} type {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
