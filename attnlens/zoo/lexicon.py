"""The words of the embedded models' grammar: nouns, names, adjectives and the closed classes (verbs: `verbs`).

Words stand in order of frequency: the grammar draws early ones more often, so the late ones are rare enough for a
small subword vocabulary to split them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ADJECTIVES",
    "ADVERBS",
    "CITIES",
    "DETERMINERS",
    "NAMES",
    "NOUNS",
    "NUMERALS",
    "PERSONAL_PRONOUNS",
    "PLACE_PREPOSITIONS",
    "QUANTIFIERS",
    "REFLEXIVES",
    "Noun",
    "Pronoun",
]


@dataclass(frozen=True)
class Noun:
    """A countable noun.

    `kind` is an entity type: "person", "animal", "object" or "place". `gender` is what pronouns must agree with:
    "Masc", "Fem", "Neut", or None for persons of either gender (doctor).
    """

    singular: str
    plural: str
    kind: str
    gender: str | None


@dataclass(frozen=True)
class Pronoun:
    """A third-person pronoun paradigm; `gender` is None in the plural."""

    number: str
    gender: str | None
    nominative: str
    accusative: str
    possessive: str
    reflexive: str


_IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "mouse": "mice", "wolf": "wolves", "knife": "knives",
    "city": "cities", "library": "libraries", "lady": "ladies", "box": "boxes", "church": "churches",
    "witch": "witches", "princess": "princesses", "actress": "actresses", "waitress": "waitresses", "fox": "foxes",
}  # fmt: skip

_MASCULINE = "king boy man father brother uncle prince actor waiter son monk wizard"
_FEMININE = "queen girl woman mother sister aunt princess actress waitress daughter nun witch"
_EITHER = (
    "doctor teacher child student lawyer farmer pilot nurse artist soldier singer writer baker driver "
    "judge guard sailor painter tourist engineer scientist chef"
)
_ANIMALS = "dog cat horse bird fox mouse wolf cow duck rabbit bear lion"
_OBJECTS = (
    "key book table letter box cabinet picture lamp chair map cup hat coat ball ring coin clock door mirror basket "
    "bottle apple knife flower crown orange egg umbrella sword bicycle violin lantern necklace envelope"
)
_PLACES = (
    "house garden room park village kitchen castle school city bridge forest river church market tower "
    "museum library station hill island"
)

_ADJECTIVES_OF_PERSONS = (
    "old young tall happy clever tired sad kind brave rich quiet famous poor hungry strong angry lazy honest calm "
    "elegant generous"
)
_ADJECTIVES_OF_THINGS = (
    "small red old big new green heavy white blue black large broken dark empty wooden bright golden expensive "
    "ancient ugly yellow"
)


def _nouns(words: str, kind: str, gender: str | None) -> tuple[Noun, ...]:
    return tuple(Noun(word, _IRREGULAR_PLURALS.get(word, word + "s"), kind, gender) for word in words.split())


def _interleaved(*groups: tuple[Noun, ...]) -> tuple[Noun, ...]:
    """The first of each group, then the second of each, and so on, so that no group is rarer than another."""
    longest = max(map(len, groups))
    return tuple(group[i] for i in range(longest) for group in groups if i < len(group))


NOUNS: dict[str, tuple[Noun, ...]] = {
    "person": _interleaved(
        _nouns(_MASCULINE, "person", "Masc"), _nouns(_FEMININE, "person", "Fem"), _nouns(_EITHER, "person", None)
    ),
    "animal": _nouns(_ANIMALS, "animal", "Neut"),
    "object": _nouns(_OBJECTS, "object", "Neut"),
    "place": _nouns(_PLACES, "place", "Neut"),
}

NAMES: dict[str, tuple[str, ...]] = {
    "Masc": tuple("Tom John Paul Peter David Max Oscar Henry Martin Victor Benjamin Sebastian".split()),
    "Fem": tuple("Anna Mary Alice Emma Sarah Clara Julia Nora Laura Helen Margaret Isabella".split()),
}

CITIES = tuple("Paris London Rome Berlin Madrid".split())

ADJECTIVES: dict[str, tuple[str, ...]] = {
    "person": tuple(_ADJECTIVES_OF_PERSONS.split()),
    "animal": tuple("small hungry old black brave white clever brown tired lazy".split()),
    "object": tuple(_ADJECTIVES_OF_THINGS.split()),
    "place": tuple("old small big dark quiet new famous large beautiful ancient".split()),
}

# Where an adverb stands: before the verb it modifies, after the verb and its object, or before an adjective.
ADVERBS: dict[str, tuple[str, ...]] = {
    "before": tuple("often never always still rarely usually sometimes".split()),
    "after": tuple("quietly slowly quickly today again happily now loudly carefully gently here badly".split()),
    "degree": tuple("very quite really too".split()),
    "front": tuple("today now then sometimes suddenly".split()),
}

# Determiner -> (numbers it goes with, whether the noun phrase is definite, PronType).
DETERMINERS: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "the": (("Sing", "Plur"), True, "Art"),
    "a": (("Sing",), False, "Art"),
    "this": (("Sing",), True, "Dem"),
    "these": (("Plur",), True, "Dem"),
    "that": (("Sing",), True, "Dem"),
    "those": (("Plur",), True, "Dem"),
    "some": (("Plur",), False, "Ind"),
    "every": (("Sing",), False, "Tot"),
    "each": (("Sing",), False, "Tot"),
}

NUMERALS = tuple("two three four five ten".split())

QUANTIFIERS = tuple("many several few".split())  # adjectives in Universal Dependencies

# Kind of the place -> prepositions that say where something is.
PLACE_PREPOSITIONS: dict[str, tuple[str, ...]] = {
    "place": tuple("in near behind at outside".split()),
    "object": tuple("on near under behind beside above".split()),
    "person": tuple("near behind beside with".split()),
    "animal": tuple("near behind beside with".split()),
}

PERSONAL_PRONOUNS: tuple[Pronoun, ...] = (
    Pronoun("Sing", "Masc", "he", "him", "his", "himself"),
    Pronoun("Sing", "Fem", "she", "her", "her", "herself"),
    Pronoun("Sing", "Neut", "it", "it", "its", "itself"),
    Pronoun("Plur", None, "they", "them", "their", "themselves"),
)

REFLEXIVES = tuple(pronoun.reflexive for pronoun in PERSONAL_PRONOUNS)
