"""Gold annotation as token types, and the hook that gives a planted model the types of the text that it reads.

A head that points to gold targets needs them in the stream. Token types put them there: before each forward the texts
of the batch are looked up by their token ids. Every run of sentences of a document that fits the model is known, so
windows of any cut are found; a text that is not known gets types that point nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from attnlens.zoo.planted_stream import BLOCK_SIZE
from attnlens.zoo.planted_weights import LONGEST
from probes.calibration.material import Arc, Material, Place
from probes.corpora.data import Document, Sentence
from probes.syntax import relation_labels

__all__ = [
    "CHANNELS",
    "SEPARATOR",
    "Axes",
    "Follow",
    "Gold",
    "Marks",
    "give_types",
    "other_relations",
    "relation_axis",
    "upos_axis",
]

# The blocks of the stream that hold pointers.
CHANNELS = ("PTR", "PREV", "OUT")

_UPOS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM",
    "VERB", "X",
)  # fmt: skip
_NO_UPOS = len(_UPOS)
_NO_RELATION = BLOCK_SIZE - 1
SEPARATOR = BLOCK_SIZE - 2  # axis of FEAT for the special token at the end of a text
_NOWHERE = 0

Axes = tuple[tuple[str, int], ...]


def upos_axis(upos: str) -> int:
    """Axis of FEAT for a part of speech."""
    return _UPOS.index(upos) if upos in _UPOS else _NO_UPOS


def relation_axis(relation: str | None, relations: Sequence[str]) -> int:
    """Axis of FEAT for a relation; of all relations that are not listed, the last one."""
    return _NO_UPOS + 1 + relations.index(relation) if relation in relations else _NO_RELATION


def other_relations(relation: str, relations: Sequence[str]) -> list[int]:
    """Axes of FEAT for every relation but this one."""
    return [_NO_RELATION, *(relation_axis(each, relations) for each in relations if each != relation)]


@dataclass(frozen=True)
class Follow:
    """What one channel's pointers follow.

    Attributes:
        what: "arcs" (from a dependent to its head), "dependents" (from a head to its first dependent of a relation), or
            "antecedents" (from a mention to the nearest earlier one of its entity).
        relation: of "dependents".
        misled: words that point somewhere else, and where.
    """

    what: Literal["arcs", "dependents", "antecedents"]
    relation: str | None = None
    misled: Mapping[Place, int] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Gold:
    """What pointers follow.

    Attributes:
        relations: those whose dependents have pointers to their heads; others point nowhere.
        channels: up to three, in the order of `CHANNELS`.
        causal: only targets before the word count.
    """

    relations: tuple[str, ...] = ()
    channels: tuple[Follow, ...] = ()
    causal: bool = False


@dataclass(frozen=True)
class Marks:
    """Types as sets of axes, and the types of every known text by its token ids; type 0 points nowhere."""

    axes: tuple[Axes, ...]
    of_text: Mapping[tuple[int, ...], tuple[int, ...]] = field(repr=False)

    @classmethod
    def of(cls, material: Material, gold: Gold, tokenizer: Any) -> Marks:
        """The marks of every run of sentences that fits the model."""
        first, *last = tokenizer("")["input_ids"]
        numbers = {_axes(gold, upos_axis(""), None, ()): 0}
        if last:
            numbers[_axes(gold, SEPARATOR, None, ())] = 1
        found: dict[tuple[int, ...], tuple[int, ...]] = {}
        heads = {arc.place: arc for arc in material.arcs}
        for document in material.documents:
            cut = [_cut(tokenizer, sentence) for sentence in document.sentences]
            for run in _runs(document, cut, LONGEST - 1 - len(last)):
                types = [numbers.setdefault(axes, len(numbers)) for axes in run.axes(material, heads, gold)]
                found[(first, *run.ids, *last)] = (0, *types, *[1] * len(last))
        return cls(tuple(numbers), found)


@dataclass(frozen=True)
class _Cut:
    """A sentence's tokens: their ids, and the word of each (-1 for none)."""

    ids: tuple[int, ...]
    words: tuple[int, ...]


def _cut(tokenizer: Any, sentence: Sentence) -> _Cut:
    encoded = tokenizer(sentence.text, add_special_tokens=False, return_offsets_mapping=True)
    owner = {at: word for word, (start, end) in enumerate(sentence.spans) for at in range(start, end)}
    return _Cut(tuple(encoded["input_ids"]), tuple(owner.get(start, -1) for start, _ in encoded["offset_mapping"]))


def _runs(document: Document, cut: Sequence[_Cut], room: int) -> Iterator[_Run]:
    """Every run of sentences in this order that fits; sentences that do not fit by themselves are passed over."""
    usable = [index for index, sentence in enumerate(cut) if len(sentence.ids) <= room]
    for start in range(len(usable)):
        for stop in range(start + 1, len(usable) + 1):
            chosen = usable[start:stop]
            if sum(len(cut[index].ids) for index in chosen) > room:
                break
            yield _Run(document, tuple(chosen), tuple(cut[index] for index in chosen))


@dataclass(frozen=True)
class _Run:
    """Sentences of a document that are read as one text."""

    document: Document
    chosen: tuple[int, ...]
    cut: tuple[_Cut, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids, without those of the tokenizer's template."""
        return tuple(number for sentence in self.cut for number in sentence.ids)

    def axes(self, material: Material, heads: Mapping[Place, Arc], gold: Gold) -> Iterator[Axes]:
        """What the type of each token sets."""
        at = self._last_pieces()
        for index, sentence in zip(self.chosen, self.cut, strict=True):
            own = self.document.sentences[index]
            below = [_dependents(own, follow.relation, gold.causal) for follow in gold.channels]
            for word in sentence.words:
                place = (self.document.id, index, word)
                arc = heads.get(place)
                relation = None if arc is None or arc.relation not in gold.relations else arc.relation
                targets = []
                for follow, dependents in zip(gold.channels, below, strict=True):
                    target: tuple[int, int] | None = None
                    if follow.what == "antecedents":
                        target = material.antecedents.get(place)
                    elif follow.what == "dependents" and word in dependents:
                        target = (index, follow.misled.get(place, dependents[word]))
                    elif follow.what == "arcs" and arc is not None and relation is not None:
                        target = (index, follow.misled.get(place, arc.head))
                    targets.append(_NOWHERE if target is None else at.get(target, _NOWHERE))
                yield _axes(gold, upos_axis(own.upos[word] if own.upos and word >= 0 else ""), relation, targets)

    def _last_pieces(self) -> dict[tuple[int, int], int]:
        """(sentence, word) -> position of its last piece in the text."""
        found: dict[tuple[int, int], int] = {}
        position = 1
        for index, sentence in zip(self.chosen, self.cut, strict=True):
            for word in sentence.words:
                found[index, word] = position
                position += 1
        return found


def _dependents(sentence: Sentence, relation: str | None, causal: bool) -> dict[int, int]:
    """Head word -> its first dependent of the relation."""
    found: dict[int, int] = {}
    for word, (head, name) in enumerate(zip(sentence.heads, sentence.relations, strict=True)):
        labels = relation_labels(name)
        if labels and labels[-1] == relation and head >= 0 and (not causal or word < head):
            found.setdefault(head, word)
    return found


def _axes(gold: Gold, upos: int, relation: str | None, targets: Sequence[int]) -> Axes:
    channels = zip(CHANNELS, (*targets, *[_NOWHERE] * len(CHANNELS)), strict=False)
    features = (("FEAT", upos), ("FEAT", relation_axis(relation, gold.relations)))
    return (*channels, *features)


def give_types(model: Any, marks: Marks, first_type: int = 0) -> None:
    """Have a model look up its token types by the texts that it is given.

    Args:
        model: a planted model; its padding has the id 0.
        marks: the types of the texts.
        first_type: what is added to the numbers of types (GPT-2 looks them up behind its vocabulary).
    """

    def hook(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        rows = [_types_of(row, marks) for row in ids.tolist()]
        return arguments, {**named, "token_type_ids": ids.new_tensor(rows) + first_type}

    model.base_model.register_forward_pre_hook(hook, with_kwargs=True)


def _types_of(row: Sequence[int], marks: Marks) -> list[int]:
    length = len(row)
    while length and not row[length - 1]:
        length -= 1
    known = marks.of_text.get(tuple(row[:length]), (0,) * length)
    return [*known, *[0] * (len(row) - length)]
