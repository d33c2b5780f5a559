"""What BertViz' views are given, in whatever form: a run, an output of transformers, or tensors by stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from attnlens.capture.incoming import incoming
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY
from attnlens.capture.tokens import printable
from attnlens.errors import UsageError
from attnlens.report.maps import tokens_of

__all__ = ["Given", "Part", "parts_of"]

# BertViz' names of the stacks, in its order.
_NAMES = {ENCODER: "Encoder", DECODER: "Decoder", CROSS: "Cross"}
_MARKS = (("Ġ", " "), ("▁", " "), ("</w>", ""))


@dataclass(frozen=True, kw_only=True)
class Given:
    """The arguments of a view, under BertViz' names."""

    attention: Any = None
    tokens: Sequence[str] | None = None
    sentence_b_start: int | None = None
    prettify_tokens: bool = True
    encoder_attention: Any = None
    decoder_attention: Any = None
    cross_attention: Any = None
    encoder_tokens: Sequence[str] | None = None
    decoder_tokens: Sequence[str] | None = None


@dataclass(frozen=True)
class Part:
    """One choice of a view's list: attention that is computed when a layer is asked for, and its labels.

    Attributes:
        name: in the list; None where there is no list.
        n_layers, n_heads: of the stack.
        held: layers that there are; others were not kept, or do not attend.
        left, right: labels of the queries, and of the keys.
        layer: gives the weights of a layer.
    """

    name: str | None
    n_layers: int
    n_heads: int
    held: tuple[int, ...]
    left: list[str]
    right: list[str]
    layer: Callable[[int], Float[Tensor, "head query key"]]


def parts_of(given: Given) -> tuple[Part, ...]:
    """The stacks to choose from, the one to begin with first; one of a single stack.

    Stacks whose layers or heads are not as many as those of the first are left out of a run, since BertViz' script
    counts them once; of tensors they are refused.

    Raises:
        UsageError: arguments that do not go together, or labels that do not fit the weights.
    """
    stacks = (given.encoder_attention, given.decoder_attention, given.cross_attention)
    if given.attention is not None and any(stack is not None for stack in stacks):
        raise UsageError("attention is of one stack; leave it out beside encoder_, decoder_ and cross_attention.")
    if isinstance(given.attention, Capture):
        found = _of_run(given)
    elif given.attention is not None:
        found = _of_one_argument(given)
    elif any(stack is not None for stack in stacks):
        found = _of_stacks(given, dict(zip(_NAMES, stacks, strict=True)))
    else:
        raise UsageError("there is no attention: give a run, an output of transformers, or one tensor per layer.")
    start = given.sentence_b_start
    if start is not None and not (len(found) == 1 and 0 < start < len(found[0].left)):
        raise UsageError(
            f"sentence_b_start={start}: expected the place of the second text's first token, in one stack."
        )
    return found


def _of_run(given: Given) -> tuple[Part, ...]:
    run: Capture = given.attention
    if any(tokens is not None for tokens in (given.tokens, given.encoder_tokens, given.decoder_tokens)):
        raise UsageError("a run brings its own tokens; leave `tokens` out.")
    letters = [stack.letter for stack in run.anatomy.stacks] or [ONLY]
    main = run.anatomy.main_stack
    found = {letter: _of_stack(run, letter) for letter in letters if any(run.patterns_of(stack=letter or None))}
    if main not in found:
        raise UsageError(
            f"this run keeps no attention of {run.anatomy.model}; capture it without layers=() or heads=()."
        )
    size = found[main].n_layers, found[main].n_heads
    fitting = [part for letter, part in found.items() if (part.n_layers, part.n_heads) == size and letter != main]
    return (found[main], *fitting)


def _of_stack(run: Capture, letter: str) -> Part:
    patterns = run.patterns_of(stack=letter or None)
    queries, keys = tokens_of(run, letter)
    held = tuple(layer for layer, pattern in enumerate(patterns) if pattern is not None)
    return Part(
        _NAMES.get(letter),
        len(patterns),
        run.anatomy.stack(letter).n_heads if run.anatomy.stacks else run.n_heads,
        held,
        [token.label for token in queries],
        [token.label for token in keys],
        lambda layer: run.attention(layer, stack=letter or None),
    )


def _of_one_argument(given: Given) -> tuple[Part, ...]:
    """An output of transformers or a list of tensors; of an encoder-decoder's output all stacks that have labels."""
    layers = incoming(given.attention).layers
    if ONLY in layers:
        if given.tokens is None:
            raise UsageError("tensors need `tokens`: one label for each position.")
        return (_part(None, layers[ONLY], given.tokens, given.tokens, given.prettify_tokens),)
    own = given.decoder_tokens if given.decoder_tokens is not None else given.tokens
    if own is None:
        raise UsageError("an output of an encoder-decoder needs `decoder_tokens`, and `encoder_tokens` for its source.")
    if given.encoder_tokens is None:
        return (_part(None, layers[DECODER], own, own, given.prettify_tokens),)
    return _labelled(layers, given.encoder_tokens, own, given.prettify_tokens)


def _of_stacks(given: Given, stacks: dict[str, Any]) -> tuple[Part, ...]:
    layers = {letter: incoming(value).layers[ONLY] for letter, value in stacks.items() if value is not None}
    for letter, name in ((ENCODER, "encoder_tokens"), (DECODER, "decoder_tokens")):
        if getattr(given, name) is None and (letter in layers or CROSS in layers):
            raise UsageError(f"{name} is missing: one label for each position of the {_NAMES[letter].lower()}.")
    return _labelled(layers, given.encoder_tokens or (), given.decoder_tokens or (), given.prettify_tokens)


def _labelled(layers: Any, source: Sequence[str], own: Sequence[str], pretty: bool) -> tuple[Part, ...]:
    sides = {ENCODER: (source, source), DECODER: (own, own), CROSS: (own, source)}
    order = [letter for letter in (DECODER, ENCODER, CROSS) if letter in layers]
    parts = tuple(_part(_NAMES[letter], layers[letter], *sides[letter], pretty) for letter in order)
    if len({(part.n_layers, part.n_heads) for part in parts}) > 1:
        sizes = ", ".join(f"{part.name} {part.n_layers} x {part.n_heads}" for part in parts)
        raise UsageError(
            f"BertViz' view takes stacks of as many layers and heads each; found {sizes}. Show them apart."
        )
    return parts


def _part(name: str | None, layers: Any, left: Sequence[str], right: Sequence[str], pretty: bool) -> Part:
    held = tuple(at for at, layer in enumerate(layers) if layer is not None)
    for at in held:
        if layers[at].ndim != 3 or tuple(layers[at].shape[1:]) != (len(left), len(right)):
            wanted = f"[1, heads, {len(left)}, {len(right)}]"
            tokens = f"{len(left)} tokens" if left is right else f"{len(left)} and {len(right)} tokens"
            raise UsageError(f"expected {wanted} per layer for {tokens}, found {list(layers[at].shape)}.")
    queries, keys = ([printable(_plain(token) if pretty else token) for token in side] for side in (left, right))
    n_heads = len(layers[held[0]])
    return Part(name, len(layers), n_heads, held, queries, keys, lambda layer: layers[layer].float())


def _plain(token: str) -> str:
    """Without the marks of a tokenizer that `prettify_tokens` takes away."""
    for mark, shown in _MARKS:
        token = token.replace(mark, shown)
    return token
