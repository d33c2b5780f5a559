"""What a family says of a model before it is run, and what it finds out from it beside its attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from attnlens.heads import Head
from attnlens.models.anatomy import Anatomy
from probes.family import Probe
from probes.split import Split
from probes.tally import Key, Tally, in_units
from probes.texts import stimulus_cluster

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["Inspected", "Inspecting", "Suiting", "inspect_into", "unsuited"]


@dataclass(frozen=True)
class Inspected:
    """One question's values on one text of a family's own making.

    Attributes:
        key: the question.
        number: of the text, as `Stimulating.stimuli` counts them; its counts go where the text's go.
        trials: how often the question was asked of the text.
        values: sum over the trials, heads in the order of layers.
    """

    key: Key
    number: int
    trials: int
    values: Float64[Tensor, " head"]


@runtime_checkable
class Inspecting(Protocol):
    """A family that runs the model itself for questions that attention alone does not answer."""

    def inspect(self, lens: Lens, seed: int) -> Iterator[Inspected]:
        """The values; the same for the same model and seed."""
        ...


@runtime_checkable
class Suiting(Protocol):
    """A family that not every model can be asked."""

    def unsuited(self, anatomy: Anatomy) -> str | None:
        """Why this model cannot be asked, or None."""
        ...


def unsuited(probes: Iterable[object], anatomy: Anatomy) -> dict[str, str]:
    """Families that this model cannot be asked, by name, with the reason."""
    return {
        str(getattr(probe, "name", probe)): reason
        for probe in probes
        if isinstance(probe, Suiting) and (reason := probe.unsuited(anatomy)) is not None
    }


def inspect_into(
    tally: Tally, probe: Probe, lens: Lens, split: Split, seed: int, heads: Sequence[Head] | None = None
) -> None:
    """Add what a family finds out from the model to its tally; nothing for families that do not.

    Args:
        tally: of the family.
        probe: the family.
        lens: the model.
        split: of the corpus.
        seed: of what the family draws.
        heads: those that the tally has, of the model's; None for all.
    """
    if isinstance(probe, Inspecting):
        every = lens.anatomy.heads()
        kept = slice(None) if heads is None else np.array([every.index(head) for head in heads])
        _add(tally, probe.inspect(lens, seed), split, kept)


def _add(tally: Tally, found: Iterable[Inspected], split: Split, kept: slice | Int64[np.ndarray, " head"]) -> None:
    for each in found:
        cluster = stimulus_cluster(each.number, split)
        values = in_units(each.values.numpy()[kept])
        half = int(split.confirm[cluster])
        tally.add(each.key, cluster, half, trials=each.trials, asked=each.trials, hits=values, mass=values)
