"""Which mentions of a window point back, what they can point at, and what rules without a model would answer.

The candidates are the head words of all earlier mentions in the window, except mentions that contain the anaphor or
lie in it. The rules are those of Clark et al. 2019 (arXiv:1906.04341, section 4.3): the nearest mention, the nearest
with the same head word, and a sieve of rules; beside them the nearest that agrees and the nearest of the same type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from probes.corpora.data import Mention, Sentence
from probes.corpora.entities import BACKWARD_LINKS

__all__ = ["RULES", "Anaphor", "Class", "anaphors_in"]

RULES = ("nearest mention", "same word", "same type", "compatible mention", "sieve")
"""All but the first answer as the first does where no mention fits; the sieve is "the same text, else the same head
word, else compatible in number, gender and person, else any", each time the nearest."""

Class = Literal["pronoun", "proper", "nominal"]
_CLASSES: dict[str, Class] = {"PRON": "pronoun", "DET": "pronoun", "PROPN": "proper"}
_PRONOUNS = frozenset({"PRON", "DET"})


@dataclass(frozen=True)
class Anaphor:
    """A mention that points back, in words of its window.

    Attributes:
        head: head word of the mention.
        start, end: its words.
        candidates: head words of earlier mentions not nested with it, in order.
        targets: those among them that are mentions of its entity; empty where the antecedent lies before the window.
        guesses: what each rule of `RULES` answers; empty without candidates.
        identical: some target has the head's lowercase form.
        kind: by the head's part of speech; a determiner that is a mention by itself ("those") is a pronoun.
        third: it is a pronoun that is marked as third person.
    """

    head: int
    start: int
    end: int
    candidates: tuple[int, ...]
    targets: tuple[int, ...]
    guesses: tuple[int, ...]
    identical: bool
    kind: Class
    third: bool


@dataclass(frozen=True)
class _Placed:
    """A mention with what rules compare, in words of the window."""

    mention: Mention
    head: int
    start: int
    end: int
    form: str
    text: tuple[str, ...]
    grammar: dict[str, str]
    third: bool
    upos: str

    def is_nested_with(self, other: _Placed) -> bool:
        """One lies in the other."""
        inside = self.start >= other.start and self.end <= other.end
        around = self.start <= other.start and self.end >= other.end
        return inside or around


def anaphors_in(sentences: Sequence[Sentence]) -> Iterator[Anaphor]:
    """The anaphors of a window of sentences, in order.

    A mention points back where its document has an earlier mention of its entity and its link is one of identity;
    appositions, predicates, discourse deixis and split antecedents do not count.
    """
    placed = list(_placed(sentences))
    for index, mention in enumerate(placed):
        if mention.mention.link in BACKWARD_LINKS and not mention.mention.split:
            earlier = [
                other for other in placed[:index] if other.head != mention.head and not mention.is_nested_with(other)
            ]
            targets = {other.head for other in earlier if other.mention.entity == mention.mention.entity}
            if targets or mention.mention.again:
                yield _anaphor(mention, earlier, targets)


def _placed(sentences: Sequence[Sentence]) -> Iterator[_Placed]:
    first = 0
    for sentence in sentences:
        lowered = [form.lower() for form in sentence.forms] if sentence.mentions else []
        for mention in sentence.mentions:
            yield _Placed(
                mention=mention,
                head=first + mention.head,
                start=first + mention.start,
                end=first + mention.end,
                form=lowered[mention.head],
                text=tuple(lowered[mention.start : mention.end]),
                grammar=_grammar(sentence, mention.head),
                third=_features(sentence, mention.head).get("Person") == "3",
                upos=sentence.upos[mention.head] if sentence.upos else "_",
            )
        first += len(sentence)


def _anaphor(mention: _Placed, earlier: Sequence[_Placed], targets: set[int]) -> Anaphor:
    kind = _CLASSES.get(mention.upos, "nominal")
    return Anaphor(
        head=mention.head,
        start=mention.start,
        end=mention.end,
        candidates=tuple(sorted({other.head for other in earlier})),
        targets=tuple(sorted(targets)),
        guesses=_guesses(mention, earlier) if earlier else (),
        identical=any(other.form == mention.form for other in earlier if other.head in targets),
        kind=kind,
        third=kind == "pronoun" and mention.third,
    )


def _guesses(mention: _Placed, earlier: Sequence[_Placed]) -> tuple[int, ...]:
    nearest = max(other.head for other in earlier)

    def last(fits: Callable[[_Placed], bool]) -> int | None:
        return max((other.head for other in earlier if fits(other)), default=None)

    word = last(lambda other: other.form == mention.form)
    fitting = last(lambda other: _compatible(other.grammar, mention.grammar))
    kind = last(lambda other: other.mention.kind == mention.mention.kind)
    text = last(lambda other: other.text == mention.text)
    sieve = next(guess for guess in (text, word, fitting, nearest) if guess is not None)
    return (nearest, *(nearest if guess is None else guess for guess in (word, kind, fitting)), sieve)


def _grammar(sentence: Sentence, word: int) -> dict[str, str]:
    """Number, gender and person of a word; every word but a pronoun is third person."""
    known = _features(sentence, word)
    is_pronoun = bool(sentence.upos) and sentence.upos[word] in _PRONOUNS
    person = known.get("Person", "3") if is_pronoun else "3"
    return {name: known[name] for name in ("Number", "Gender") if name in known} | {"Person": person}


def _features(sentence: Sentence, word: int) -> dict[str, str]:
    features = sentence.features[word] if sentence.features else "_"
    return dict(part.partition("=")[::2] for part in features.split("|") if "=" in part)


def _compatible(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(one[name] == other[name] for name in one.keys() & other.keys())
