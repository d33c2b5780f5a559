"""Every head ablated, every point patched, one per row of a batch: which of them the prediction hangs on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.capture.edits import HeadEdit, Replacement
from attnlens.capture.run import Capture
from attnlens.capture.sites import Site
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.interventions.blocks import Edit
from attnlens.interventions.edits import check_point, chosen_layers, resolve_heads
from attnlens.interventions.effects import Trial
from attnlens.interventions.metrics import Metric
from attnlens.interventions.sources import CORPUS, Source, Values, ablated_values
from attnlens.models.encode import Text
from attnlens.models.point_edits import PointEdit

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["HeadSweep", "PatchSweep", "ablate_each", "patch_each"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class HeadSweep:
    """A metric with each head ablated in turn.

    Attributes:
        metric, unit: what was measured.
        larger_is_better: whether harm makes it smaller.
        how: "zero", "mean" or "resample".
        heads: which were ablated.
        before: the metric without any ablation.
        after: with each head ablated, one row per draw.
    """

    metric: str
    unit: str
    larger_is_better: bool
    how: str
    heads: tuple[Head, ...]
    before: float
    after: Float64[Tensor, "draw head"]

    @property
    def changes(self) -> Float64[Tensor, " head"]:
        """After minus before, mean over the draws."""
        return self.after.mean(0) - self.before

    @property
    def harms(self) -> Float64[Tensor, "draw head"]:
        """How much worse the behaviour got with each head ablated: positive for harm."""
        return self.before - self.after if self.larger_is_better else self.after - self.before

    def strongest(self, n: int = 10) -> tuple[tuple[Head, float], ...]:
        """The heads whose ablation changes the metric most, with the change."""
        order = self.changes.abs().argsort(descending=True)[:n].tolist()
        return tuple((self.heads[place], float(self.changes[place])) for place in order)

    def table(self) -> Float64[Tensor, "layer head"]:
        """The changes of one stack's heads by layer and head; NaN where none was ablated."""
        values = torch.full((max(h.layer for h in self.heads) + 1, max(h.head for h in self.heads) + 1), torch.nan)
        values = values.double()
        for head, change in zip(self.heads, self.changes, strict=True):
            values[head.layer, head.head] = change
        return values

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        heads = [
            {"head": str(head), "change": float(change), "after": after}
            for head, change, after in zip(self.heads, self.changes, self.after.T.tolist(), strict=True)
        ]
        return {"metric": self.metric, "unit": self.unit, "how": self.how, "before": self.before, "heads": heads}


def ablate_each(
    lens: Lens,
    text: Text | Capture,
    metric: Metric,
    heads: Sequence[object] = (),
    *,
    how: str = "zero",
    source: Source = CORPUS,
    draws: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> HeadSweep:
    """Ablate every head in turn, `batch_size` of them in one forward pass.

    Args:
        lens: the model.
        text: the text (or the run of it); a pair for an encoder-decoder.
        metric: what is measured.
        heads: which; every head of the main stack where none is named.
        how: as in `attnlens.interventions.edits.ablation`, like `source`.
        source: where mean and resample take values from.
        draws: how often to resample; each with a seed of its own, the same for all heads.
        seed: of the first draw.
        batch_size: heads per forward pass.
        progress: called with (ablations done, ablations in all).

    Raises:
        UsageError: a batch size or a number of draws below 1.
        As `effect`.
    """
    for name, value in (("batch_size", batch_size), ("draws", draws)):
        if value < 1:
            raise UsageError(f"{name} is {value}; expected at least 1.")
    chosen = resolve_heads(lens.anatomy, heads) if heads else lens.anatomy.stack(lens.anatomy.main_stack).heads()
    trial = Trial.of(lens, text, metric)
    values = ablated_values(lens, chosen, how, source)
    n_draws = draws if how == "resample" else 1
    found: list[list[float]] = []
    for draw in range(n_draws):
        drawn = values(seed + draw)
        row: list[float] = []
        for start in range(0, len(chosen), batch_size):
            part = chosen[start : start + batch_size]
            row += trial.rows(one_head_per_row(lens, part, drawn), len(part)).tolist()
            if progress is not None:
                progress(draw * len(chosen) + len(row), n_draws * len(chosen))
        found.append(row)
    readout = trial.readout
    after = torch.tensor(found, dtype=torch.float64)
    return HeadSweep(readout.name, readout.unit, readout.larger_is_better, how, chosen, trial.before, after)


def one_head_per_row(lens: Lens, heads: Sequence[Head], values: Values) -> Edit:
    """Row `i` of the batch has head `i` ablated."""
    masks: dict[Site, Tensor] = {}
    for row, head in enumerate(heads):
        site = Site(head.stack, head.layer)
        if site not in masks:
            n_heads = lens.anatomy.stack(head.stack).n_heads
            masks[site] = torch.zeros(len(heads), 1, n_heads, 1, dtype=torch.bool)
        masks[site][row, :, head.head] = True
    return Edit("one head per row", (HeadEdit({s: Replacement(mask, values[s]) for s, mask in masks.items()}),))


@dataclass(frozen=True, eq=False)
class PatchSweep:
    """A metric with a point patched from another text, layer by layer and position by position.

    Attributes:
        metric, unit: what was measured.
        point: what was patched.
        layers, positions: where.
        before: the metric on the text as it is.
        other: the metric on the other text as it is.
        after: with each patch.
    """

    metric: str
    unit: str
    point: str
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    before: float
    other: float
    after: Float64[Tensor, "layer position"]

    @property
    def recovered(self) -> Float64[Tensor, "layer position"]:
        """How far each patch takes the metric from `before` (0) to `other` (1); NaN where these are equal."""
        gap = self.other - self.before
        return (self.after - self.before) / gap if gap else torch.full_like(self.after, torch.nan)

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        fields = {name: getattr(self, name) for name in ("metric", "unit", "point", "before", "other")}
        places = {"layers": list(self.layers), "positions": list(self.positions)}
        return fields | places | {"after": self.after.tolist()}


def patch_each(
    lens: Lens,
    text: Text,
    other: Text,
    metric: Metric,
    *,
    point: str = "resid_post",
    layers: int | Iterable[int] | None = None,
    positions: Sequence[int] | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> PatchSweep:
    """Patch a point of the stream from `other`, at one layer and one position at a time.

    Source: Meng et al. 2022 (arXiv:2202.05262), section 2 (causal tracing by restoring states).

    Args:
        lens: the model.
        text: the text whose prediction is watched.
        other: the text that the values come from, with as many tokens.
        metric: what is measured.
        point: of the stream, as in `attnlens.interventions.edits.patching`.
        layers: which layers; None for all.
        positions: which positions; None for all.
        batch_size: patches per forward pass.
        progress: called with (patches done, patches in all).

    Raises:
        UsageError: texts of different numbers of tokens; a layer or position that does not exist.
        CaptureError: a point that cannot be patched.
    """
    letter = lens.anatomy.main_stack
    check_point(lens, point, letter)
    once = point in ("embed", "final")
    chosen = (0,) if once else chosen_layers(lens.anatomy, letter, layers)
    trial, plain = Trial.of(lens, text, metric), Trial.of(lens, other, metric)
    source, target = (lens.capture(given, points=(point,), logits=False) for given in (other, text))
    n = len(target.tokens)
    if len(source.tokens) != n:
        raise UsageError(
            f"the text has {n} tokens and the other one {len(source.tokens)}; a sweep compares position by position, "
            "so give texts of the same number of tokens."
        )
    places = tuple(range(n)) if positions is None else tuple(positions)
    if any(not 0 <= place < n for place in places):
        raise UsageError(f"positions={list(places)} is not within the text's, 0 to {n - 1}.")
    pairs = [(layer, place) for layer in chosen for place in places]
    after: list[float] = []
    for start in range(0, len(pairs), batch_size):
        part = pairs[start : start + batch_size]
        after += trial.rows(_one_patch_per_row(source, letter, point, part, once), len(part)).tolist()
        if progress is not None:
            progress(len(after), len(pairs))
    values = torch.tensor(after, dtype=torch.float64).view(len(chosen), len(places))
    readout = trial.readout
    return PatchSweep(readout.name, readout.unit, point, chosen, places, trial.before, plain.before, values)


def _one_patch_per_row(source: Capture, letter: str, point: str, pairs: Sequence[tuple[int, int]], once: bool) -> Edit:
    n = len(source.tokens)
    replacements = {}
    for layer in sorted({layer for layer, _ in pairs}):
        where = torch.zeros(len(pairs), n, 1, dtype=torch.bool)
        for row, (at, place) in enumerate(pairs):
            where[row, place] = at == layer
        value = source.residual(point, None if once else layer)
        replacements[layer] = Replacement(where, value[None], n, exact=True)
    return Edit("one patch per row", points=(PointEdit(letter, point, replacements),), by_position=True)
