"""Where in the text a word stands, read linearly: ridge regression in closed form, and R2 with its interval."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int64

from probes.stream.intervals import Clusters, percentiles

__all__ = ["fit_ridge", "r_squared", "r_squared_interval"]


def fit_ridge(
    vectors: Float32[np.ndarray, "word d_model"], values: Float64[np.ndarray, " word"], penalty: float
) -> tuple[Float64[np.ndarray, " d_model"], float]:
    """Weights and intercept that minimise the sum of squared errors + penalty * |weights|^2.

    Source: Hoerl and Kennard 1970, "Ridge Regression". The intercept carries no penalty.
    """
    inputs = vectors.astype(np.float64)
    centre, level = inputs.mean(axis=0), float(values.mean())
    inputs = inputs - centre
    gram = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (values - level))
    return weights, level - float(centre @ weights)


def r_squared(values: Float64[np.ndarray, " word"], predicted: Float64[np.ndarray, " word"]) -> float:
    """1 - squared error / squared deviation from the mean: 1 is exact, 0 as good as the mean; NaN without variation."""
    around = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    return 1 - float(((values - predicted) ** 2).sum()) / around if around > 0 else float("nan")


def r_squared_interval(
    units: Clusters,
    clusters: Int64[np.ndarray, " word"],
    values: Float64[np.ndarray, " word"],
    predicted: Float64[np.ndarray, " word"],
) -> tuple[float, float]:
    """The 95 % interval of R2 over units; the mean that it is held against is that of each replicate."""
    parts = (np.ones(len(values)), values, values**2, (values - predicted) ** 2)
    n, total, squares, errors = (units.weights @ units.sums(clusters, part) for part in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return percentiles(1 - errors / (squares - total**2 / n))
