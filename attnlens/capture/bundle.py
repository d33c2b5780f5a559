"""A run in one file: a safetensors file whose metadata hold a JSON manifest. No pickle, readable by other tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attnlens.capture.patterns import DensePattern, LazyPattern, Pattern
from attnlens.capture.run import Capture
from attnlens.capture.tokens import Token, Word, printable
from attnlens.errors import BundleError, OutputError
from attnlens.files import whole_file
from attnlens.models.anatomy import Anatomy

__all__ = ["SCHEMA", "open_run", "save_run"]

SCHEMA = "attnlens.run/1"


def save_run(run: Capture, path: str | Path, *, dtype: torch.dtype | None = None) -> Path:
    """Write `run` to `path`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {f"stream.{point}": values for point, values in run.stream.items()}
    if run.logits is not None:
        tensors["logits"] = run.logits
    masks: dict[int, int] = {}
    layers = [_store(pattern, layer, tensors, masks) for layer, pattern in enumerate(run.patterns)]
    manifest = {
        "schema": SCHEMA,
        "text": run.text,
        "tokens": [asdict(token) for token in run.tokens],
        "words": [asdict(word) for word in run.words],
        "anatomy": run.anatomy.to_json(),
        "mode": run.mode,
        "settings": dict(run.settings),
        "versions": dict(run.versions),
        "layers": layers,
    }
    metadata = {"attnlens": json.dumps(manifest, ensure_ascii=True, sort_keys=True, allow_nan=False)}
    try:
        with whole_file(path) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata=metadata)
    except SafetensorError as error:
        raise OutputError(f"cannot write {printable(str(path))}: {error}; choose another output path.") from error
    return Path(path)


def open_run(path: str | Path) -> Capture:
    """Read a run that `Capture.save` wrote; the model is not needed.

    Raises:
        BundleError: no such file, not a run, of a later version, or damaged.
    """
    path = Path(path)
    shown = printable(str(path))[:160]
    try:
        if not path.is_file():
            raise BundleError(f"{shown} is not a file; expected a run written by `attnlens capture` or run.save().")
        with safe_open(path, framework="pt") as file:
            manifest = _manifest(shown, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{shown} is not a readable run ({error}); write it again with `attnlens capture`."
        ) from error
    try:
        return _restore(manifest, tensors)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(
            f"{shown} is damaged: {error!r} is missing or wrong; write it again with `attnlens capture`."
        ) from error


def _manifest(path: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    if "attnlens" not in metadata:
        raise BundleError(f"{path} is a safetensors file, but no attnlens run; write one with `attnlens capture`.")
    try:
        manifest: dict[str, Any] = json.loads(metadata["attnlens"])
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} has no readable manifest; write it again with `attnlens capture`.") from error
    if schema != SCHEMA:
        raise BundleError(
            f"{path} has schema {schema!r}, this version reads {SCHEMA!r}; use the attnlens that wrote it."
        )
    return manifest


def _store(pattern: Pattern, layer: int, tensors: dict[str, Tensor], masks: dict[int, int]) -> dict[str, Any]:
    """Put a layer's tensors into `tensors` (a mask that layers share once) and return what the manifest says of it."""
    if isinstance(pattern, DensePattern):
        tensors[f"layer.{layer}.weights"] = pattern.probabilities
        return {"kind": "dense", "mask": _store_mask(pattern.seen, tensors, masks)}
    tensors[f"layer.{layer}.query"], tensors[f"layer.{layer}.key"] = pattern.query, pattern.key
    return {
        "kind": "lazy",
        "scaling": pattern.scaling,
        "causal": pattern.causal,
        "mask": _store_mask(pattern.mask, tensors, masks),
    }


def _store_mask(mask: Tensor | None, tensors: dict[str, Tensor], masks: dict[int, int]) -> int | None:
    if mask is None:
        return None
    if id(mask) not in masks:
        masks[id(mask)] = len(masks)
        tensors[f"mask.{masks[id(mask)]}"] = mask
    return masks[id(mask)]


def _restore(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Capture:
    tokens = tuple(Token(**{**token, "span": _pair(token["span"])}) for token in manifest["tokens"])
    run = Capture(
        text=manifest["text"],
        tokens=tokens,
        words=tuple(Word(word["label"], (word["span"][0], word["span"][1])) for word in manifest["words"]),
        anatomy=Anatomy.from_json(manifest["anatomy"]),
        mode=manifest["mode"],
        settings=manifest["settings"],
        versions=manifest["versions"],
        patterns=tuple(_pattern(layer, i, tensors) for i, layer in enumerate(manifest["layers"])),
        stream={name.removeprefix("stream."): t for name, t in tensors.items() if name.startswith("stream.")},
        logits=tensors.get("logits"),
    )
    if any(pattern.visible().shape != (len(tokens), len(tokens)) for pattern in run.patterns):
        raise ValueError("number of tokens")
    return run


def _pair(span: list[int] | None) -> tuple[int, int] | None:
    return None if span is None else (int(span[0]), int(span[1]))


def _pattern(layer: Mapping[str, Any], i: int, tensors: Mapping[str, Tensor]) -> Pattern:
    mask = None if layer["mask"] is None else tensors[f"mask.{layer['mask']}"]
    if layer["kind"] == "dense":
        return DensePattern(tensors[f"layer.{i}.weights"], _present(mask))
    return LazyPattern(
        query=tensors[f"layer.{i}.query"],
        key=tensors[f"layer.{i}.key"],
        scaling=float(layer["scaling"]),
        mask=mask,
        causal=bool(layer["causal"]),
    )


def _present(mask: Tensor | None) -> torch.Tensor:
    if mask is None:
        raise ValueError("mask")
    return mask
