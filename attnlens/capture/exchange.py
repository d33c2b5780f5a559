"""Attention from elsewhere as a run, and a run as what others read: transformers' outputs, tuples, arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens._version import __version__
from attnlens.capture.incoming import Incoming, incoming
from attnlens.capture.patterns import DensePattern, Pattern
from attnlens.capture.run import POINTS, Capture, Patterns
from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY
from attnlens.capture.tokens import EncodedText, Token, printable
from attnlens.errors import CaptureError, UsageError
from attnlens.models.anatomy import Anatomy, SelfCheck, Stack

if TYPE_CHECKING:
    from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput

__all__ = ["from_attentions", "to_attentions", "to_model_output", "to_numpy"]

_ABSENT = "the attention was brought from elsewhere, and nothing else with it; capture with attnlens.load(...)"
# Share of the memory that is free which an array may take, where the caller sets no limit.
_SHARE = 0.8


def from_attentions(
    attentions: Any = None,
    tokens: Sequence[str | Token] | None = None,
    *,
    source_tokens: Sequence[str | Token] | None = None,
    encoder: Any = None,
    cross: Any = None,
    mask: Any = None,
    model: str = "",
    sequence: int | None = None,
    sinks: bool = False,
) -> Capture:
    """A run made of attention weights that something else computed; views, measures and bundles take it like any other.

    Args:
        attentions: an output of transformers (of a call, or of `generate`, whose steps are stitched to one map), or one
            tensor or array `[1 head query key]` or `[head query key]` per layer, or all in one
            `[layer head query key]`; of the decoder, in an encoder-decoder. None in a list is a layer without.
        tokens: a label for each position, in order; of a generated text the last token may be there or not, since it
            never was a query.
        source_tokens: labels of what an encoder-decoder read.
        encoder: weights of the encoder, in any of these forms; not with an output that brings its own.
        cross: weights from the target to the source, likewise.
        mask: which keys are visible, `[query key]`, or which tokens are real, `[position]`; nonzero is visible. Without
            it a cell counts as visible where some head of its layer gives it weight.
        model: its name, for titles.
        sequence: which text of a batch, or which of the texts that `generate` returned for one prompt.
        sinks: rows may sum to less than 1, since the model has attention sinks (gpt-oss).

    Raises:
        UsageError: nothing in it (transformers gives `()` under SDPA), shapes that disagree with each other or with
            the tokens, numbers that are no weights (NaN, negative, rows that do not sum to 1), or several texts.
    """
    given = incoming(attentions, encoder, cross, sequence)
    labels = _tokens(tokens, "tokens", given.n_own, given.steps)
    source = _tokens(source_tokens, "source_tokens", given.n_source, False) if given.two_sides else ()
    if source_tokens is not None and not given.two_sides:
        raise UsageError("source_tokens belong to an encoder-decoder; give encoder= or cross= as well.")
    given.check(len(labels), len(source), sinks=sinks, mask=_mask(mask, len(labels)))
    stacks = {letter: _patterns(given, letter, _mask(mask, len(labels))) for letter in given.layers}
    main = stacks.get(DECODER, stacks.get(ONLY, ()))
    return Capture(
        text=" ".join(token.label for token in labels),
        tokens=labels,
        words=(),
        anatomy=_anatomy(given, stacks, model),
        mode="exact",
        settings={"imported": True, "sinks": sinks},
        versions={"attnlens": __version__, "torch": torch.__version__},
        patterns=main,
        stream={},
        source=_source(source) if given.two_sides else None,
        encoder=stacks.get(ENCODER, ()),
        cross=stacks.get(CROSS, ()),
        n_prompt=given.n_prompt,
    )


def to_numpy(
    run: Capture, *, kind: str = "self", stack: str | None = None, max_memory: int | str | None = None
) -> Float[np.ndarray, "layer head query key"]:
    """Every weight of one kind, float32; `np.save` keeps it.

    Args:
        run: the run.
        kind: as in `Capture.attention`.
        stack: likewise.
        max_memory: bytes ("2G") that the array may take; None takes 80 % of what is free now.

    Raises:
        CaptureError: the run does not hold every layer and head of it, or the array would take more memory.
    """
    from attnlens.models.memory import available_bytes, parse_bytes

    patterns = run.patterns_of(kind=kind, stack=stack)
    sizes = [
        (run.n_heads if pattern.heads is None else pattern.n_heads, *pattern.shape) for pattern in patterns if pattern
    ]
    shape = (len(patterns), *(sizes[0] if sizes else (0, 0, 0)))
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    free = available_bytes() if max_memory is None else None
    limit = parse_bytes(max_memory) if max_memory is not None else None if free is None else int(_SHARE * free)
    if limit is not None and n_bytes > limit:
        raise CaptureError(
            f"all weights of this run would take {n_bytes / 2**20:,.0f} MiB, and {limit / 2**20:,.0f} MiB are allowed; "
            "ask for one layer or a rectangle by run.attention(layer=..., queries=..., keys=...), or raise max_memory."
        )
    array = np.empty(shape, dtype=np.float32)
    for layer in range(len(patterns)):
        array[layer] = run.attention(layer, kind=kind, stack=stack).numpy()
    return array


def to_attentions(run: Capture, *, kind: str = "self", stack: str | None = None) -> tuple[Tensor | None, ...]:
    """One tensor `[1 head query key]` per layer, as transformers and BertViz have them; None where none was kept.

    Args:
        run: the run.
        kind: as in `Capture.attention`.
        stack: likewise.

    Raises:
        CaptureError: the run holds some heads of a layer only, or no such attention.
    """
    return tuple(
        None if pattern is None else run.attention(layer, kind=kind, stack=stack)[None]
        for layer, pattern in enumerate(run.patterns_of(kind=kind, stack=stack))
    )


def to_model_output(run: Capture) -> BaseModelOutput | Seq2SeqModelOutput:
    """What a call with `output_attentions=True` under eager attention would give, for code written for transformers.

    Hidden states are there where the run kept `embed`, `resid_post` and `final`: the input of the first layer, and the
    output of each, the last one after the last norm.

    Raises:
        CaptureError: the run holds some heads of a layer only.
    """
    from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput

    if not run.anatomy.is_encoder_decoder:
        hidden = _hidden_states(run, ONLY)
        final = None if hidden is None else hidden[-1]
        own: Any = to_attentions(run)
        return BaseModelOutput(last_hidden_state=final, hidden_states=hidden, attentions=own)
    sides = {letter: _hidden_states(run, letter) for letter in (ENCODER, DECODER)}
    last = {letter: None if hidden is None else hidden[-1] for letter, hidden in sides.items()}
    weights: dict[str, Any] = {letter: to_attentions(run, stack=letter) for letter in (ENCODER, DECODER, CROSS)}
    return Seq2SeqModelOutput(
        last_hidden_state=last[DECODER],
        decoder_hidden_states=sides[DECODER],
        decoder_attentions=weights[DECODER],
        cross_attentions=weights[CROSS],
        encoder_last_hidden_state=last[ENCODER],
        encoder_hidden_states=sides[ENCODER],
        encoder_attentions=weights[ENCODER],
    )


def _hidden_states(run: Capture, letter: str) -> tuple[Tensor, ...] | None:
    """The input of the first layer and the output of each, `[1 position d_model]`; None where they were not kept."""
    front = f"{letter}." if letter else ""
    if not {f"{front}{point}" for point in ("embed", "resid_post", "final")} <= set(run.stream):
        return None
    if run.settings.get("layers") is not None:
        return None
    embed, final = (run.residual(point, stack=letter or None) for point in ("embed", "final"))
    between = run.residual("resid_post", stack=letter or None)[:-1]
    return tuple(state[None] for state in (embed, *between, final))


def _tokens(given: Sequence[str | Token] | None, name: str, n_positions: int, may_have_last: bool) -> tuple[Token, ...]:
    """Labelled positions; of a generated text the last token, which never was a query, is left out."""
    if given is None or isinstance(given, str):
        raise UsageError(f"{name} is {given!r}; expected one label for each of the {n_positions} positions.")
    tokens = tuple(
        Token(token.id, token.label, None, None, token.special)
        if isinstance(token, Token)
        else Token(0, printable(str(token)), None, None, False)
        for token in given
    )
    if len(tokens) == n_positions + may_have_last:
        tokens = tokens[:n_positions]
    if len(tokens) != n_positions:
        raise UsageError(f"{name} has {len(tokens)} labels for {n_positions} positions; expected one each.")
    return tokens


def _mask(mask: Any, n_positions: int) -> Bool[Tensor, "query key"] | None:
    if mask is None:
        return None
    seen = torch.as_tensor(np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)) != 0
    seen = seen.squeeze(0) if seen.ndim > 1 and seen.shape[0] == 1 and n_positions > 1 else seen
    if list(seen.shape) not in ([n_positions], [n_positions, n_positions]):
        raise UsageError(
            f"mask has shape {list(seen.shape)}; expected [{n_positions}] (which tokens are real) or "
            f"[{n_positions}, {n_positions}] (which keys each query sees)."
        )
    return seen.expand(n_positions, n_positions)


def _patterns(given: Incoming, letter: str, mask: Tensor | None) -> Patterns:
    own = mask if letter in (ONLY, DECODER) else None
    return tuple(
        None if layer is None else DensePattern(layer, (layer > 0).any(0) if own is None else own)
        for layer in given.layers[letter]
    )


def _source(tokens: tuple[Token, ...]) -> EncodedText:
    return EncodedText(" ".join(token.label for token in tokens), tokens, (), (0,) * len(tokens), False)


def _anatomy(given: Incoming, stacks: Mapping[str, Patterns], model: str) -> Anatomy:
    """What the weights alone tell of the model that made them; no self-check, since there is no model to check."""
    absent = dict.fromkeys(POINTS, _ABSENT)
    described = tuple(
        Stack(
            letter=letter,
            causal=letter != CROSS and not any(_looks_ahead(pattern) for pattern in patterns if pattern),
            n_layers=len(patterns),
            n_heads=given.n_heads(letter),
            n_kv_heads=given.n_heads(letter),
            d_head=0,
            attention_layers=tuple(layer for layer, pattern in enumerate(patterns) if pattern is not None),
            layout="unknown",
            position="unknown",
            max_length=None,
            residual_points=(),
            absent=absent,
        )
        for letter, patterns in stacks.items()
    )
    main = next((stack for stack in described if stack.letter in (ONLY, DECODER)), described[0])
    return Anatomy(
        model=model or "brought from elsewhere",
        family="unknown",
        architecture="unknown",
        causal=main.causal,
        n_layers=main.n_layers,
        n_heads=main.n_heads,
        n_kv_heads=main.n_heads,
        d_model=0,
        d_head=0,
        vocab_size=0,
        max_length=None,
        position="unknown",
        n_parameters=0,
        dtype=given.dtype,
        weights_sha256=None,
        revision=None,
        backend="unknown",
        residual_points=(),
        absent=absent,
        self_check=SelfCheck(),
        route="unknown",
        stacks=described,
    )


def _looks_ahead(pattern: Pattern) -> bool:
    return bool(pattern.visible().triu(1).any())
