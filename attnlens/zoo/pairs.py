"""Minimal pairs cut from documents of the grammar: the same text with the right and with a wrong form of one word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from attnlens.zoo import lexicon, verbs
from attnlens.zoo.trees import Document, Entity, Sentence, Word

__all__ = ["ATTRACTORS", "KINDS", "MinimalPair", "minimal_pairs"]

ATTRACTORS = "agreement with attractors"
KINDS = ("agreement", ATTRACTORS, "reflexive", "pronoun")


@dataclass(frozen=True)
class MinimalPair:
    """`before + good + after` is a text of the grammar; `before + bad + after` breaks exactly one rule.

    Kinds: "agreement" (no noun between subject and verb), "agreement with attractors" (the noun just before the verb
    has the other number), "reflexive" (number or gender of the subject), "pronoun" (no such antecedent in the text).
    """

    kind: str
    before: str
    good: str
    bad: str
    after: str


def minimal_pairs(documents: Iterable[Document]) -> Iterator[MinimalPair]:
    """Every minimal pair of the documents, in their order.

    The text ends with the sentence of the word in question. Sentences that repeat the subject as a pronoun after the
    verb give no agreement pair: a model that reads both ways could take the number from there.
    """
    for document in documents:
        for index, sentence in enumerate(document.sentences):
            earlier = "".join(previous.text + " " for previous in document.sentences[:index])
            found = chain(_agreement(sentence), _reflexives(sentence), _pronouns(document, index))
            for kind, word, bad in found:
                first, last = sentence.spans()[word.number - 1]
                yield MinimalPair(kind, earlier + sentence.text[:first], word.form, bad, sentence.text[last:])


def _agreement(sentence: Sentence) -> Iterator[tuple[str, Word, str]]:
    for subject in sentence.words:
        if subject.deprel not in ("nsubj", "nsubj:pass") or subject.upos not in ("NOUN", "PROPN"):
            continue
        verb = _finite_word(sentence, subject.head)
        if verb is None or verb.number < subject.number or _gives_away(sentence, subject, verb):
            continue
        other = _other_number(verb)
        between = sentence.words[subject.number : verb.number - 1]
        if other is None or any(word.deprel == "conj" and word.head == subject.number for word in between):
            continue
        nouns = [word for word in between if word.upos in ("NOUN", "PROPN")]
        if not nouns:
            yield "agreement", verb, other
        elif nouns[-1].feature("Number") != subject.feature("Number"):
            yield ATTRACTORS, verb, other


def _finite_word(sentence: Sentence, predicate: int) -> Word | None:
    """The word of the clause that agrees: its first auxiliary or copula, else the verb itself."""
    for word in sentence.words:
        if word.head == predicate and word.deprel in ("aux", "aux:pass", "cop"):
            return word
    return sentence.words[predicate - 1]


def _gives_away(sentence: Sentence, subject: Word, verb: Word) -> bool:
    """Whether a later mention of the subject's entity in the sentence shows its number."""
    own = {mention.entity for mention in sentence.mentions if mention.head == subject.number}
    return any(mention.entity in own and mention.first > verb.number for mention in sentence.mentions)


_OTHER_NUMBER: dict[tuple[str, str], str] = {
    **{(verb.third, "Sing"): verb.base for verb in verbs.ALL_VERBS},
    **{(verb.base, "Plur"): verb.third for verb in verbs.ALL_VERBS},
    **{
        (forms[number], number): forms["Plur" if number == "Sing" else "Sing"]
        for tenses in verbs.AUXILIARIES.values()
        for forms in tenses.values()
        for number in ("Sing", "Plur")
        if forms["Sing"] != forms["Plur"]
    },
}


def _other_number(verb: Word) -> str | None:
    """The form for a subject of the other number; None if the form is the same or the word is not finite."""
    number = verb.feature("Number")
    if number is None or verb.feature("VerbForm") != "Fin":
        return None
    if verb.upos == "VERB" and verb.feature("Tense") != "Pres":
        return None
    return _OTHER_NUMBER.get((verb.form, number))


def _reflexives(sentence: Sentence) -> Iterator[tuple[str, Word, str]]:
    for word in sentence.words:
        if word.feature("Reflex") == "Yes":
            subject = next((w for w in sentence.words if w.head == word.head and w.deprel == "nsubj"), None)
            if subject is None or subject.number > word.number:
                continue
            if word.feature("Number") == "Plur":
                yield "reflexive", word, "itself"
            else:
                yield "reflexive", word, "themselves"
                if _lexical_gender(subject) in ("Masc", "Fem"):
                    yield "reflexive", word, "herself" if word.form == "himself" else "himself"


def _lexical_gender(word: Word) -> str | None:
    """The gender that a noun or name has by itself (None: doctor)."""
    return _GENDERS.get(word.lemma)


_GENDERS: dict[str, str | None] = {
    **{noun.singular: noun.gender for nouns in lexicon.NOUNS.values() for noun in nouns},
    **{name: gender for gender, names in lexicon.NAMES.items() for name in names},
}


def _pronouns(document: Document, index: int) -> Iterator[tuple[str, Word, str]]:
    """Subject and object pronouns of later sentences, with one that nothing in the document could be."""
    sentence = document.sentences[index]
    heads = {mention.head for mention in sentence.mentions}
    for word in sentence.words if index else ():
        case = word.feature("Case")
        if word.number not in heads or word.feature("Reflex") or word.upos != "PRON" or case not in ("Nom", "Acc"):
            continue
        for pronoun in lexicon.PERSONAL_PRONOUNS:
            if not any(_could_be(entity, pronoun) for entity in document.entities):
                bad = pronoun.nominative if case == "Nom" else pronoun.accusative
                yield "pronoun", word, bad.capitalize() if word.form[0].isupper() else bad
                break


def _could_be(entity: Entity, pronoun: lexicon.Pronoun) -> bool:
    """Whether the pronoun fits the entity as far as its noun says: a doctor may be "he" or "she" whatever the text."""
    if entity.number == "Plur" or entity.kind != "person":
        return entity.agrees(pronoun.number, pronoun.gender)
    unsettled = replace(entity, gender=_GENDERS[entity.lemma])
    return unsettled.agrees(pronoun.number, pronoun.gender)
