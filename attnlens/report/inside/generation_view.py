"""Views of one step of writing: which token comes next, what the cache holds, and what the new token looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.capture.sites import ENCODER
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.report.inside.size_view import bytes_text
from attnlens.report.maps import tokens_of
from attnlens.report.tables import Table
from attnlens.steps.sampling import next_token_probabilities

__all__ = [
    "LISTED",
    "TEMPERATURES",
    "CacheView",
    "CandidatesView",
    "RowView",
    "cache_view",
    "candidates_view",
    "row_view",
]

LISTED = 4096
"""Tokens whose logits a page is given; of a larger vocabulary the others are summed."""

TEMPERATURES = tuple(round(0.1 + 0.05 * step, 2) for step in range(39))
"""Temperatures for which the sum over the others is known: 0.1 to 2 in steps of 0.05."""


@dataclass(frozen=True)
class CandidatesView:
    """Tokens that may come next, the likeliest first.

    Attributes:
        ids, labels, logits: of the `LISTED` likeliest.
        n_rest: tokens of the vocabulary that are not among these.
        rest: per temperature of `TEMPERATURES`, log of the sum of exp(logit / temperature) of those; empty without any.
    """

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    logits: tuple[float, ...]
    n_rest: int
    rest: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """What a page computes probabilities from: exactly, at any of the temperatures."""
        return {
            "ids": list(self.ids), "labels": list(self.labels), "logits": list(self.logits), "n_rest": self.n_rest,
            "rest": list(self.rest), "temperatures": list(TEMPERATURES),
        }  # fmt: skip

    def table(self, count: int = 20) -> Table:
        """The likeliest as the model has them: temperature 1, nothing cut."""
        others = [torch.tensor([self.rest[TEMPERATURES.index(1.0)]])] if self.rest else []
        every = torch.cat([torch.tensor(self.logits), *others])
        shares = next_token_probabilities(every).tolist()
        rows = tuple(zip(self.labels[:count], self.logits[:count], shares[:count], strict=True))
        return Table("The likeliest next tokens", ("token", "logit", "probability"), rows)


def candidates_view(logits: Float[Tensor, " vocab"], spell: Callable[[int], str]) -> CandidatesView:
    """The candidates of one position.

    Args:
        logits: of the whole vocabulary.
        spell: number of a token -> its printable spelling.
    """
    ordered, ids = logits.double().sort(descending=True, stable=True)
    listed, others = ordered[:LISTED], ordered[LISTED:]
    rest = tuple(float((others / t).logsumexp(0)) for t in TEMPERATURES) if len(others) else ()
    kept = tuple(ids[:LISTED].tolist())
    return CandidatesView(kept, tuple(map(spell, kept)), tuple(listed.tolist()), len(others), rest)


@dataclass(frozen=True)
class CacheView:
    """The key-value cache as it grew.

    Attributes:
        labels: what was run at each step.
        n_bytes: held after it.
        n_tokens: in the text after it.
        caption: the sum that makes the bytes.
    """

    labels: tuple[str, ...]
    n_bytes: tuple[int, ...]
    n_tokens: tuple[int, ...]
    caption: str

    def table(self) -> Table:
        """One row per step."""
        return Table(
            self.caption, ("step", "tokens", "bytes"), tuple(zip(self.labels, self.n_tokens, self.n_bytes, strict=True))
        )


def cache_view(run: Capture, cache_bytes: Sequence[int]) -> CacheView:
    """The cache after the prompt and after each token that was written.

    Args:
        run: of the whole text.
        cache_bytes: after each step, from the cache itself.
    """
    written = len(cache_bytes) - 1
    begun = len(run.tokens) - written
    labels = ("prompt", *(token.label for token in run.tokens[begun:]))
    n_tokens = tuple(range(begun, len(run.tokens) + 1))
    stack = run.anatomy.stack(run.anatomy.main_stack)
    grown = cache_bytes[-1] - cache_bytes[0]
    per_token = grown / written if written else cache_bytes[0] / begun
    sizes = f"{stack.n_layers} layers × {stack.n_kv_heads} key-value heads × {stack.d_head} dimensions"
    shape = f"keys and values (2) × {sizes}"
    plain = 2 * stack.n_layers * stack.n_kv_heads * stack.d_head
    if per_token % plain == 0 and not run.anatomy.is_encoder_decoder:
        told = f"Each token adds {shape} × {int(per_token // plain)} bytes = {int(per_token):,} bytes."
    elif run.anatomy.is_encoder_decoder:
        told = f"Each token adds {shape}; keys and values of the source are computed once and stay as they are."
    else:
        told = f"Each token adds {shape}; a sliding window drops what no later token will see."
    caption = (
        f"The cache holds {cache_bytes[-1]:,} bytes ({bytes_text(cache_bytes[-1])}), read off the cache itself. {told}"
    )
    return CacheView(labels, tuple(cache_bytes), n_tokens, caption)


@dataclass(frozen=True)
class RowView:
    """What one token attends to, by one head.

    Attributes:
        labels: the tokens that it sees, in the order of the text; of a long text the strongest.
        weights: on each.
        caption: whose row it is.
        all_labels, all_weights: of every token.
    """

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    caption: str
    all_labels: tuple[str, ...]
    all_weights: tuple[float, ...]

    def table(self) -> Table:
        """One row per token."""
        return Table(self.caption, ("token", "weight"), tuple(zip(self.all_labels, self.all_weights, strict=True)))


_BARS = 24


def row_view(run: Capture, head: Head | str) -> RowView:
    """The last row of a head's map: what the newest token looks at.

    Raises:
        UsageError: a head of the encoder, which does not see what is written.
        HeadAddressError: no such head.
    """
    chosen = Head.parse(head) if isinstance(head, str) else head
    if chosen.stack == ENCODER:
        raise UsageError(
            f"{chosen} belongs to the encoder, which reads the source and sees nothing of what is written; choose a "
            "head of the decoder or of cross-attention (DL..., XL...)."
        )
    weights = run.attention(head=chosen)[-1].double()
    queries, keys = tokens_of(run, chosen.stack)
    labels = tuple(f"{place} {token.label}" for place, token in enumerate(keys))
    strongest = sorted(weights.topk(min(_BARS, len(weights))).indices.tolist())
    fewer = "" if len(labels) <= _BARS else f" The {_BARS} strongest of {len(labels)} are drawn."
    where = "the source" if keys is not queries else "the text so far"
    caption = (
        f"What {queries[-1].label!r}, the newest token, looks at in {where}, by {chosen}; the weights sum to 1.{fewer}"
    )
    return RowView(
        tuple(labels[place] for place in strongest),
        tuple(float(weights[place]) for place in strongest),
        caption,
        labels,
        tuple(weights.tolist()),
    )
