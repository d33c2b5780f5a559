"""Clauses of the grammar: subject, verb group, complements, adjuncts, relative clauses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from attnlens.zoo import lexicon, verbs
from attnlens.zoo.inflection import be, negation, simple_verb, verb_group
from attnlens.zoo.phrases import Phrase, Phrases, adjective_node, pick, pronoun_node
from attnlens.zoo.trees import Entity, Node
from attnlens.zoo.verbs import Verb

__all__ = ["Clauses"]


@dataclass(frozen=True)
class _Subject:
    """What a predicate needs to know of its subject. `entities` is empty where no reflexive may refer to it."""

    node: Node
    number: str
    kind: str
    entities: tuple[Entity, ...] = ()


_FRAMES = (
    ("transitive", 0.36), ("intransitive", 0.20), ("adjective", 0.11), ("location", 0.07), ("clause", 0.08),
    ("give", 0.06), ("passive", 0.05), ("control", 0.05), ("noun", 0.02),
)  # fmt: skip
_KINDS_OF_SUBJECT = {
    "transitive": ("person", "person", "person", "animal"),
    "intransitive": ("person", "person", "animal", "object"),
    "adjective": ("person", "animal", "object", "object", "place"),
    "location": ("person", "animal", "object", "object"),
    "clause": ("person",),
    "give": ("person",),
    "passive": ("person", "animal", "object"),
    "control": ("person", "person", "animal"),
    "noun": ("person",),
}


class Clauses:
    """Draws clauses for one document, out of `Phrases` and verbs."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.phrases = Phrases(rng, self.relative_clause)

    def main(self) -> Node:
        """A whole sentence with its final punctuation."""
        self.phrases.discourse.begin_sentence()
        question = self.phrases.chance(0.05)
        if not question and self.phrases.chance(0.04):
            root = self._existential()
        else:
            fronted = [] if question else self._fronted()
            root = self.clause(depth=0, question=question)
            root.left[:0] = fronted
        mark = "?" if question else "."
        _last(root).space_after = False
        root.right.append(Node(mark, mark, "PUNCT", "punct"))
        return root

    def clause(self, *, depth: int, question: bool = False) -> Node:
        """A finite clause with its own subject, without final punctuation."""
        frame = self._frame(depth=depth, question=question)
        kinds = tuple(dict.fromkeys((self.rng.choice(_KINDS_OF_SUBJECT[frame]),)))
        role = "nsubj:pass" if frame == "passive" else "nsubj"
        phrase = self.phrases.noun_phrase(kinds, role, depth=depth, subject=True)
        subject = _Subject(phrase.node, phrase.number, kinds[0], phrase.entities)
        with self._coarguments(phrase.entities):
            root = self._predicate(frame, subject, depth=depth, question=question)
        if not question and depth == 0 and self.phrases.chance(0.06):
            root.right.append(self._adverbial_clause())
        return root

    def relative_clause(self, head: Phrase, kind: str) -> Node:
        """A clause about `head`, which is its subject, or (kinds permitting) its object."""
        if self.phrases.chance(0.5):
            return self._object_relative(head, kind)
        word = "who" if kind == "person" and self.phrases.chance(0.4) else "that"
        subject = _Subject(_relative_pronoun(word, "nsubj"), head.number, kind)
        frame = "intransitive" if kind == "object" else self.rng.choice(("transitive", "transitive", "intransitive"))
        with self._coarguments(()):
            return self._predicate(frame, subject, depth=2).as_("acl:relcl")

    def _object_relative(self, head: Phrase, kind: str) -> Node:
        who = "animal" if self.phrases.chance(0.15) else "person"
        verb = self._verb(verbs.TRANSITIVE, who, kind)
        with self._coarguments(()):
            subject = self.phrases.noun_phrase((who,), "nsubj", depth=2, subject=True)
        group = verb_group(self.rng, verb, subject.number)
        linker = [] if self.phrases.chance(0.2) else [_relative_pronoun("that", "obj")]
        group.verb.left.extend([*linker, subject.node, *group.auxiliaries])
        return group.verb.as_("acl:relcl")

    def _frame(self, *, depth: int, question: bool) -> str:
        """A frame that fits: no clause inside a clause inside a clause, only verbs in questions."""
        while True:
            frame = self.rng.choices([name for name, _ in _FRAMES], [weight for _, weight in _FRAMES])[0]
            if frame == "clause" and depth > 0:
                continue
            if question and frame in ("passive", "noun", "clause"):
                continue
            return frame

    def _predicate(self, frame: str, subject: _Subject, *, depth: int, question: bool = False) -> Node:
        if frame in ("adjective", "location", "noun"):
            return self._copular(frame, subject, depth=depth, question=question)
        if frame == "passive":
            return self._passive(subject, depth=depth)
        table = {
            "transitive": verbs.TRANSITIVE, "intransitive": verbs.INTRANSITIVE, "clause": verbs.CLAUSE,
            "give": verbs.GIVE, "control": verbs.CONTROL,
        }[frame]  # fmt: skip
        verb = self._verb(table, subject.kind)
        group = verb_group(self.rng, verb, subject.number, auxiliary_first=question)
        negated = any(node.form == "not" for node in group.auxiliaries)
        adverb = self._adverb("before", "advmod") if not negated and self.phrases.chance(0.18) else None
        ordered = (
            [*group.auxiliaries[:1], subject.node, *group.auxiliaries[1:]]
            if question
            else [subject.node, *group.auxiliaries]
        )
        root = group.verb
        root.left.extend([*ordered, *([adverb] if adverb else [])])
        self._complements(root, frame, verb, subject, depth=depth)
        if group.simple and depth == 0 and frame in ("transitive", "intransitive") and self.phrases.chance(0.08):
            root.right.append(self._second_verb(subject, group.tense))
        return root

    def _complements(self, root: Node, frame: str, verb: Verb, subject: _Subject, *, depth: int) -> None:
        if frame == "transitive":
            root.right.append(self._object(verb, subject, depth=depth))
        elif frame == "give":
            root.right.append(self.phrases.noun_phrase(("person",), "iobj", depth=depth + 1).node)
            root.right.append(self.phrases.noun_phrase(("object",), "obj", depth=depth + 1).node)
        elif frame == "control":
            root.right.append(self._infinitive(subject, depth=depth))
        elif frame == "clause":
            root.right.append(self._that_clause())
        if frame != "clause":
            self._adjuncts(root, likely=0.5 if frame == "intransitive" else 0.2, depth=depth)

    def _object(self, verb: Verb, subject: _Subject, *, depth: int) -> Node:
        if subject.entities and set(verb.objects) & {"person", "animal"} and self.phrases.chance(0.13):
            reflexive = self._reflexive(subject)
            if reflexive is not None:
                return reflexive.as_("obj")
        kinds = tuple(kind for kind in verb.objects if kind != "place") or verb.objects
        return self.phrases.noun_phrase(kinds, "obj", depth=depth + 1).node

    def _reflexive(self, subject: _Subject) -> Node | None:
        entity = subject.entities[0]
        fitting = [pronoun for pronoun in lexicon.PERSONAL_PRONOUNS if entity.agrees(pronoun.number, pronoun.gender)]
        if subject.kind not in ("person", "animal"):
            return None
        pronoun = self.rng.choice(fitting)
        self.phrases.discourse.refer(entity, pronoun)
        return pronoun_node(pronoun, "Refl", entity)

    def _adjuncts(self, root: Node, *, likely: float, depth: int) -> None:
        if self.phrases.chance(likely * 0.5):
            root.right.append(self._adverb("after", "advmod"))
        if depth < 2 and self.phrases.chance(likely):
            root.right.append(self.phrases.place(depth=depth + 1))
            if self.phrases.chance(0.12):
                root.right.append(self.phrases.place(depth=2, full=True))

    def _infinitive(self, subject: _Subject, *, depth: int) -> Node:
        transitive = self.phrases.chance(0.6)
        verb = self._verb(verbs.TRANSITIVE if transitive else verbs.INTRANSITIVE, subject.kind)
        node = Node(verb.base, verb.base, "VERB", "xcomp", {"VerbForm": "Inf"})
        node.left.append(Node("to", "to", "PART", "mark"))
        if transitive:
            node.right.append(self._object(verb, subject, depth=depth))
        return node

    def _that_clause(self) -> Node:
        with self._coarguments(()):
            node = self.clause(depth=1).as_("ccomp")
        if self.phrases.chance(0.75):
            node.left.insert(0, Node("that", "that", "SCONJ", "mark"))
        return node

    def _adverbial_clause(self) -> Node:
        word = self.rng.choice(("because", "when", "while", "if"))
        with self._coarguments(()):
            node = self.clause(depth=2).as_("advcl")
        node.left.insert(0, Node(word, word, "SCONJ", "mark"))
        return node

    def _second_verb(self, subject: _Subject, tense: str) -> Node:
        transitive = self.phrases.chance(0.6) and subject.kind != "object"
        verb = self._verb(verbs.TRANSITIVE if transitive else verbs.INTRANSITIVE, subject.kind)
        node = simple_verb(verb, subject.number, tense).as_("conj")
        word = "but" if self.phrases.chance(0.15) else "and"
        node.left.append(Node(word, word, "CCONJ", "cc"))
        if transitive:
            node.right.append(self._object(verb, subject, depth=2))
        return node

    def _copular(self, frame: str, subject: _Subject, *, depth: int, question: bool) -> Node:
        copula = be(self.rng, subject.number, "cop")
        root = self._nominal_predicate(frame, subject, depth=depth)
        between = [negation()] if not question and self.phrases.chance(0.08) else []
        if frame != "noun" and not between and self.phrases.chance(0.12):
            between.append(self._adverb("before", "advmod"))
        start = [copula, subject.node] if question else [subject.node, copula]
        root.left[:0] = [*start, *between]
        return root

    def _nominal_predicate(self, frame: str, subject: _Subject, *, depth: int) -> Node:
        if frame == "location":
            return self.phrases.place(depth=depth + 1).as_("root")
        if frame == "noun":
            noun = pick(self.rng, [noun for noun in lexicon.NOUNS["person"] if noun.gender is None])
            form, feats = (noun.singular, "Sing") if subject.number == "Sing" else (noun.plural, "Plur")
            node = Node(form, noun.singular, "NOUN", "root", {"Number": feats})
            if subject.number == "Sing":
                node.left.append(Node("a", "a", "DET", "det", {"Definite": "Ind", "PronType": "Art"}))
            return node
        root = adjective_node(pick(self.rng, lexicon.ADJECTIVES[subject.kind]), "root")
        if self.phrases.chance(0.3):
            root.left.append(self.phrases.degree())
        if self.phrases.chance(0.12):
            others = [word for word in lexicon.ADJECTIVES[subject.kind] if word != root.form]
            second = adjective_node(pick(self.rng, others), "conj")
            second.left.append(Node("and", "and", "CCONJ", "cc"))
            root.right.append(second)
        return root

    def _passive(self, subject: _Subject, *, depth: int) -> Node:
        verb = pick(self.rng, [verb for verb in verbs.TRANSITIVE if subject.kind in verb.objects])
        root = Node(verb.participle, verb.base, "VERB", "root", {"Tense": "Past", "VerbForm": "Part", "Voice": "Pass"})
        root.left.extend([subject.node, be(self.rng, subject.number, "aux:pass")])
        if self.phrases.chance(0.7):
            root.right.append(self.phrases.prepositional("by", ("person",), "obl:agent", depth=depth + 1))
        return root

    def _existential(self) -> Node:
        """A sentence such as "There is a key on the table", whose subject comes after the verb."""
        phrase = self.phrases.indefinite(self.rng.choice(("object", "animal")), "nsubj")
        root = be(self.rng, phrase.number, "root")
        root.upos = "VERB"
        root.left.append(Node("there", "there", "PRON", "expl"))
        root.right.append(phrase.node)
        with self._coarguments(phrase.entities):
            root.right.append(self.phrases.place(depth=1))
        return root

    def _fronted(self) -> list[Node]:
        """Nothing, or an adverb or place before the subject, with its comma."""
        if self.phrases.chance(0.05):
            node = self._adverb("front", "advmod")
        elif self.phrases.chance(0.07):
            node = self.phrases.place(depth=1)
        else:
            return []
        _last(node).space_after = False
        return [node, Node(",", ",", "PUNCT", "punct")]

    def _adverb(self, position: str, deprel: str) -> Node:
        word = pick(self.rng, lexicon.ADVERBS[position])
        return Node(word, word, "ADV", deprel)

    def _verb(self, table: tuple[Verb, ...], subject: str, obj: str | None = None) -> Verb:
        return pick(
            self.rng, [verb for verb in table if subject in verb.subjects and (obj is None or obj in verb.objects)]
        )

    @contextmanager
    def _coarguments(self, entities: tuple[Entity, ...]) -> Iterator[None]:
        """While the block runs, only a reflexive may mean one of `entities` (binding principle B)."""
        outer, self.phrases.coarguments = self.phrases.coarguments, list(entities)
        yield
        self.phrases.coarguments = outer


def _relative_pronoun(word: str, deprel: str) -> Node:
    return Node(word, word, "PRON", deprel, {"PronType": "Rel"})


def _last(node: Node) -> Node:
    """The last word of the subtree."""
    *_, last = node.in_order()
    return last
