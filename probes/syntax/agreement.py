"""Agreement (measure S8): does a verb look at its subject, or at a noun of the other number that stands between them?

Only such verbs are asked, since elsewhere the nearest noun is the subject. The head's weight on the subject is held
against its weight on the attractor (the last one before the verb), so that chance is one half; at the verb, and at the
place where the verb is predicted, which is where a language model needs its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from probes.corpora.data import Choice, Sentence
from probes.questions import Cells, OptionTrials
from probes.syntax.rules import Near
from probes.syntax.trials import previous_word
from probes.tally import Key
from probes.words import Reading

__all__ = ["AGREEMENT", "agreement_trials", "contests"]

AGREEMENT = "agreement"

_SUBJECTS = frozenset({"nsubj", "nsubj:pass"})
_FINITE = frozenset({"aux", "aux:pass", "cop"})
_NOUNS = frozenset({"NOUN", "PROPN", "PRON"})
_NUMBERS = frozenset({"Sing", "Plur"})
_PAST_WITH_NUMBER = frozenset({"was", "were"})


Position = Literal["word", "pred"]


class Contest(NamedTuple):
    """One verb, and the words that its number could come from.

    Attributes:
        query: the verb; of several words the mean of their rows counts.
        options: words of each noun.
        right: indices of the options that are the subject.
    """

    query: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    right: tuple[int, ...]


def contests(sentence: Sentence) -> list[Contest]:
    """The sentence's verbs that have a subject and an attractor, from its tree and from what a corpus marks."""
    marked = [choice for choice in sentence.choices if choice.name == AGREEMENT and choice.gold]
    return [*map(_of_choice, marked), *_of_tree(sentence)]


def agreement_trials(reading: Reading, sentence: Sentence, near: Near) -> OptionTrials | None:
    """Both positions' trials of a text; of a masked text those of its mask. None where nothing is asked.

    A contest with a word that has no token is left out; one whose verb is predicted from nothing counts as asked only.
    """
    found = [contest for contest in contests(sentence) if _has_tokens(reading, contest)]
    asked: list[tuple[Position, int | None, Contest]] = []  # (position, the row that asks, contest)
    for contest in found:
        if reading.masked is not None:
            asked += [("pred", reading.masked, contest)] if contest.query == (reading.masked,) else []
            continue
        asked.append(("word", None, contest))
        if reading.causal:
            before = int(previous_word(reading.kept)[contest.query[0]])
            asked.append(("pred", before, contest))
    return _trials(asked, near) if asked else None


def _trials(asked: Sequence[tuple[Position, int | None, Contest]], near: Near) -> OptionTrials:
    positions = sorted({at for at, _, _ in asked}, reverse=True)
    scored = [each for each in asked if each[1] != -1]
    options = [
        (trial, option in contest.right, contest.query if row is None else (row,), words)
        for trial, (_, row, contest) in enumerate(scored)
        for option, words in enumerate(contest.options)
    ]
    cells = [
        (number, query, key, 1 / len(queries))
        for number, (_, _, queries, words) in enumerate(options)
        for query in queries
        for key in words
    ]
    of, query, key, weight = (np.array(column) for column in zip(*cells, strict=True)) if cells else _nothing()
    asking = np.array([queries[-1] for _, _, queries, _ in options], dtype=np.int64)
    answer = np.array([words[-1] for _, _, _, words in options], dtype=np.int64)
    shares = [len(contest.right) / len(contest.options) for _, _, contest in scored]
    trial = np.array([option[0] for option in options], dtype=np.int64)
    points = near.points(asking, answer)
    return OptionTrials(
        keys=tuple(Key(AGREEMENT, None, at) for at in positions),
        asked=np.bincount([positions.index(at) for at, _, _ in asked], minlength=len(positions)),
        question=np.array([positions.index(at) for at, _, _ in scored], dtype=np.int64),
        chance=np.array(shares, dtype=np.float64),
        option_trial=trial,
        right=np.array([option[1] for option in options], dtype=bool),
        cells=Cells(of.astype(np.int64), query.astype(np.int64), key.astype(np.int64), weight.astype(np.float64)),
        points=points,
        silent=near.undecided(points, trial, len(scored)),
    )


def _nothing() -> Iterator[np.ndarray]:
    return (np.zeros(0) for _ in range(4))


def _has_tokens(reading: Reading, contest: Contest) -> bool:
    return all(reading.kept[word] for words in (contest.query, *contest.options) for word in words)


def _of_choice(choice: Choice) -> Contest:
    return Contest(choice.query, choice.options, choice.gold)


def _of_tree(sentence: Sentence) -> Iterator[Contest]:
    if not (sentence.heads and sentence.features and sentence.upos):
        return
    children: dict[int, list[int]] | None = None
    for subject, relation in enumerate(sentence.relations):
        if relation not in _SUBJECTS:
            continue
        if children is None:
            children = _finite_children(sentence)
        verb = children.get(sentence.heads[subject], [sentence.heads[subject]])[0]
        number = _number_shown(sentence, verb)
        if subject < verb and number and _features(sentence.features[subject]).get("Number") == number:
            attractors = [word for word in range(subject + 1, verb) if _other_number(sentence, word, number)]
            if attractors:
                yield Contest((verb,), ((subject,), (attractors[-1],)), (0,))


def _finite_children(sentence: Sentence) -> dict[int, list[int]]:
    """Auxiliaries and copulas of each word, in order: the first one agrees with the subject."""
    found: dict[int, list[int]] = {}
    for word, relation in enumerate(sentence.relations):
        if relation in _FINITE:
            found.setdefault(sentence.heads[word], []).append(word)
    return found


def _number_shown(sentence: Sentence, verb: int) -> str | None:
    """Number of a finite verb whose form can tell it: third person, and in the past only `was` and `were`.

    Treebanks annotate the number of `walked` as well; leaving the past out loses verbs that agree in other languages,
    and never asks about one that does not.
    """
    features = _features(sentence.features[verb])
    if features.get("VerbForm") != "Fin" or features.get("Person", "3") != "3":
        return None
    if features.get("Tense") == "Past" and sentence.forms[verb].lower() not in _PAST_WITH_NUMBER:
        return None
    number = features.get("Number")
    return number if number in _NUMBERS else None


def _other_number(sentence: Sentence, word: int, number: str) -> bool:
    if sentence.upos[word] not in _NOUNS:
        return False
    return _features(sentence.features[word]).get("Number", number) in _NUMBERS - {number}


def _features(column: str) -> Mapping[str, str]:
    """`Number=Sing|Person=3` as a mapping."""
    return dict(part.split("=", 1) for part in column.split("|") if "=" in part)
