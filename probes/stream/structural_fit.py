"""Fits the two structural probes: a matrix under which squared lengths are tree distances or depths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

__all__ = ["Batch", "Matrix", "Scaled", "Treebank", "fit_depth", "fit_distance", "squared_distances", "squared_norms"]

# Of the vectors of a batch after each set's matrix, `[set sentence word rank]`: the sum over sentences, `[set]`.
Loss = Callable[[Tensor, "Batch"], Tensor]
Matrix = Float64[np.ndarray, "d_model rank"]

# Hewitt and Manning's published settings.
SPREAD, RATE, BATCH, PATIENCE, GAIN = 0.05, 1e-3, 20, 5, 1e-4
EPOCHS = 40
# Ours: an epoch is at least so many batches. With the few of a small corpus the rate would fall, and fitting end, too
# early.
FEWEST_BATCHES = 60


@dataclass(frozen=True)
class Batch:
    """Some sentences, padded.

    Attributes:
        words: index of each word among all words; 0 where padded.
        real: words that are there and have a vector.
        distances: between words in the tree.
        depths: of words in the tree.
    """

    words: Int64[np.ndarray, "sentence word"]
    real: Bool[Tensor, "sentence word"]
    distances: Float[Tensor, "sentence word word"]
    depths: Float[Tensor, "sentence word"]


@dataclass(frozen=True)
class Treebank:
    """Sentences to fit on: where their words are, and their trees.

    Attributes:
        words: per sentence, index of its words among all words.
        kept: of all words, whether they have a vector.
        distances, depths: per sentence.
    """

    words: Sequence[Int64[np.ndarray, " _"]]
    kept: Bool[np.ndarray, " all"]
    distances: Sequence[Int64[np.ndarray, "_ _"]]
    depths: Sequence[Int64[np.ndarray, " _"]]

    def batches(self, sentences: Sequence[int]) -> list[Batch]:
        """Batches of sentences of similar length, so that little is padded."""
        order = sorted(sentences, key=lambda number: len(self.words[number]))
        return [self._batch(order[start : start + BATCH]) for start in range(0, len(order), BATCH)]

    def _batch(self, sentences: Sequence[int]) -> Batch:
        n = max(len(self.words[number]) for number in sentences)
        words = np.zeros((len(sentences), n), dtype=np.int64)
        real = np.zeros((len(sentences), n), dtype=bool)
        distances = np.zeros((len(sentences), n, n), dtype=np.float32)
        depths = np.zeros((len(sentences), n), dtype=np.float32)
        for row, number in enumerate(sentences):
            own = self.words[number]
            words[row, : len(own)], real[row, : len(own)] = own, self.kept[own]
            distances[row, : len(own), : len(own)] = self.distances[number]
            depths[row, : len(own)] = self.depths[number]
        return Batch(words, *map(torch.from_numpy, (real, distances, depths)))


def squared_norms(moved: Float[Tensor, "*batch word rank"]) -> Float[Tensor, "*batch word"]:
    """Squared length of each vector."""
    return moved.square().sum(-1)


def squared_distances(moved: Float[Tensor, "*batch word rank"]) -> Float[Tensor, "*batch word word"]:
    """Squared distance between each two vectors, never below 0."""
    norms = squared_norms(moved)
    products = moved @ moved.transpose(-1, -2)
    return (norms[..., :, None] + norms[..., None, :] - 2 * products).clamp(min=0)


@dataclass(frozen=True)
class Scaled:
    """Vectors of all words, and what they are divided by: the root of their mean square."""

    vectors: Float32[np.ndarray, "word d_model"]
    size: float

    def moved(self, words: Int64[np.ndarray, " word"], matrix: Matrix) -> Float64[Tensor, "word rank"]:
        """Vectors of some words after the probe's matrix, in float64."""
        return torch.from_numpy(self.vectors[words].astype(np.float64) @ matrix / self.size)


def fit_distance(
    sets: Sequence[Scaled],
    trees: Treebank,
    fit: Sequence[int],
    stop: Sequence[int],
    *,
    rank: int,
    seed: int,
    on_fitted: Callable[[], None],
) -> list[Matrix]:
    """One matrix B per set of vectors, for which ||B (h_i - h_j)||^2 is close to the distance of words in the tree.

    The loss of a sentence is the mean absolute difference over its pairs of words. Source: Hewitt and Manning 2019,
    "A Structural Probe for Finding Syntax in Word Representations" (NAACL), section 2. Departures: batches hold
    sentences of similar length; an epoch has at least 60 batches, whatever the size of the corpus; vectors are divided
    by one number per set, so that depths and models whose vectors differ in length are fitted alike.

    Args:
        sets: of vectors of the same words.
        trees: what to fit.
        fit: sentences to fit on.
        stop: sentences whose loss lowers the rate, and ends the fitting.
        rank: rows of B.
        seed: of B at the start, and of the order of batches; the same for every set.
        on_fitted: called when a set is done.

    Returns:
        B transposed, in the order of `sets`. What else is fitted beside a set makes no difference to it.
    """

    def loss(moved: Tensor, batch: Batch) -> Tensor:
        pairs = batch.real[:, :, None] & batch.real[:, None, :]
        difference = (squared_distances(moved) - batch.distances).abs() * pairs
        return (difference.sum((-1, -2)) / batch.real.sum(-1).clamp(min=1) ** 2).sum(-1)

    return _Fitting(sets, rank, seed).run(trees.batches(fit), trees.batches(stop), loss, on_fitted)


def fit_depth(
    sets: Sequence[Scaled],
    trees: Treebank,
    fit: Sequence[int],
    stop: Sequence[int],
    *,
    rank: int,
    seed: int,
    on_fitted: Callable[[], None],
) -> list[Matrix]:
    """As `fit_distance`, for ||B h_i||^2 and the depth of words; the loss is the mean over words."""

    def loss(moved: Tensor, batch: Batch) -> Tensor:
        difference = (squared_norms(moved) - batch.depths).abs() * batch.real
        return (difference.sum(-1) / batch.real.sum(-1).clamp(min=1)).sum(-1)

    return _Fitting(sets, rank, seed).run(trees.batches(fit), trees.batches(stop), loss, on_fitted)


class _Fitting:
    """Fits every set by itself, in one pass over the batches: one matrix, optimiser and schedule each."""

    def __init__(self, sets: Sequence[Scaled], rank: int, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        start = (torch.rand(sets[0].vectors.shape[1], rank, generator=self._generator) * 2 - 1) * SPREAD
        self._runs = [_Run(each, start) for each in sets]

    def run(
        self, fitted: Sequence[Batch], held_out: Sequence[Batch], loss: Loss, on_fitted: Callable[[], None]
    ) -> list[Matrix]:
        active = list(self._runs)
        passes = math.ceil(FEWEST_BATCHES / len(fitted))
        n_held_out = sum(len(batch.words) for batch in held_out)
        for epoch in range(EPOCHS):
            for number in (
                torch.randperm(passes * len(fitted), generator=self._generator).remainder(len(fitted)).tolist()
            ):
                _step(active, fitted[number], loss)
            with torch.no_grad():
                losses = torch.stack([loss(_moved(active, batch), batch) for batch in held_out]).sum(0) / n_held_out
            ended = {run for run, left in zip(active, losses.tolist(), strict=True) if run.ends(left, epoch)}
            for _ in ended:
                on_fitted()
            active = [run for run in active if run not in ended]
            if not active:
                break
        for _ in active:
            on_fitted()
        return [run.best.double().numpy() for run in self._runs]


class _Run:
    """One set's matrix on its way, and the best so far on the held-out sentences."""

    def __init__(self, data: Scaled, start: Tensor) -> None:
        self.data, self.matrix, self.best = data, start.clone().requires_grad_(), start.clone()
        self.optimiser = torch.optim.Adam([self.matrix], lr=RATE)
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, factor=0.1, patience=0)
        self._loss, self._epoch = float("inf"), -1

    def ends(self, loss: float, epoch: int) -> bool:
        """Note the held-out loss of an epoch; True when none of the last five was better."""
        self._schedule.step(loss)
        if loss < self._loss - GAIN:
            self.best, self._loss, self._epoch = self.matrix.detach().clone(), loss, epoch
        return epoch - self._epoch >= PATIENCE


def _step(runs: Sequence[_Run], batch: Batch, loss: Loss) -> None:
    for run in runs:
        run.optimiser.zero_grad()
    with torch.enable_grad():
        total = loss(_moved(runs, batch), batch).sum() / len(batch.words)
    total.backward()  # type: ignore[no-untyped-call]
    for run in runs:
        run.optimiser.step()


def _moved(runs: Sequence[_Run], batch: Batch) -> Float[Tensor, "set sentence word rank"]:
    """Vectors of a batch's words after each set's matrix."""
    vectors = torch.from_numpy(np.stack([run.data.vectors[batch.words] for run in runs]))
    matrices = torch.stack([run.matrix / run.data.size for run in runs])
    return vectors @ matrices[:, None]
