"""A run in one file: a safetensors file whose metadata hold a JSON manifest. No pickle, readable by other tools.

Every tensor has its SHA-256 in the manifest, and the manifest its own: a file that was damaged or edited is refused by
name. A hash is no signature, though: whoever changes the hashes as well is not found out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attnlens.capture.manifest import DENSE, LAZY, LAZY_PARTS, SCHEMA, Manifest, StoredPattern, check_tensors, dumps
from attnlens.capture.patterns import DensePattern, Pattern
from attnlens.capture.precision import in_precision
from attnlens.capture.run import ONCE, Capture, Patterns
from attnlens.capture.scores import Scores
from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY
from attnlens.capture.stored import Seals, StoredDensePattern, StoredLazyPattern, StoredStream, fingerprint
from attnlens.capture.stream import Stream
from attnlens.capture.tokens import printable
from attnlens.errors import BundleError, OutputError
from attnlens.files import whole_file

__all__ = ["SCHEMA", "open_run", "save_run"]

_KEY = "attnlens"
_AGAIN = "write it again with run.save() or `attnlens capture`"
# Tensors up to this many bytes in all are held against their hashes on opening, others when they are first used.
_CHECKED_AT_ONCE = 64 << 20


def save_run(run: Capture, path: str | Path, *, dtype: torch.dtype | None = None) -> Path:
    """Write `run` to `path`, whole or not at all; the same run gives the same bytes.

    Args:
        run: the run; what it holds of a larger batch is saved as its own part only.
        path: where to.
        dtype: precision of queries, keys and weights; see `attnlens.capture.precision.in_precision`.

    Raises:
        OutputError: the file cannot be written.
        UsageError: no precision for this, or one that cannot hold the run's numbers.
    """
    if dtype is not None:
        run = in_precision(run, dtype)
    shelf = _Shelf()
    stacks = {ONLY: run.patterns}
    if run.anatomy.is_encoder_decoder:
        stacks = {ENCODER: run.encoder, DECODER: run.patterns, CROSS: run.cross}
    manifest = Manifest(
        schema=SCHEMA,
        text=run.text,
        tokens=run.tokens,
        words=run.words,
        anatomy=run.anatomy,
        mode=run.mode,
        settings=run.settings,
        versions=run.versions,
        stacks={letter: shelf.patterns(letter, patterns) for letter, patterns in stacks.items()},
        points={point: shelf.points(point, _layers(run.stream, point)) for point in sorted(run.stream)},
        logits=None if run.logits is None else shelf.put("logits", run.logits),
        tensors=shelf.hashes,
        source=run.source,
        n_prompt=run.n_prompt,
    )
    document = manifest.to_json()
    document["sha256"] = _hash(document)
    try:
        with whole_file(path) as part:
            save_file(shelf.tensors, part, metadata={_KEY: dumps(document)})
    except SafetensorError as error:
        raise OutputError(f"cannot write {printable(str(path))}: {error}; choose another output path.") from error
    return Path(path)


def open_run(path: str | Path, *, verify: bool | None = None) -> Capture:
    """Read a run that `Capture.save` wrote; the model is not needed.

    The file is mapped into memory and read where it is used, so that opening is quick and a layer costs what it holds.

    Args:
        path: the file.
        verify: when numbers are held against their SHA-256: True on opening, False never. None (best for nearly all)
            on opening up to 64 MiB; in a larger file the logits at once, layers when they are first used, where a
            BundleError can come from `run.attention` and `run.residual` too.

    Raises:
        BundleError: no such file, not a run, of a later version, damaged or changed.
    """
    path = Path(path)
    shown = printable(str(path))[:160]
    metadata, tensors = _read(path, shown)
    try:
        manifest = Manifest.from_json(_manifest(shown, metadata))
        check_tensors(manifest, tensors)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{shown} is damaged: {printable(str(error))[:300]}; {_AGAIN}.") from error
    seals = Seals(shown, tensors, manifest.tensors if verify is not False else {})
    if verify or sum(tensor.nbytes for tensor in tensors.values()) <= _CHECKED_AT_ONCE:
        seals.check()
    elif manifest.logits is not None:
        seals.check((manifest.logits,))
    return _restore(manifest, tensors, seals)


class _Shelf:
    """The tensors of a file by name; equal ones are there once, under the name that they had first."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.hashes: dict[str, str] = {}
        self._by_hash: dict[str, str] = {}

    def put(self, name: str, tensor: Tensor) -> str:
        """Keep `tensor`; returns the name it has in the file."""
        own = tensor.detach().cpu().contiguous()
        found = fingerprint(own)
        if found in self._by_hash:
            return self._by_hash[found]
        self.tensors[name], self.hashes[name], self._by_hash[found] = own, found, name
        return name

    def points(self, point: str, layers: Sequence[Tensor]) -> tuple[str, ...]:
        """Keep a point, layer by layer."""
        return tuple(self.put(f"{point}.{layer}", values) for layer, values in enumerate(layers))

    def patterns(self, letter: str, patterns: Patterns) -> tuple[StoredPattern | None, ...]:
        """Keep a stack's patterns."""
        return tuple(
            None if pattern is None else self._pattern(f"{letter}L{layer}", pattern)
            for layer, pattern in enumerate(patterns)
        )

    def _pattern(self, site: str, pattern: Pattern) -> StoredPattern:
        if isinstance(pattern, StoredDensePattern | StoredLazyPattern):
            pattern.check()  # lest a changed number gets a new hash
        if isinstance(pattern, DensePattern):
            dense = {"probabilities": pattern.probabilities, "seen": pattern.seen}
            return StoredPattern(
                DENSE, {part: self.put(f"{site}.{part}", t) for part, t in dense.items()}, pattern.heads
            )
        scores = pattern.scores
        parts = {part: getattr(scores, part) for part in LAZY_PARTS}
        return StoredPattern(
            LAZY,
            {part: self.put(f"{site}.{part}", _of_one_text(t)) for part, t in parts.items() if t is not None},
            pattern.heads,
            scaling=float(scores.scaling),
            causal=scores.causal,
            offset=scores.offset,
            softcap=None if scores.softcap is None else float(scores.softcap),
        )


def _of_one_text(tensor: Tensor) -> Tensor:
    """Without the axis of the batch, and with axes that only repeat the same numbers cut to one."""
    if tensor.ndim != 4:
        return tensor
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[axis] > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor[0]


def _layers(stream: Mapping[str, Tensor], point: str) -> tuple[Tensor, ...]:
    if isinstance(stream, Stream):
        return stream.parts(point)
    return (stream[point],) if point.rpartition(".")[2] in ONCE else tuple(stream[point])


def _read(path: Path, shown: str) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """The metadata, and the tensors as parts of the mapped file."""
    try:
        if not path.is_file():
            raise BundleError(f"{shown} is not a file; expected a run written by `attnlens capture` or run.save().")
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except BundleError:
        raise
    except Exception as error:  # whatever a foreign or damaged file makes the reader raise
        reason = printable(str(error))[:200]
        raise BundleError(f"{shown} is not a readable run ({reason}); {_AGAIN}.") from error


def _manifest(shown: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The manifest, of a schema that this version reads, and as it was written.

    Raises:
        BundleError: no manifest of ours, or of another version.
        ValueError: no JSON, or changed.
    """
    if _KEY not in metadata:
        raise BundleError(f"{shown} is a safetensors file, but no attnlens run; write one with `attnlens capture`.")
    document: Any = json.loads(metadata[_KEY], parse_constant=_refuse)
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith("attnlens.run/"):
        raise ValueError("its manifest names no schema attnlens.run/...")
    if schema != SCHEMA:
        number = schema.removeprefix("attnlens.run/")
        later = number.isascii() and number.isdigit() and len(number) < 9 and int(number) > 2
        what = "is of a later version; upgrade attnlens" if later else f"is of another version; {_AGAIN}"
        raise BundleError(f"{shown} has schema {printable(schema)[:40]!r}, this version reads {SCHEMA!r}: it {what}.")
    given = document.pop("sha256", None)
    if given != _hash(document):
        raise BundleError(f"{shown} was changed after it was saved: its manifest does not have its SHA-256; {_AGAIN}.")
    return dict(document)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(dumps(document).encode("ascii")).hexdigest()


def _restore(manifest: Manifest, tensors: Mapping[str, Tensor], seals: Seals) -> Capture:
    """A run of tensors that `check_tensors` has passed."""
    stacks = {
        letter: tuple(None if entry is None else _pattern(entry, tensors, seals) for entry in layers)
        for letter, layers in manifest.stacks.items()
    }
    points: dict[str, Tensor | list[Tensor]] = {}
    for point, names in manifest.points.items():
        parts = [tensors[name] for name in names]
        points[point] = parts[0] if point.rpartition(".")[2] in ONCE else parts
    return Capture(
        text=manifest.text,
        tokens=manifest.tokens,
        words=manifest.words,
        anatomy=manifest.anatomy,
        mode=manifest.mode,
        settings=manifest.settings,
        versions=manifest.versions,
        patterns=stacks[manifest.anatomy.main_stack],
        stream=StoredStream(points, manifest.points, seals),
        logits=None if manifest.logits is None else tensors[manifest.logits],
        source=manifest.source,
        encoder=stacks.get(ENCODER, ()),
        cross=stacks.get(CROSS, ()),
        n_prompt=manifest.n_prompt,
    )


def _pattern(entry: StoredPattern, tensors: Mapping[str, Tensor], seals: Seals) -> Pattern:
    names = tuple(entry.parts.values())
    parts = {part: tensors[name] for part, name in entry.parts.items()}

    def check() -> None:
        seals.check(names)

    if entry.kind == DENSE:
        return StoredDensePattern(parts["probabilities"], parts["seen"], entry.heads, check)
    scores = Scores(
        query=parts["query"][None],
        key=parts["key"][None],
        scaling=entry.scaling,
        mask=None if "mask" not in parts else parts["mask"][None],
        causal=entry.causal,
        offset=entry.offset,
        softcap=entry.softcap,
        bias=None if "bias" not in parts else parts["bias"][None],
        sinks=parts.get("sinks"),
    )
    return StoredLazyPattern(scores, entry.heads, check)
