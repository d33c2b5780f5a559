"""Measures of mixing as maps: how much of each token goes into each, by more than one head's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnlens.capture.run import Capture
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.measures.registry import find_measure, measure_run
from attnlens.report.maps import Choice, Maps, arranged, tokens_of

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["LONGEST", "MIXINGS", "mixing_map", "needs_points"]

# Names of measures, in the order in which a page offers them.
MIXINGS = (
    "rollout",
    "head-rollout",
    "attention-flow",
    "norm-attention",
    "layer-norm-attention",
    "block-norm-attention",
    "value-zeroing",
    "head-value-zeroing",
    "alti",
    "alti-rollout",
)
# Tokens beyond which a page does not take them: some run the model once for each token.
LONGEST = 128


def needs_points(name: str) -> bool:
    """Whether the measure reads more of a run than its attention."""
    return bool(find_measure(name).needs.points)


def mixing_map(name: str, run: Capture, head: Head, choice: Choice | None = None, *, lens: Lens | None = None) -> Maps:
    """A measure of mixing as a map: of the head where it has a value per head, else of the head's layer or of all.

    Args:
        name: one of `MIXINGS`.
        run: with the points that the measure needs.
        head: with the letter of its stack.
        choice: which rows and columns; maps to words sum and average the measure's numbers.
        lens: the model, for measures that need it.

    Raises:
        UsageError: no such map, or a text longer than `LONGEST`.
        MeasureError: the model or the run does not have what the measure needs.
    """
    if name not in MIXINGS:
        raise UsageError(f"{name[:40]!r} is no map of mixing; choose one of {', '.join(MIXINGS)}.")
    if (n_tokens := max(map(len, tokens_of(run, head.stack)))) > LONGEST:
        raise UsageError(
            f"the text has {n_tokens:,} tokens; {name} is drawn of up to {LONGEST}, attnlens measure takes it of more."
        )
    measure = find_measure(name)
    options = {"stack": head.stack} if head.stack else {}
    measured = measure_run(measure, run, head if measure.of_heads else None, options, lens=lens)
    values, of = measured.values, str(head)
    if "layer" in measured.axes:
        values, of = values[head.layer], f"layer {head.layer}"
    elif not measure.of_heads:
        of = "all layers"
    return arranged(
        run,
        head,
        values,
        choice or Choice(),
        name=f"{measure.title}, {of}",
        caption=f"{measure.title[:1].upper()}{measure.title[1:]}, {of}: {measure.description}",
        unit="" if measure.high == 1 else measure.unit or "parts",
    )
