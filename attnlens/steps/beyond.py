"""What a model makes of texts longer than those it was trained on: refused, or read on, at a measured price.

Source: Press et al. 2021, arXiv:2108.12409, section 2 (train short, test long).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from attnlens.errors import CaptureError, TextError
from attnlens.models.inputs import numbered
from attnlens.models.made_up import without_cache
from attnlens.models.running import check_batch

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["Beyond", "Span", "beyond_the_limit"]

_LONGEST = 1024  # tokens of the longest text that is run for this
_NAMELESS = 128  # the length that is doubled where nothing names one
_MOST_LOGITS = 20_000_000  # numbers, 80 MB in float32
_MOST_TEXTS = 8


@dataclass(frozen=True)
class Span:
    """Mean loss of the next token over a range of positions, in nats; `stop` is not in it."""

    start: int
    stop: int
    loss: float


@dataclass(frozen=True)
class Beyond:
    """What happens beyond the length that the scheme was made for.

    Attributes:
        scheme: of positions.
        limit: tokens; None where nothing limits the scheme.
        refusal: what attnlens says to a text one token longer; None where there is no limit.
        spans: losses of a text twice as long, from its beginning on; empty where it was not run.
        n_texts: how many texts were averaged.
        why_not: why it was not run; empty where it was.
    """

    scheme: str
    limit: int | None
    refusal: str | None
    spans: tuple[Span, ...] = ()
    n_texts: int = 0
    why_not: str = ""

    @property
    def change(self) -> float | None:
        """By how much the loss beyond the limit is above that of the span before it, in nats; None where not run."""
        if not self.spans or self.limit is None:
            return None
        before = [span.loss for span in self.spans if span.stop <= self.limit]
        after = [span.loss for span in self.spans if span.start >= self.limit]
        return after[-1] - before[-1] if before and after else None


def beyond_the_limit(lens: Lens, text: str) -> Beyond:
    """What the model says to a text longer than its scheme was made for, and what running one costs in loss.

    A table of positions ends, and nothing is run. Rotations and biases go on: where the model predicts the next token,
    texts of twice the limit (of 256 tokens where there is none) are run past attnlens' own check, and the loss is
    measured in four spans.

    Args:
        lens: the model.
        text: a long text of the kind that the model knows; it is cut into pieces, and repeated where it is too short.
    """
    anatomy = lens.anatomy
    stack = anatomy.stack(anatomy.main_stack)
    limit, refusal = stack.max_length, None
    if limit is not None:
        try:
            check_batch(anatomy, [numbered(limit + 1)])
        except TextError as error:
            refusal = str(error)
    if why_not := _why_not(lens, stack.position, limit, stack.causal):
        return Beyond(stack.position, limit, refusal, why_not=why_not)
    length = 2 * (limit or _NAMELESS)
    n_texts = min(_MOST_TEXTS, _MOST_LOGITS // (length * anatomy.vocab_size))
    ids = _ids(lens, text, length, n_texts)
    losses = _losses(lens, ids)
    edges = [length * part // 4 for part in range(5)]
    spans = tuple(
        Span(start, stop, float(losses[:, max(start, 1) - 1 : stop - 1].mean())) for start, stop in pairwise(edges)
    )
    return Beyond(stack.position, limit, refusal, spans, n_texts)


def _why_not(lens: Lens, scheme: str, limit: int | None, causal: bool) -> str:
    """Why nothing is run; empty where it is."""
    anatomy = lens.anatomy
    if limit is not None and scheme != "rope":
        return f"The table has a vector for each of {limit:,} positions and none for the next one."
    if not causal or anatomy.is_encoder_decoder or lens.tokenizer is None or anatomy.vocab_size < 1:
        return "Only a model that predicts the next token says at every position how well it reads."
    length = 2 * (limit or _NAMELESS)
    if length > _LONGEST:
        return f"A text of {length:,} tokens is too long to be run for a page; up to {_LONGEST:,} are."
    if length * anatomy.vocab_size > _MOST_LOGITS:
        return f"The predictions of {length:,} tokens over a vocabulary of {anatomy.vocab_size:,} take too much memory."
    return ""


def _ids(lens: Lens, text: str, length: int, n_texts: int) -> torch.Tensor:
    ids = lens.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise TextError("the long text has no token; give some sentences.")
    needed = length * n_texts
    return torch.tensor((ids * (-(-needed // len(ids))))[:needed]).view(n_texts, length)


def _losses(lens: Lens, ids: torch.Tensor) -> torch.Tensor:
    """Loss of each next token, `[text position]`: position 0 is the prediction of the second token."""
    model = lens.model
    place = next(model.parameters()).device
    try:
        with torch.no_grad():
            logits = model(input_ids=ids.to(place), **without_cache(model)).logits.float().cpu()
    except (IndexError, RuntimeError, ValueError) as error:
        raise CaptureError(f"{type(model).__name__} cannot read {ids.shape[1]} tokens: {error}") from error
    losses: torch.Tensor = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    return losses.view(len(ids), -1)
