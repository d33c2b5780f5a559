"""LayerNorm and RMSNorm written out: what a norm takes away, divides by, multiplies with and adds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.errors import UnsupportedModelError
from attnlens.models.readouts import epsilon_of, freeze_norm
from attnlens.steps.watching import WatchedLayer, relative_gap

__all__ = ["NormStep", "norm_step"]


@dataclass(frozen=True, eq=False)
class NormStep:
    """A norm at every position: `scale * (x - mean) / sqrt(variance + eps) + shift`, in float64.

    An RMSNorm takes no mean away, and divides by the root of the mean square.
    Source: Ba et al. 2016, "Layer Normalization" (arXiv:1607.06450); Zhang & Sennrich 2019, "Root Mean Square Layer
    Normalization" (arXiv:1910.07467).

    Attributes:
        path: of the module within the layer.
        kind: "LayerNorm" or "RMSNorm"; empty for a norm that is neither, of which only the two ends are known.
        given, gives: what the module saw and gave.
        mean: of the numbers of a position; None for an RMSNorm.
        spread: their variance, or for an RMSNorm their mean square.
        epsilon: added before the root is taken.
        scale: what the divided numbers are multiplied with; Gemma's weights are what is added to 1.
        shift: what is added in the end; None where there is none.
        gap: of what these figures give to what the module gave, relative.
    """

    path: str
    kind: str
    given: Float64[Tensor, "position d_model"]
    gives: Float64[Tensor, "position d_model"]
    mean: Float64[Tensor, " position"] | None
    spread: Float64[Tensor, " position"]
    epsilon: float
    scale: Float64[Tensor, " d_model"]
    shift: Float64[Tensor, " d_model"] | None
    gap: float

    def divided(self, vectors: Float64[Tensor, "position d_model"]) -> Float64[Tensor, "position d_model"]:
        """Vectors without their mean (LayerNorm) and divided by their spread: mean 0, mean square 1."""
        centred = vectors if self.mean is None else vectors - vectors.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + self.epsilon).sqrt()

    def apply(self, vectors: Float64[Tensor, "position d_model"]) -> Float64[Tensor, "position d_model"]:
        """The norm of any vectors."""
        scaled = self.divided(vectors) * self.scale
        return scaled if self.shift is None else scaled + self.shift


def norm_step(seen: WatchedLayer, path: str) -> NormStep:
    """The norm at a path of a watched layer, written out and compared with what it gave.

    Raises:
        UnsupportedModelError: it is neither LayerNorm nor RMSNorm.
    """
    given, gives = seen.given(path), seen.gave(path)
    if given is None or gives is None:
        raise UnsupportedModelError(f"{path} runs more than once in its layer, so what it was given is not known.")
    module = seen.module.get_submodule(path)
    frozen = freeze_norm(module, given)
    spread = given - given.mean(-1, keepdim=True) if frozen.centred else given
    step = NormStep(
        path=path,
        kind="LayerNorm" if frozen.centred else "RMSNorm",
        given=given,
        gives=gives,
        mean=given.mean(-1) if frozen.centred else None,
        spread=spread.square().mean(-1),
        epsilon=epsilon_of(module),
        scale=frozen.gain.double(),
        shift=None if frozen.bias is None else frozen.bias.double(),
        gap=torch.nan,
    )
    return NormStep(**vars(step) | {"gap": relative_gap(step.apply(given), gives)})
