"""The heads of each kind that were found in the embedded models, read from `found.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from attnlens.report.results import Example

__all__ = ["KINDS", "FoundHead", "Kind", "KindsFound", "read_kinds"]


@dataclass(frozen=True)
class Kind:
    """A kind of head, and which labels of probes are of it.

    Attributes:
        name: a short key.
        title: for a reader.
        meaning: one sentence on what such a head does.
        family: the probe that tests for it.
        labels: beginnings of its labels; empty where relations decide.
        relations: relations of the probe; empty where labels decide.
        text: a sentence on which the kind shows, where a probe keeps no examples.
    """

    name: str
    title: str
    meaning: str
    family: str
    labels: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    text: str = ""

    def holds(self, label: Mapping[str, Any]) -> bool:
        """Whether a label, as in `heads.json`, is of this kind."""
        if label["family"] != self.family:
            return False
        name, known = (label["label"], self.labels) if self.labels else (label["relation"], self.relations)
        return str(name).startswith(known)


KINDS = (
    Kind("previous", "Previous word", "Looks at the token just before, whatever it is: the bricks of longer patterns.",
         "positional", labels=("previous-token",)),
    Kind("determiner", "Determiner and noun", "Joins 'the' or 'a' with the noun that it belongs to, also across an "
         "adjective.", "syntax", relations=("det",)),
    Kind("object", "Verb and object", "Joins a verb with what is acted upon, wherever that stands.",
         "syntax", relations=("obj",)),
    Kind("antecedent", "Pronoun and antecedent", "Looks from 'she' or 'himself' to whoever is meant.",
         "coreference", relations=("antecedent",)),
    Kind("delimiter", "Delimiter", "Rests on the first token or on marks, where there is nothing to fetch: a place to "
         "do nothing.", "positional", labels=("delimiter", "no-op", "first-token")),
    Kind("broad", "Broad", "Spreads over almost everything that it sees, and passes on an average.",
         "positional", labels=("broad",), text="The doctor that the boys admire often helps the old queen."),
    Kind("induction", "Induction", "Where a token was there before, looks at the one that followed it then, and so can "
         "go on with a repetition.", "induction", relations=("induction",),
         text="red lamp Anna seven horses again red lamp Anna seven horses again red lamp Anna"),
)  # fmt: skip


@dataclass(frozen=True)
class FoundHead:
    """The head of one model that fits a kind best.

    Attributes:
        kind: key of the kind.
        model, head: whose it is.
        labelled: it has the label; otherwise it is the best there is, and `verdict` says what it lacks.
        label, text, relation, direction, at: as the probe names it.
        score, ci, n: on the half of the corpus that did not choose it.
        baseline, baseline_name: what the best rule without a model reaches there.
        verdict: what the probe says of it.
        sentence: text of the example.
        example: one query in it, of those drawn by chance the one with most weight; None where the probe keeps none.
        command: what measured it, and measures it again.
    """

    kind: str
    model: str
    head: str
    labelled: bool
    label: str
    text: str
    relation: str
    direction: str | None
    at: str
    score: float
    ci: tuple[float, float] | None
    n: int
    baseline: float | None
    baseline_name: str | None
    verdict: str
    sentence: str
    example: Example | None
    command: str


@dataclass(frozen=True)
class KindsFound:
    """What was found, and in what.

    Attributes:
        corpus_sha256: of the embedded corpus.
        models: name -> SHA-256 of the weights.
        heads: kind by kind, the best first.
    """

    corpus_sha256: str
    models: Mapping[str, str | None]
    heads: tuple[FoundHead, ...]

    def of(self, kind: str) -> tuple[FoundHead, ...]:
        """Those of one kind, one per model."""
        return tuple(head for head in self.heads if head.kind == kind)


@lru_cache(maxsize=1)
def read_kinds() -> KindsFound:
    """The heads that ship with attnlens; `python -m probes.kinds HEADS.JSON...` finds them again."""
    document = json.loads(files("probes.kinds").joinpath("found.json").read_text(encoding="utf-8"))
    heads = tuple(_head(each) for each in document["heads"])
    return KindsFound(document["corpus"]["sha256"], document["models"], heads)


def _head(given: Mapping[str, Any]) -> FoundHead:
    example = given["example"]
    read = None if example is None else Example(**{**example, "tokens": tuple(example["tokens"])})
    ci = None if given["ci"] is None else tuple(given["ci"])
    return FoundHead(**{**given, "example": read, "ci": ci})
