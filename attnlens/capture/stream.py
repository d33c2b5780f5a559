"""The points that a run kept, each put together from its layers only when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Stream"]


class Stream(Mapping[str, Tensor]):
    """Point -> tensor, as `Capture.stream` describes it.

    A point that was given as one tensor per layer is stacked on first use: for many callers the copy would be the most
    expensive part of a capture, and most points are never read.
    """

    def __init__(self, points: Mapping[str, Tensor | Sequence[Tensor]]) -> None:
        """`points`: a whole tensor each, or one tensor per layer."""
        self._points: dict[str, Tensor | tuple[Tensor, ...]] = {
            name: value if isinstance(value, Tensor) else tuple(value) for name, value in points.items()
        }

    def __getitem__(self, point: str) -> Tensor:
        value = self._points[point]
        if not isinstance(value, Tensor):
            value = self._points[point] = torch.stack(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, point: object) -> bool:
        return point in self._points

    @property
    def nbytes(self) -> int:
        """Bytes of all points, stacked or not."""
        values = self._points.values()
        return sum(v.nbytes if isinstance(v, Tensor) else sum(part.nbytes for part in v) for v in values)

    def layer(self, point: str, index: int) -> Tensor:
        """One layer of a point, without stacking the others."""
        return self._points[point][index]

    def parts(self, point: str) -> tuple[Tensor, ...]:
        """Every layer of a point, without stacking them; `embed` and `final` are one part."""
        value = self._points[point]
        return (value,) if isinstance(value, Tensor) and value.ndim == 2 else tuple(value)
