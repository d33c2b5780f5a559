"""From a shard to sums with a real forward pass: batches, threads, masked words and texts of a family's own."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from probe_arrays import Family, documents_of, sentence

from attnlens.models.encode import encode
from attnlens.models.lens import load
from probes.batches import batches_of
from probes.corpora.data import Corpus
from probes.corpora.sources import open_corpus
from probes.plain import observe
from probes.positional.family import PositionalProbe
from probes.seeing import Eyes
from probes.shards import Shard, shards_of
from probes.split import split_corpus
from probes.syntax.probe import SyntaxProbe
from probes.tally import Cell, Key, Tally
from probes.texts import Stimulus, masked_texts, stimulus_cluster, texts_of
from probes.threads import side_by_side
from probes.view import Values
from probes.walk import run_shard, run_stimuli


class Syntax(SyntaxProbe):
    """Without masked texts, which the plain way does not make."""

    reads = ("sentence",)


@pytest.fixture(params=["attnlens/tiny-bert", "attnlens/tiny-llama"])
def lens(request):
    return load(request.param)


def same(one, other):
    assert one.keys() == other.keys()
    for family in one:
        assert set(one[family].cells) == set(other[family].cells)
        for key, cell in one[family].cells.items():
            for part in fields(Cell):
                yield family, key, part.name, getattr(cell, part.name), getattr(other[family].cells[key], part.name)


@given(st.lists(st.integers(1, 400), max_size=60), st.integers(1, 3000))
def test_batches_hold_each_text_once_shortest_first_within_the_bound(lengths, most):
    batches = list(batches_of(lengths, 12, most))

    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    in_order = [lengths[index] for batch in batches for index in batch]
    assert in_order == sorted(in_order)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most


def test_a_batch_of_long_texts_is_bounded_by_its_weights_and_none_is_mostly_padding():
    """16 heads x 512 x 512 weights are half of what is allowed, so two texts run together, however many tokens fit."""
    assert [len(batch) for batch in batches_of([512] * 4, 16, 10**9)] == [2, 2]
    assert [len(batch) for batch in batches_of([10] * 60 + [60] * 5, 1, 10**6)] == [60, 5]


def test_a_shard_counts_what_one_text_after_the_other_counts(lens):
    """The plain way: a capture of each sentence, and its scorer; weights differ by rounding between batches."""
    corpus = open_corpus(limit=60)
    split, eyes = split_corpus(corpus), Eyes(lens)
    probes = [Syntax(), PositionalProbe()]
    n_heads = lens.anatomy.n_layers * lens.anatomy.n_heads
    plain = {p.name: Tally(len(split.confirm), n_heads, [rule.name for rule in p.rules]) for p in probes}
    for _, seen in eyes.look(list(texts_of(corpus.documents(), split, "sentence", eyes.fits, lambda _: None))):
        for probe in probes:
            observe(probe, plain[probe.name], seen)

    (result,) = [run_shard(eyes, shard, probes, split) for shard in shards_of(corpus.documents())]

    whole = {p.name: Tally(len(split.confirm), n_heads, [rule.name for rule in p.rules]) for p in probes}
    for name, tally in whole.items():
        tally.absorb(result.tallies[name], result.clusters)
    for family, key, part, fast, slow in same(whole, plain):
        if family == "positional" or fast.ndim > 1:
            np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=2e4, err_msg=f"{family} {key} {part}")
        else:
            np.testing.assert_array_equal(fast, slow, err_msg=f"{family} {key} {part}")
    assert plain["syntax"].cells[Key("det", "d2h" if not lens.anatomy.causal else "h2d")].hits.sum() > 0


def test_threads_and_their_number_change_nothing(lens):
    corpus = open_corpus(limit=120)
    split, probes, found = split_corpus(corpus), [Syntax(), PositionalProbe()], []
    before = torch.get_num_threads()
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        try:
            eyes = Eyes(lens, batch_tokens=256)
            found.append([run_shard(eyes, shard, probes, split) for shard in shards_of(corpus.documents(), 60)])
        finally:
            torch.set_num_threads(before)

    for one, other in zip(*found, strict=True):
        assert one.dropped_words == other.dropped_words
        for *where, mine, theirs in same(one.tallies, other.tallies):
            np.testing.assert_array_equal(mine, theirs, err_msg=str(where))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_first_error_ends_the_work_and_torch_has_its_threads_back(n_threads):
    before = torch.get_num_threads()

    def work(item):
        if item == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        list(side_by_side(work, list(range(6)), n_threads))
    assert torch.get_num_threads() == before


def test_many_texts_are_tokenized_as_each_alone(lens):
    texts = ["The keys rust.", "  ", "don't e-mail naïve 😀 x", "a" * 40, "\u200b"]
    spans = [[(0, 3), (4, 8), (8, 14)], [], [(0, 2), (2, 5)], [(0, 40)], []]

    many = lens.encode(texts, spans, bos=True)

    for text, own, found in zip(texts, spans, many, strict=True):
        if found is not None:
            assert found == encode(lens.tokenizer, text, bos=True, word_spans=own)
    assert many[1] is None
    assert many[0] is not None


@dataclass(frozen=True)
class Blanks(Family):
    """Wants the second word of every sentence predicted, and notes what it reads."""

    notes: list
    name: str = "blanks"
    reads: tuple = ("masked",)
    rules: tuple = ()

    def masks(self, sentences):
        return [1, 1]

    def ask(self, reading):
        self.notes.append(reading)
        return ()


def shard_of(*sentences):
    corpus = Corpus.of("c", documents_of(sentences))
    return Shard(0, tuple(corpus.documents())), split_corpus(corpus)


def test_each_masked_word_is_read_once_with_the_mask_as_its_only_piece():
    shard, split = shard_of(sentence("the keys rust"), sentence("a boy runs"))
    first, second = Blanks([]), Blanks([], name="others")
    lens = load("attnlens/tiny-bert")

    run_shard(Eyes(lens), shard, [first, second], split)

    assert len(first.notes) == len(second.notes) == 2
    for reading in first.notes:
        (piece,) = np.flatnonzero(reading.word_of_token == 1)
        assert (reading.kind, reading.masked) == ("masked", 1)
        assert reading.ids[piece] == lens.tokenizer.mask_token_id
        assert not reading.special[piece]
        assert set(reading.word_of_token) == {-1, 0, 1, 2}


def test_a_causal_model_has_no_masked_texts():
    shard, split = shard_of(sentence("the keys rust"))
    family = Blanks([])

    run_shard(Eyes(load("attnlens/tiny-gpt2")), shard, [family], split)

    assert family.notes == []


def test_a_mask_moves_the_words_after_it_and_empties_those_that_share_its_characters():
    text = next(texts_of(documents_of([sentence("do n't go")]), split_of("d0"), "sentence", lambda _: True, print))
    text = type(text)(**{**vars(text), "text": "don't go", "spans": ((0, 3), (2, 5), (6, 8))})

    (masked,) = masked_texts(text, [1], "<mask>")

    assert masked.text == "do<mask> go"
    assert masked.spans == ((2, 2), (2, 8), (9, 11))


def split_of(*names):
    from probes.split import split_units

    return split_units("document", list(names))


def test_stimuli_are_dealt_to_both_halves_in_turn():
    split = split_of(*"abcde")

    dealt = [stimulus_cluster(number, split) for number in range(6)]

    assert split.confirm[dealt].tolist() == [False, True] * 3
    assert len(set(dealt)) == 5  # three clusters select, two confirm


@dataclass(frozen=True)
class Numbers(Family):
    """A family with texts of its own: the first token's weight, on ids that it chose."""

    notes: list
    name: str = "numbers"
    reads: tuple = ("stimulus",)
    rules: tuple = ()

    def stimuli(self, anatomy, tokenizer, seed):
        yield from (Stimulus(f"s{i}", (1, *range(5 + i + seed, 9 + i + seed)), (0,)) for i in range(3))

    def ask(self, reading):
        self.notes.append(reading)
        return ()

    def measure(self, view):
        yield Values(Key("first"), view.tokens[:, :, -1:, 0].double())


def test_stimuli_go_into_the_model_as_they_are(lens):
    family, split = Numbers([]), split_of(*"abcd")

    result = run_stimuli(Eyes(lens), [family, PositionalProbe()], split, seed=2)

    assert [reading.ids for reading in family.notes] == [(1, 7, 8, 9, 10), (1, 8, 9, 10, 11), (1, 9, 10, 11, 12)]
    assert family.notes[0].special.tolist() == [True] + [False] * 4
    runs = [lens.capture(inputs=torch.tensor([reading.ids])).attention() for reading in family.notes]
    expected = sum(run[:, :, -1, 0].flatten().double() for run in runs)
    hits = result.tallies["numbers"].cells[Key("first")].hits.sum(axis=0) / 232_792_560
    np.testing.assert_allclose(hits, expected, atol=1e-5)
    assert result.number == -1
    assert not result.tallies["positional"].cells


def test_without_stimuli_there_is_nothing_to_run():
    assert run_stimuli(Eyes(load("attnlens/tiny-bert")), [PositionalProbe()], split_of(*"ab"), seed=0) is None
