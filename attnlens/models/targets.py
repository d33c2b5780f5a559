"""Which logit somebody means: that of a token by its spelling or number, or of the model's own first choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attnlens.capture.run import Capture
from attnlens.capture.tokens import printable
from attnlens.errors import CaptureError, UsageError

__all__ = ["Target", "choose_target", "shown_token", "single_token"]


@dataclass(frozen=True)
class Target:
    """A logit, or the difference of two, at one position.

    Attributes:
        position: whose output is read, counted from the start.
        token: the token whose logit it is.
        against: the one whose logit is taken away; None for a logit by itself.
        name: the same for a reader.
    """

    position: int
    token: int
    against: int | None
    name: str

    def of(self, logits: Float[Tensor, "position vocab"]) -> Float[Tensor, ""]:
        """Its value, differentiable."""
        row = logits[self.position]
        return row[self.token] if self.against is None else row[self.token] - row[self.against]


def choose_target(run: Capture, tokenizer: PreTrainedTokenizerBase | None, options: Mapping[str, Any]) -> Target:
    """The logit that the options `target`, `against` and `position` mean.

    Args:
        run: with its logits.
        tokenizer: for targets by spelling.
        options: `target` and `against`: a spelling or a number, None for the first choice and for no difference;
            `position`: from the end if negative, None for the masked token where there is one, else the last.

    Raises:
        CaptureError: there are no logits.
        UsageError: a position outside the text, or a target that is not one token.
    """
    logits = run.logits
    if logits is None:
        raise CaptureError(f"{run.anatomy.model} has no language-model head, or its logits were not kept")
    n_positions, n_targets = logits.shape
    given = options.get("position")
    position = _default_position(run, tokenizer) if given is None else int(given)
    if not -n_positions <= position < n_positions:
        raise UsageError(f"position {position} is outside the {n_positions} tokens of the text.")
    position %= n_positions
    wanted, against = options.get("target"), options.get("against")
    token = int(logits[position].argmax()) if wanted is None else _number(wanted, tokenizer, n_targets)
    other = None if against is None else _number(against, tokenizer, n_targets)
    name = f"logit of {shown_token(tokenizer, token)}"
    if other is not None:
        name = f"{name} minus logit of {shown_token(tokenizer, other)}"
    return Target(position, token, other, f"{name} at {run.tokens[position].label!r}")


def single_token(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """The id of a token by its spelling in running text (with the space before it, where the tokenizer has one).

    Raises:
        UsageError: it is not one token.
    """
    for spelling in (f" {text}", text):
        ids = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
            return int(ids[0])
    raise UsageError(f"{text!r} is not one token of this model; choose a word that is.")


def shown_token(tokenizer: PreTrainedTokenizerBase | None, token: int) -> str:
    """A token's printable spelling in quotes; its number where there is no tokenizer."""
    return str(token) if tokenizer is None else repr(printable(str(tokenizer.decode([token])).strip()))


def _default_position(run: Capture, tokenizer: PreTrainedTokenizerBase | None) -> int:
    mask = None if tokenizer is None else tokenizer.mask_token_id
    return next((place for place, token in enumerate(run.tokens) if mask is not None and token.id == mask), -1)


def _number(wanted: Any, tokenizer: PreTrainedTokenizerBase | None, n_targets: int) -> int:
    if isinstance(wanted, str) and tokenizer is not None:
        return single_token(tokenizer, wanted)
    if isinstance(wanted, int) and 0 <= wanted < n_targets:
        return wanted
    raise UsageError(
        f"target {wanted!r} does not exist; expected a token's spelling, or a number from 0 to {n_targets - 1}."
    )
