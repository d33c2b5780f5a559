"""Which logit somebody means: that of a token or class by its name or number, or of the model's own first choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attnlens.capture.run import Capture
from attnlens.capture.tokens import Token, printable
from attnlens.errors import CaptureError, UsageError

__all__ = [
    "MASK",
    "Target",
    "choose_target",
    "reading_position",
    "shown_token",
    "single_token",
    "target_among",
    "target_class",
    "token_spelling",
]

MASK = "mask"
"""As a position: the one masked token of the text."""


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
    if run.logits is None:
        raise CaptureError(f"{run.anatomy.model} has no language-model head, or its logits were not kept")
    return target_among(run.logits, run.tokens, tokenizer, options)


def target_among(
    logits: Float[Tensor, "position vocab"],
    tokens: Sequence[Token],
    tokenizer: PreTrainedTokenizerBase | None,
    options: Mapping[str, Any],
) -> Target:
    """As `choose_target`, from logits and tokens; the position "mask" is that of the one masked token.

    Raises:
        UsageError: as there; or the text has no masked token, or several.
    """
    n_positions, n_targets = logits.shape
    given = options.get("position")
    position = _default_position(tokens, tokenizer) if given is None else _position(given, tokens, tokenizer)
    if not -n_positions <= position < n_positions:
        raise UsageError(f"position {position} is outside the {n_positions} tokens of the text.")
    position %= n_positions
    wanted, against = options.get("target"), options.get("against")
    token = int(logits[position].argmax()) if wanted is None else _number(wanted, tokenizer, n_targets)
    other = None if against is None else _number(against, tokenizer, n_targets)
    name = f"logit of {shown_token(tokenizer, token)}"
    if other is not None:
        name = f"{name} minus logit of {shown_token(tokenizer, other)}"
    return Target(position, token, other, f"{name} at {tokens[position].label!r}")


def target_class(
    logits: Float[Tensor, "position label"], labels: Mapping[int, str], options: Mapping[str, Any]
) -> Target:
    """The logit of a class, of a model that sorts texts or their tokens into classes.

    Args:
        logits: one row for a text, or one per token.
        labels: number -> name of each class.
        options: `target` and `against`: a class by its name or number; None for the first choice and for no difference.
            `position`: of the token, from the end if negative; None for the last.

    Raises:
        UsageError: no such class, or no such position.
    """
    n_positions = len(logits)
    given = options.get("position")
    position = -1 if given is None else given
    if not isinstance(position, int) or not -n_positions <= position < n_positions:
        raise UsageError(
            f"position {position!r} does not exist: this model sorts into classes at {n_positions} of them."
        )
    wanted, against = options.get("target"), options.get("against")
    chosen = int(logits[position].argmax()) if wanted is None else _class(wanted, labels, logits.shape[1])
    other = None if against is None else _class(against, labels, logits.shape[1])
    name = f"logit of class {labels.get(chosen, chosen)!r}"
    if other is not None:
        name = f"{name} minus that of {labels.get(other, other)!r}"
    return Target(position % n_positions, chosen, other, name)


def reading_position(tokens: Sequence[Token], tokenizer: PreTrainedTokenizerBase | None, causal: bool) -> int:
    """Where the output of a text is read if nobody says: the first masked token; else the last one, or the last word.

    The last token of a model that sees both ways is a special one as a rule, which predicts nothing of interest.

    Args:
        tokens: of the text.
        tokenizer: knows the mask token.
        causal: whether no token sees a later one.
    """
    if masked := _masked(tokens, tokenizer):
        return masked[0]
    last = len(tokens) - 1
    if causal:
        return last
    words = (
        place
        for place in range(last, -1, -1)
        if not tokens[place].special and any(map(str.isalnum, tokens[place].label))
    )
    return next(words, last)


def single_token(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """The id of a token by its spelling in running text (with the space before it, where the tokenizer has one).

    Raises:
        UsageError: it is not one token; the message names its pieces.
    """
    for spelling in (f" {text}", text):
        ids = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
            return int(ids[0])
    pieces = ", ".join(repr(printable(str(piece))) for piece in tokenizer.convert_ids_to_tokens(ids))
    raise UsageError(f"{text!r} is not one token of this model, it is read as {pieces}; choose a word that is.")


def token_spelling(tokenizer: PreTrainedTokenizerBase | None, token: int) -> str:
    """A token's printable spelling without the blank in front; its number where there is no tokenizer."""
    if tokenizer is None:
        return str(token)
    text = str(tokenizer.decode([token]))
    return printable(text.strip(" ") or text.replace(" ", "␣")) or "∅"


def shown_token(tokenizer: PreTrainedTokenizerBase | None, token: int) -> str:
    """A token's printable spelling in quotes; its number where there is no tokenizer."""
    return str(token) if tokenizer is None else repr(printable(str(tokenizer.decode([token])).strip()))


def _default_position(tokens: Sequence[Token], tokenizer: PreTrainedTokenizerBase | None) -> int:
    return next(iter(_masked(tokens, tokenizer)), -1)


def _masked(tokens: Sequence[Token], tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    mask = None if tokenizer is None else tokenizer.mask_token_id
    return [place for place, token in enumerate(tokens) if mask is not None and token.id == mask]


def _position(given: Any, tokens: Sequence[Token], tokenizer: PreTrainedTokenizerBase | None) -> int:
    """A position by its number, or of the masked token."""
    if given != MASK:
        try:
            return int(given)
        except (TypeError, ValueError):
            raise UsageError(
                f"position {given!r} does not exist; expected a number, or {MASK!r} for the masked token."
            ) from None
    places = _masked(tokens, tokenizer)
    if len(places) == 1:
        return places[0]
    mask = None if tokenizer is None else tokenizer.mask_token
    if mask is None:
        raise UsageError("this model has no mask token, so there is no masked position; give its number.")
    found = f"masked tokens at {', '.join(map(str, places))}" if places else "no masked token"
    raise UsageError(f"the text has {found}; expected exactly one {mask}, or a number as position.")


def _class(wanted: Any, labels: Mapping[int, str], n_classes: int) -> int:
    by_name = {name: number for number, name in labels.items()}
    if isinstance(wanted, str) and wanted in by_name:
        return by_name[wanted]
    if isinstance(wanted, int) and 0 <= wanted < n_classes:
        return wanted
    listed = ", ".join(map(repr, by_name))
    raise UsageError(f"class {wanted!r} does not exist; expected {listed}, or a number from 0 to {n_classes - 1}.")


def _number(wanted: Any, tokenizer: PreTrainedTokenizerBase | None, n_targets: int) -> int:
    if isinstance(wanted, str) and tokenizer is not None:
        return single_token(tokenizer, wanted)
    if isinstance(wanted, int) and 0 <= wanted < n_targets:
        return wanted
    raise UsageError(
        f"target {wanted!r} does not exist; expected a token's spelling, or a number from 0 to {n_targets - 1}."
    )
