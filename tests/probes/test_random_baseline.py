"""Copies of a model with random weights: what they are, what they read, and what is said where there are none."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from probe_arrays import documents_of, sentence

import attnlens
from probes.corpora.data import Corpus
from probes.positional import PositionalProbe
from probes.random_models import BLOCK, MOST, choose, copies, measure_random, read_share, share_of
from probes.seeing import Eyes
from probes.shards import shards_of
from probes.split import split_corpus
from probes.tally import UNIT, Key, Tally

SENTENCE = sentence("the keys rust", [2, 3, 0], "det nsubj root")


class Unasked(PositionalProbe):
    """A family without labels that does not want to know what random weights do."""

    name = "unasked"
    against_random = False


def corpus_of(n, per_document=40):
    return documents_of([SENTENCE] * n, per_document)


def sentences_of(documents):
    return [document.key(index) for document in documents for index in range(len(document.sentences))]


def test_a_share_is_chosen_by_hash_and_close_to_what_was_asked_for():
    documents = corpus_of(4000)

    chosen = sentences_of(choose(documents, 0.25))

    assert len(set(chosen)) == len(chosen)
    assert len(chosen) / 4000 == pytest.approx(0.25, abs=0.06)
    assert chosen == sentences_of(choose(documents, 0.25))
    assert chosen != sentences_of(choose(documents, 0.25, seed=1))
    assert sentences_of(choose(documents, 1.0)) == sentences_of(documents)


def test_what_is_chosen_does_not_depend_on_how_the_corpus_is_cut():
    documents = corpus_of(300, per_document=100)
    pieces = [part for shard in shards_of(documents, 3 * BLOCK) for part in shard.documents]

    assert sentences_of(choose(pieces, 0.5)) == sentences_of(choose(documents, 0.5))


def test_all_copies_together_read_about_one_corpus_more_of_a_small_and_less_of_a_large_one():
    sizes = [100, 2000, 10_000_000]
    large, small = Corpus.of("c", corpus_of(2000)), Corpus.of("c", corpus_of(100))

    shares = [share_of(small, 5), share_of(large, 5)]

    assert shares == [1.0, pytest.approx(0.2)]
    assert MOST / sizes[-1] < 0.2


def test_copies_have_the_config_but_weights_of_their_own(random_bert):
    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)
    state = torch.random.get_rng_state()
    before = copy.deepcopy(lens.model.state_dict())

    first, second = (dict(each.model.named_parameters()) for each in copies(lens, [0, 1]))
    (again,) = (dict(each.model.named_parameters()) for each in copies(lens, [0]))

    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert {key: value.shape for key, value in first.items()} == {
        key: value.shape for key, value in lens.model.named_parameters()
    }
    assert not torch.equal(first[name], second[name])
    assert torch.equal(first[name], again[name])
    assert first[name].std().item() == pytest.approx(lens.model.config.initializer_range, rel=0.15)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in lens.model.state_dict().items())


def test_the_best_head_of_the_best_copy_counts_and_few_trials_do_not(random_bert):
    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)
    hits = iter([[3, 1], [2, 5]])

    def read(copied):
        assert copied.anatomy.n_layers == lens.anatomy.n_layers
        tally = Tally(2, 2)
        best = np.array(next(hits)) * UNIT
        tally.add(Key("often"), 0, 0, trials=30, hits=best, mass=best // 2)
        tally.add(Key("often"), 1, 1, trials=30, hits=best, mass=best // 2)
        tally.add(Key("rare"), 0, 0, trials=49, hits=best)
        return {"mine": tally}, 60

    found = measure_random(lens, 2, read, 50)

    assert (found.seeds, found.n_sentences, found.reason) == ((0, 1), 60, None)
    assert list(found.best) == [("mine", Key("often"))]
    best = found.best["mine", Key("often")]
    assert (best.hits, best.mass, best.n) == (pytest.approx(10 / 60), pytest.approx(5 / 60), 60)


def test_copies_read_for_positional_labels_too_and_its_best_head_is_what_transformers_says(random_bert):
    """Attention on the first token, from every token of the text: eager weights of the copies, head by head."""
    model, tokenizer = random_bert.model, random_bert.tokenizer
    lens = attnlens.load(model=model, tokenizer=tokenizer)
    documents = corpus_of(60, per_document=4)
    corpus = Corpus.of("c", documents)
    told = []
    read = read_share(
        Eyes,
        corpus,
        [PositionalProbe(), Unasked()],
        split_corpus(corpus),
        2,
        progress=lambda *amount: told.append(amount),
    )

    found = measure_random(lens, 2, read, 50)

    best = found.best["positional", Key("first-token")]
    expected = []
    for copied in copies(lens, [0, 1]):
        copied.model.set_attn_implementation("eager")
        with torch.no_grad():
            output = copied.model(**tokenizer(SENTENCE.text, return_tensors="pt"), output_attentions=True)
        expected += [float(head[1:-1, 0].mean()) for layer in output.attentions for head in layer[0]]
    assert best.mass == pytest.approx(max(expected), abs=1e-4)
    assert {family for family, _ in found.best} == {"positional"}
    assert (told[0], told[-1]) == ((60, 120), (120, 120))
    assert told == sorted(told)


def test_none_asked_for_and_a_module_without_a_config_are_said():
    class Plain:
        model = torch.nn.Linear(2, 2)

    def read(copied):
        raise AssertionError("nothing should be read")

    none = measure_random(Plain(), 0, read, 50)
    plain = measure_random(Plain(), 5, read, 50)

    assert (none.best, none.reason) == ({}, "no copies were asked for")
    assert plain.reason == "the model has no config of transformers to make copies from"
