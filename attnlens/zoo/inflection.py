"""Finite verb groups: which auxiliaries a clause has, and the forms that agree with its subject."""

from __future__ import annotations

import random
from dataclasses import dataclass

from attnlens.zoo.trees import Node
from attnlens.zoo.verbs import AUXILIARIES, MODALS, Verb

__all__ = ["VerbGroup", "be", "simple_verb", "verb_group"]


@dataclass(frozen=True)
class VerbGroup:
    """Auxiliaries in order ("not" included) and the main verb; `simple` if the main verb itself is finite."""

    auxiliaries: tuple[Node, ...]
    verb: Node
    simple: bool
    tense: str


# (shape, weight): present forms first, because they show agreement.
_SHAPES = (
    ("present", 0.40), ("past", 0.10), ("progressive", 0.20), ("perfect", 0.14), ("negated", 0.08),
    ("modal", 0.04), ("not progressive", 0.04),
)  # fmt: skip

_STATIVE = frozenset("see like love hear admire trust know believe want hope think".split())  # "is knowing" is odd


def verb_group(rng: random.Random, verb: Verb, number: str, *, auxiliary_first: bool = False) -> VerbGroup:
    """Inflect `verb` for a third-person subject of this number.

    Args:
        rng: the draw.
        verb: its five forms.
        number: "Sing" or "Plur".
        auxiliary_first: for questions: only shapes that have an auxiliary to put first.
    """
    if verb.base in _STATIVE and not auxiliary_first:
        shape = rng.choices(("present", "past", "perfect", "negated", "modal"), (0.6, 0.12, 0.12, 0.12, 0.04))[0]
    elif auxiliary_first:
        shape = "asked" if verb.base in _STATIVE else rng.choice(("progressive", "perfect", "asked", "asked"))
    else:
        shape = rng.choices([name for name, _ in _SHAPES], [weight for _, weight in _SHAPES])[0]
    tense = (
        "Past" if shape == "past" or (shape in ("progressive", "negated", "asked") and rng.random() < 0.25) else "Pres"
    )
    if shape in ("present", "past"):
        return VerbGroup((), simple_verb(verb, number, tense), True, tense)
    if shape in ("progressive", "not progressive"):
        feats = {"Tense": "Pres", "VerbForm": "Part"}
        return _group([auxiliary("be", number, tense)], verb.gerund, verb, feats, tense, "not" in shape)
    if shape == "perfect":
        feats = {"Tense": "Past", "VerbForm": "Part"}
        return _group([auxiliary("have", number, tense)], verb.participle, verb, feats, tense, False)
    if shape == "modal":
        modal = rng.choice(MODALS)
        return _group(
            [Node(modal, modal, "AUX", "aux", {"VerbForm": "Fin"})], verb.base, verb, {"VerbForm": "Inf"}, tense, False
        )
    return _group([auxiliary("do", number, tense)], verb.base, verb, {"VerbForm": "Inf"}, tense, shape == "negated")


def be(rng: random.Random, number: str, deprel: str) -> Node:
    """A finite form of "be": copula ("cop") or passive auxiliary ("aux:pass")."""
    return auxiliary("be", number, "Past" if rng.random() < 0.3 else "Pres").as_(deprel)


def auxiliary(lemma: str, number: str, tense: str) -> Node:
    """The finite form of "be", "have" or "do"."""
    return Node(AUXILIARIES[lemma][tense][number], lemma, "AUX", "aux", _finite(number, tense))


def simple_verb(verb: Verb, number: str, tense: str) -> Node:
    """The main verb as the only, finite verb."""
    form = verb.past if tense == "Past" else verb.third if number == "Sing" else verb.base
    return Node(form, verb.base, "VERB", "root", _finite(number, tense))


def negation() -> Node:
    """The word "not"."""
    return Node("not", "not", "PART", "advmod", {"Polarity": "Neg"})


def _finite(number: str, tense: str) -> dict[str, str]:
    return {"Mood": "Ind", "Number": number, "Person": "3", "Tense": tense, "VerbForm": "Fin"}


def _group(
    auxiliaries: list[Node], form: str, verb: Verb, feats: dict[str, str], tense: str, negated: bool
) -> VerbGroup:
    if negated:
        auxiliaries = [*auxiliaries, negation()]
    return VerbGroup(tuple(auxiliaries), Node(form, verb.base, "VERB", "root", dict(feats)), False, tense)
