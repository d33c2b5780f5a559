"""Run the label rule over the suites' models, and keep what it said of every head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from typing import Any

from attnlens.plugins import installed
from probes.calibration.cases import REORDERED, Case
from probes.calibration.material import Material, grammar_material, material_of
from probes.calibration.suites import cases_of
from probes.calibration.truth import Claim, Outcome, judge
from probes.corpora.sources import open_corpus
from probes.engine import run
from probes.families import GROUP, load_family

__all__ = ["Measured", "Recipe", "Settings", "families_for", "measure", "prepared", "read", "readings"]

FAMILIES = ("positional", "syntax", "coreference", "induction", "lexical")

Progress = Callable[[int, int], None]
Head = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How the rule is run, besides its own thresholds.

    Attributes:
        bootstrap: replicates behind every interval and confidence.
        permutations: sign patterns of the test.
        random_models: copies with random weights that a label has to beat.
        seed: of all of them.
    """

    bootstrap: int = 1000
    permutations: int = 1999
    random_models: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        outcomes: one per head of every model.
        permuted: per head of the reordered models, whether it got what the same head got in its old place.
        somewhere: per label that some head of a model should get: the model, the label, and which heads got it.
    """

    outcomes: tuple[Outcome, ...]
    permuted: tuple[bool, ...] = ()
    somewhere: tuple[tuple[str, str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """What is to be measured, so that every process can make it for itself.

    Attributes:
        suites: their names.
        quick: a few models of each.
        corpus: a file; None for text of the grammar.
        n_documents: of that text.
        seed: of that text.
    """

    suites: tuple[str, ...]
    quick: bool = False
    corpus: str | None = None
    n_documents: int = 200
    seed: int = 31


@lru_cache(maxsize=1)
def prepared(recipe: Recipe) -> tuple[Material, tuple[Case, ...]]:
    """The material and the models of a recipe.

    Raises:
        CorpusError: the corpus cannot be read.
    """
    if recipe.corpus is None:
        material = grammar_material(recipe.n_documents, recipe.seed)
    else:
        material = material_of(open_corpus(recipe.corpus))
    return material, tuple(case for name in recipe.suites for case in cases_of(name, material, quick=recipe.quick))


def readings(recipe: Recipe, settings: Settings, workers: int) -> Iterator[list[Head]]:
    """What the rule says of every head of every model, in their order, from so many processes."""
    material, cases = prepared(recipe)
    if workers <= 1:
        yield from (read(case, material, settings) for case in cases)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_read_in_process, repeat(recipe), range(len(cases)), repeat(settings))


def _read_in_process(recipe: Recipe, index: int, settings: Settings) -> list[Head]:
    import torch

    torch.set_num_threads(1)
    material, cases = prepared(recipe)
    return read(cases[index], material, settings)


def read(case: Case, material: Material, settings: Settings) -> list[Head]:
    """What the rule says of every head of one model: `heads` of its `heads.json`."""
    report = run(
        case.lens(),
        families_for(material),
        material.corpus,
        seed=settings.seed,
        bootstrap=settings.bootstrap,
        permutations=settings.permutations,
        random_models=settings.random_models,
    )
    return list(report.to_json()["heads"])


def families_for(material: Material) -> list[str]:
    """The installed families that label heads and can use this corpus."""
    known = [name for name in FAMILIES if name in installed(GROUP)]
    return [name for name in known if load_family(name).refusal(material.corpus) is None]


def measure(
    cases: Sequence[Case],
    said: Iterable[list[Head]],
    families: Sequence[str] = FAMILIES,
    progress: Progress | None = None,
) -> Measured:
    """Hold what the rule said against what is known.

    Args:
        cases: the models.
        said: of every head of each, in the same order; see `readings`.
        families: that were asked; of others no label is missed.
        progress: called with (models done, models in all).
    """
    outcomes: list[Outcome] = []
    labels: dict[str, list[tuple[str, ...]]] = {}
    permuted: list[bool] = []
    somewhere: list[tuple[str, str, tuple[str, ...]]] = []
    for done, (case, heads) in enumerate(zip(cases, said, strict=True), 1):
        if case.somewhere:
            asked = [claim for claim in case.somewhere if claim.family in families]
            somewhere += [(case.name, str(claim), _bearers(claim, heads)) for claim in asked]
        else:
            pairs = zip(heads, case.expected, strict=True)
            outcomes += [judge(case.name, case.suite, head, known.among(families)) for head, known in pairs]
        labels[case.name] = [_labels(head) for head in heads]
        first = case.name.removesuffix(REORDERED)
        if first != case.name:
            before = [labels[first][index] for index in case.order]
            permuted += [old == new for old, new in zip(before, labels[case.name], strict=True)]
        if progress is not None:
            progress(done, len(cases))
    return Measured(tuple(outcomes), tuple(permuted), tuple(somewhere))


def _bearers(claim: Claim, heads: Sequence[Head]) -> tuple[str, ...]:
    """Heads that got a label which the claim covers."""
    return tuple(str(head["head"]) for head in heads if any(claim.covers(label) for label in head["labels"]))


def _labels(head: Head) -> tuple[str, ...]:
    """The labels with their forms, in an order that does not depend on where the head is."""
    names = ((each["label"], each["relation"], each["direction"], each.get("tier")) for each in head["labels"])
    return tuple(sorted(" ".join(str(part) for part in name) for name in names))
