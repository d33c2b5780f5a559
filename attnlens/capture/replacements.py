"""What a forward pass can be sent through unrecorded: as it is, with given patterns, with gates on heads."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.sites import Site

__all__ = ["GateRecorder", "PlainRecorder", "ReplayRecorder"]


class PlainRecorder:
    """Keeps and changes nothing: what the forwards of a block of interventions go through."""

    def __init__(self, eager: bool) -> None:
        """`eager`: run the family's eager code (softcap, sinks, or because the model was loaded to)."""
        self.eager = eager

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """The model's attention."""
        return call.run_eager() if self.eager else (call.run_fused(), None)

    def on_weights(self, call: WeightsCall) -> Tensor:
        """The model's weights."""
        return call.weights


class ReplayRecorder:
    """Puts given patterns in the place of the model's own: the output of a site is `patterns[site] @ value`."""

    eager = True

    def __init__(self, patterns: Mapping[Site, Float[Tensor, "batch head query key"]]) -> None:
        """`patterns`: the weights to use; a site without any keeps its own."""
        self._patterns = patterns

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Weigh the values with the given pattern."""
        if call.site not in self._patterns:
            return call.run_eager()
        pattern = self._patterns[call.site].to(call.value)
        group = pattern.shape[1] // call.value.shape[1]
        value = call.value.repeat_interleave(group, dim=1) if group > 1 else call.value
        return (pattern @ value).transpose(1, 2).contiguous(), pattern

    def on_weights(self, call: WeightsCall) -> Tensor:
        """The given pattern."""
        return self._patterns[call.site].to(call.weights) if call.site in self._patterns else call.weights


class GateRecorder:
    """Scales what each head passes on by a gate: 1 leaves the model as it is, 0 silences the head; differentiable."""

    def __init__(self, gates: Float[Tensor, "batch layer head"], eager: bool = False, stack: str = "") -> None:
        """Set up.

        Args:
            gates: one factor per head, for each row of the batch.
            eager: run the family's eager code (softcap, sinks).
            stack: whose heads the gates are.
        """
        self._gates, self.eager, self._stack = gates, eager, stack

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, None]:
        """The model's attention, then the layer's gates on its output."""
        output = call.run_eager()[0] if self.eager else call.run_fused()
        if call.site.stack != self._stack:
            return output, None
        return output * self._gates[:, call.site.layer].to(output)[:, None, :, None], None

    def on_weights(self, call: WeightsCall) -> Tensor:
        """Scaling a head's weights scales its output."""
        if call.site.stack != self._stack:
            return call.weights
        return call.weights * self._gates[:, call.site.layer].to(call.weights)[:, :, None, None]
