"""Linear probes: what a linear map can read off the residual stream at each layer, and what that is worth.

Part of speech and relation are read by multinomial logistic regression, position by ridge regression and in eight bins.
Each score stands beside the same probe on a control task (Hewitt and Liang 2019, arXiv:1909.03368), on a copy of the
model with random weights, and beside rules that see no vector; and beside the codelength of the labels (Voita and Titov
2020, arXiv:2003.12298), which counts how easily they are read and not only how often.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probes.corpora.data import Corpus
from probes.split import Split
from probes.stream.gather import Gathered, Steps, gather
from probes.stream.intervals import Clusters
from probes.stream.linear_scores import DepthReader, choose
from probes.stream.result import LayerResults, LayerScore
from probes.stream.settings import StreamSettings
from probes.stream.states import Progress
from probes.stream.tasks import Task, label_tasks

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["LinearProbe"]


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Part of speech, relation and position by layer: what a linear probe reads off the stream.

    Attributes:
        seed: of sample, random weights, control labels and bootstrap.
    """

    seed: int = 0

    name = "linear"
    reads = "stream"

    def refusal(self, corpus: Corpus) -> str | None:
        """Any text will do: what it has no labels for is left out."""
        return None

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
            corpus: annotated text.
            split: its halves.
            settings: size of the sample, and the options of the probe.
            progress: called with (done, total), both counted in sentences.

        Raises:
            ProbeDataError: too little text.
            CaptureError: the model does not give its stream.
        """
        n_depths = lens.anatomy.n_layers + 1
        steps = Steps(progress, passes=3, fits=2 * n_depths)
        gathered = gather(lens, corpus, split, settings, seed=self.seed, steps=steps, out_of_order=True)
        tasks = label_tasks(gathered, self.seed)
        units = Clusters.of(split, seed=self.seed, bootstrap=settings.bootstrap)
        scores = choose(list(_scores(gathered, tasks, units, steps)))
        about = gathered.about | {
            "tasks": [*(task.name for task in tasks), "position"],
            "classes": {task.name: list(task.classes) for task in tasks},
        }
        return LayerResults(self.name, _ordered(scores), about)


def _scores(gathered: Gathered, tasks: Sequence[Task], units: Clusters, steps: Steps) -> Iterator[LayerScore]:
    for depth in range(gathered.states.n_depths):
        reader = DepthReader(gathered, units, depth)
        yield from reader.accuracies(tasks)
        steps.fitted()
        yield from reader.codelengths(tasks)
        yield from reader.positions()
        steps.fitted()


def _ordered(scores: Sequence[LayerScore]) -> tuple[LayerScore, ...]:
    """By task and metric in the order in which they came first, then by depth."""
    first: dict[tuple[str, str], int] = {}
    for score in scores:
        first.setdefault((score.task, score.metric), len(first))
    ordered = sorted(scores, key=lambda score: (first[score.task, score.metric], score.depth))
    return tuple(replace(score, family=LinearProbe.name) for score in ordered)
