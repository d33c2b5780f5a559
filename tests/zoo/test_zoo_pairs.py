from collections import Counter

import pytest

from attnlens.zoo.pairs import KINDS, minimal_pairs
from attnlens.zoo.trees import Document, Entity, Node, Sentence


def sentence_about_keys() -> Sentence:
    """ "The keys to the cabinet are old.", built by hand."""
    keys = Entity(0, "object", "Plur", None, "key")
    cabinet = Entity(1, "object", "Sing", "Neut", "cabinet")
    inner = Node("cabinet", "cabinet", "NOUN", "nmod", {"Number": "Sing"}, entity=cabinet)
    inner.left = [Node("to", "to", "ADP", "case"), Node("the", "the", "DET", "det")]
    subject = Node("keys", "key", "NOUN", "nsubj", {"Number": "Plur"}, entity=keys)
    subject.left, subject.right = [Node("the", "the", "DET", "det")], [inner]
    feats = {"Number": "Plur", "Tense": "Pres", "VerbForm": "Fin"}
    root = Node("old", "old", "ADJ", space_after=False)
    root.left, root.right = [subject, Node("are", "be", "AUX", "cop", feats)], [Node(".", ".", "PUNCT", "punct")]
    return Sentence.from_tree(root)


def test_the_keys_to_the_cabinet_are():
    document = Document("d", (sentence_about_keys(),), ())

    (pair,) = minimal_pairs([document])

    assert (pair.kind, pair.good, pair.bad) == ("agreement with attractors", "are", "is")
    assert (pair.before, pair.after) == ("The keys to the cabinet ", " old.")


@pytest.fixture(scope="module")
def pairs(drawn):
    return list(minimal_pairs(drawn))


def test_pairs_differ_in_one_word_and_begin_as_the_document_does(drawn, pairs):
    texts = "\n".join(document.text for document in drawn)

    for pair in pairs:
        assert pair.good != pair.bad
        assert pair.before + pair.good + pair.after in texts


def test_every_kind_is_there(pairs):
    counts = Counter(pair.kind for pair in pairs)

    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 50


def test_wrong_forms_are_words_of_the_same_paradigm(pairs):
    swaps = {frozenset(pair) for pair in (("is", "are"), ("was", "were"), ("has", "have"), ("does", "do"))}

    for pair in pairs:
        if pair.kind.startswith("agreement"):
            same_verb = frozenset((pair.good, pair.bad)) in swaps or pair.good[:2] == pair.bad[:2]
            assert same_verb, (pair.good, pair.bad)
            assert pair.good.endswith("s") != pair.bad.endswith("s") or frozenset((pair.good, pair.bad)) in swaps
        elif pair.kind == "reflexive":
            assert {pair.good, pair.bad} <= {"himself", "herself", "itself", "themselves"}
