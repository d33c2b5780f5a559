"""Noun phrases and prepositional phrases of the grammar, with the entities that they introduce or mention again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from attnlens.zoo import lexicon
from attnlens.zoo.discourse import Discourse
from attnlens.zoo.lexicon import Noun, Pronoun
from attnlens.zoo.trees import Entity, Node

__all__ = ["Phrase", "Phrases", "pick"]

T = TypeVar("T")


def pick(rng: random.Random, choices: Sequence[T]) -> T:
    """One of `choices`, early ones more often: weight 1 / (rank + 3)."""
    return rng.choices(choices, [1 / (rank + 3) for rank in range(len(choices))])[0]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase: its head node, and what it mentions (a coordination: the group, then its members)."""

    node: Node
    number: str
    entities: tuple[Entity, ...]


# Kind of the head noun -> (preposition, kinds of the noun after it).
_MODIFIERS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "person": (("near", ("person", "animal", "object")), ("with", ("object", "animal")), ("from", ("place",)),
               ("behind", ("person", "object", "place")), ("in", ("place",)), ("beside", ("person", "animal"))),
    "animal": (("near", ("person", "animal", "object")), ("behind", ("person", "object")), ("of", ("person",)),
               ("in", ("place",))),
    "object": (("of", ("person", "object", "place")), ("to", ("object", "place")), ("from", ("person", "place")),
               ("on", ("object",)), ("for", ("person",)), ("near", ("object", "person")), ("under", ("object",))),
    "place": (("of", ("person",)), ("near", ("place",)), ("behind", ("place",))),
}  # fmt: skip


class Phrases:
    """Draws noun phrases for one document; knows what the document has mentioned.

    `relative_clause` is called with the head's phrase and makes a clause about it (it needs verbs, which live in
    `attnlens.zoo.clauses`).
    """

    def __init__(self, rng: random.Random, relative_clause: Callable[[Phrase, str], Node]) -> None:
        self.rng = rng
        self.discourse = Discourse()
        self.enclosing: list[Entity] = []  # phrases being built: no pronoun inside one may mean it
        self.coarguments: list[Entity] = []  # subject of the clause being built: only a reflexive may mean it
        self._relative_clause = relative_clause

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def noun_phrase(
        self, kinds: tuple[str, ...], deprel: str, *, depth: int, subject: bool = False, full: bool = False
    ) -> Phrase:
        """A noun phrase of one of `kinds`: a pronoun (unless it must be `full`), a re-mention, a coordination or new.

        `depth` counts the phrases around this one: from 2 on there are no modifiers.
        """
        barred = (*self.enclosing, *self.coarguments)
        offers = [] if full else self.discourse.pronominal(kinds, barred)
        if offers and self.chance(0.7):
            return self._pronoun(*self.rng.choice(offers), deprel, subject=subject)
        known = [entity for entity in self.discourse.nameable(kinds) if entity not in barred]
        if known and self.chance(0.5):
            return self._mention_again(self.rng.choice(known), deprel)
        kind = self.rng.choice(kinds)
        if kind in ("person", "animal") and depth < 2 and self.chance(0.08):
            return self._coordination(kind, deprel)
        return self._new(kind, deprel, depth=depth)

    def prepositional(
        self, preposition: str, kinds: tuple[str, ...], deprel: str, *, depth: int, full: bool = False
    ) -> Node:
        """A noun phrase with its preposition."""
        phrase = self.noun_phrase(kinds, deprel, depth=depth, full=full)
        phrase.node.left.insert(0, Node(preposition, preposition, "ADP", "case"))
        return phrase.node

    def place(self, *, depth: int, full: bool = False) -> Node:
        """Where something happens, or near what: an oblique such as "in the garden"."""
        kind = self.rng.choice(("place", "place", "object", "person"))
        return self.prepositional(
            pick(self.rng, lexicon.PLACE_PREPOSITIONS[kind]), (kind,), "obl", depth=depth, full=full
        )

    def indefinite(self, kind: str, deprel: str) -> Phrase:
        """Something new, as "a key" or "two keys"."""
        number = self.rng.choice(("Sing", "Plur"))
        noun = self._unused(lexicon.NOUNS[kind])
        entity = self.discourse.introduce(kind, number, noun.gender, noun.singular)
        node = _noun_node(noun, number, deprel, entity)
        if number == "Sing":
            node.left.append(_determiner_node("a", number))
        else:
            numeral = pick(self.rng, lexicon.NUMERALS)
            node.left.append(Node(numeral, numeral, "NUM", "nummod", {"NumType": "Card"}))
        node.left.extend(self._adjectives(kind, depth=1))
        return Phrase(node, number, (entity,))

    def _pronoun(self, entity: Entity, pronoun: Pronoun, deprel: str, *, subject: bool) -> Phrase:
        self.discourse.refer(entity, pronoun)
        node = pronoun_node(pronoun, "Nom" if subject else "Acc", entity)
        return Phrase(node.as_(deprel), entity.number, (entity,))

    def _mention_again(self, entity: Entity, deprel: str) -> Phrase:
        self.discourse.mention(entity)
        if entity.proper:
            return Phrase(_name_node(entity.lemma, deprel, entity), "Sing", (entity,))
        noun = next(noun for noun in lexicon.NOUNS[entity.kind] if noun.singular == entity.lemma)
        node = _noun_node(noun, entity.number, deprel, entity)
        node.left.append(_determiner_node("the", entity.number))
        return Phrase(node, entity.number, (entity,))

    def _coordination(self, kind: str, deprel: str) -> Phrase:
        first = self._new(kind, deprel, depth=2)
        second = self._new(kind, "conj", depth=2)
        group = self.discourse.introduce(kind, "Plur", None, "")
        second.node.left.insert(0, Node("and", "and", "CCONJ", "cc"))
        first.node.right.append(second.node)
        first.node.conjunct, first.node.entity = first.node.entity, group
        return Phrase(first.node, "Plur", (group, *first.entities, *second.entities))

    def _new(self, kind: str, deprel: str, *, depth: int) -> Phrase:
        if kind == "person" and self.chance(0.2):
            return self._name(deprel)
        if kind == "place" and self.chance(0.1):
            return self._city(deprel)
        number = "Plur" if self.chance(0.42) else "Sing"
        before = self._before_noun(kind, number, depth=depth)  # may introduce a possessor: it is read first
        noun = self._unused(lexicon.NOUNS[kind])
        entity = self.discourse.introduce(kind, number, noun.gender, noun.singular)
        node = _noun_node(noun, number, deprel, entity)
        node.left.extend(before)
        phrase = Phrase(node, number, (entity,))
        if depth < 2:
            self._modify(phrase, kind, depth=depth)
        return phrase

    def _name(self, deprel: str) -> Phrase:
        gender = self.rng.choice(("Masc", "Fem"))
        unused = [name for name in lexicon.NAMES[gender] if not self.discourse.knows(name)]
        entity = self.discourse.introduce("person", "Sing", gender, pick(self.rng, unused), proper=True)
        return Phrase(_name_node(entity.lemma, deprel, entity), "Sing", (entity,))

    def _city(self, deprel: str) -> Phrase:
        unused = [name for name in lexicon.CITIES if not self.discourse.knows(name)]
        entity = self.discourse.introduce("place", "Sing", "Neut", pick(self.rng, unused), proper=True)
        return Phrase(_name_node(entity.lemma, deprel, entity), "Sing", (entity,))

    def _unused(self, nouns: tuple[Noun, ...]) -> Noun:
        return pick(self.rng, [noun for noun in nouns if not self.discourse.knows(noun.singular)])

    def _before_noun(self, kind: str, number: str, *, depth: int) -> list[Node]:
        """Determiner or possessor, numeral, adjectives, and now and then a noun ("garden gate")."""
        nodes = [node for node in (self._determiner(kind, number, depth=depth),) if node is not None]
        likely = 0.5 if not nodes else 0.15
        counted = number == "Plur" and not (nodes and nodes[0].form == "some")
        if counted and self.chance(likely):
            numeral = pick(self.rng, lexicon.NUMERALS)
            nodes.append(Node(numeral, numeral, "NUM", "nummod", {"NumType": "Card"}))
        elif not nodes:
            quantifier = pick(self.rng, lexicon.QUANTIFIERS)
            nodes.append(Node(quantifier, quantifier, "ADJ", "amod", {"Degree": "Pos"}))
        nodes.extend(self._adjectives(kind, depth=depth))
        if kind == "object" and self.chance(0.08):
            room = self.rng.choice(("kitchen", "garden", "school", "library", "church"))
            nodes.append(Node(room, room, "NOUN", "compound", {"Number": "Sing"}))
        return nodes

    def _determiner(self, kind: str, number: str, *, depth: int) -> Node | None:
        """A determiner or a possessor; None where a quantifier will do."""
        if kind != "place" and self.chance(0.18):
            owner = self._possessor(depth=depth)
            if owner is not None:
                return owner
        if number == "Plur" and self.chance(0.1):
            return None
        if self.chance(0.6):
            return _determiner_node("the", number)
        fitting = [form for form, (numbers, *_) in lexicon.DETERMINERS.items() if number in numbers]
        return _determiner_node(pick(self.rng, fitting), number)

    def _possessor(self, *, depth: int) -> Node | None:
        offers = self.discourse.pronominal(("person", "animal"), tuple(self.enclosing))
        if offers and self.chance(0.8):
            entity, pronoun = self.rng.choice(offers)
            self.discourse.refer(entity, pronoun)
            return pronoun_node(pronoun, "Gen", entity).as_("nmod:poss")
        if depth >= 2:
            return None
        owner = self._new("person", "nmod:poss", depth=2)
        owner.node.space_after = False
        plural_s = owner.node.form.endswith("s") and owner.number == "Plur"
        owner.node.right.append(Node("'" if plural_s else "'s", "'s", "PART", "case"))
        return owner.node

    def _adjectives(self, kind: str, *, depth: int) -> list[Node]:
        count = self.rng.choices((0, 1, 2), (0.55, 0.27, 0.18) if depth == 0 else (0.75, 0.20, 0.05))[0]
        drawn: list[str] = []
        while len(drawn) < count:
            adjective = pick(self.rng, lexicon.ADJECTIVES[kind])
            if adjective not in drawn:
                drawn.append(adjective)
        nodes = [adjective_node(adjective, "amod") for adjective in drawn]
        if nodes and self.chance(0.15):
            nodes[0].left.append(self.degree())
        return nodes

    def degree(self) -> Node:
        """An adverb of degree ("very")."""
        word = pick(self.rng, lexicon.ADVERBS["degree"])
        return Node(word, word, "ADV", "advmod")

    def _modify(self, phrase: Phrase, kind: str, *, depth: int) -> None:
        """Prepositional phrases and a relative clause after the noun."""
        self.enclosing.append(phrase.entities[0])
        likely = 0.38 if depth == 0 else 0.12
        if self.chance(likely):
            phrase.node.right.append(self._attribute(kind, depth=depth + 1))
            if depth == 0 and self.chance(0.15):
                phrase.node.right.append(self._attribute(kind, depth=depth + 2))
        if kind in ("person", "animal", "object") and self.chance(0.25 if depth == 0 else 0.06):
            phrase.node.right.append(self._relative_clause(phrase, kind))
        self.enclosing.pop()

    def _attribute(self, kind: str, *, depth: int) -> Node:
        preposition, kinds = pick(self.rng, _MODIFIERS[kind])
        return self.prepositional(preposition, kinds, "nmod", depth=depth, full=True)


def pronoun_node(pronoun: Pronoun, case: str, entity: Entity) -> Node:
    """A personal ("Nom", "Acc"), possessive ("Gen") or reflexive ("Refl") pronoun that mentions `entity`."""
    form = {
        "Nom": pronoun.nominative,
        "Acc": pronoun.accusative,
        "Gen": pronoun.possessive,
        "Refl": pronoun.reflexive,
    }[case]
    feats = {"Number": pronoun.number, "Person": "3", "PronType": "Prs"}
    if pronoun.gender:
        feats["Gender"] = pronoun.gender
    if case == "Refl":
        feats |= {"Case": "Acc", "Reflex": "Yes"}
    else:
        feats["Case"] = case
    if case == "Gen":
        feats["Poss"] = "Yes"
    return Node(form, form if case == "Refl" else pronoun.nominative, "PRON", "dep", feats, entity=entity)


def adjective_node(adjective: str, deprel: str) -> Node:
    """An adjective."""
    return Node(adjective, adjective, "ADJ", deprel, {"Degree": "Pos"})


def _noun_node(noun: Noun, number: str, deprel: str, entity: Entity) -> Node:
    form = noun.singular if number == "Sing" else noun.plural
    return Node(form, noun.singular, "NOUN", deprel, {"Number": number}, entity=entity)


def _name_node(name: str, deprel: str, entity: Entity) -> Node:
    return Node(name, name, "PROPN", deprel, {"Number": "Sing"}, entity=entity)


def _determiner_node(form: str, number: str) -> Node:
    _, definite, kind = lexicon.DETERMINERS[form]
    feats = {"PronType": kind}
    if kind == "Art":
        feats["Definite"] = "Def" if definite else "Ind"
    if kind == "Dem":
        feats["Number"] = number
    lemma = {"these": "this", "those": "that"}.get(form, form)
    return Node(form, lemma, "DET", "det", feats)
