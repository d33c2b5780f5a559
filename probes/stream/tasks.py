"""What linear probes are asked about each word: part of speech, relation to its head, place in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64

from probes.stream.controls import control_labels, type_majority
from probes.stream.gather import Gathered
from probes.stream.logistic import Labelling
from probes.stream.sample import PARTS

__all__ = ["N_BINS", "POSITION", "RELATION", "UPOS", "Task", "bins_of", "label_tasks"]

UPOS, RELATION, POSITION = "upos", "relation", "position"
N_BINS = 8
UNKNOWN = "_"
UNSCORED_RELATIONS = frozenset({"punct", "root"})  # no arc between words of the sentence, or one that needs no syntax


@dataclass(frozen=True)
class Task:
    """One labelling of the sample's words, beside the same with labels that depend on the word type alone.

    Attributes:
        name: of the task.
        classes: names of the labels.
        real: the labels.
        control: random ones per word type, as common as the real ones among the words that probes are fitted on.
        by_type: what one would say of each word from its type alone.
        majority: the commonest label among those words.
    """

    name: str
    classes: tuple[str, ...] = field(repr=False)
    real: Labelling
    control: Labelling
    by_type: Int64[np.ndarray, " word"]
    majority: int


def label_tasks(gathered: Gathered, seed: int) -> list[Task]:
    """The tasks for which the sample has labels in every part."""
    sentences = [each.sentence for each in gathered.sampled]
    types = [form for sentence in sentences for form in sentence.forms]
    tags = [tag for sentence in sentences for tag in sentence.upos or (UNKNOWN,) * len(sentence)]
    named = [
        UNKNOWN if base in UNSCORED_RELATIONS else base
        for sentence in sentences
        for base in (relation.split(":")[0] for relation in sentence.relations or (UNKNOWN,) * len(sentence))
    ]
    tasks = []
    for name, labels in ((UPOS, tags), (RELATION, named)):
        task = _task(name, types, labels, gathered, seed)
        if task is not None:
            tasks.append(task)
    return tasks


def _task(name: str, types: Sequence[str], names: Sequence[str], gathered: Gathered, seed: int) -> Task | None:
    classes = tuple(sorted(set(names) - {UNKNOWN}))
    number = {label: index for index, label in enumerate(classes)} | {UNKNOWN: -1}
    labels = np.where(gathered.states.kept, [number[label] for label in names], -1).astype(np.int64)
    fit, stop, confirm = (gathered.words(part) for part in PARTS)
    if len(classes) < 2 or not all((labels[words] >= 0).any() for words in (fit, stop, confirm)):
        return None
    drawn = control_labels(types, labels, labels[fit], seed)
    return Task(
        name=name,
        classes=classes,
        real=Labelling(labels, len(classes)),
        control=Labelling(drawn, len(classes)),
        by_type=type_majority(types, labels, fit),
        majority=int(np.bincount(labels[fit][labels[fit] >= 0]).argmax()),
    )


def bins_of(positions: Float64[np.ndarray, " word"], fit: Int64[np.ndarray, " chosen"]) -> Labelling:
    """Positions in up to eight bins that hold about as many of the words `fit`; -1 where a word has no position."""
    edges = np.unique(np.quantile(positions[fit], np.arange(1, N_BINS) / N_BINS))
    bins = np.where(np.isnan(positions), -1, np.searchsorted(edges, positions, side="right"))
    return Labelling(bins.astype(np.int64), len(edges) + 1)
