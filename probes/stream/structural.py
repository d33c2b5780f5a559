"""The structural probe: is the syntax tree of a sentence there as distances between word vectors, at which layer?

Hewitt and Manning 2019, "A Structural Probe for Finding Syntax in Word Representations" (NAACL), with the controls that
say what a score is worth: the same probe on a copy of the model with random weights, on the embeddings, and the chain
of neighbouring words, which needs no vector at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from attnlens.errors import ProbeDataError
from probes.corpora.data import Corpus
from probes.split import Split
from probes.stream.gather import RANDOM_WEIGHTS, Gathered, Steps, gather
from probes.stream.intervals import Clusters
from probes.stream.linear_scores import choose
from probes.stream.result import LayerResults, LayerScore
from probes.stream.sample import PARTS, Part
from probes.stream.settings import StreamSettings
from probes.stream.states import Progress
from probes.stream.structural_fit import (
    Matrix,
    Scaled,
    Treebank,
    fit_depth,
    fit_distance,
    squared_distances,
    squared_norms,
)
from probes.stream.structural_scores import (
    Gold,
    Tally,
    gold_of,
    mean_over_lengths,
    share_found,
    tally_depths,
    tally_distances,
)

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["StructuralProbe"]

DISTANCE, DEPTH = "tree distance", "tree depth"
UUAS, ROOT, DISTANCE_RANK, DEPTH_RANK = "UUAS", "root", "DSpr", "NSpr"
SHARE, RANK = 0, 1  # places in what a reading gives
ADJACENT, EMBEDDINGS = "adjacent words", "embeddings"


@dataclass(frozen=True, kw_only=True)
class StructuralProbe:
    """Tree distance and tree depth by layer: what a structural probe reads off the stream.

    Attributes:
        seed: of sample, random weights, the probe's start and bootstrap.
    """

    seed: int = 0

    name = "structural"
    reads = "stream"

    def refusal(self, corpus: Corpus) -> str | None:
        """Trees are needed."""
        return None if corpus.n_trees else f"{corpus.name} has no trees (HEAD and DEPREL are empty)"

    def run(
        self,
        lens: Lens,
        corpus: Corpus,
        *,
        split: Split,
        settings: StreamSettings,
        progress: Progress | None = None,
    ) -> LayerResults:
        """Fit on SELECT, score on CONFIRM, at every depth of the stream.

        Args:
            lens: the model.
            corpus: text with trees.
            split: its halves.
            settings: size of the sample, and the options of the probe.
            progress: called with (done, total), both counted in sentences.

        Raises:
            ProbeDataError: too little text.
            CaptureError: the model does not give its stream.
        """
        n_depths = lens.anatomy.n_layers + 1
        steps = Steps(progress, passes=2, fits=4 * n_depths)
        gathered = gather(lens, corpus, split, settings, seed=self.seed, steps=steps)
        task = _Task.of(gathered, settings.rank, self.seed)
        units = Clusters.of(split, seed=self.seed, bootstrap=settings.bootstrap)
        distances, depths = (task.fitted_distances(steps.fitted), task.fitted_depths(steps.fitted))
        scores = choose(
            [
                *_scores(task, units, DISTANCE, {UUAS: SHARE, DISTANCE_RANK: RANK}, distances, task.chain_distances),
                *_scores(task, units, DEPTH, {DEPTH_RANK: RANK, ROOT: SHARE}, depths, task.chain_depths),
            ]
        )
        return LayerResults(self.name, tuple(scores), gathered.about | {"tasks": [DISTANCE, DEPTH], "rank": task.rank})


@dataclass(frozen=True)
class _Task:
    """Trees of the sample, and what predicts distances and depths in them.

    Attributes:
        gathered: sample and vectors.
        golds: trees, per sentence.
        trees: the same, to fit on.
        rank, seed: of the probe.
    """

    gathered: Gathered
    golds: Sequence[Gold]
    trees: Treebank
    rank: int
    seed: int

    @classmethod
    def of(cls, gathered: Gathered, rank: int, seed: int) -> _Task:
        states = gathered.states
        words = [np.arange(start, end) for start, end in zip(states.starts[:-1], states.starts[1:], strict=True)]
        golds = [gold_of(each.sentence, states.kept[own]) for each, own in zip(gathered.sampled, words, strict=True)]
        trees = Treebank(words, states.kept, [gold.distances for gold in golds], [gold.depths for gold in golds])
        task = cls(gathered, golds, trees, min(rank, states.vectors.shape[2]), seed)
        for part in PARTS:
            if not task.sentences(part):
                raise ProbeDataError(
                    f"the {part} part of the sample has no sentence of two words or more; use a larger corpus or limit."
                )
        return task

    def sentences(self, part: Part) -> list[int]:
        """Sentences of a part that have an edge."""
        return [number for number in self.gathered.sentences(part) if self.golds[number].edges]

    def fitted_distances(self, on_fitted: Callable[[], None]) -> list[Callable[[int], Tally]]:
        """What scores any sentence, for each of `sets`."""
        sets = self.sets
        matrices = fit_distance(sets, self.trees, *self._parts, rank=self.rank, seed=self.seed, on_fitted=on_fitted)

        def tally(data: Scaled, matrix: Matrix, number: int) -> Tally:
            moved = data.moved(self.trees.words[number], matrix)
            return tally_distances(self.golds[number], squared_distances(moved).numpy())

        return [partial(tally, *each) for each in zip(sets, matrices, strict=True)]

    def fitted_depths(self, on_fitted: Callable[[], None]) -> list[Callable[[int], Tally]]:
        """What scores any sentence, for each of `sets`."""
        sets = self.sets
        matrices = fit_depth(sets, self.trees, *self._parts, rank=self.rank, seed=self.seed, on_fitted=on_fitted)

        def tally(data: Scaled, matrix: Matrix, number: int) -> Tally:
            moved = data.moved(self.trees.words[number], matrix)
            return tally_depths(self.golds[number], squared_norms(moved).numpy())

        return [partial(tally, *each) for each in zip(sets, matrices, strict=True)]

    @property
    def _parts(self) -> tuple[list[int], list[int]]:
        return self.sentences("fit"), self.sentences("stop")

    @cached_property
    def sets(self) -> list[Scaled]:
        """Vectors of the model at every depth, then those of the copy with random weights where there is one."""
        states = (self.gathered.states, self.gathered.random)
        return [self._scaled(vectors) for each in states if each is not None for vectors in each.vectors]

    def _scaled(self, vectors: Float32[np.ndarray, "word d_model"]) -> Scaled:
        """Measured on the words that are fitted on."""
        fit = vectors[self.gathered.words("fit")]
        size = math.sqrt(float(np.square(fit, dtype=np.float64).mean()))
        return Scaled(vectors, size or 1.0)

    def chain_distances(self, number: int) -> Tally:
        """Words are as far apart in the tree as in the sentence."""
        places = np.arange(len(self.golds[number].kept), dtype=np.float64)
        return tally_distances(self.golds[number], np.abs(places[:, None] - places[None, :]))

    def chain_depths(self, number: int) -> Tally:
        """The first word is the root, and each next one lies deeper."""
        return tally_depths(self.golds[number], np.arange(len(self.golds[number].kept), dtype=np.float64))


def _scores(
    task: _Task,
    units: Clusters,
    name: str,
    metrics: Mapping[str, int],
    predictors: Sequence[Callable[[int], Tally]],
    chain: Callable[[int], Tally],
) -> list[LayerScore]:
    """Both measures of a task at every depth; `metrics` tells which is a share and which a rank correlation.

    The first one chooses the depth: of depths it is the rank correlation, since there are few roots to go by.
    """
    reading = _Reading(task, units)
    n_depths = task.gathered.states.n_depths
    read = [reading.of(predict) for predict in predictors]
    adjacent = reading.of(chain)
    scores = []
    for metric, number in metrics.items():
        for depth in range(n_depths):
            own = read[depth][number]
            random = read[n_depths + depth][number].score if len(read) > n_depths else math.nan
            controls = {
                RANDOM_WEIGHTS: random,
                EMBEDDINGS: read[0][number].score,
                ADJACENT: adjacent[number].score,
            }
            scores.append(
                LayerScore(
                    family=StructuralProbe.name,
                    task=name,
                    metric=metric,
                    depth=depth,
                    better="higher",
                    n=own.n,
                    score=own.score,
                    ci=own.ci,
                    select_score=own.select,
                    controls=controls,
                )
            )
    return scores


@dataclass(frozen=True)
class _Measured:
    score: float
    ci: tuple[float, float]
    n: int
    select: float


@dataclass(frozen=True)
class _Reading:
    """Scores whatever predicts trees on CONFIRM, and on the held-out tenth of SELECT."""

    task: _Task
    units: Clusters

    def of(self, predict: Callable[[int], Tally]) -> tuple[_Measured, _Measured]:
        """The share that was found, and the rank correlation."""
        confirm = self.task.sentences("confirm")
        clusters = np.array([self.task.gathered.sampled[number].cluster for number in confirm])
        tallies = [predict(number) for number in confirm]
        held_out = [predict(number) for number in self.task.sentences("stop")]
        shares = share_found(tallies, clusters, self.units)
        ranks = mean_over_lengths(tallies, clusters, self.units)
        trials = sum(each.n for each in held_out)
        rows = sum(each.n_ranks for each in held_out)
        share = sum(each.hits for each in held_out) / trials if trials else math.nan
        rank = sum(each.ranks for each in held_out) / rows if rows else math.nan
        return _measured(shares, share), _measured(ranks, rank)


def _measured(found: tuple[float, tuple[float, float], int], select: float) -> _Measured:
    score, ci, n = found
    return _Measured(score, ci, n, select)
