"""Mixed experts written out: whom the router sends each token to, and what each chosen expert writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from attnlens.errors import UnsupportedModelError
from attnlens.steps.watching import Routed, WatchedLayer, relative_gap

__all__ = ["Experts", "mixed_experts"]


@dataclass(frozen=True, eq=False)
class Experts:
    """Routing at every position: each token goes to the experts of its largest logits, and their outputs are added.

    Source: Shazeer et al. 2017, "Outrageously Large Neural Networks" (arXiv:1701.06538); Jiang et al. 2024, "Mixtral of
    Experts" (arXiv:2401.04088).

    Attributes:
        given: what the router reads.
        logits: the router's, `given @ W (+ b)`.
        probability: softmax of the logits over all experts.
        chosen: the experts that were asked, the best first.
        weights: what their outputs are multiplied with, as the model took them.
        outputs: what each of them adds, its weight included.
        rest: what the layer writes beside them (shared experts); None where their sum is all.
        written: what the layer writes.
        router_gap: of the router's logits multiplied out, relative.
        gap: of the sum of the experts to what the layer writes, relative; with a `rest`, 0 by construction.
    """

    given: Float64[Tensor, "position d_model"]
    logits: Float64[Tensor, "position expert"]
    probability: Float64[Tensor, "position expert"]
    chosen: Int[Tensor, "position choice"]
    weights: Float64[Tensor, "position choice"]
    outputs: Float64[Tensor, "position choice d_model"]
    rest: Float64[Tensor, "position d_model"] | None
    written: Float64[Tensor, "position d_model"]
    router_gap: float
    gap: float


def mixed_experts(seen: WatchedLayer) -> Experts:
    """The experts of a watched layer.

    Each choice is run by itself through the model's own experts, so that no expert's inside has to be known.

    Raises:
        UnsupportedModelError: the layer has no router, or its experts take something else than choices and weights.
    """
    if seen.wiring.router is None:
        raise UnsupportedModelError(seen.wiring.absent.get("router_logits", "the layer has no router"))
    written, given = seen.point("mlp_out"), seen.given(seen.wiring.router)
    if seen.routed is None or written is None or given is None:
        raise UnsupportedModelError("the experts of this layer were not seen at work")
    logits, weights, chosen = seen.routed.routing
    outputs = _outputs(seen.routed)
    total = outputs.sum(1)
    gap = relative_gap(total, written)
    has_rest = _has_shared(seen)
    logits = logits.double().cpu()
    return Experts(
        given=given,
        logits=logits,
        probability=logits.softmax(-1),
        chosen=chosen.cpu(),
        weights=weights.double().cpu(),
        outputs=outputs,
        rest=written - total if has_rest else None,
        written=written,
        router_gap=relative_gap(_logits(seen.module.get_submodule(seen.wiring.router), given), logits),
        gap=0.0 if has_rest else gap,
    )


def _logits(router: nn.Module, given: Float64[Tensor, "position d_model"]) -> Float64[Tensor, "position expert"]:
    parameters: dict[str, Tensor] = {name: value.detach().double().cpu() for name, value in router.named_parameters()}
    found = given @ parameters["weight"].T
    return found + parameters["bias"] if "bias" in parameters else found


def _outputs(routed: Routed) -> Float64[Tensor, "position choice d_model"]:
    """What each choice adds: the experts are called with one choice at a time."""
    _, weights, chosen = routed.routing

    def only(value: Any, choice: int) -> Any:
        is_routing = isinstance(value, Tensor) and value.shape == chosen.shape
        return value[:, choice : choice + 1].contiguous() if is_routing else value

    parts = []
    with torch.no_grad():
        for choice in range(chosen.shape[1]):
            args = [only(value, choice) for value in routed.args]
            output = routed.experts(*args, **{name: only(value, choice) for name, value in routed.kwargs.items()})
            if not isinstance(output, Tensor) or output.shape[:-1].numel() != len(weights):
                raise UnsupportedModelError(f"{type(routed.experts).__name__} gives something else than a vector each")
            parts.append(output.reshape(len(weights), -1).double().cpu())
    return torch.stack(parts, dim=1)


def _has_shared(seen: WatchedLayer) -> bool:
    return any("shared" in name.lower() for name, _ in seen.module.named_modules())
