"""The embedded corpus as a file: CoNLL-U by an independent reader, `Entity` by the rules of the GUM treebank."""

import re
import subprocess
import sys

import conllu
import pytest

PIECE = re.compile(r"\(([^()]*)(\))?|([^()]+)\)")


def read_mentions(sentence, fields):
    """Mentions of one sentence as dicts with `first`, `last` (from 0), by a stack per GRP."""
    opened, mentions = {}, []
    for position, token in enumerate(sentence):
        value = (token["misc"] or {}).get("Entity") or ""
        assert PIECE.sub("", value) == "", value
        for found in PIECE.finditer(value):
            if found[3] is not None:
                opened[found[3]].pop()["last"] = position
                continue
            mention = dict(zip(fields, found[1].split("-", 7), strict=False)) | {"first": position}
            mentions.append(mention)
            if found[2]:
                mention["last"] = position
            else:
                opened.setdefault(mention["GRP"], []).append(mention)
    assert not any(opened.values()), "a mention was never closed"
    return mentions


def heads_outside(sentence, mention):
    span = range(mention["first"] + 1, mention["last"] + 2)
    return [number for number in span if sentence[number - 1]["head"] not in span]


@pytest.fixture(scope="module")
def sentences(corpus_text):
    return conllu.parse(corpus_text)


@pytest.fixture(scope="module")
def documents(sentences):
    """Sentences and their mentions, by document."""
    grouped = []
    for sentence in sentences:
        if "newdoc id" in sentence.metadata:
            fields = sentence.metadata["global.Entity"].split("-")
            grouped.append([])
        grouped[-1].append((sentence, read_mentions(sentence, fields)))
    return grouped


def test_size(sentences, documents):
    assert 430 <= len(sentences) <= 530
    assert 240 <= len(documents) <= 280


RECIPE = """
from attnlens.interventions.pairs import grammar_pairs
from attnlens.zoo.conllu import to_conllu
from attnlens.zoo.registry import embedded_corpus
from attnlens.zoo.text import agreement_documents, corpus_documents
assert to_conllu(corpus_documents()) == embedded_corpus().read_text(encoding="utf-8")
asked = " ".join(pair.good for pair in grammar_pairs("agreement with attractors", 100))
assert not [document for document in agreement_documents() if document.sentences[0].text in asked]
print("the same")
"""


def test_file_is_what_the_recipe_writes_and_tests_of_labels_ask_about_other_sentences():
    """In a process without run-time type checks, which would make drawing the text slow."""
    done = subprocess.run([sys.executable, "-c", RECIPE], capture_output=True, text=True, timeout=120)

    assert done.stdout == "the same\n", done.stderr


def test_text_lines_are_rebuilt_from_forms_and_spaces(sentences):
    for sentence in sentences:
        rebuilt = "".join(
            token["form"] + ("" if (token["misc"] or {}).get("SpaceAfter") == "No" else " ") for token in sentence
        )

        assert rebuilt.rstrip() == sentence.metadata["text"]


def test_sentence_ids_are_unique_and_heads_exist(sentences):
    ids = [sentence.metadata["sent_id"] for sentence in sentences]

    assert len(set(ids)) == len(ids)
    for sentence in sentences:
        assert [token["id"] for token in sentence] == list(range(1, len(sentence) + 1))
        assert all(0 <= token["head"] <= len(sentence) != token["id"] - 1 for token in sentence)


def test_each_mention_has_one_head_and_minspan_names_it(documents):
    n = 0
    for document in documents:
        for sentence, mentions in document:
            for mention in mentions:
                heads = heads_outside(sentence, mention)
                assert len(heads) == 1, sentence.metadata["text"]
                assert int(mention["minspan"]) == heads[0] - mention["first"]
                assert sentence[heads[0] - 1]["upos"] in ("NOUN", "PROPN", "PRON")
                n += 1

    assert n > 800


def test_no_mention_begins_with_a_preposition_or_holds_punctuation(documents):
    for document in documents:
        for sentence, mentions in document:
            for mention in mentions:
                words = sentence[mention["first"] : mention["last"] + 1]
                assert words[0]["upos"] != "ADP", sentence.metadata["text"]
                assert all(word["upos"] not in ("PUNCT", "SCONJ") for word in words), sentence.metadata["text"]


def test_links_and_status_tell_first_mentions_from_later_ones(documents):
    for document in documents:
        seen, groups = set(), [mention["GRP"] for _, mentions in document for mention in mentions]
        for sentence, mentions in document:
            for mention in mentions:
                head = sentence[heads_outside(sentence, mention)[0] - 1]
                wanted = "sgl" if groups.count(mention["GRP"]) == 1 else "ana" if head["upos"] == "PRON" else "coref"
                assert mention["link"] == wanted
                assert (mention["infstat"] == "new") == (mention["GRP"] not in seen)
                seen.add(mention["GRP"])


def test_there_are_identical_and_non_identical_antecedents(documents):
    """Coreference that a head could find by matching words, and coreference that it could not."""
    identical = other = 0
    for document in documents:
        forms = {}
        for sentence, mentions in document:
            for mention in mentions:
                form = sentence[heads_outside(sentence, mention)[0] - 1]["form"].lower()
                earlier = forms.setdefault(mention["GRP"], [])
                if earlier:
                    identical, other = identical + (form in earlier), other + (form not in earlier)
                earlier.append(form)

    assert identical >= 80
    assert other >= 120


HELD_OUT = """
from dataclasses import replace
from attnlens.zoo.recipes import RECIPES
from attnlens.zoo.text import corpus_documents, training_texts
corpus = {sentence.text for document in corpus_documents() for sentence in document.sentences}
for recipe in RECIPES.values():
    seen = " ".join(f" {text} " for text in training_texts(replace(recipe, n_documents=5000)))
    assert len(seen) > 150_000, len(seen)
    found = [text for text in corpus if f". {text} " in seen or f"  {text} " in seen]
    assert not found, found
print("held out")
"""


def test_no_sentence_of_the_corpus_is_trained_on():
    """In a process without run-time type checks, which would make drawing the text slow."""
    done = subprocess.run([sys.executable, "-c", HELD_OUT], capture_output=True, text=True, timeout=120)

    assert done.stdout == "held out\n", done.stderr
