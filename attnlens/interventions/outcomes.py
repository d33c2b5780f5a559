"""What a model says, or where its last states lie, without and with an intervention, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.capture.tokens import Token
from attnlens.errors import CaptureError, UsageError
from attnlens.interventions.blocks import Edit
from attnlens.interventions.effects import logits_at, one_text
from attnlens.interventions.metrics import read_position
from attnlens.measures.stream import cosine, norms
from attnlens.models.encode import Text
from attnlens.models.inputs import Batch
from attnlens.models.running import has_head
from attnlens.models.targets import token_spelling

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["PredictionChange", "StateChange", "compare_predictions", "compare_states", "masked_text"]


@dataclass(frozen=True, eq=False)
class PredictionChange:
    """The likeliest tokens at one position, without and with an intervention.

    Attributes:
        intervention: what was done; empty for nothing.
        position: where the output is read.
        label: printable text of the token there.
        tokens: printable spelling of every token that is among the likeliest before or after, likeliest before first.
        before, after: their probabilities, 0 to 1.
        divergence: KL(before || after) of the whole prediction, in nats, 0 or more.
    """

    intervention: str
    position: int
    label: str
    tokens: tuple[str, ...]
    before: Float64[Tensor, " token"]
    after: Float64[Tensor, " token"]
    divergence: float


@dataclass(frozen=True, eq=False)
class StateChange:
    """How an intervention changes the last state at each position.

    Attributes:
        intervention: what was done; empty for nothing.
        labels: printable text of the tokens.
        turn: 1 - cosine of the states before and after, 0 (same way) to 2.
        length: of the state after, as a share of that before; 1 is unchanged.
    """

    intervention: str
    labels: tuple[str, ...]
    turn: Float64[Tensor, " position"]
    length: Float64[Tensor, " position"]


def compare_predictions(
    lens: Lens, text: Text | Capture, edit: Edit | None = None, position: int | None = None, count: int = 8
) -> PredictionChange:
    """What the model predicts at a position, without and with `edit`.

    Args:
        lens: the model.
        text: the text, or the run of it; a pair for an encoder-decoder.
        edit: the intervention; None compares the prediction with itself.
        position: whose output is read, from the end if negative; None takes the mask token, in a causal model the last.
        count: how many of the likeliest tokens before, and after.

    Raises:
        CaptureError: the model has no language-model head.
        UsageError: as `attnlens.interventions.metrics.read_position`.
    """
    if not has_head(lens.model):
        raise CaptureError(f"{lens.anatomy.model} has no language-model head; its last states can be compared instead")
    batch = one_text(lens, text)
    positions, _ = read_position(lens, batch, position)
    before, after = (_spread(lens, batch, positions, change) for change in (None, edit))
    gaps = torch.where(before == -torch.inf, 0.0, before.exp() * (before - after))
    likeliest = torch.cat([before.topk(min(count, len(before))).indices, after.topk(min(count, len(after))).indices])
    ids = sorted(set(likeliest.tolist()), key=lambda token: -float(before[token]))
    place = positions[0] if positions else 0
    return PredictionChange(
        intervention="" if edit is None else edit.label,
        position=place,
        label=_tokens(batch)[place].label,
        tokens=tuple(token_spelling(lens.tokenizer, token) for token in ids),
        before=before[ids].exp(),
        after=after[ids].exp(),
        divergence=max(0.0, float(gaps.sum())),
    )


def compare_states(lens: Lens, text: Text | Capture, edit: Edit | None = None) -> StateChange:
    """How far `edit` turns and stretches the last state at every position of a model without a head.

    Args:
        lens: the model.
        text: the text, or the run of it.
        edit: the intervention; None compares the states with themselves.

    Raises:
        UsageError: the model predicts tokens, which `compare_predictions` compares.
    """
    if has_head(lens.model):
        raise UsageError(f"{lens.anatomy.model} predicts tokens; compare its predictions instead.")
    batch = one_text(lens, text)
    before, after = (logits_at(lens, batch, (), change)[0].double().cpu() for change in (None, edit))
    return StateChange(
        intervention="" if edit is None else edit.label,
        labels=tuple(token.label for token in _tokens(batch)),
        turn=1 - cosine(before, after),
        length=norms(after) / norms(before),
    )


def masked_text(lens: Lens, run: Capture, position: int) -> str:
    """The text of a run with one token replaced by the mask token, so that the model is asked what stands there.

    Raises:
        UsageError: no such position; a token that stands for no characters; a model without a mask token; or the
            tokenizer reads the masked text as other tokens.
    """
    mask = getattr(lens.tokenizer, "mask_token", None)
    if mask is None:
        raise UsageError(f"{lens.anatomy.model} has no mask token, so no word can be hidden from it.")
    if not 0 <= position < len(run.tokens):
        raise UsageError(f"position {position} is outside the {len(run.tokens)} tokens of the text.")
    token = run.tokens[position]
    if token.id == lens.tokenizer.mask_token_id:
        return run.text
    if token.span is None:
        raise UsageError(
            f"{token.label!r} stands for no characters of the text, so it cannot be masked; choose a word."
        )
    start, end = token.span
    text = f"{run.text[:start]}{mask}{run.text[end:]}"
    found = _tokens(one_text(lens, text))
    if len(found) != len(run.tokens) or found[position].id != lens.tokenizer.mask_token_id:
        raise UsageError(f"with {token.label!r} masked the text is cut into other tokens; mask another one.")
    return text


def _spread(lens: Lens, batch: Batch, positions: tuple[int, ...], edit: Edit | None) -> Float64[Tensor, " vocab"]:
    """Log-probabilities at the one position."""
    logits: Tensor = logits_at(lens, batch, positions, edit)[0, 0]
    return logits.double().log_softmax(-1).cpu()


def _tokens(batch: Batch) -> Sequence[Token]:
    text = batch.texts[0]
    if text is None:
        raise CaptureError("the model was given no tokens whose predictions could be compared")
    return text.tokens
