"""Dependency trees as the grammar builds them, and the sentences and documents they become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Document", "Entity", "Mention", "Node", "Sentence", "Word"]

# Words that begin with a vowel letter but not a vowel sound, so that they take "a".
_CONSONANT_SOUND = ("uni", "use", "eu", "one")
_SILENT_H = ("hour", "honest", "heir")


@dataclass
class Entity:
    """Someone or something that a document speaks of.

    `gender` is None while either pronoun would do (a doctor); the first pronoun settles it. Plural entities have none.
    """

    index: int
    kind: str
    number: str
    gender: str | None
    lemma: str
    proper: bool = False

    def agrees(self, number: str, gender: str | None) -> bool:
        """Whether a pronoun of this number and gender could refer to the entity."""
        if self.number != number:
            return False
        if number == "Plur":
            return True
        if self.gender is None:
            return gender in ("Masc", "Fem")
        return self.gender == gender


@dataclass
class Node:
    """A word with its dependents; `left` and `right` hold them in the order in which they are read.

    `entity` marks the head of a phrase that mentions an entity: the mention is the noun phrase, without a preposition
    and without what belongs to the clause where the noun is the predicate ("on the table" is a root). In a coordination
    that is the group; `conjunct` is then the entity that the first conjunct mentions by itself.
    """

    form: str
    lemma: str
    upos: str
    deprel: str = "root"
    feats: dict[str, str] = field(default_factory=dict)
    left: list[Node] = field(default_factory=list)
    right: list[Node] = field(default_factory=list)
    space_after: bool = True
    entity: Entity | None = None
    conjunct: Entity | None = None

    def as_(self, deprel: str) -> Node:
        """This node with another relation to its head."""
        self.deprel = deprel
        return self

    def in_order(self) -> Iterator[Node]:
        """The nodes of the subtree as they are read: this is what makes every tree projective."""
        for child in self.left:
            yield from child.in_order()
        yield self
        for child in self.right:
            yield from child.in_order()


@dataclass(frozen=True)
class Word:
    """One word of a sentence; `head` is the 1-based number of its head, 0 for the root."""

    number: int
    form: str
    lemma: str
    upos: str
    feats: tuple[tuple[str, str], ...]
    head: int
    deprel: str
    space_after: bool

    def feature(self, name: str) -> str | None:
        """The value of one morphological feature, or None."""
        return dict(self.feats).get(name)


@dataclass(frozen=True)
class Mention:
    """Words `first` to `last` (1-based, inclusive), headed by word `head`, mention the entity with this index."""

    entity: int
    first: int
    last: int
    head: int


@dataclass(frozen=True)
class Sentence:
    """A sentence with its gold tree and its mentions, outer mentions first."""

    words: tuple[Word, ...]
    mentions: tuple[Mention, ...]

    @property
    def text(self) -> str:
        """The sentence as written, without a trailing space."""
        return "".join(word.form + " " * word.space_after for word in self.words).rstrip()

    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where each word stands in `text`: (first character, one past the last)."""
        spans, start = [], 0
        for word in self.words:
            spans.append((start, start + len(word.form)))
            start += len(word.form) + word.space_after
        return tuple(spans)

    @classmethod
    def from_tree(cls, root: Node) -> Sentence:
        """Read a tree off from left to right: numbers the words, writes "an" and the capital, finds mention spans."""
        nodes = list(root.in_order())
        numbers = {id(node): number for number, node in enumerate(nodes, start=1)}
        heads = {id(child): numbers[id(node)] for node in nodes for child in (*node.left, *node.right)}
        _write_articles(nodes)
        nodes[0].form = nodes[0].form[:1].upper() + nodes[0].form[1:]
        words = tuple(
            Word(
                numbers[id(node)], node.form, node.lemma, node.upos, tuple(sorted(node.feats.items())),
                heads.get(id(node), 0), node.deprel, node.space_after,
            )
            for node in nodes
        )  # fmt: skip
        return cls(words, tuple(_mentions(nodes, numbers)))


@dataclass(frozen=True)
class Document:
    """A short text: its sentences, and the entities that their mentions point to by index."""

    name: str
    sentences: tuple[Sentence, ...]
    entities: tuple[Entity, ...]

    @property
    def text(self) -> str:
        """The sentences, one space between them."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def n_words(self) -> int:
        """Words, punctuation included."""
        return sum(len(sentence.words) for sentence in self.sentences)


def _write_articles(nodes: list[Node]) -> None:
    for node, following in pairwise(nodes):
        if node.form in ("a", "an") and node.upos == "DET":
            node.form = "an" if _starts_with_vowel_sound(following.form.lower()) else "a"


def _starts_with_vowel_sound(form: str) -> bool:
    if form.startswith(_SILENT_H):
        return True
    return form[0] in "aeiou" and not form.startswith(_CONSONANT_SOUND)


# Relations inside a noun phrase; "case" only after the noun ("'s"), for a preposition stays outside the mention.
_INSIDE = frozenset("det nummod amod compound nmod nmod:poss acl:relcl conj".split())


def _mentions(nodes: list[Node], numbers: dict[int, int]) -> list[Mention]:
    found = []
    for node in nodes:
        for entity, relations in ((node.entity, _INSIDE), (node.conjunct, _INSIDE - {"conj"})):
            if entity is not None:
                inside = [numbers[id(part)] for part in _noun_phrase(node, relations)]
                found.append(Mention(entity.index, min(inside), max(inside), numbers[id(node)]))
    return sorted(found, key=lambda mention: (mention.first, -mention.last))


def _noun_phrase(node: Node, relations: frozenset[str]) -> Iterator[Node]:
    yield node
    for child in node.left:
        if child.deprel in relations:
            yield from child.in_order()
    for child in node.right:
        if child.deprel in relations or child.deprel == "case":
            yield from child.in_order()
