"""Run the label rule over the suites' models, and keep what it said of every head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from attnlens.plugins import installed
from probes.calibration.cases import REORDERED, Case
from probes.calibration.copies import Copies
from probes.calibration.kept import Head, Kept
from probes.calibration.material import Material, grammar_material, material_of
from probes.calibration.suites import cases_of
from probes.calibration.truth import Claim, Outcome, judge
from probes.corpora.sources import open_corpus
from probes.engine import run
from probes.families import GROUP, load_family

__all__ = ["Measured", "Reader", "Recipe", "Settings", "families_for", "measure", "prepared", "readings"]

FAMILIES = ("positional", "syntax", "coreference", "induction", "lexical")

Progress = Callable[[int, int], None]


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
    random_models: int = 5
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


class Reader:
    """Runs the rule over models that read the same text, and keeps what they share: families and random copies.

    No examples are taken and no matrices read closely: neither changes a label.
    """

    def __init__(
        self,
        material: Material,
        settings: Settings,
        families: Sequence[str] | None = None,
        copies: Copies | None = None,
    ) -> None:
        """`families`: those that are asked; None for all that can use the corpus. `copies`: None for new ones."""
        self.material, self.settings = material, settings
        self.families = families_for(material) if families is None else list(families)
        self.copies = copies or Copies()

    def read(self, case: Case) -> list[Head]:
        """What the rule says of every head of one model: `heads` of its `heads.json`."""
        report = run(
            case.lens(),
            self.families,
            self.material.corpus,
            seed=self.settings.seed,
            bootstrap=self.settings.bootstrap,
            permutations=self.settings.permutations,
            random_models=self.settings.random_models,
            random_reader=self.copies,
            close_reading=False,
            examples=0,
        )
        return list(report.to_json()["heads"])


def readings(recipe: Recipe, settings: Settings, workers: int, kept: Kept | None = None) -> Iterator[list[Head]]:
    """What the rule says of every head of every model, in their order, from so many processes.

    Args:
        recipe: which models.
        settings: of the rule.
        workers: processes; with one, this process does the work.
        kept: where what was said of a model is kept, and taken from where it is there already.
    """
    material, cases = prepared(recipe)
    done = {} if kept is None else kept.known(case.name for case in cases)
    missing = [index for index, case in enumerate(cases) if case.name not in done]
    with ExitStack() as stack:
        fresh: Iterator[list[Head]]
        if workers <= 1:
            reader = Reader(material, settings)
            fresh = (reader.read(cases[index]) for index in missing)
        else:
            shared = stack.enter_context(TemporaryDirectory())
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            stack.callback(pool.shutdown, cancel_futures=True)
            fresh = pool.map(_read_in_process, repeat(recipe), missing, repeat(settings), repeat(shared))
        for case in cases:
            if case.name not in done:
                done[case.name] = next(fresh)
                if kept is not None:
                    kept.keep(case.name, done[case.name])
            yield done[case.name]


def _read_in_process(recipe: Recipe, index: int, settings: Settings, shared: str) -> list[Head]:
    return _reader(recipe, settings, shared).read(prepared(recipe)[1][index])


@lru_cache(maxsize=1)
def _reader(recipe: Recipe, settings: Settings, shared: str) -> Reader:
    import torch

    torch.set_num_threads(1)
    return Reader(prepared(recipe)[0], settings, copies=Copies(Path(shared)))


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
