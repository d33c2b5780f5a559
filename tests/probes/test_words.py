"""From tokens to words: closed forms, and the order in which things are added does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_arrays import seen, sentence, uniform

from probes.words import winners, word_attention

# Two words of two and one pieces between special tokens.
WORDS = [None, 0, 0, 1, None]


def test_sum_to_a_word_mean_from_its_pieces():
    attention = np.zeros((1, 5, 5), dtype=np.float32)
    attention[0, 1] = [0.5, 0.1, 0.1, 0.2, 0.1]
    attention[0, 2] = [0.1, 0.1, 0.1, 0.6, 0.1]
    attention[0, 3] = [0.2, 0.3, 0.1, 0.4, 0.0]

    words = word_attention(attention, WORDS, 2, "mean")

    np.testing.assert_allclose(words[0], [[0.2, 0.4], [0.4, 0.4]], rtol=1e-6)


def test_a_causal_model_speaks_from_the_last_piece():
    attention = np.zeros((1, 5, 5), dtype=np.float32)
    attention[0, 1, 3], attention[0, 2, 3] = 0.2, 0.6

    words = word_attention(attention, WORDS, 2, "last")

    assert words[0, 0, 1] == np.float32(0.6)


def test_dropped_words_keep_their_index_and_get_nothing():
    words = word_attention(np.ones((1, 2, 2), dtype=np.float32), [0, 2], 3, "mean")

    assert words[0].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]


@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=7), st.integers(0, 2**32 - 1))
def test_aggregation_equals_the_definition_as_matrices(words, seed):
    attention = np.random.default_rng(seed).random((2, len(words), len(words))).astype(np.float32)
    to = np.array([[word == row for word in words] for row in range(3)], dtype=float)
    n_pieces = np.maximum(to.sum(axis=1), 1)

    got = word_attention(attention, words, 3, "mean")

    np.testing.assert_allclose(got, np.einsum("wq,hqk,vk->hwv", to, attention, to) / n_pieces[:, None], rtol=1e-12)


def test_splitting_a_word_into_equal_pieces_changes_nothing():
    whole = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 3)).astype(np.float32)
    pieces = np.repeat(np.repeat(whole, 2, axis=1), 2, axis=2) / 2

    np.testing.assert_allclose(
        word_attention(pieces, [0, 0, 1, 1, 2, 2], 3, "mean"), word_attention(whole, [0, 1, 2], 3, "mean"), rtol=1e-6
    )


def test_ties_are_split_and_only_candidates_win():
    weights = np.array([[[0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]])
    candidates = np.array([[True, True, True], [True, True, False], [False, False, False]])

    assert winners(weights, candidates)[0].tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("causal", "expected"), [(False, [0.5, 0.5, 0.5]), (True, [0, 1, 0.5])])
def test_uniform_attention_ties_between_all_other_words_even_over_pieces(causal, expected):
    observation = seen(
        sentence("a b c"), uniform(6), word_of_token=[0, 0, 1, 1, 2, 2], causal=causal, aggregation="mean"
    )

    assert observation.winners[0].max(axis=1).tolist() == expected
