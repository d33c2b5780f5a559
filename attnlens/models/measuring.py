"""Measures taken of a text by an opened model: what the measure needs is checked first, and captured with the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, UsageError
from attnlens.measures.registry import (
    Measure,
    Measured,
    address_of,
    check_model,
    find_measure,
    measure_run,
    settings_of,
)
from attnlens.models.anatomy import Anatomy
from attnlens.models.encode import Text
from attnlens.models.running import check_points, has_head

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["measure_text"]


def measure_text(
    lens: Lens,
    name: str | Measure,
    text: Text | Capture,
    head: object,
    mode: str | None,
    options: Mapping[str, Any],
) -> Measured:
    """See `Lens.measure`."""
    measure = find_measure(name) if isinstance(name, str) else name
    settings_of(measure, options)
    if isinstance(text, Capture):
        if mode is not None:
            raise UsageError("mode= goes with a text; this run exists already.")
        _check_same_model(lens.anatomy, text.anatomy)
        return measure_run(measure, text, head, options, lens=lens)
    check_model(measure, lens.anatomy)
    if head is not None:
        address_of(measure, lens.anatomy, head)
    if measure.needs.logits and not has_head(lens.model):
        raise measure.refusal(f"{lens.anatomy.model} has no language-model head, so there are no logits")
    if measure.needs.gradient and mode == "lazy":
        raise measure.refusal("gradients run through weights that the model builds; take mode='exact' or leave it out")
    try:
        check_points(lens.anatomy, measure.needs.points)
    except CaptureError as error:
        raise measure.refusal(str(error)) from error
    kept = "exact" if measure.needs.gradient else mode
    run = lens.capture(text, mode=kept, points=measure.needs.points, logits=measure.needs.logits)
    return measure_run(measure, run, head, options, lens=lens)


def _check_same_model(opened: Anatomy, ran: Anatomy) -> None:
    """Refuse a run of a model that has other sizes, or other weights as far as both are known."""
    sizes = [(a.architecture, a.n_layers, a.n_heads, a.d_model, a.vocab_size) for a in (opened, ran)]
    hashes = {a.weights_sha256 for a in (opened, ran)} - {None}
    if sizes[0] != sizes[1] or len(hashes) > 1:
        raise UsageError(f"this run is of {ran.model}, and {opened.model} is open; open the model that made the run.")
