"""Words of a sample and their vectors: which sentences, which tokens, which depth; and the controls made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probe_arrays import documents_of, sentence

from attnlens.errors import CaptureError, ProbeDataError, UsageError
from attnlens.models.lens import load
from probes.corpora.data import Corpus
from probes.split import split_corpus
from probes.stream.controls import random_copy, shuffled
from probes.stream.sample import PARTS, draw_sample
from probes.stream.settings import StreamSettings
from probes.stream.states import Reading, collect, readable, word_vectors

TEXTS = ["the keys to the cabinet are on the table", "she saw her self", "dogs bark"]


def corpus_of(n, words="the keys to the cabinet", per_document=2):
    sentences = [sentence(f"{words} w{i}", name=f"s{i}") for i in range(n)]
    return Corpus.of("made up", documents_of(sentences, per_document))


@pytest.fixture
def lens(random_model):
    return load(model=random_model.model, tokenizer=random_model.tokenizer)


@pytest.mark.parametrize(
    ("pieces", "expected", "places"), [("mean", 2.5, 1.5), ("first", 1.0, 1.0), ("last", 4.0, 2.0)]
)
def test_a_words_vector_is_of_its_tokens(pieces, expected, places):
    stream = np.array([[[9.0]], [[1.0]], [[4.0]], [[7.0]]], dtype=np.float32).reshape(1, 4, 1)

    vectors, kept, positions = word_vectors(stream, [None, 0, 0, 2], 3, pieces)

    assert vectors[0, :, 0].tolist() == [expected, 0.0, 7.0]
    assert kept.tolist() == [True, False, True]
    assert positions[0] == places
    assert np.isnan(positions[1])
    assert positions[2] == 3


def test_vectors_are_the_streams_at_every_depth(lens):
    readings = [Reading(text, sentence(text).spans) for text in TEXTS]

    states = collect(lens, readings, StreamSettings(batch_size=2))

    assert states.starts.tolist() == [0, 9, 13, 15]
    assert states.kept.all()
    run = lens.capture(TEXTS[1], word_spans=sentence(TEXTS[1]).spans, bos=True)
    for depth in range(states.n_depths):
        point = run.residual("embed") if depth == 0 else run.residual("resid_post", depth - 1)
        for word in range(4):
            tokens = [i for i, token in enumerate(run.tokens) if token.word == word]
            np.testing.assert_allclose(states.vectors[depth, 9 + word], point[tokens].mean(0), rtol=1e-4, atol=1e-5)


def test_the_last_depth_is_before_the_norm_behind_the_last_layer(random_gpt2):
    lens = load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)
    text = sentence("a b c")
    states = collect(lens, [Reading(text.text, text.spans)], StreamSettings())
    ids = torch.tensor([[token.id for token in lens.capture(text.text, bos=True).tokens]])

    with torch.no_grad():
        hidden = random_gpt2.model(ids, output_hidden_states=True).hidden_states
        normed = random_gpt2.model.transformer.ln_f(torch.from_numpy(states.vectors[-1]))

    first = 1  # behind the token that starts the text; "a" is one token
    assert states.n_depths == len(hidden)
    torch.testing.assert_close(normed[0], hidden[-1][0, first], rtol=1e-4, atol=1e-4)
    assert not np.allclose(states.vectors[-1][0], hidden[-1][0, first], atol=1e-2)


def test_a_temporary_file_holds_the_same_as_memory(lens):
    readings = [Reading(text, sentence(text).spans) for text in TEXTS]

    filed = collect(lens, readings, StreamSettings(memory=0)).vectors

    assert isinstance(filed, np.memmap)
    np.testing.assert_array_equal(filed, collect(lens, readings, StreamSettings()).vectors)


def test_a_word_that_is_written_nowhere_has_no_vector(lens):
    states = collect(lens, [Reading("she saw", ((0, 3), (3, 3), (4, 7)))], StreamSettings())

    assert states.kept.tolist() == [True, False, True]
    assert (states.vectors[:, 1] == 0).all()


def test_a_sentence_beyond_the_context_is_not_readable(lens):
    assert readable(lens, sentence("the keys"))
    assert not readable(lens, sentence("the keys " * 60))


def test_a_model_without_these_points_is_refused_with_the_way_out(lens, monkeypatch):
    import dataclasses

    stacks = tuple(dataclasses.replace(stack, residual_points=("final",)) for stack in lens.anatomy.stacks)
    monkeypatch.setattr(lens, "anatomy", dataclasses.replace(lens.anatomy, stacks=stacks, residual_points=("final",)))

    with pytest.raises(CaptureError, match="embed and resid_post"):
        collect(lens, [Reading("a", ((0, 1),))], StreamSettings())


def test_a_small_corpus_is_taken_whole_and_a_large_one_in_part():
    corpus = corpus_of(60)  # six words each
    split = split_corpus(corpus)

    whole, _ = draw_sample(corpus, split, words=10_000, seed=0, usable=lambda _: True)
    part, _ = draw_sample(corpus, split, words=60, seed=0, usable=lambda _: True)

    assert len(whole) == 60
    for name, n in (("fit", 9), ("stop", 1), ("confirm", 10)):  # sentences of six words: 54, 6 and 60
        drawn = [each for each in part if each.part == name]
        assert len(drawn) == n
        assert drawn == [each for each in whole if each.part == name][:n]


def test_halves_and_the_tenth_share_no_unit():
    corpus = corpus_of(200)
    split = split_corpus(corpus)

    sampled, _ = draw_sample(corpus, split, words=10_000, seed=0, usable=lambda _: True)

    clusters = {part: {each.cluster for each in sampled if each.part == part} for part in PARTS}
    assert not clusters["fit"] & clusters["stop"]
    assert len(clusters["stop"]) == 5
    assert len(clusters["fit"]) == 45
    assert all(split.confirm[cluster] for cluster in clusters["confirm"])


def test_the_sample_depends_on_names_and_seed_and_not_on_the_order():
    corpus = corpus_of(60)
    turned = Corpus.of("made up", tuple(reversed(tuple(corpus.documents()))))
    split = split_corpus(corpus)
    options = {"words": 60, "usable": lambda _: True}

    one, _ = draw_sample(corpus, split, seed=0, **options)
    other, _ = draw_sample(turned, split, seed=0, **options)
    reseeded, _ = draw_sample(corpus, split, seed=1, **options)

    assert one == other
    assert one != reseeded


def test_sentences_that_do_not_fit_are_counted():
    corpus = corpus_of(60)

    kept, n_skipped = draw_sample(
        corpus, split_corpus(corpus), words=10_000, seed=0, usable=lambda each: not each.forms[-1].endswith("7")
    )

    assert (len(kept), n_skipped) == (54, 6)


@pytest.mark.parametrize("n", [1, 2])
def test_too_little_text_is_refused(n):
    corpus = corpus_of(n)

    with pytest.raises(ProbeDataError, match="at least three"):
        draw_sample(corpus, split_corpus(corpus), words=100, seed=0, usable=lambda _: True)


def test_shuffled_words_are_the_same_words():
    corpus = corpus_of(3, words="the keys to cabinet are on table")
    sampled = draw_sample(corpus, split_corpus(corpus), words=99, seed=0, usable=lambda _: True)[0][0]

    reading, order = shuffled(sampled, seed=0)

    spelt = [reading.text[start:end] for start, end in reading.spans]
    assert spelt == [sampled.sentence.forms[word] for word in order]
    assert sorted(order) == list(range(8))
    assert list(order) != list(range(8))
    assert shuffled(sampled, seed=0)[0] == reading


def test_a_random_copy_has_other_weights_and_leaves_the_generator_alone(lens):
    state = torch.random.get_rng_state()

    one, again, other = (random_copy(lens, seed).lens for seed in (0, 0, 1))

    assert torch.equal(torch.random.get_rng_state(), state)
    name = next(name for name, value in lens.model.named_parameters() if value.ndim == 2)
    mine, first, second, third = (dict(each.model.named_parameters())[name] for each in (lens, one, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, mine)
    assert not torch.equal(first, third)


def test_a_module_of_ones_own_has_no_random_copy(lens, monkeypatch):
    monkeypatch.setattr(lens, "model", torch.nn.Linear(2, 2))

    copied = random_copy(lens, 0)

    assert copied.lens is None
    assert "Linear" in copied.why


@pytest.mark.parametrize("option", [{"words": 0}, {"rank": 0}, {"batch_size": 0}, {"pieces": "sum"}])
def test_an_option_out_of_range_is_refused(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        StreamSettings(**option)
