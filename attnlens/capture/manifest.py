"""What a `.attn` file says of its tensors, and the tests that they fit together before a run is made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnlens.capture.plain import as_json, read_as
from attnlens.capture.run import ONCE, POINTS
from attnlens.capture.sites import CROSS, DECODER, ENCODER, STACKS
from attnlens.capture.tokens import EncodedText, Token, Word
from attnlens.models.anatomy import Anatomy

__all__ = [
    "DENSE",
    "DENSE_PARTS",
    "LAZY",
    "LAZY_PARTS",
    "SCHEMA",
    "Manifest",
    "StoredPattern",
    "check_tensors",
    "dumps",
]

SCHEMA = "attnlens.run/2"
LAZY, DENSE = "lazy", "dense"
# The tensors of a pattern; the first two of the lazy ones, and both of the dense ones, are always there.
LAZY_PARTS = ("query", "key", "mask", "bias", "sinks")
DENSE_PARTS = ("probabilities", "seen")

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MOST_HEADS = 1 << 16
_FARTHEST = 1 << 31


@dataclass(frozen=True)
class StoredPattern:
    """One layer's attention.

    Attributes:
        kind: "lazy" (queries, keys and the terms of the scores) or "dense" (weights).
        parts: what a tensor is -> its name in the file; layers can share one.
        heads: which heads are held; None for all.
        scaling, causal, offset, softcap: as in `attnlens.capture.scores.Scores`.
    """

    kind: str
    parts: Mapping[str, str]
    heads: tuple[int, ...] | None = None
    scaling: float = 1.0
    causal: bool = False
    offset: int = 0
    softcap: float | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything of a run that is no tensor, and the names and hashes of those that are.

    Attributes:
        schema: `attnlens.run/2`.
        text, tokens, words, anatomy, mode, settings, versions, source, n_prompt: as in `attnlens.capture.run.Capture`.
        stacks: letter -> one pattern per layer; null where a layer was not kept.
        points: point -> the names of its tensors, one per layer (one for `embed` and `final`).
        logits: the name of the logits; null where there are none.
        tensors: name -> SHA-256 of every tensor of the file.
    """

    schema: str
    text: str
    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    anatomy: Anatomy
    mode: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    stacks: Mapping[str, tuple[StoredPattern | None, ...]]
    points: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, str]
    logits: str | None = None
    source: EncodedText | None = None
    n_prompt: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        document: dict[str, Any] = as_json(self)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`, as far as it holds together without the tensors.

        Raises:
            ValueError: a field is missing, of another type, or contradicts another one; the message says which.
        """
        manifest: Manifest = read_as(cls, document, "manifest")
        manifest._check_texts()
        manifest._check_stacks()
        layers = manifest.settings.get("layers")
        if layers is not None and not (isinstance(layers, list) and all(type(layer) is int for layer in layers)):
            raise ValueError("manifest.settings.layers is no array of whole numbers")
        return manifest

    def rows(self, letter: str) -> tuple[int | None, int | None]:
        """How many tokens the queries and the keys of a stack's maps are; None where the run does not name them."""
        own = len(self.tokens)
        source = len(self.source.tokens) or None if self.source is not None else None
        return (source if letter == ENCODER else own), (source if letter in (ENCODER, CROSS) else own)

    def n_heads(self, letter: str) -> int:
        """Heads per layer of a stack."""
        return self.anatomy.stack(letter).n_heads if self.anatomy.stacks else self.anatomy.n_heads

    def _check_texts(self) -> None:
        sides = [("manifest", self.tokens, self.words)]
        if self.source is not None:
            sides.append(("manifest.source", self.source.tokens, self.source.words))
        for place, tokens, words in sides:
            for i, token in enumerate(tokens):
                if token.word is not None and not 0 <= token.word < len(words):
                    raise ValueError(f"{place}.tokens[{i}].word is {token.word}, and there are {len(words)} words")

    def _check_stacks(self) -> None:
        expected = [ENCODER, DECODER, CROSS] if self.anatomy.is_encoder_decoder else [""]
        if sorted(self.stacks) != sorted(expected) or not set(self.stacks) <= set(STACKS):
            raise ValueError(f"manifest.stacks has {sorted(self.stacks)}, expected {sorted(expected)}")
        for letter, layers in self.stacks.items():
            known = [stack for stack in self.anatomy.stacks if stack.letter == letter]
            n_layers = known[0].n_layers if known else 0 if self.anatomy.is_encoder_decoder else self.anatomy.n_layers
            if len(layers) != n_layers:
                raise ValueError(f"manifest.stacks.{letter} has {len(layers)} layers, the anatomy says {n_layers}")
            counts = (self.anatomy.n_heads, *(stack.n_heads for stack in known))
            if not all(0 < n_heads <= _MOST_HEADS for n_heads in counts):
                raise ValueError(f"manifest.anatomy counts heads that no model has in stack {letter!r}")


def check_tensors(manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Find out whether a file's tensors are those that its manifest describes, from their shapes alone.

    Raises:
        ValueError: a tensor is missing, of another shape or dtype, or described nowhere; the message says which.
    """
    if manifest.tensors.keys() != tensors.keys():
        odd = sorted(manifest.tensors.keys() ^ tensors.keys())[0]
        raise ValueError(f"the tensor {odd!r} is {'missing' if odd in manifest.tensors else 'not in the manifest'}")
    for letter, layers in manifest.stacks.items():
        for layer, entry in enumerate(layers):
            if entry is not None:
                _check_pattern(manifest, letter, f"manifest.stacks.{letter}[{layer}]", entry, tensors)
    for point, names in manifest.points.items():
        _check_point(manifest, point, [_named(name, tensors, f"manifest.points.{point}") for name in names])
    if manifest.logits is not None:
        logits = _named(manifest.logits, tensors, "manifest.logits")
        _require(logits.ndim == 2 and logits.dtype in _FLOATS, "logits", "[position vocab]", logits)


def _named(name: str, tensors: Mapping[str, Tensor], place: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{place} names the tensor {name!r}, which does not exist")
    return tensors[name]


def _require(fits: bool, name: str, expected: str, tensor: Tensor) -> None:
    if not fits:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"{name} is {dtype} {list(tensor.shape)}, expected {expected}")


def _check_pattern(
    manifest: Manifest, letter: str, place: str, entry: StoredPattern, tensors: Mapping[str, Tensor]
) -> None:
    if entry.kind not in (LAZY, DENSE):
        raise ValueError(f"{place}.kind is {entry.kind!r}, expected {LAZY!r} or {DENSE!r}")
    known, needed = (LAZY_PARTS, LAZY_PARTS[:2]) if entry.kind == LAZY else (DENSE_PARTS, DENSE_PARTS)
    if not set(needed) <= set(entry.parts) <= set(known):
        raise ValueError(f"{place}.parts has {sorted(entry.parts)}, expected {', '.join(needed)}")
    parts = {part: _named(name, tensors, f"{place}.parts") for part, name in entry.parts.items()}
    n_heads, n_queries, n_keys = (_lazy if entry.kind == LAZY else _dense)(place, entry, parts)
    for what, found, tokens in zip(("queries", "keys"), (n_queries, n_keys), manifest.rows(letter), strict=True):
        # The last token of a generated text can be one that nothing attended from or to.
        if tokens is not None and found != tokens and not (manifest.n_prompt is not None and found <= tokens):
            raise ValueError(f"{place} has {found} {what} for {tokens} tokens")
    of_model = manifest.n_heads(letter)
    heads = tuple(range(of_model)) if entry.heads is None else entry.heads
    if len(heads) != n_heads or sorted(set(heads)) != list(heads) or not 0 <= heads[0] <= heads[-1] < of_model:
        raise ValueError(f"{place} holds {n_heads} heads, which do not fit the model's {of_model}")


def _lazy(place: str, entry: StoredPattern, parts: Mapping[str, Tensor]) -> tuple[int, int, int]:
    query, key = parts["query"], parts["key"]
    for name, tensor in (("query", query), ("key", key)):
        fits = tensor.ndim == 3 and 0 not in tensor.shape and tensor.dtype in _FLOATS
        _require(fits, f"{place}.{name}", "floating-point [head position d_head]", tensor)
    n_heads, n_queries, n_keys = query.shape[0], query.shape[1], key.shape[1]
    fits = key.shape[2] == query.shape[2] and n_heads % key.shape[0] == 0
    _require(fits, f"{place}.key", f"[kv_head key {query.shape[2]}] for {n_heads} query heads", key)
    whole = (n_heads, n_queries, n_keys)
    for name in ("mask", "bias"):
        if name in parts:
            tensor = parts[name]
            fits = tensor.ndim == 3 and all(n in (1, of) for n, of in zip(tensor.shape, whole, strict=True))
            fits = fits and (tensor.dtype == torch.bool if name == "mask" else tensor.dtype in _FLOATS)
            _require(fits, f"{place}.{name}", f"{'bool' if name == 'mask' else 'floating-point'} {list(whole)}", tensor)
    if "sinks" in parts:
        sinks = parts["sinks"]
        _require(list(sinks.shape) == [n_heads] and sinks.dtype in _FLOATS, f"{place}.sinks", f"[{n_heads}]", sinks)
    softcap_fits = entry.softcap is None or (math.isfinite(entry.softcap) and entry.softcap > 0)
    if not (math.isfinite(entry.scaling) and softcap_fits and abs(entry.offset) < _FARTHEST):
        raise ValueError(f"{place} has a scaling, softcap or offset that no model has")
    return n_heads, n_queries, n_keys


def _dense(place: str, entry: StoredPattern, parts: Mapping[str, Tensor]) -> tuple[int, int, int]:
    weights, seen = parts["probabilities"], parts["seen"]
    fits = weights.ndim == 3 and 0 not in weights.shape and weights.dtype in _FLOATS
    _require(fits, f"{place}.probabilities", "floating-point [head query key]", weights)
    fits = seen.shape == weights.shape[1:] and seen.dtype == torch.bool
    _require(fits, f"{place}.seen", f"bool {list(weights.shape[1:])}", seen)
    return weights.shape[0], weights.shape[1], weights.shape[2]


def _check_point(manifest: Manifest, point: str, parts: list[Tensor]) -> None:
    letter, _, name = point.rpartition(".")
    if name not in POINTS or letter not in manifest.stacks:
        raise ValueError(f"manifest.points names {point!r}, which is no point of this model")
    n_layers = len(manifest.stacks[letter])
    if not parts or (len(parts) != 1 if name in ONCE else len(parts) > n_layers):
        raise ValueError(f"manifest.points.{point} has {len(parts)} tensors for {n_layers} layers")
    for part in parts:
        _require(part.ndim in (2, 3) and part.shape == parts[0].shape, point, f"{list(parts[0].shape)}", part)


def dumps(document: Mapping[str, Any]) -> str:
    """JSON with one spelling, so that its hash says whether it is the same."""
    return json.dumps(document, ensure_ascii=True, sort_keys=True, allow_nan=False, separators=(",", ":"))
