"""What a file on disk gives back: tensors that are mapped, not read, and held against their hash when first used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.patterns import DensePattern, LazyPattern
from attnlens.capture.stream import Stream
from attnlens.errors import BundleError

__all__ = ["Seals", "StoredDensePattern", "StoredLazyPattern", "StoredStream", "fingerprint"]

_ALL = slice(None)


def fingerprint(tensor: Tensor) -> str:
    """SHA-256 over dtype, shape and numbers of a tensor on the CPU, in hexadecimal digits."""
    digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Seals:
    """The hashes of a file's tensors; each tensor is held against its own once, when it is first used."""

    def __init__(self, file: str, tensors: Mapping[str, Tensor], hashes: Mapping[str, str]) -> None:
        """`file`: its name, for the message; `hashes`: by name, of every tensor."""
        self._file, self._tensors, self._unchecked = file, tensors, dict(hashes)
        self._lock = Lock()

    def check(self, names: Iterable[str] | None = None) -> None:
        """Hold these tensors against their hashes; None for all.

        Raises:
            BundleError: a tensor is not what was saved.
        """
        with self._lock:
            for name in list(self._unchecked) if names is None else names:
                expected = self._unchecked.get(name)
                if expected is None:
                    continue
                if fingerprint(self._tensors[name]) != expected:
                    raise BundleError(
                        f"{self._file} was changed after it was saved: {name!r} does not have its SHA-256 any more. "
                        "Write the run again with run.save() or `attnlens capture`."
                    )
                del self._unchecked[name]


@dataclass(frozen=True)
class StoredLazyPattern(LazyPattern):
    """A lazy pattern out of a file; `check` runs before its numbers are used."""

    check: Callable[[], None] = lambda: None

    def visible(self) -> Visibility:
        """As of `LazyPattern`."""
        self.check()
        return super().visible()

    def weights(
        self, heads: slice = _ALL, queries: slice = _ALL, keys: slice = _ALL
    ) -> Float[Tensor, "head query key"]:
        """As of `LazyPattern`."""
        self.check()
        return super().weights(heads, queries, keys)


@dataclass(frozen=True)
class StoredDensePattern(DensePattern):
    """A dense pattern out of a file; `check` runs before its numbers are used."""

    check: Callable[[], None] = lambda: None

    def visible(self) -> Visibility:
        """As of `DensePattern`."""
        self.check()
        return super().visible()

    def weights(
        self, heads: slice = _ALL, queries: slice = _ALL, keys: slice = _ALL
    ) -> Float[Tensor, "head query key"]:
        """As of `DensePattern`."""
        self.check()
        return super().weights(heads, queries, keys)


class StoredStream(Stream):
    """Points out of a file, a tensor per layer; each is checked before it is used."""

    def __init__(
        self, points: Mapping[str, Tensor | Sequence[Tensor]], names: Mapping[str, Sequence[str]], seals: Seals
    ) -> None:
        """`names`: per point, what its tensors are called in the file, layer by layer."""
        super().__init__(points)
        self._names, self._seals = names, seals

    def __getitem__(self, point: str) -> Tensor:
        self._seals.check(self._names.get(point, ()))
        return super().__getitem__(point)

    def layer(self, point: str, index: int) -> Tensor:
        """One layer of a point, the others neither stacked nor read."""
        self._seals.check(self._names[point][index : index + 1] if index >= 0 else self._names[point])
        return super().layer(point, index)

    def parts(self, point: str) -> tuple[Tensor, ...]:
        """Every layer of a point, not stacked."""
        self._seals.check(self._names.get(point, ()))
        return super().parts(point)
