"""Scores of a running model to attribute: which logit, compared with which baseline; to tokens, and through layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attnlens.capture.edits import Replacement
from attnlens.capture.sites import DECODER, ENCODER
from attnlens.capture.tokens import Token
from attnlens.errors import CaptureError, UsageError
from attnlens.measures.attribution import (
    METHODS,
    LayerAttribution,
    TokenAttribution,
    attribute_to_changed,
    attribute_to_vectors,
    check_method,
    check_steps,
    integrated,
)
from attnlens.models.inputs import Batch
from attnlens.models.made_up import without_cache
from attnlens.models.opening import Opened
from attnlens.models.point_edits import PointEdit, editing_points
from attnlens.models.running import has_head
from attnlens.models.targets import Target, shown_token, single_token, target_among, target_class

__all__ = ["ZERO", "Question", "ask", "baseline_token", "explain_layers", "explain_tokens"]

ZERO = "zero"
"""As a baseline: the vector of zeros in place of each token's."""

# Relative difference that calling a model with vectors instead of ids may make.
_SAME = 1e-3
_ROWS_AT_ONCE = 8
# Each layer takes an integral of its own, from both ends.
_MOST_STEPS = 256
# Of the vocabulary, what says least about a text.
_EMPTY = ("mask_token_id", "pad_token_id", "unk_token_id", "eos_token_id", "bos_token_id")


@dataclass(frozen=True)
class Question:
    """A score of one text that can be asked again with other inputs.

    Attributes:
        opened: the model.
        batch: the text, one row.
        target: which logit.
    """

    opened: Opened
    batch: Batch
    target: Target

    def scores(self, n_rows: int, change: Callable[[dict[str, Any]], None] | None = None) -> Float[Tensor, " batch"]:
        """The score of each of `n_rows` copies of the text; differentiable.

        Args:
            n_rows: how many.
            change: changes the arguments of the call before it is made.
        """
        rows = {
            name: value.expand(n_rows, *value.shape[1:]) if isinstance(value, Tensor) else value
            for name, value in self.batch.arguments.items()
        }
        if change is not None:
            change(rows)
        model: Any = self.opened.tap.model
        return torch.stack([self.target.of(row) for row in _by_position(model(**rows, **without_cache(model)))])

    def tokens(self, stack: str) -> tuple[Token, ...]:
        """What a stack reads.

        Raises:
            CaptureError: no tokens (pictures, sound).
        """
        texts = self.batch.sources if stack == ENCODER else self.batch.texts
        text = texts[0] if texts else None
        if text is None or not isinstance(self.batch.arguments.get(_ids_name(stack)), Tensor):
            raise CaptureError(f"{self.opened.anatomy.model} reads no tokens there, so there are none to attribute to")
        return text.tokens


def ask(
    opened: Opened, tokenizer: PreTrainedTokenizerBase | None, batch: Batch, options: Mapping[str, Any]
) -> Question:
    """The score that options mean: `target`, `against` and `position`, see `attnlens.models.targets`.

    Args:
        opened: the model; with a language-model head, or one that sorts texts or tokens into classes.
        tokenizer: of the model.
        batch: one text.
        options: what is asked.

    Raises:
        CaptureError: there are no logits.
        UsageError: a target that is no token or class, or a position that does not exist.
    """
    model: Any = opened.tap.model
    if not isinstance(model, PreTrainedModel):
        raise CaptureError(f"{type(model).__name__} has no language-model head, so there is no logit to explain.")
    with torch.no_grad():
        output = batch.call(model, **without_cache(model))
    if not isinstance(getattr(output, "logits", None), Tensor):
        raise CaptureError(f"{type(model).__name__} has no language-model head, so there is no logit to explain.")
    logits, text = _by_position(output)[0], batch.texts[0]
    if not has_head(model):
        return Question(opened, batch, target_class(logits, getattr(model.config, "id2label", None) or {}, options))
    if text is None:
        raise CaptureError(f"{type(model).__name__} was given no tokens whose logits could be explained.")
    return Question(opened, batch, target_among(logits, text.tokens, tokenizer, options))


def explain_tokens(
    question: Question,
    tokenizer: PreTrainedTokenizerBase | None,
    stack: str | None = None,
    baseline: object = None,
    steps: int | None = None,
    method: str = METHODS[0],
    seed: int = 0,
) -> TokenAttribution:
    """Attribution to the embeddings of the tokens that a stack reads; positions stay as they are.

    `Lens.attribute_tokens` tells what the arguments mean.

    Raises:
        CaptureError: the stack reads no tokens, or its model takes no vectors in their place.
        UsageError: an unknown stack, baseline or method.
    """
    check_method(method)
    letter = _reading_stack(question.opened, stack)
    tokens = question.tokens(letter)
    way = _way(question, tokenizer, letter, baseline)
    if method == METHODS[0]:
        values, total, used = attribute_to_vectors(way.scores, way.vectors, way.baseline, steps)
    else:
        values, total, used = attribute_to_changed(way.scores, way.vectors, way.baseline, method, steps, seed)
    return TokenAttribution(
        values=values.cpu(),
        total=total,
        gap=float(values.double().sum()) - total,
        score=question.target.name,
        tokens=tuple(token.label for token in tokens),
        baseline=way.name,
        stack=letter,
        steps=used,
        method=method,
    )


def explain_layers(
    question: Question,
    tokenizer: PreTrainedTokenizerBase | None,
    stack: str | None = None,
    baseline: object = None,
    steps: int | None = None,
) -> LayerAttribution:
    """Conductance of each position after each layer of a stack, on the way from the baseline to its tokens.

    The sum over steps is taken from either end and averaged: captum's own goes one way, which errs by 1 / steps.

    Source: Dhamdhere et al. 2019, "How Important Is a Neuron?" (arXiv:1805.12233), section 2.

    Raises:
        As `explain_tokens`; CaptureError: where the stream leaves a layer was not found.
    """
    from captum.attr import LayerConductance  # slow to import, and few runs need it

    check_steps(steps)
    letter = _reading_stack(question.opened, stack)
    tokens = question.tokens(letter)
    way = _way(question, tokenizer, letter, baseline)
    begin, end = way.baseline[None], way.vectors[None]
    with torch.no_grad():
        total = float(way.scores(end) - way.scores(begin))
    values, used = [], 0
    for layer in range(question.opened.anatomy.stack(letter).n_layers):
        passed = nn.Identity()
        conductance = LayerConductance(_through(question.opened, letter, layer, passed, way.scores), passed)

        def integrate(first: Tensor, last: Tensor, n: int, conductance: Any = conductance) -> Tensor:
            settings = {"n_steps": n, "method": "riemann_trapezoid", "internal_batch_size": _ROWS_AT_ONCE}
            there: Tensor = conductance.attribute(last, baselines=first, **settings)
            back: Tensor = conductance.attribute(first, baselines=last, **settings)
            return ((there - back) / 2).detach()[0].sum(-1)

        row, n_steps = integrated(integrate, way.scores, begin, end, steps, _MOST_STEPS)
        values.append(row.cpu())
        used = max(used, n_steps)
    stacked = torch.stack(values)
    return LayerAttribution(
        values=stacked,
        total=total,
        gap=(stacked.double().sum(-1) - total).float(),
        score=question.target.name,
        tokens=tuple(token.label for token in tokens),
        baseline=way.name,
        stack=letter,
        steps=used,
    )


def baseline_token(tokenizer: PreTrainedTokenizerBase | None, baseline: object) -> int | None:
    """The token that stands for nothing in particular; None for the vector of zeros.

    Args:
        tokenizer: of the model.
        baseline: None for the first that there is of the tokenizer's tokens for mask, padding, the unknown, end and
            begin; a token by its spelling or number; "zero" for a vector of zeros.

    Raises:
        UsageError: no such token.
    """
    if baseline == ZERO or (baseline is None and tokenizer is None):
        return None
    if baseline is None:
        ids = (getattr(tokenizer, name) for name in _EMPTY)
        return next((int(token) for token in ids if token is not None), None)
    if isinstance(baseline, str) and tokenizer is not None:
        specials = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        return specials[baseline] if baseline in specials else single_token(tokenizer, baseline)
    if isinstance(baseline, int) and baseline >= 0 and (tokenizer is None or baseline < len(tokenizer)):
        return baseline
    raise UsageError(f"baseline {baseline!r} does not exist; expected a token, its number, or {ZERO!r}.")


@dataclass(frozen=True)
class _Way:
    """From the vectors of a baseline to those of a text, and the score on the way."""

    scores: Callable[[Float[Tensor, "batch token d_model"]], Float[Tensor, " batch"]]
    vectors: Float[Tensor, "token d_model"]
    baseline: Float[Tensor, "token d_model"]
    name: str


def _way(question: Question, tokenizer: PreTrainedTokenizerBase | None, stack: str, baseline: object) -> _Way:
    """The way of one stack's tokens; what the tokenizer's template added stays as it is.

    Raises:
        CaptureError: the model takes no vectors, or does not give with them what it gives with ids.
    """
    ids_name = _ids_name(stack)
    vectors_name = "decoder_inputs_embeds" if stack == DECODER else "inputs_embeds"
    tokens, table = question.tokens(stack), _embedding(question.opened, stack)
    empty = baseline_token(tokenizer, baseline)
    ids: Tensor = question.batch.arguments[ids_name]
    moving = torch.tensor([not token.special for token in tokens], device=ids.device)

    with torch.no_grad():
        vectors: Tensor = table(ids)[0]
        others = torch.zeros_like(vectors) if empty is None else table(torch.full_like(ids, empty))[0]
    begin = torch.where(moving[:, None], others, vectors)

    def scores(given: Tensor) -> Tensor:
        def change(rows: dict[str, Any]) -> None:
            del rows[ids_name]
            rows[vectors_name] = given

        return question.scores(len(given), change)

    _check_vectors(question, scores, vectors)
    name = "zero vectors" if empty is None else f"{shown_token(tokenizer, empty)} in place of each token"
    n_kept = int((~moving).sum())
    kept = f" ({n_kept} special {'one' if n_kept == 1 else 'ones'} kept)" if n_kept else ""
    return _Way(scores, vectors, begin, f"{name}{kept}")


def _check_vectors(question: Question, scores: Callable[[Tensor], Tensor], vectors: Tensor) -> None:
    name = question.opened.anatomy.model
    with torch.no_grad():
        expected = question.scores(1)
        try:
            found = scores(vectors[None])
        except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise CaptureError(f"{name} takes no vectors in place of tokens ({error})") from error
    limit = max(_SAME, 64 * torch.finfo(expected.dtype).eps)
    if not bool((found - expected).abs().max() <= limit * expected.abs().max().clamp_min(1)):
        raise CaptureError(
            f"{name} gives something else for the vectors of tokens than for the tokens, so that there is no way "
            "between them to follow"
        )


@dataclass(frozen=True, eq=False)
class _Passed(Replacement):
    """Replaces nothing; sends the numbers through a module, so that captum can listen there."""

    module: nn.Module = field(default_factory=nn.Identity)

    def apply(self, own: Float[Tensor, "row position ..."]) -> Float[Tensor, "row position ..."]:
        """The same numbers."""
        through: Tensor = self.module(own)
        return through


def _through(
    opened: Opened, stack: str, layer: int, passed: nn.Module, scores: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """`scores`, with the stream after a layer sent through `passed`.

    Layers give tuples, of which parts can be None; captum takes only modules that give one tensor.
    """
    nothing = torch.zeros(1, 1)
    edit = PointEdit(stack, "resid_post", {layer: _Passed(nothing.bool(), nothing, module=passed)})

    def run(given: Tensor) -> Tensor:
        with editing_points(opened.stacks, opened.wirings, [edit]):
            return scores(given)

    return run


def _by_position(output: Any) -> Float[Tensor, "batch position vocab"]:
    """Logits; of a model that sorts whole texts into classes, at one position."""
    logits: Tensor = output.logits
    return logits[:, None] if logits.ndim == 2 else logits


def _reading_stack(opened: Opened, stack: str | None) -> str:
    """Letter of a stack that reads tokens.

    Raises:
        UsageError: there is none with that letter.
    """
    letters = [letter for letter in opened.stacks if letter in ("", ENCODER, DECODER)]
    letter = opened.anatomy.main_stack if stack is None else stack.upper()
    if letter not in letters:
        raise UsageError(f"stack {stack!r} reads no tokens; expected {_listed(letters)}.")
    return letter


def _listed(letters: Sequence[str]) -> str:
    return " or ".join(letters) if any(letters) else "none to be named: this model has one stack"


def _ids_name(stack: str) -> str:
    return "decoder_input_ids" if stack == DECODER else "input_ids"


def _embedding(opened: Opened, stack: str) -> nn.Module:
    """What makes vectors of the tokens that a stack reads."""
    model: Any = opened.tap.model
    owner = {ENCODER: "get_encoder", DECODER: "get_decoder"}.get(stack)
    found = (model if owner is None else getattr(model, owner)()).get_input_embeddings()
    if not isinstance(found, nn.Module):
        raise CaptureError(f"{opened.anatomy.model} has no table of embeddings")
    return found
