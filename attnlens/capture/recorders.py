"""What a forward pass can be sent through: lazy and exact recording, a given pattern in place of the model's, gates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.capture.patterns import DensePattern, LazyPattern, Pattern
from attnlens.capture.tap import AttentionCall
from attnlens.errors import CaptureError, UnsupportedModelError

__all__ = ["ExactRecorder", "GateRecorder", "LazyRecorder", "PatternRecorder", "ReplayRecorder"]

_UNKNOWN_TERMS = ("softcap", "position_bias", "s_aux")


class PatternRecorder:
    """Counts calls, one per layer in order, and cuts each text's pattern out of a padded batch."""

    eager = False

    def __init__(self, lengths: Sequence[int]) -> None:
        """`lengths`: number of real tokens of each text in the batch; padding stands on the right."""
        self.lengths = tuple(lengths)
        self.layers: list[list[Pattern]] = []

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Run the attention and keep the layer's patterns, one per text."""
        output, weights = self.run(call)
        self.layers.append([self.keep(call, weights, row, n) for row, n in enumerate(self.lengths)])
        return output, weights

    def run(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Compute the output as the mode does."""
        raise CaptureError("PatternRecorder is a base; use LazyRecorder or ExactRecorder.")

    def keep(self, call: AttentionCall, weights: Tensor | None, row: int, n: int) -> Pattern:
        """The pattern of the text in `row`, whose first `n` positions are real."""
        raise CaptureError("PatternRecorder is a base; use LazyRecorder or ExactRecorder.")

    def patterns(self, row: int) -> tuple[Pattern, ...]:
        """Every layer's pattern of the text in `row`."""
        return tuple(layer[row] for layer in self.layers)


class LazyRecorder(PatternRecorder):
    """SDPA runs; queries, keys and the mask are kept, and the values are let go."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """See `PatternRecorder`."""
        super().__init__(lengths)
        self._masks: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def run(self, call: AttentionCall) -> tuple[Tensor, None]:
        """SDPA, after making sure that nothing enters the scores that the recomputation leaves out."""
        terms = [name for name in _UNKNOWN_TERMS if call.options.get(name) is not None]
        if terms:
            raise UnsupportedModelError(
                f"{type(call.module).__name__} adds {', '.join(terms)} to its scores, which lazy capture does not "
                "recompute; use mode='exact'."
            )
        return call.run_sdpa(), None

    def keep(self, call: AttentionCall, weights: Tensor | None, row: int, n: int) -> LazyPattern:
        """Copies, since a fused projection's queries are views that would keep the values alive."""
        return LazyPattern(
            query=_own(call.query[row, :, :n]),
            key=_own(call.key[row, :, :n]),
            scaling=call.scaling,
            mask=self._mask(call.mask, row, n),
            causal=call.causal_by_flag,
        )

    def _mask(self, mask: Tensor | None, row: int, n: int) -> Tensor | None:
        """The text's own mask, made once for all layers that share the batch's mask object."""
        if mask is None:
            return None
        known = self._masks.get((id(mask), row))
        if known is None:
            known = self._masks[id(mask), row] = (mask, _seen(mask, row, n))
        return known[1]


class ExactRecorder(PatternRecorder):
    """The family's own eager code runs and its weights are kept."""

    eager = True

    def run(self, call: AttentionCall) -> tuple[Tensor, Tensor]:
        """The eager code."""
        return call.run_eager()

    def keep(self, call: AttentionCall, weights: Tensor | None, row: int, n: int) -> DensePattern:
        """The weights of the real positions; the mask tells which cells were hidden."""
        assert weights is not None
        probabilities = _own(weights[row, :, :n, :n])
        if call.mask is None:
            seen = torch.ones(n, n, dtype=torch.bool)
            return DensePattern(probabilities, seen.tril() if call.causal_by_flag else seen)
        return DensePattern(probabilities, _seen(call.mask, row, n))


class ReplayRecorder:
    """Puts given patterns in the place of the model's own: the output of layer `l` is `patterns[l] @ value`."""

    eager = True

    def __init__(self, patterns: Sequence[Float[Tensor, "batch head query key"]]) -> None:
        """`patterns`: one per layer, in the order in which the layers run."""
        self._patterns = list(patterns)
        self._calls = 0

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Weigh the values with the given pattern."""
        pattern = self._patterns[self._calls].to(call.value)
        self._calls += 1
        value = call.value.repeat_interleave(call.query.shape[1] // call.value.shape[1], dim=1)
        return (pattern @ value).transpose(1, 2).contiguous(), pattern


class GateRecorder:
    """Scales what each head passes on by a gate: 1 leaves the model as it is, 0 silences the head; differentiable."""

    eager = False

    def __init__(self, gates: Float[Tensor, "batch layer head"]) -> None:
        """`gates`: one factor per head, for each row of the batch."""
        self._gates = gates
        self._calls = 0

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, None]:
        """SDPA, then the layer's gates on its output."""
        gates = self._gates[:, self._calls].to(call.value)
        self._calls += 1
        return call.run_sdpa() * gates[:, None, :, None], None


def _own(tensor: Tensor) -> Tensor:
    """A detached copy in memory of its own, on the CPU."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _seen(mask: Tensor, row: int, n: int) -> Tensor:
    """`[query key]`, True where visible, from a bool (keep) or an additive float mask of the batch.

    Raises:
        UnsupportedModelError: the mask differs between heads, or adds a bias instead of only hiding keys.
    """
    if mask.shape[1] != 1:
        raise UnsupportedModelError("the model's mask differs between heads (a bias such as ALiBi); not supported yet.")
    own = mask[row if mask.shape[0] > 1 else 0, 0, :n, :n].detach().cpu()
    if own.dtype == torch.bool:
        return own.clone()
    seen = own > torch.finfo(own.dtype).min / 2
    if bool(own[seen].any()):
        raise UnsupportedModelError("the model's mask adds a bias to its scores; not supported yet.")
    return seen
