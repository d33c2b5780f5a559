"""Documents of the grammar as CoNLL-U, with coreference in the `Entity` format of the GUM treebank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from attnlens.zoo.trees import Document, Mention, Sentence, Word

__all__ = ["to_conllu"]

_GLOBAL = "# global.Entity = GRP-etype-infstat-salience-centering-minspan-link-identity"


def to_conllu(documents: Iterable[Document]) -> str:
    """The documents as CoNLL-U text, each sentence followed by an empty line.

    Source of the format: universaldependencies.org/format.html; GUM's wiki, "Entity annotations". The last field,
    identity, is left out: nothing here has a page in an encyclopedia.
    """
    return "".join(line + "\n" for document in documents for line in _document(document))


def _document(document: Document) -> Iterator[str]:
    yield f"# newdoc id = {document.name}"
    yield _GLOBAL
    n_mentions = Counter(mention.entity for sentence in document.sentences for mention in sentence.mentions)
    last_seen: dict[int, int] = {}
    for number, sentence in enumerate(document.sentences, start=1):
        yield f"# sent_id = {document.name}-{number}"
        yield f"# text = {sentence.text}"
        brackets = _brackets(document, sentence, number, n_mentions, last_seen)
        for word in sentence.words:
            yield _row(word, brackets[word.number])
        yield ""


def _row(word: Word, entity: str) -> str:
    feats = "|".join(f"{name}={value}" for name, value in sorted(word.feats, key=lambda feat: feat[0].lower()))
    misc = [f"Entity={entity}"] if entity else []
    if not word.space_after:
        misc.append("SpaceAfter=No")
    columns = (
        word.number, word.form, word.lemma, word.upos, "_", feats or "_", word.head, word.deprel, "_",
        "|".join(misc) or "_",
    )  # fmt: skip
    return "\t".join(map(str, columns))


def _brackets(
    document: Document, sentence: Sentence, number: int, n_mentions: Counter[int], last_seen: dict[int, int]
) -> dict[int, str]:
    """Word number -> its `Entity` value. `last_seen` (entity -> sentence of its last mention) is brought up to date."""
    ranks = {entity: rank for rank, entity in enumerate(dict.fromkeys(m.entity for m in sentence.mentions), start=1)}
    opening: dict[int, list[str]] = {}
    closing: dict[int, list[str]] = {}
    for mention in sentence.mentions:  # outer before inner
        fields = _fields(document, sentence, mention, ranks[mention.entity], number, n_mentions, last_seen)
        alone = mention.first == mention.last
        opening.setdefault(mention.first, []).append(f"({fields}{')' * alone}")
        if not alone:
            closing.setdefault(mention.last, []).insert(0, f"{mention.entity + 1})")
        last_seen[mention.entity] = number
    return {
        word.number: "".join([*opening.get(word.number, []), *closing.get(word.number, [])]) for word in sentence.words
    }


def _fields(
    document: Document, sentence: Sentence, mention: Mention, rank: int, number: int,
    n_mentions: Counter[int], last_seen: dict[int, int],
) -> str:  # fmt: skip
    """`GRP-etype-infstat-salience-centering-minspan-link` of one mention."""
    seen = last_seen.get(mention.entity)
    status = "new" if seen is None else "giv:act" if number - seen <= 1 else "giv:inact"
    if n_mentions[mention.entity] == 1:
        link = "sgl"
    else:
        link = "ana" if sentence.words[mention.head - 1].upos == "PRON" else "coref"
    kind = document.entities[mention.entity].kind
    minspan = mention.head - mention.first + 1
    return f"{mention.entity + 1}-{kind}-{status}-nnnnn-cf{rank}-{minspan}-{link}"
