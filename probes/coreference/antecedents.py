"""Antecedents in running text (measures C1 to C3): does a mention's head look at an earlier mention of its entity?

`closed` (the plain keys): the strongest among the head words of earlier mentions, the same choice that rules without a
model have. `open`: the strongest among all words before the mention. Scores on mentions whose antecedents all have
another form are kept apart, since a head that looks for equal words scores high on the rest; only they earn a label.

At the prediction position only pronouns of the third person are asked about: in a causal model at the word before the
pronoun, in a bidirectional one at the mask in its place, where only antecedents in the same sentence are in sight.

Source: Clark et al. 2019 (arXiv:1906.04341, section 4.3), which does not say what the candidates were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from probes.coreference.anaphors import RULES, Anaphor, anaphors_in
from probes.coreference.contests import Contest, word_contest
from probes.corpora.data import Sentence
from probes.family import Pointer
from probes.tally import Key
from probes.words import Reading

__all__ = [
    "ALL",
    "CLASSES",
    "NON_IDENTICAL",
    "OFFSETS",
    "OPEN",
    "PREDICTED",
    "contests",
    "every_key_of",
    "keys_of",
    "masks",
    "of_class",
    "pointer",
]

ALL = Key("antecedent")
NON_IDENTICAL = Key("antecedent (other form)")
OPEN = Key("antecedent, open")
OPEN_NON_IDENTICAL = Key("antecedent, open (other form)")
PREDICTED = Key("antecedent (other form, third person)", at="pred")
CLASSES = ("pronoun", "proper", "nominal", "third person")
OFFSETS = tuple(range(-10, 0))


def of_class(name: str, *, other_form: bool = False, at: str = "word") -> Key:
    """The question about mentions of one class of `CLASSES`."""
    return Key(f"antecedent (other form, {name})" if other_form else f"antecedent ({name})", at=at)


def keys_of(anaphor: Anaphor) -> tuple[Key, ...]:
    """The closed questions that an anaphor counts for, at its own word.

    One whose antecedents all lie before the window counts for those that do not ask for their form.
    """
    classes = (anaphor.kind, *(("third person",) if anaphor.third else ()))
    keys = (ALL, *(of_class(name) for name in classes))
    if anaphor.identical or not anaphor.targets:
        return keys
    return (*keys, NON_IDENTICAL, *(of_class(name, other_form=True) for name in classes))


def open_keys_of(anaphor: Anaphor) -> tuple[Key, ...]:
    """The open ones."""
    return (OPEN,) if anaphor.identical or not anaphor.targets else (OPEN, OPEN_NON_IDENTICAL)


def predicted_keys_of(anaphor: Anaphor) -> tuple[Key, ...]:
    """Those at the prediction position."""
    if not anaphor.third:
        return ()
    plain = of_class("third person", at="pred")
    return (plain,) if anaphor.identical or not anaphor.targets else (plain, PREDICTED)


def every_key_of(anaphor: Anaphor) -> tuple[Key, ...]:
    """All of these."""
    return (*keys_of(anaphor), *open_keys_of(anaphor), *predicted_keys_of(anaphor))


def contests(reading: Reading, n_rules: int) -> Iterator[Contest]:
    """What a text asks about its anaphors: a window at their own words, a masked sentence at its mask.

    Args:
        reading: the text.
        n_rules: columns of `points`; those after `RULES` and `OFFSETS` stay empty.
    """
    for anaphor in anaphors_in(reading.sentences):
        if not reading.kept[anaphor.head]:
            continue
        if reading.masked is not None:
            if anaphor.head == reading.masked and predicted_keys_of(anaphor):
                yield _contest(reading, predicted_keys_of(anaphor), anaphor, anaphor.head, anaphor.candidates, n_rules)
            continue
        yield _contest(reading, keys_of(anaphor), anaphor, anaphor.head, anaphor.candidates, n_rules)
        yield _contest(reading, open_keys_of(anaphor), anaphor, anaphor.head, range(anaphor.start), n_rules)
        before = anaphor.head - 1
        if reading.causal and predicted_keys_of(anaphor) and before >= 0 and reading.kept[before]:
            yield _contest(reading, predicted_keys_of(anaphor), anaphor, before, anaphor.candidates, n_rules)


def _contest(
    reading: Reading, keys: tuple[Key, ...], anaphor: Anaphor, query: int, among: Iterable[int], n_rules: int
) -> Contest:
    options = np.fromiter(among, dtype=np.int64)
    options = options[reading.candidates[query, options]]
    return word_contest(
        keys, query, options, np.isin(options, anaphor.targets), _points(options, query, anaphor.guesses, n_rules)
    )


def _points(
    options: Int64[np.ndarray, " option"], query: int, guesses: Sequence[int], n_rules: int
) -> Bool[np.ndarray, "option rule"]:
    points = np.zeros((len(options), n_rules), dtype=bool)
    if guesses:
        points[:, : len(RULES)] = options[:, None] == np.array(guesses)
    points[:, len(RULES) : len(RULES) + len(OFFSETS)] = (options - query)[:, None] == np.array(OFFSETS)
    return points


def masks(sentences: Sequence[Sentence], seed: int) -> Iterator[int]:
    """One pronoun of the third person per text, with an antecedent in it, by hash."""
    asked = [anaphor for anaphor in anaphors_in(sentences) if anaphor.third and anaphor.targets]
    text = "\n".join(f"{sentence.id}\t{sentence.text}" for sentence in sentences)

    def drawn(anaphor: Anaphor) -> bytes:
        return hashlib.sha256(f"{seed}\0{anaphor.head}\0{text}".encode()).digest()

    if asked:
        yield min(asked, key=drawn).head


def pointer(key: Key, seen: Reading) -> Pointer | None:
    """The text's first anaphor that `key` asks about."""
    for anaphor in anaphors_in(seen.sentences):
        query = _query(key, anaphor, seen)
        if query is None or not (query >= 0 and seen.kept[query]):
            continue
        among = range(anaphor.start) if key in (OPEN, OPEN_NON_IDENTICAL) else anaphor.candidates
        candidates = tuple(word for word in among if seen.candidates[query, word])
        targets = tuple(word for word in anaphor.targets if word in candidates)
        if targets:
            return Pointer(query, targets, candidates, "word")
    return None


def _query(key: Key, anaphor: Anaphor, seen: Reading) -> int | None:
    """The word that is asked; None where the anaphor is none of the key's."""
    if key.at == "pred":
        if key not in predicted_keys_of(anaphor):
            return None
        if seen.masked is not None:
            return anaphor.head if anaphor.head == seen.masked else None
        return anaphor.head - 1 if seen.causal else None
    return anaphor.head if seen.masked is None and key in (*keys_of(anaphor), *open_keys_of(anaphor)) else None
