"""The heads that can be planted, each built so that its attention is known beforehand.

The scores are large (`STRENGTH`), so that the designed key gets nearly all of the attention; where another probability
is asked for, the rest goes to the text's first position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from attnlens.errors import UsageError
from attnlens.zoo.planted_stream import BLOCK_SIZE, unit
from attnlens.zoo.planted_terms import Fixed, Match, Offset, Sink, Term, Write
from attnlens.zoo.planted_words import CLASSES

__all__ = [
    "STRENGTH",
    "PlantedHead",
    "antecedent",
    "classes",
    "first_token",
    "induction",
    "mixture",
    "nearest",
    "offset",
    "on_class",
    "on_token",
    "pointer",
    "previous",
    "random",
    "rare_word",
    "same_token",
    "uniform",
]

STRENGTH = 40.0
_SURE = 8.0  # a fallback this much weaker gets e^-8 of what the target gets
_RARITY = 10_240.0  # a rank of rarity is less than a thousandth
_CLASS = 4.5 * STRENGTH
_STEP = 2.0


@dataclass(frozen=True)
class PlantedHead:
    """A head by design.

    Attributes:
        name: what the head is called in the model's card.
        text: what it attends to, in half a sentence.
        terms: of its score; None draws query and key weights from a normal distribution.
        write: what it copies to its own position; None writes nothing.
        tokens: scores on particular tokens, by their spelling, which the vocabulary turns into a term.
        seed: of the random weights.
    """

    name: str
    text: str
    terms: tuple[Term, ...] | None = ()
    write: Write | None = None
    tokens: Mapping[str, float] | None = None
    seed: int = 0

    def writing(self, source: str, target: str, scale: float = 1.0) -> PlantedHead:
        """The same head, which also copies a block of what it attends to."""
        return replace(self, write=Write(source, target, scale))


def offset(distance: int, probability: float | None = None) -> PlantedHead:
    """Attends to the token `distance` places after (before, where negative); to the first where there is none."""
    side = "after" if distance > 0 else "before"
    name = {-1: "previous token", 0: "self", 1: "next token"}.get(distance, f"offset {distance:+d}")
    places = {-1: "the token before", 0: "the token itself", 1: "the token after"}
    text = places.get(distance, f"the token {abs(distance)} places {side}")
    return PlantedHead(name, text, (Offset({distance: STRENGTH}), _fallback(probability)))


def previous() -> PlantedHead:
    """Attends to the token before, the first token to itself; the one head whose attention is exact at every token."""
    return PlantedHead("previous token", "the token before", (Offset({-1: STRENGTH}),))


def mixture(weights: Mapping[int, float]) -> PlantedHead:
    """Spreads its attention over several offsets by these weights, the rest on the first token."""
    rest = 1 - sum(weights.values())
    if rest < -1e-9 or min(weights.values(), default=0) <= 0:
        raise UsageError(f"the offset weights {dict(weights)} are no shares; expected positive ones, at most 1 in all.")
    scores = {distance: STRENGTH + math.log(weight) for distance, weight in weights.items()}
    shares = ", ".join(f"{weight:.2f} at {distance:+d}" for distance, weight in weights.items())
    sink = Sink(STRENGTH + math.log(rest) if rest > 1e-9 else STRENGTH - 2 * _SURE)
    return PlantedHead("offset mixture", f"several offsets: {shares}", (Offset(scores), sink))


def first_token() -> PlantedHead:
    """Attends to the text's first token."""
    return PlantedHead("first token", "the text's first token", (Sink(STRENGTH),))


def on_token(token: str, name: str, text: str, probability: float | None = None) -> PlantedHead:
    """Attends to every occurrence of one token, to the first position where there is none."""
    return PlantedHead(name, text, (_fallback(probability),), tokens={token: STRENGTH})


def on_class(group: Iterable[int], name: str, text: str, probability: float | None = None) -> PlantedHead:
    """Attends to every token of these classes (or gold features), to the first position where there is none."""
    return PlantedHead(name, text, (Fixed(STRENGTH * _axes(group), "FEAT"), _fallback(probability)))


def rare_word() -> PlantedHead:
    """Attends to the rarest word of the text."""
    return PlantedHead("rare word", "the rarest word of the text", (Fixed(_RARITY * unit(0), "TOK"),))


def same_token(*, positions: bool = True) -> PlantedHead:
    """Attends to other occurrences of the same token; without `positions` to the token itself as well."""
    match = Match("TOK", STRENGTH * np.eye(BLOCK_SIZE), "TOK")
    if not positions:
        return PlantedHead("same token", "all occurrences of the same token, itself included", (match, _fallback(None)))
    elsewhere = -STRENGTH * np.eye(BLOCK_SIZE)
    elsewhere[:, 0] += STRENGTH - _SURE
    text = "other occurrences of the same token, the first token where there is none"
    return PlantedHead("same token", text, (match, Match("POS", elsewhere, "POS")))


def induction() -> PlantedHead:
    """Attends to what followed earlier occurrences of the same token; needs a previous-token head that writes PREV."""
    text = "the token after an earlier occurrence of the same token, the first token where there is none"
    return PlantedHead("induction", text, (Match("TOK", STRENGTH * np.eye(BLOCK_SIZE), "PREV"), _fallback(None)))


def pointer(
    name: str, *, probability: float | None = None, channel: str = "PTR", others: Iterable[int] = ()
) -> PlantedHead:
    """Attends where gold annotation points.

    Args:
        name: what the pointers are.
        probability: of the target; the rest goes to the first position.
        channel: the block that holds the pointers.
        others: axes of FEAT that mark words whose pointer is none of this head's; they attend to the first position.
    """
    terms: list[Term] = [Match(channel, STRENGTH * np.eye(BLOCK_SIZE), "POS"), _fallback(probability)]
    closed = np.outer(2 * STRENGTH * _axes(others), unit(0))
    if closed.any():
        terms.append(Match("FEAT", closed, "POS"))
    return PlantedHead(name, f"where the gold annotation points ({name})", tuple(terms))


def nearest(name: str, text: str, keys: Iterable[int], side: str, queries: Iterable[int] | None = None) -> PlantedHead:
    """Attends to the nearest token of some classes on one side, to the first token where there is none.

    Args:
        name: of the head.
        text: what it attends to.
        keys: classes of the target.
        side: "left" or "right".
        queries: classes of words that look; None for all. Other words attend to the first token.
    """
    targets = _axes(keys)
    look: Term = Fixed(_CLASS * targets, "FEAT")
    if queries is not None:
        look = Match("FEAT", _CLASS * np.outer(_axes(queries), targets), "FEAT")
    return PlantedHead(name, text, (look, Match("POS", _nearness(side), "POS")))


def antecedent() -> PlantedHead:
    """Attends from a pronoun to the nearest noun or name before it that fits in gender and number."""
    scores = np.zeros((BLOCK_SIZE, BLOCK_SIZE))
    for kind in ("masculine", "feminine", "neuter", "plural"):
        fitting = [f"{word} {kind}" for word in ("noun", "name")]
        if kind in ("masculine", "feminine"):
            fitting.append("noun person")
        scores[CLASSES.index(f"pronoun {kind}"), classes(*fitting)] = _CLASS
    text = "from a pronoun to the nearest noun or name before it that fits in gender and number; else the first token"
    return PlantedHead("antecedent", text, (Match("FEAT", scores, "FEAT"), Match("POS", _nearness("left"), "POS")))


def uniform() -> PlantedHead:
    """Spreads its attention evenly over everything it can see."""
    return PlantedHead("uniform", "all tokens that it can see, evenly")


def random(seed: int) -> PlantedHead:
    """Attends as random query and key weights have it (independent, normal, variance .25)."""
    return PlantedHead("random", "nothing in particular: its weights are random", None, seed=seed)


def classes(*names: str) -> list[int]:
    """Axes of FEAT of the classes that are called so, or whose names begin so ("noun" is all nouns)."""
    return [i for i, each in enumerate(CLASSES) if any(each == name or each.startswith(name + " ") for name in names)]


def _fallback(probability: float | None) -> Sink:
    if probability is None:
        return Sink(STRENGTH - _SURE)
    if not 0 < probability < 1:
        raise UsageError(f"the probability is {probability}; expected more than 0 and less than 1.")
    return Sink(STRENGTH - math.log(probability / (1 - probability)))


def _axes(numbers: Iterable[int]) -> np.ndarray:
    vector = np.zeros(BLOCK_SIZE)
    vector[list(numbers)] = 1
    return vector


def _nearness(side: str) -> np.ndarray:
    """-2 per token of distance on the right side, far below that elsewhere, and the first position as what is left."""
    place = np.arange(BLOCK_SIZE)
    distance = place[:, None] - place[None, :]
    if side == "right":
        distance = -distance
    elif side != "left":
        raise UsageError(f"a side is called {side!r}; expected left or right.")
    scores = np.where(distance > 0, -_STEP * distance, -5 * STRENGTH)
    scores[:, 0] = STRENGTH
    return scores
