"""Bottom-k samples: what stays depends on keys and seed alone."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.sample import Sample, rank


def drawn(keys, size=5, seed=0, question="q"):
    sample = Sample(size, seed=seed, question=question)
    for key in keys:
        sample.offer(key, key.upper())
    return sample


KEYS = [f"doc#{i}" for i in range(40)]


def test_the_lowest_hashes_stay_in_order():
    by_hand = sorted(KEYS, key=lambda key: hashlib.sha256(f"3\0why\0{key}".encode()).hexdigest())

    sample = drawn(KEYS, seed=3, question="why")

    assert list(sample) == [key.upper() for key in by_hand[:5]]


@given(st.permutations(KEYS), st.integers(0, 40))
def test_order_and_shards_do_not_matter(keys, cut):
    merged = drawn(keys[cut:]).merge(drawn(keys[:cut]))

    assert list(merged) == list(drawn(KEYS))


def test_seeds_and_questions_draw_differently():
    assert len({tuple(drawn(KEYS, seed=seed, question=question)) for seed in range(3) for question in "ab"}) == 6


def test_a_key_offered_twice_counts_once():
    assert list(drawn(["a", "a", "b"], size=3)) == sorted("AB", key=lambda key: rank(0, "q", key.lower()))


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_sample_holds_no_more_than_its_size(size):
    assert len(drawn(KEYS, size=size)) == min(size, 40)


def test_samples_of_different_questions_do_not_merge():
    with pytest.raises(ValueError, match="different questions"):
        drawn(KEYS).merge(drawn(KEYS, question="other"))


def test_wants_says_beforehand_what_offer_would_take():
    sample = drawn(KEYS[:20])
    for key in KEYS[20:]:
        before = set(sample)
        wanted = sample.wants(key)
        sample.offer(key, key.upper())
        assert wanted == (set(sample) != before)
