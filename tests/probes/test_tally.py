"""Sums and counts: any cut of a corpus, merged in any order, gives the same integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_arrays import seen, sentence

from probes.coreference import CoreferenceProbe
from probes.corpora.data import Mention
from probes.family import rule_names
from probes.plain import observe
from probes.positional import PositionalProbe
from probes.syntax import SyntaxProbe
from probes.tally import UNIT, Key, Tally, in_units

N_CLUSTERS = 3
MENTIONS = tuple(Mention("1", 0, at, at + 1, at, link="ana") for at in (0, 2, 3))
TREE = sentence("the old keys rust fast", [3, 3, 4, 0, 4], "det amod nsubj root advmod", mentions=MENTIONS)
PROBES = (SyntaxProbe(), PositionalProbe(), CoreferenceProbe())


def observations(n: int):
    rng = np.random.default_rng(0)
    for i in range(n):
        attention = rng.dirichlet(np.ones(5), size=(2, 5))
        attention[1, :, 1:3] = attention[1, :, 1:2]  # ties
        yield seen(TREE, attention, cluster=i % N_CLUSTERS, key=f"d#{i}", stops=[4])


SEEN = list(observations(7))


def tally_of(probe, part) -> Tally:
    tally = Tally(N_CLUSTERS, 2, rule_names(probe))
    for observation in part:
        observe(probe, tally, observation)
    return tally


def same(one: Tally, other: Tally) -> bool:
    return set(one.cells) == set(other.cells) and all(
        np.array_equal(getattr(one.cells[key], name), getattr(other.cells[key], name))
        for key in one.cells
        for name in one.cells[key].__dataclass_fields__
    )


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
@given(order=st.permutations(range(7)), cuts=st.lists(st.integers(0, 7), max_size=3))
def test_merged_shards_equal_one_pass(probe, order, cuts):
    shuffled = [SEEN[i] for i in order]
    edges = [0, *sorted(cuts), 7]
    shards = [tally_of(probe, shuffled[start:end]) for start, end in itertools.pairwise(edges)]

    merged = shards[0]
    for shard in shards[1:]:
        merged = shard.merge(merged)

    assert merged.cells
    assert same(merged, tally_of(probe, SEEN))


def test_merging_leaves_both_parts_as_they_were():
    part, rest = tally_of(PROBES[0], SEEN[:3]), tally_of(PROBES[0], SEEN[3:])

    merged = part.merge(rest)
    observe(PROBES[0], merged, SEEN[0])

    assert same(part, tally_of(PROBES[0], SEEN[:3]))
    assert same(rest, tally_of(PROBES[0], SEEN[3:]))


def test_tallies_of_different_shapes_do_not_merge():
    with pytest.raises(ValueError, match="cannot be merged"):
        Tally(2, 3).merge(Tally(2, 4))


@pytest.mark.parametrize("parts", range(1, 23))
def test_ties_of_up_to_22_parts_add_up_exactly(parts):
    assert int(in_units(np.array(1 / parts))) * parts == UNIT


def test_questions_come_in_order():
    tally = Tally(1, 1)
    for key in (Key("b"), Key("a", "h2d"), Key("a", "d2h")):
        tally.cell(key)

    assert [str(key) for key in tally] == ["a d2h", "a h2d", "b"]
