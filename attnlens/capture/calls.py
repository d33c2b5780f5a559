"""What a model hands over at the moment it attends: queries, keys and values, or weights that it built itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from attnlens.capture.sites import Site

__all__ = ["AttentionCall", "Recorder", "WeightsCall"]


@dataclass(frozen=True)
class AttentionCall(ABC):
    """What an attention module passed to its attention function.

    Attributes:
        site: the layer whose attention this is.
        module: the attention module.
        query: `[batch head query d_head]`, after the rotary embedding.
        key, value: `[batch kv_head key d_head]`, before they are repeated for grouped queries.
        mask: additive (float) or keep (bool) mask, broadcasts to `[batch head query key]`; None where there is none.
        options: the other arguments of the call (`scaling`, `dropout`, `softcap`, `s_aux`, ...).
    """

    site: Site
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: dict[str, Any]

    @property
    def scaling(self) -> float:
        """The factor on the scores, read from the call: a module's own attribute is wrong for OPT and Whisper."""
        scaling = self.options.get("scaling")
        return float(self.query.shape[-1] ** -0.5 if scaling is None else scaling)

    @property
    def causal_by_flag(self) -> bool:
        """True where no mask was built because the kernel is told to hide later keys."""
        if self.mask is not None or self.query.shape[2] == 1:
            return False
        flag = self.options.get("is_causal")
        return bool(getattr(self.module, "is_causal", True) if flag is None else flag)

    @property
    def fits_fused(self) -> bool:
        """False where SDPA would leave out a term of the scores (softcap, sinks) or refuse it."""
        return self.options.get("softcap") is None and self.options.get("s_aux") is None

    @abstractmethod
    def run_eager(self) -> tuple[Tensor, Tensor]:
        """The model's own plain code: output `[batch query head d_head]`, weights `[batch head query key]`."""

    @abstractmethod
    def run_fused(self) -> Tensor:
        """Output of SDPA, `[batch query head d_head]`; no weights are ever built."""


@dataclass(frozen=True)
class WeightsCall:
    """Weights that a model built with a softmax of its own.

    Attributes:
        site: the layer whose attention this is.
        module: the attention module.
        scores: what the softmax was given; hidden keys hold a very low number.
        weights: what it returned.
    """

    site: Site
    module: nn.Module
    scores: Float[Tensor, "batch head query key"]
    weights: Float[Tensor, "batch head query key"]


@runtime_checkable
class Recorder(Protocol):
    """Receives every attention of one block; `eager` tells which kind of mask it needs from transformers."""

    eager: bool

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Compute the output `[batch query head d_head]` (and weights, if built) and keep what is wanted."""
        ...

    def on_weights(self, call: WeightsCall) -> Tensor:
        """Keep what is wanted of weights that the model built itself, and return those to go on with."""
        ...
