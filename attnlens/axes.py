"""The axis vocabulary: the names that shapes are written in, in signatures and on tensors.

    batch layer head query key position word vocab d_model d_head

Attention ends in `query key` (from, to), never in `seq seq`; a stack of a whole run is `[layer head query key]`. Shapes
stand in signatures as jaxtyping annotations, checked when the suite runs and free of cost for users.
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Bool
from torch import Tensor

__all__ = ["Visibility"]

# True where the mask lets a query see a key; the rest is "not visible", which is not the same as weight 0.
Visibility: TypeAlias = Bool[Tensor, "query key"]
