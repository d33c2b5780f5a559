"""Sentences beside each label: the ten on whose target the head put the most attention, and the ten with the least.

They come from a bounded sample of the CONFIRM half, chosen by hash, which is read once more when it is known which
heads have which labels; so the worst ones are not hidden, and the same input shows the same sentences.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnlens.capture.tokens import printable
from probes.corpora.data import Corpus
from probes.family import Pointer, Probe
from probes.labels import Judgement
from probes.sample import Sample
from probes.split import Split
from probes.tally import Key
from probes.texts import Kind, Text, texts_of
from probes.words import Observation

if TYPE_CHECKING:
    from probes.seeing import Eyes

__all__ = ["PER_SIDE", "Example", "collect_evidence", "example_of", "ranked"]

PER_SIDE = 10  # best, and as many worst
SAMPLED = 40  # texts per question; all questions draw by the same ranks, so that they share texts
EXAMINED = 20_000  # sentences that the sample is drawn from: the first ones of a corpus
SHORTEST = 4
LONGEST: dict[str, int] = {"sentence": 30, "window": 110}  # words that one reads in a report

Question = tuple[str, Key]


@dataclass(frozen=True)
class Example:
    """One query of one text of the CONFIRM half, and what a head did with it.

    `argmax` is the strongest of the keys that could win; `weight` is the attention on all targets together; `side` says
    whether it is among those with the most weight or the least.
    """

    tokens: tuple[str, ...]
    query: int
    target: int
    argmax: int
    weight: float
    hit: bool
    side: Literal["best", "worst"] = "best"


def collect_evidence(
    eyes: Eyes,
    corpus: Corpus,
    probes: Sequence[Probe],
    split: Split,
    labels: Sequence[Judgement],
    *,
    seed: int = 0,
    per_side: int = PER_SIDE,
) -> Mapping[tuple[str, Key, int], list[Example]]:
    """Examples by family, question and head, of every label that has a target.

    Args:
        eyes: the model.
        corpus: it is read through once more, up to a bound.
        probes: the families of the run.
        split: of the corpus.
        labels: what was earned and has a target.
        seed: of the sample.
        per_side: the most examples of each side; 0 for none.
    """
    by_name = {probe.name: probe for probe in probes}
    shown = [each for each in labels if per_side > 0 and each.family in by_name]
    found: dict[tuple[str, Key, int], list[tuple[str, Example]]] = {}
    kinds: tuple[Kind, ...] = ("sentence", "window")
    for kind in kinds:
        asked = [each for each in shown if by_name[each.family].reads[0] == kind]
        samples = _sample(eyes, corpus, split, kind, {(each.family, each.scores.key) for each in asked}, by_name, seed)
        serves = {(question, text.key) for question, sample in samples.items() for text in sample}
        texts = {text.key: text for sample in samples.values() for text in sample}
        for text, seen in eyes.look([texts[key] for key in sorted(texts)]):
            for each in asked:
                key = each.scores.key
                if ((each.family, key), text.key) in serves:
                    example = example_of(by_name[each.family], key, each.head, seen)
                    found.setdefault((each.family, key, each.head), []).extend([(text.key, example)] if example else [])
    return {place: ranked(examples, per_side) for place, examples in found.items()}


def ranked(examples: Sequence[tuple[str, Example]], per_side: int) -> list[Example]:
    """The best first, the strongest in front; then the worst, the weakest in front; none twice, ties by name."""
    ordered = sorted(examples, key=lambda named: (-named[1].weight, named[0]))
    n_best = min(per_side, (len(ordered) + 1) // 2)
    n_worst = min(per_side, len(ordered) - n_best)
    worst = ordered[::-1][:n_worst]
    return [
        *(example for _, example in ordered[:n_best]),
        *(replace(example, side="worst") for _, example in worst),
    ]


def _sample(
    eyes: Eyes,
    corpus: Corpus,
    split: Split,
    kind: Kind,
    questions: set[Question],
    by_name: Mapping[str, Probe],
    seed: int,
) -> dict[Question, Sample[Text]]:
    """For each question, texts of the CONFIRM half that ask it."""
    samples: dict[Question, Sample[Text]] = {
        question: Sample(SAMPLED, seed=seed, question="evidence") for question in sorted(questions, key=str)
    }
    if not questions:
        return samples
    for text in _texts(eyes, corpus, split, kind):
        for name in {family for family, _ in questions}:
            for key in by_name[name].asks(text.sentences):
                if (name, key) in samples:
                    samples[name, key].offer(text.key, text)
    return samples


def _texts(eyes: Eyes, corpus: Corpus, split: Split, kind: Kind) -> Iterator[Text]:
    texts = texts_of(corpus.documents(), split, kind, eyes.fits, lambda _: None, eyes.window)
    for text in itertools.islice(texts, EXAMINED):
        if text.confirm and SHORTEST <= len(text.spans) <= LONGEST[kind]:
            yield text


def example_of(probe: Probe, key: Key, head: int, seen: Observation) -> Example | None:
    """The text's first query that `key` asks about, as the head answers it; None where the model saw no such query."""
    pointer = probe.pointer(key, seen)
    if pointer is None:
        return None
    weights = (seen.words if pointer.level == "word" else seen.attention)[head, pointer.query]
    best = max(pointer.candidates, key=lambda at: (weights[at], -at))
    target = best if best in pointer.targets else max(pointer.targets, key=lambda at: (weights[at], -at))
    labels, first = _excerpt(seen, pointer, best)
    return Example(
        tokens=labels,
        query=pointer.query - first,
        target=target - first,
        argmax=best - first,
        weight=float(weights[list(pointer.targets)].sum()),
        hit=best in pointer.targets,
    )


def _excerpt(seen: Observation, pointer: Pointer, best: int) -> tuple[tuple[str, ...], int]:
    """The text's labels; of a window only the sentences from the first to the last word that matters."""
    if pointer.level == "token":
        return seen.labels, 0
    used: Sequence[int] = (pointer.query, best, *pointer.targets)
    starts = seen.starts
    first = int(starts[np.searchsorted(starts, min(used), side="right") - 1])
    after = starts[np.searchsorted(starts, max(used), side="right") :]
    end = int(after[0]) if len(after) else len(seen.forms)
    return tuple(printable(form) for form in seen.forms[first:end]), first
