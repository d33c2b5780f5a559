"""The fast way of scoring beside the plain one: the same integers, whatever the texts, the ties and the questions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_arrays import Family, seen, sentence

from attnlens.capture.sites import Site
from attnlens.measures.running import WeightTile
from probes.family import Rule
from probes.plain import observe
from probes.questions import Cells, OptionTrials, RowTrials
from probes.scoring.ledger import Ledger
from probes.scoring.scorer import Scorer
from probes.tally import UNIT, Cell, Key, Tally
from probes.view import Sums, Values

# Checks of array types draw random elements, which is no business of the strategy that makes the arrays.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")

N_HEADS, N_CLUSTERS = 2, 6
RULES = (Rule("one"), Rule("two", "offset"))
KEYS = (Key("a"), Key("b", "d2h"), Key("c", "h2d", "pred"))


@dataclass(frozen=True)
class Asker(Family):
    """A family that asks what it was told to, by the name of the text."""

    asked: dict
    name: str = "asker"
    rules: tuple[Rule, ...] = RULES

    def ask(self, reading):
        return self.asked.get(reading.key, ())


@dataclass(frozen=True)
class Meter(Family):
    """A family that measures rows both ways: values with gaps, and sums."""

    name: str = "meter"
    rules: tuple[Rule, ...] = ()

    def ask(self, reading):
        return ()

    def measure(self, view):
        own = view.text_tokens
        first = view.tokens[..., 0].double().masked_fill(~own[:, None], torch.nan)
        yield Values(KEYS[0], first, chance=(1 / view.visible.sum(-1).clamp_min(1).double()))
        yield Sums(
            (KEYS[1], KEYS[2]),
            trials=torch.stack([own.sum(-1), (own.sum(-1) > 3).long()], 1),
            hits=torch.stack([view.words[..., :1].sum((-1, -2)), view.words.sum((-1, -2))], 1),
        )
        whole = view.tokens.double().sum((-1, -2))  # 0 in the padding
        yield Sums((Key("all"),), torch.ones(len(own), 1, dtype=torch.long), whole[:, None])


@st.composite
def cells(draw, n_of, n_queries, n_keys, weights=(1.0,)):
    n = draw(st.integers(0, 6)) if n_of and n_queries else 0
    column = lambda most: draw(st.lists(st.integers(0, most - 1), min_size=n, max_size=n)) if n else []  # noqa: E731
    made = Cells.at(column(n_of), column(n_queries), column(n_keys))
    weight = draw(st.lists(st.sampled_from(weights), min_size=n, max_size=n))
    return Cells(made.of, made.query, made.key, np.array(weight, dtype=np.float64))


@st.composite
def row_trials(draw, n_words, n_tokens):
    level = draw(st.sampled_from(["word", "token", "column"]))
    n = n_tokens if level == "token" else n_words
    n_trials = draw(st.integers(0, 5))
    some = lambda kind: np.array(draw(st.lists(kind, min_size=n_trials, max_size=n_trials)))  # noqa: E731
    targets = draw(cells(n_trials, n, n))
    return RowTrials(
        keys=KEYS,
        asked=np.array(draw(st.lists(st.integers(0, 9), min_size=3, max_size=3))),
        question=some(st.integers(0, 2)).astype(np.int64),
        chance=some(st.floats(0, 1)).astype(np.float64),
        targets=targets,
        points=np.array(draw(st.lists(st.booleans(), min_size=2 * len(targets), max_size=2 * len(targets))))
        .reshape(-1, 2)
        .astype(bool),
        paired=some(st.booleans()).astype(bool),
        controls=draw(cells(n_trials, n, n, (0.2, 1 / 3, 0.5, 1.0))),
        shuffled=draw(cells(n_trials, n, n)),
        level=level,
        mass_chance=draw(st.none() | st.just(some(st.floats(0, 1)).astype(np.float64))),
        silent=draw(st.none() | st.just(np.stack([some(st.booleans()) for _ in RULES], 1).astype(bool))),
    )


@st.composite
def option_trials(draw, n_words, n_tokens):
    level = draw(st.sampled_from(["word", "token"]))
    n = n_tokens if level == "token" else n_words
    n_trials = draw(st.integers(0, 4))
    n_options = draw(st.integers(0, 6)) if n_trials else 0
    flags = lambda size: np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=bool)  # noqa: E731
    trials = draw(st.lists(st.integers(0, max(n_trials - 1, 0)), min_size=n_options, max_size=n_options))
    return OptionTrials(
        keys=KEYS,
        asked=np.array([1, 2, 3]),
        question=np.array(draw(st.lists(st.integers(0, 2), min_size=n_trials, max_size=n_trials)), dtype=np.int64),
        chance=np.array(draw(st.lists(st.floats(0, 1), min_size=n_trials, max_size=n_trials)), dtype=np.float64),
        option_trial=np.array(trials, dtype=np.int64),
        right=flags(n_options),
        cells=draw(cells(n_options, n, n, (1.0, 0.5))),
        points=flags(2 * n_options).reshape(-1, 2),
        level=level,
        silent=draw(st.none() | st.just(flags(2 * n_trials).reshape(-1, 2))),
    )


@st.composite
def batches(draw):
    """Texts of one batch: special tokens, words of several pieces, words without one, weights with many ties."""
    causal = draw(st.booleans())
    aggregation = draw(st.sampled_from(["mean", "last"]))
    observations, asked = [], {}
    for number in range(draw(st.integers(1, 4))):
        n_words = draw(st.integers(1, 5))
        owners = [None] if draw(st.booleans()) else []
        for word in range(n_words):
            owners += [word] * draw(st.sampled_from([1, 1, 1, 0, 2, 3]))
        owners += [None] * draw(st.integers(0 if owners else 1, 2))
        n = len(owners)
        levels = draw(st.lists(st.integers(0, 3), min_size=2 * N_HEADS * n * n, max_size=2 * N_HEADS * n * n))
        rows = np.array(levels, dtype=np.float32).reshape(2 * N_HEADS, n, n) + 0.0
        rows = np.tril(rows) if causal else rows
        rows = rows / np.maximum(rows.sum(-1, keepdims=True), 1)
        specials = [i for i, owner in enumerate(owners) if owner is None and draw(st.booleans())]
        cluster, key = draw(st.integers(0, N_CLUSTERS - 1)), f"d#{number}"
        text = sentence(" ".join("w" * n_words))
        observations.append(
            seen(
                text, rows, specials=specials, word_of_token=owners, aggregation=aggregation, causal=causal,
                cluster=cluster, key=key, confirm=cluster >= 3,
            )
        )  # fmt: skip
        asked[key] = draw(st.lists(st.one_of(row_trials(n_words, n), option_trials(n_words, n)), max_size=3))
    return observations, asked, aggregation


def fast(observations, probes, aggregation, n_layers=2, cut=None):
    """The ledger's tallies, from weights that come layer by layer in tiles; padding is filled with rubbish."""
    ledger = Ledger({probe.name: tuple(rule.name for rule in probe.rules) for probe in probes}, n_layers * N_HEADS)
    scorer = Scorer(observations, probes, ledger, n_heads=N_HEADS, aggregation=aggregation)
    n = max(one.attention.shape[-1] for one in observations)
    for layer in range(n_layers):
        whole = np.full((len(observations), N_HEADS, n, n), 0.7, dtype=np.float32)
        mask = np.zeros((len(observations), 1, n, n), dtype=bool)
        for text, one in enumerate(observations):
            size = one.attention.shape[-1]
            whole[text, :, :, size:] = 0
            whole[text, :, :size, :size] = one.attention[layer * N_HEADS : (layer + 1) * N_HEADS]
            mask[text, 0, :, :size] = True
            mask[text, 0, :size, :size] = one.visible[0]
        step = cut or len(observations)
        for first in range(0, len(observations), step):
            texts = slice(first, min(first + step, len(observations)))
            for head in range(N_HEADS) if cut else [slice(0, N_HEADS)]:
                heads = slice(head, head + 1) if cut else head
                scorer.add(
                    WeightTile(
                        site=Site("", layer), batch=texts, heads=heads, queries=slice(0, n), n_heads=N_HEADS,
                        raw=torch.from_numpy(whole[texts, heads]), mask=torch.from_numpy(mask[texts]),
                    )
                )  # fmt: skip
    return ledger.tallies()


def plain(observations, probes, n_heads):
    tallies = {probe.name: Tally(N_CLUSTERS, n_heads, [rule.name for rule in probe.rules]) for probe in probes}
    for one in observations:
        for probe in probes:
            observe(probe, tallies[probe.name], one)
    return tallies


def dense(clusters, tallies):
    whole = {}
    for name, tally in tallies.items():
        whole[name] = Tally(N_CLUSTERS, tally.n_heads, tally.rules)
        whole[name].absorb(tally, clusters)
    return whole


def assert_same(one, other, most=0):
    for name in one:
        keys = set(one[name].cells) | set(other[name].cells)
        for key in keys:
            for part in fields(Cell):
                mine, theirs = (getattr(tally[name].cell(key), part.name) for tally in (one, other))
                assert np.abs(mine - theirs).max(initial=0) <= most, (name, key, part.name, mine, theirs)


@settings(max_examples=150, deadline=None)
@given(batches(), st.sampled_from([None, 1]))
def test_the_fast_way_gives_the_integers_of_the_plain_one(batch, cut):
    observations, asked, aggregation = batch
    probes = [Asker(asked), Meter()]

    found = dense(*fast(observations, probes, aggregation, cut=cut))

    expected = plain(observations, probes, 2 * N_HEADS)
    assert_same({"asker": found["asker"]}, {"asker": expected["asker"]})
    assert_same(found, expected, most=1)  # sums over a text are made in float64 by the family itself


@settings(max_examples=40, deadline=None)
@given(batches(), st.sampled_from([1e-8, 9e-8, 3e-12]))
def test_weights_that_float32_cannot_tell_from_none_count_as_none(batch, faint):
    """The model's rows hold a little on every visible key, more on later ones; what is counted does not."""
    observations, asked, aggregation = batch
    probes = [Asker(asked), Meter()]
    raw = [
        replace(
            one, attention=np.where(one.attention > 0, one.attention, faint * np.arange(1, n + 1) / n * one.visible)
        )
        for one in observations
        for n in [one.attention.shape[-1]]
    ]

    found = dense(*fast(raw, probes, aggregation))

    assert_same(found, dense(*fast(observations, probes, aggregation)))


def test_weights_just_above_that_decide_a_row():
    """Word 1's row holds 2e-7 on word 0 and next to nothing on word 2."""
    rows = np.full((2 * N_HEADS, 3, 3), 1e-9)
    rows[:, 1, 0] = 2e-7
    one = seen(sentence("a b c"), rows)
    trials = RowTrials(
        keys=KEYS[:1],
        asked=np.array([2]),
        question=np.array([0, 0]),
        chance=np.array([0.5, 0.5]),
        targets=Cells.at([0, 1], [1, 2], [0, 0]),
        points=np.zeros((2, 2), dtype=bool),
        paired=np.zeros(2, dtype=bool),
    )
    probes = [Asker({one.key: [trials]})]

    hits = [
        tallies["asker"].cell(KEYS[0]).hits.sum(axis=0).tolist()
        for tallies in (plain([one], probes, 2 * N_HEADS), dense(*fast([replace(one, attention=rows)], probes, "mean")))
    ]

    assert hits == [[UNIT + UNIT // 2] * 2 * N_HEADS] * 2
