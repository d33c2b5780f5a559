"""The scores of the linear probes at one depth of the stream, each beside its controls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from probes.stream.gather import RANDOM_WEIGHTS, SHUFFLED_WORDS, Gathered
from probes.stream.intervals import Clusters
from probes.stream.logistic import Labelling, LogisticProbes, Scaling, fit_logistic
from probes.stream.mdl import online_bits, portion_bounds
from probes.stream.result import LayerScore
from probes.stream.ridge import fit_ridge, r_squared, r_squared_interval
from probes.stream.sample import PARTS, Part
from probes.stream.states import WordStates
from probes.stream.tasks import POSITION, Task, bins_of

__all__ = ["ACCURACY", "BITS", "COMPRESSION", "R2", "DepthReader", "choose", "penalty_of"]

ACCURACY, COMPRESSION, BITS, R2 = "accuracy", "compression", "bits per word", "R2"
RANDOM_LABELS, MAJORITY, WORD_TYPE, UNIFORM = "random labels", "majority", "word type", "uniform code"
# Ours: the penalty on squared weights is the width of the stream over this, so that wide models are held as tightly.
WIDTH_PER_PENALTY = 10


def penalty_of(width: int) -> float:
    """L2 penalty of a probe on scaled vectors of this many dimensions, added to a sum over words."""
    return width / WIDTH_PER_PENALTY


@dataclass(frozen=True)
class DepthReader:
    """Fits and scores probes at one depth."""

    gathered: Gathered
    units: Clusters
    depth: int

    def accuracies(self, tasks: Sequence[Task]) -> Iterator[LayerScore]:
        """How often the right label is the likeliest one, per task."""
        if not tasks:
            return
        mine = self._fitted(self.gathered.states, [each for task in tasks for each in (task.real, task.control)])
        random = self.gathered.random
        theirs = None if random is None else self._fitted(random, [task.real for task in tasks])
        for number, task in enumerate(tasks):
            score, ci, n = mine.accuracy(self, 2 * number, task.real)
            control, _, _ = mine.accuracy(self, 2 * number + 1, task.control)
            without = math.nan if theirs is None else theirs.accuracy(self, number, task.real)[0]
            confirm = self._labelled("confirm", task.real)
            labels = task.real.labels[confirm]
            controls = {
                RANDOM_LABELS: control,
                RANDOM_WEIGHTS: without,
                WORD_TYPE: float((task.by_type[confirm] == labels).mean()),
                MAJORITY: float((labels == task.majority).mean()),
            }
            select = mine.accuracy_on(self._labelled("stop", task.real), 2 * number, task.real)
            yield self._score(task.name, ACCURACY, n, score, ci, select, controls, selectivity=score - control)

    def codelengths(self, tasks: Sequence[Task]) -> Iterator[LayerScore]:
        """Bits per word that the labels of CONFIRM cost, and how many times fewer that is than a uniform code's."""
        if not tasks:
            return
        mine = self._bits(self.gathered.states, [each for task in tasks for each in (task.real, task.control)])
        random = self.gathered.random
        theirs = None if random is None else self._bits(random, [task.real for task in tasks])
        for number, task in enumerate(tasks):
            words = self._labelled("confirm", task.real)
            score, (low, high) = self.units.mean(self.gathered.clusters[words], mine[2 * number][words])
            control = float(mine[2 * number + 1][words].mean())
            without = math.nan if theirs is None else float(theirs[number][words].mean())
            uniform = math.log2(task.real.n_classes)
            compressed = {RANDOM_LABELS: uniform / control, RANDOM_WEIGHTS: uniform / without}
            yield self._score(
                task.name,
                COMPRESSION,
                len(words),
                uniform / score,
                (uniform / high, uniform / low),
                math.nan,
                compressed,
            )
            costs = {RANDOM_LABELS: control, RANDOM_WEIGHTS: without, UNIFORM: uniform}
            yield self._score(task.name, BITS, len(words), score, (low, high), math.nan, costs, better_lower=True)

    def positions(self) -> Iterator[LayerScore]:
        """How exactly a word's place in the text is read: R2 of ridge regression, and accuracy of eight bins."""
        own = self._position(self.gathered.states)
        random = None if self.gathered.random is None else self._position(self.gathered.random)
        mixed = None if self.gathered.shuffled is None else self._position(self.gathered.shuffled)
        others = {RANDOM_WEIGHTS: random, SHUFFLED_WORDS: mixed}
        r2 = {name: math.nan if each is None else each.r2 for name, each in others.items()}
        yield self._score(POSITION, R2, own.n, own.r2, own.r2_ci, own.r2_select, r2)
        binned = {name: math.nan if each is None else each.accuracy for name, each in others.items()}
        binned[MAJORITY] = own.majority
        yield self._score(POSITION, ACCURACY, own.n, own.accuracy, own.ci, own.select, binned)

    def _score(
        self,
        task: str,
        metric: str,
        n: int,
        score: float,
        ci: tuple[float, float],
        select: float,
        controls: Mapping[str, float],
        *,
        selectivity: float = math.nan,
        better_lower: bool = False,
    ) -> LayerScore:
        return LayerScore(
            family="linear",
            task=task,
            metric=metric,
            depth=self.depth,
            better="lower" if better_lower else "higher",
            n=n,
            score=score,
            ci=ci,
            select_score=select,
            selectivity=selectivity,
            controls=controls,
        )

    def _labelled(self, part: Part, labelling: Labelling) -> Int64[np.ndarray, " chosen"]:
        """Words of a part that have a vector and a label."""
        words = self.gathered.words(part)
        return np.asarray(words[labelling.labels[words] >= 0])

    def _scaled(self, states: WordStates) -> Float32[np.ndarray, "word d_model"]:
        vectors = states.vectors[self.depth]
        return Scaling.of(vectors[self.gathered.words("fit", states)]).apply(vectors)

    def _fitted(self, states: WordStates, labellings: Sequence[Labelling]) -> _Fitted:
        vectors = self._scaled(states)
        fit = self.gathered.words("fit", states)
        chosen = [Labelling(each.labels[fit], each.n_classes) for each in labellings]
        probes = fit_logistic(vectors[fit], chosen, penalty=penalty_of(vectors.shape[1]))
        return _Fitted.of(vectors, probes)

    def _bits(self, states: WordStates, labellings: Sequence[Labelling]) -> list[Float64[np.ndarray, " word"]]:
        """Bits per word of the whole sample; only words of CONFIRM are sent, in the order of the sample."""
        starts = states.starts
        sentences = self.gathered.sentences("confirm")
        words = np.concatenate([np.arange(starts[each], starts[each + 1]) for each in sentences])
        lengths = np.diff(starts)[sentences]
        sent = [Labelling(each.labels[words], each.n_classes) for each in labellings]
        vectors = self._scaled(states)[words]
        bounds = portion_bounds(np.cumsum([0, *lengths], dtype=np.int64))
        found = online_bits(vectors, sent, bounds, penalty=penalty_of(vectors.shape[1]))
        spread = [np.zeros(len(states.kept)) for _ in labellings]
        for own, bits in zip(spread, found, strict=True):
            own[words] = bits
        return spread

    def _position(self, states: WordStates) -> _Position:
        vectors, positions = self._scaled(states), states.positions
        fit, stop, confirm = (self.gathered.words(part, states) for part in PARTS)
        weights, intercept = fit_ridge(vectors[fit], positions[fit], penalty_of(vectors.shape[1]))
        predicted = vectors.astype(np.float64) @ weights + intercept
        bins = bins_of(positions, fit)
        fitted = self._fitted(states, [bins])
        right = fitted.right(0, bins)
        clusters = self.gathered.clusters[confirm]
        accuracy, ci = self.units.mean(clusters, right[confirm].astype(np.float64))
        return _Position(
            n=len(confirm),
            r2=r_squared(positions[confirm], predicted[confirm]),
            r2_ci=r_squared_interval(self.units, clusters, positions[confirm], predicted[confirm]),
            r2_select=r_squared(positions[stop], predicted[stop]),
            accuracy=accuracy,
            ci=ci,
            select=float(right[stop].mean()),
            majority=float((bins.labels[confirm] == np.bincount(bins.labels[fit]).argmax()).mean()),
        )


@dataclass(frozen=True)
class _Position:
    """How well position is read from one set of vectors."""

    n: int
    r2: float
    r2_ci: tuple[float, float]
    r2_select: float
    accuracy: float
    ci: tuple[float, float]
    select: float
    majority: float


@dataclass(frozen=True)
class _Fitted:
    """What fitted probes say of every word: the likeliest label, one array per probe."""

    guesses: tuple[Int64[np.ndarray, " word"], ...]

    @classmethod
    def of(cls, vectors: Float32[np.ndarray, "word d_model"], probes: LogisticProbes) -> _Fitted:
        return cls(tuple(logs.argmax(axis=1) for logs in probes.log_probabilities(vectors)))

    def right(self, number: int, labelling: Labelling) -> Bool[np.ndarray, " word"]:
        return np.asarray(self.guesses[number] == labelling.labels)

    def accuracy_on(self, words: Int64[np.ndarray, " chosen"], number: int, labelling: Labelling) -> float:
        return float(self.right(number, labelling)[words].mean())

    def accuracy(
        self, reader: DepthReader, number: int, labelling: Labelling
    ) -> tuple[float, tuple[float, float], int]:
        """On CONFIRM: the score, its interval, and the words that it is a mean over."""
        words = reader._labelled("confirm", labelling)
        right = self.right(number, labelling)[words].astype(np.float64)
        score, ci = reader.units.mean(reader.gathered.clusters[words], right)
        return score, ci, len(words)


def choose(scores: Sequence[LayerScore]) -> list[LayerScore]:
    """Mark the depth of each task that reads best on the held-out tenth of SELECT, for all measures of the task.

    The first measure of a task that has such a score decides; of equal depths, the first.
    """
    best: dict[str, tuple[str, float, int]] = {}
    for score in scores:
        if math.isnan(score.select_score):
            continue
        metric, value, _ = best.get(score.task, (score.metric, -math.inf, 0))
        if metric == score.metric and score.select_score > value:
            best[score.task] = (metric, score.select_score, score.depth)
    return [replace(score, chosen=score.task in best and best[score.task][2] == score.depth) for score in scores]
