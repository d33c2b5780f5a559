"""Several multinomial logistic probes on the same word vectors, fitted together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["Labelling", "LogisticProbes", "Scaling", "fit_logistic"]

MOST_STEPS = 200


@dataclass(frozen=True)
class Labelling:
    """Labels of words: numbers below `n_classes`, -1 where a word has none."""

    labels: Int64[np.ndarray, " word"]
    n_classes: int


@dataclass(frozen=True)
class Scaling:
    """Each dimension to mean 0 and variance 1, as measured on the words that a probe is fitted on."""

    mean: Float32[np.ndarray, " d_model"]
    scale: Float32[np.ndarray, " d_model"]

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "word d_model"]) -> Scaling:
        """Measured on `vectors`; a dimension that does not vary is not scaled."""
        deviation = vectors.std(axis=0, dtype=np.float64)
        scale = np.where(deviation > 0, deviation, 1.0)
        return cls(vectors.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32))

    def apply(self, vectors: Float[np.ndarray, "word d_model"]) -> Float32[np.ndarray, "word d_model"]:
        """The vectors in these units."""
        return np.asarray((vectors - self.mean) / self.scale, dtype=np.float32)


@dataclass(frozen=True)
class LogisticProbes:
    """Fitted weights of all probes side by side, on scaled vectors.

    Attributes:
        weight, bias: columns are the classes of the first probe, then those of the second, ...
        sizes: classes of each probe.
    """

    weight: Float[Tensor, "d_model column"]
    bias: Float[Tensor, " column"]
    sizes: tuple[int, ...]

    def log_probabilities(
        self, vectors: Float32[np.ndarray, "word d_model"]
    ) -> list[Float64[np.ndarray, "word class_of_probe"]]:
        """Natural logarithms, one array per probe."""
        logits = (torch.from_numpy(vectors) @ self.weight + self.bias).double()
        return [part.log_softmax(-1).numpy() for part in torch.split(logits, list(self.sizes), dim=1)]


def fit_logistic(
    vectors: Float32[np.ndarray, "word d_model"],
    labellings: Sequence[Labelling],
    *,
    penalty: float,
    start: LogisticProbes | None = None,
) -> LogisticProbes:
    """Minimise, probe by probe, cross-entropy summed over its words + penalty / 2 |weight|^2 + 1 / 2 |bias|^2.

    The optimum is unique: the bias carries a penalty of its own, without which a class that has no word would get
    probability 0, and a code for it would be infinitely long. One run of L-BFGS serves all probes, since they share the
    vectors and nothing else.

    Args:
        vectors: scaled.
        labellings: of the same words.
        penalty: on the weights of each probe.
        start: probes to begin from, which saves steps and changes nothing else.
    """
    sizes = tuple(each.n_classes for each in labellings)
    inputs = torch.from_numpy(np.ascontiguousarray(vectors))
    targets = [torch.from_numpy(each.labels) for each in labellings]
    counts = [max(int((target >= 0).sum()), 1) for target in targets]
    shares = torch.cat([torch.full((size,), 1 / n) for size, n in zip(sizes, counts, strict=True)])
    weight = torch.zeros(inputs.shape[1], sum(sizes)) if start is None else start.weight.clone()
    bias = torch.zeros(sum(sizes)) if start is None else start.bias.clone()
    weight.requires_grad_(), bias.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=MOST_STEPS, tolerance_grad=1e-4, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = torch.split(inputs @ weight + bias, list(sizes), dim=1)
        total = ((penalty * weight.square().sum(0) + bias.square()) * shares).sum() / 2
        for part, target, n in zip(logits, targets, counts, strict=True):
            total = total + cross_entropy(part, target, ignore_index=-1, reduction="sum") / n
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return LogisticProbes(weight.detach(), bias.detach(), sizes)
