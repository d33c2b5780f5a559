"""The contribution of every head to one logit of a running model."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attnlens.capture.replacements import GateRecorder
from attnlens.capture.tap import needs_eager, recording
from attnlens.errors import CaptureError, UsageError
from attnlens.measures.attribution import HeadAttribution, attribute_to_gates
from attnlens.models.inputs import Batch
from attnlens.models.made_up import without_cache
from attnlens.models.opening import Opened
from attnlens.models.targets import shown_token, single_token

__all__ = ["explain_logit"]


def explain_logit(
    opened: Opened,
    tokenizer: PreTrainedTokenizerBase,
    batch: Batch,
    target: str | None,
    against: str | None,
    position: int,
    steps: int,
) -> HeadAttribution:
    """Integrated gradients over head gates of the logit of `target` (minus that of `against`) at `position`.

    `Lens.attribute_heads` tells what the arguments mean; `batch` holds one text.

    Raises:
        CaptureError: the model has no language-model head.
        UsageError: a position outside the text, or a target that is not one token.
    """
    model, anatomy, text = opened.tap.model, opened.anatomy, batch.texts[0]
    assert text is not None
    heads = (anatomy.n_layers, anatomy.n_heads)
    if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is None:  # type: ignore[no-untyped-call]
        raise CaptureError(f"{type(model).__name__} has no language-model head, so there is no logit to explain.")
    if not -len(text.tokens) <= position < len(text.tokens):
        raise UsageError(f"position {position} is outside the {len(text.tokens)} tokens of the text.")

    def logits(gates: Tensor) -> Tensor:
        rows = {name: values.expand(gates.shape[0], -1) for name, values in batch.arguments.items()}
        with recording(opened.tap, GateRecorder(gates, needs_eager(model), anatomy.main_stack)):
            output: Tensor = model(**rows, **without_cache(model)).logits[:, position]
        return output

    with torch.no_grad():
        first_choice = int(logits(torch.ones(1, *heads))[0].argmax())
    chosen = first_choice if target is None else single_token(tokenizer, target)
    other = None if against is None else single_token(tokenizer, against)

    def score(gates: Tensor) -> Tensor:
        values = logits(gates)
        return values[:, chosen] if other is None else values[:, chosen] - values[:, other]

    name = f"logit of {shown_token(tokenizer, chosen)}"
    if other is not None:
        name = f"{name} minus logit of {shown_token(tokenizer, other)}"
    return attribute_to_gates(score, *heads, name=f"{name} at {text.tokens[position].label!r}", steps=steps)
