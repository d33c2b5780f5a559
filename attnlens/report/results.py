"""Probe results (`heads.json`, schema `attnlens.heads/1`) as typed, frozen objects."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from attnlens.errors import HeadAddressError, ResultsError
from attnlens.heads import Head, in_words
from attnlens.models.anatomy import Anatomy
from attnlens.report.layers import LayerScore, parse_layers
from attnlens.report.palette import category_of

__all__ = [
    "Example",
    "HeadResult",
    "HeadResults",
    "Label",
    "Relation",
    "load_results",
    "parse_results",
    "read_results",
]

SCHEMA = "attnlens.heads/1"
EXPLAINED = {"explained-by-position": "explained by position", "explained-by-POS": "explained by part of speech"}
_NOT_JSON = "the file is not JSON ({}); choose the heads.json that attnlens probe wrote, or write it again."


@dataclass(frozen=True)
class Example:
    """One query of a sentence: what the probe expected, and what the head did.

    Attributes:
        tokens: the sentence's words or tokens.
        query: index of the one that attends.
        target: index of the one that the label expects.
        argmax: index of the one that got the largest weight.
        weight: on the target, 0 to 1.
        hit: the target got the largest weight.
        side: "best" for those with the most attention on the target, "worst" for those with the least.
    """

    tokens: tuple[str, ...]
    query: int
    target: int
    argmax: int
    weight: float
    hit: bool
    side: str = "best"


@dataclass(frozen=True)
class Label:
    """What a head was found to do, with the evidence; `failed` names the condition that a weak one missed."""

    label: str
    family: str
    relation: str | None
    direction: str | None
    text: str
    score: float | None
    ci: tuple[float, float] | None
    baseline: float | None
    baseline_name: str | None
    n: int
    q: float | None
    selectivity: float | None
    target_mass: float | None
    confidence: float | None
    reach: float | None
    examples: tuple[Example, ...]
    failed: str | None = None
    at: str = "word"
    tier: str | None = None
    grade: str | None = None
    baselines: tuple[Mapping[str, Any], ...] = ()
    explained: Mapping[str, Any] | None = None
    modifiers: tuple[str, ...] = ()
    causal: Mapping[str, Any] | None = None
    caveat: str | None = None

    @property
    def together_with(self) -> str:
        """Heads that stand in for this one, in words; empty where an intervention named none."""
        return in_words(map(Head.parse, (self.causal or {}).get("together_with", ())))

    @property
    def place(self) -> str:
        """Where the head was asked, in words, unless it is the word itself."""
        return "as it is predicted" if self.at == "pred" else ""

    @property
    def shown_label(self) -> str:
        """The label; of one that a simple rule explains, the relation."""
        return self.relation if self.label in EXPLAINED and self.relation else self.label

    @property
    def category(self) -> str:
        """Key of `palette.CATEGORIES`."""
        return category_of(self.label, self.family)

    @property
    def short_name(self) -> str:
        """The label with its direction as an arrow (d dependent, h head), where it has one."""
        direction = {"d2h": "d→h", "h2d": "h→d"}.get(self.direction or "", "")
        mark = "=" if self.label in EXPLAINED else ""
        return " ".join(filter(None, (mark + self.shown_label, direction, "" if self.at == "word" else f"@{self.at}")))

    @property
    def name(self) -> str:
        """The label with its direction in words, where it has one."""
        direction = {"d2h": "dependent to head", "h2d": "head to dependent"}.get(self.direction or "", "")
        said = (direction, self.place, EXPLAINED.get(self.label, ""))
        known = [part for part in said if part and part not in self.label]
        return f"{self.shown_label} ({', '.join(known)})" if known else self.shown_label


@dataclass(frozen=True)
class HeadResult:
    """One head: its labels, those it nearly got, and its mean metrics over the corpus."""

    head: Head
    primary: str | None
    labels: tuple[Label, ...]
    weak: tuple[Label, ...]
    metrics: Mapping[str, float | None]

    @property
    def primary_label(self) -> Label | None:
        """The label that colours the head."""
        named = [label for label in self.labels if label.label == self.primary]
        return next(iter([*named, *self.labels]), None)


@dataclass(frozen=True)
class Relation:
    """The best head for one relation, beside what a rule without a head reaches."""

    family: str
    relation: str
    direction: str | None
    best_head: Head | None
    select_score: float | None
    score: float | None
    ci: tuple[float, float] | None
    n: int
    reach: float | None
    chance: float | None
    baseline: float | None
    baseline_name: str | None
    selectivity: float | None
    target_mass: float | None
    q: float | None
    verdict: str
    at: str = "word"
    baselines: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class HeadResults:
    """Everything that a probe run says about the heads of one model on one corpus.

    Attributes:
        anatomy: of the model.
        corpus, scope, versions: as in the file, JSON values.
        heads: every head of the model, layer by layer.
        relations: every relation that was tried.
        layers: what probes read off the residual stream; empty where none were run.
        document: the decoded `heads.json` that all of it was read from.
    """

    anatomy: Anatomy
    corpus: Mapping[str, Any]
    scope: Mapping[str, Any]
    versions: Mapping[str, str]
    heads: tuple[HeadResult, ...]
    relations: tuple[Relation, ...]
    layers: tuple[LayerScore, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def by_head(self) -> Mapping[Head, HeadResult]:
        """Head -> what was found."""
        return {result.head: result for result in self.heads}

    @property
    def labelled(self) -> tuple[HeadResult, ...]:
        """Heads with at least one label, in the model's order."""
        return tuple(result for result in self.heads if result.labels)

    @property
    def most_telling(self) -> HeadResult | None:
        """The labelled head to show first: a claim about language before a place, a place before a sink or breadth."""
        order = ("coreference", "syntax", "induction", "other", "position", "sink", "broad")

        def rank(result: HeadResult) -> tuple[int, float]:
            label = result.primary_label
            assert label is not None
            above = (label.score or 0.0) - (label.baseline or 0.0)
            return order.index(category_of(label.label, label.family)), -above

        return min(self.labelled, key=rank, default=None)

    def of(self, head: Head | str | tuple[int, int]) -> HeadResult:
        """What was found about one head.

        Raises:
            HeadAddressError: the model has no such head.
        """
        head = Head.parse(head).within(self.anatomy.n_layers, self.anatomy.n_heads)
        return self.by_head.get(head) or HeadResult(head, None, (), (), {})

    def _repr_html_(self) -> str:
        from attnlens.report.notebook.results import results_html

        return results_html(self)

    def check_same_model(self, anatomy: Anatomy) -> None:
        """Refuse to put these labels on another model's heads.

        Raises:
            ResultsError: the sizes differ, or the weights' hashes do; where one has no hash, the hub commits, and
                where one has no commit either, the names.
        """
        mine = self.anatomy
        if mine.weights_sha256 and anatomy.weights_sha256:
            same = mine.weights_sha256 == anatomy.weights_sha256
        elif mine.revision and anatomy.revision:
            same = mine.revision == anatomy.revision
        else:
            same = mine.model == anatomy.model
        if not same or (mine.n_layers, mine.n_heads) != (anatomy.n_layers, anatomy.n_heads):
            raise ResultsError(
                f"the labels are of {mine.model} ({mine.n_layers} x {mine.n_heads} heads), the text was run "
                f"through {anatomy.model} ({anatomy.n_layers} x {anatomy.n_heads}); probe that model first."
            )


def load_results(path: str | Path) -> HeadResults:
    """Read `heads.json`, or the one in a folder that `attnlens probe -o` wrote.

    Raises:
        ResultsError: no such file or folder, not JSON, another schema or version, or a part is missing.
    """
    file = path = Path(path)
    try:
        if not path.exists():
            raise ResultsError(f"{path} does not exist; give the folder that attnlens probe -o wrote.")
        file = path / "heads.json" if path.is_dir() else path
        data = file.read_bytes()
    except FileNotFoundError:
        raise ResultsError(f"{path} holds no heads.json; give a folder that attnlens probe -o wrote.") from None
    except OSError as error:
        raise ResultsError(f"cannot read {file}: {error.strerror or error}.") from None
    try:
        return read_results(data)
    except ResultsError as error:
        raise ResultsError(f"{file}: {error}") from None


def read_results(data: bytes) -> HeadResults:
    """Typed results from the bytes of a `heads.json`.

    Raises:
        ResultsError: not JSON (UTF-8, finite numbers), nested too deeply, another schema or version, or a part is
            missing or of the wrong type.
    """
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ResultsError(_NOT_JSON.format("nested too deeply")) from None
    except ValueError as error:
        raise ResultsError(_NOT_JSON.format(error)) from None
    try:
        return parse_results(document)
    except RecursionError:
        raise ResultsError(_NOT_JSON.format("nested too deeply")) from None


def parse_results(document: Any) -> HeadResults:
    """Typed results from a decoded `heads.json`.

    Raises:
        ResultsError: another schema or version, or a part is missing or of the wrong type.
    """
    _check_schema(document)
    try:
        anatomy = Anatomy.from_json(document["model"])
        return HeadResults(
            anatomy=anatomy,
            corpus=document["corpus"],
            scope=document["scope"],
            versions=document["versions"],
            heads=tuple(_head(part, anatomy) for part in document["heads"]),
            relations=tuple(_relation(part, anatomy) for part in document["relations"]),
            layers=parse_layers(document.get("layers", ())),
            document=document,
        )
    except HeadAddressError as error:
        raise ResultsError(f"{error} Write the results again with attnlens probe.") from None
    except KeyError as error:
        raise ResultsError(f"{error} is missing; write the results again with attnlens probe.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"not as {SCHEMA} says ({error}); write it again with attnlens probe.") from None


def _check_schema(document: Any) -> None:
    found = document.get("schema") if isinstance(document, Mapping) else None
    if found != SCHEMA:
        family, _, version = str(found).rpartition("/")
        if family == SCHEMA.rpartition("/")[0] and version.isdigit():
            raise ResultsError(f"written as {found}, this attnlens reads {SCHEMA}: upgrade attnlens.")
        raise ResultsError(f"not probe results: expected schema {SCHEMA!r}, found {found!r}.")
    schema = files("attnlens.report").joinpath("schema", "heads-1.json")
    if not schema.is_file():
        return
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    errors = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8"))).iter_errors(document)
    if (error := best_match(errors)) is not None:
        message = error.message if len(error.message) <= 160 else f"{error.message[:160]}..."
        raise ResultsError(f"not as {SCHEMA} says, at {error.json_path}: {message}")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value


def _address(text: str, anatomy: Anatomy) -> Head:
    return Head.parse(text).within(anatomy.n_layers, anatomy.n_heads)


def _head(part: Mapping[str, Any], anatomy: Anatomy) -> HeadResult:
    return HeadResult(
        head=_address(part["head"], anatomy),
        primary=part["primary"],
        labels=tuple(_label(label) for label in part["labels"]),
        weak=tuple(_label(label) for label in part["weak"]),
        metrics=part["metrics"],
    )


def _label(part: Mapping[str, Any]) -> Label:
    known = {name: part[name] for name in Label.__dataclass_fields__ if name in part}
    parsed = {
        "ci": _pair(part["ci"]),
        "examples": tuple(_example(example) for example in part["examples"]),
        "baselines": tuple(part.get("baselines", ())),
        "modifiers": tuple(part.get("modifiers", ())),
    }
    return Label(**known | parsed)


def _example(part: Mapping[str, Any]) -> Example:
    known = {name: part[name] for name in Example.__dataclass_fields__ if name in part}
    example = Example(**known | {"tokens": tuple(part["tokens"])})
    if not all(0 <= i < len(example.tokens) for i in (example.query, example.target, example.argmax)):
        raise ValueError("an example points outside its sentence")
    return example


def _relation(part: Mapping[str, Any], anatomy: Anatomy) -> Relation:
    known = {name: part[name] for name in Relation.__dataclass_fields__ if name in part}
    best = None if part["best_head"] is None else _address(part["best_head"], anatomy)
    baselines = tuple(part.get("baselines", ()))
    return Relation(**known | {"ci": _pair(part["ci"]), "best_head": best, "baselines": baselines})


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    if values is None or values[0] is None:
        return None
    low, high = values
    return (low, high)
