"""Heads that look for repeated tokens: against loops over transformers' own weights, and heads built by hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eager_truth import eager_attentions

import attnlens
from attnlens.errors import MeasureError, UsageError
from attnlens.measures.induction import (
    detector_scores,
    duplicate_targets,
    induction_targets,
    previous_targets,
    repeated_tokens,
    target_mass,
)
from attnlens.measures.registry import find_measure

TOKENS = [7, 3, 5, 3, 3, 7, 3]


def targets_by_loops(tokens: list[int], rule: str) -> np.ndarray:
    n = len(tokens)
    found = np.zeros((n, n), dtype=bool)
    for query in range(n):
        for key in range(query):
            found[query, key] = {
                "previous-token": key == query - 1,
                "duplicate-token": tokens[key] == tokens[query],
                "induction": key > 0 and tokens[key - 1] == tokens[query],
            }[rule]
    return found


def score_by_loops(weights: np.ndarray, tokens: list[int], rule: str) -> float:
    targets, scores = targets_by_loops(tokens, rule), []
    for query in range(len(tokens)):
        if targets[query].any():
            scores.append(sum(weights[query, key] for key in range(len(tokens)) if targets[query, key]))
    return float(np.mean(scores)) if scores else float("nan")


@pytest.mark.parametrize(
    ("rule", "function"),
    [("previous-token", previous_targets), ("duplicate-token", duplicate_targets), ("induction", induction_targets)],
)
def test_targets_are_the_rule_written_out(rule, function):
    rows = torch.tensor([TOKENS, TOKENS[::-1]])

    found = function(rows)

    for row, tokens in enumerate(rows.tolist()):
        np.testing.assert_array_equal(found[row].numpy(), targets_by_loops(tokens, rule))


def test_a_head_that_follows_the_rule_scores_one_and_uniform_attention_scores_chance():
    tokens = repeated_tokens(range(30), length=8, repeats=2, sequences=3)
    targets = induction_targets(tokens)
    perfect = targets.double()
    uniform = torch.ones(16, 16, dtype=torch.float64).tril() / torch.arange(1, 17)[:, None]

    assert target_mass(perfect, targets).tolist() == [1.0] * 3
    expected = np.mean([1 / (query + 1) for query in range(8, 16)])
    assert target_mass(uniform.expand(3, -1, -1), targets).tolist() == pytest.approx([expected] * 3)
    assert target_mass(uniform, induction_targets(torch.arange(16))).isnan()


def test_repeated_tokens_are_distinct_within_a_round_and_the_same_in_each():
    texts = repeated_tokens(range(5, 40), length=6, repeats=3, sequences=4, seed=2, start=1)

    assert texts.shape == (4, 19)
    assert texts[:, 0].tolist() == [1] * 4
    for text in texts[:, 1:].tolist():
        assert text[:6] == text[6:12] == text[12:]
        assert len(set(text)) == 6
        assert all(5 <= token < 40 for token in text)
    assert not torch.equal(texts, repeated_tokens(range(5, 40), length=6, repeats=3, sequences=4, seed=3, start=1))


@pytest.mark.parametrize("sizes", [{"length": 41}, {"repeats": 1}, {"sequences": 0}, {"length": 0}])
def test_texts_that_cannot_be_drawn_are_refused(sizes):
    with pytest.raises(ValueError, match="cannot be drawn"):
        repeated_tokens(range(40), **sizes)


def test_detector_scores_by_hand():
    pattern = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.5, 0.25, 0.25]])
    targets = previous_targets(torch.tensor([4, 4, 4]))  # (1, 0) and (2, 1)

    found = detector_scores(pattern, targets)

    assert found.mul.item() == pytest.approx((0.25 + 0.25) / 3)
    missed = 1.0 + (0.75 + 0.75) + (0.5 + 0.75 + 0.25)  # |weight - target|, row by row
    assert found.abs.item() == pytest.approx(1 - missed / 3)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom"])
@pytest.mark.parametrize("rule", ["previous-token", "duplicate-token", "induction"])
def test_measures_against_loops_over_eager_weights(opened_family, name, rule):
    opened = opened_family(name)
    run = opened.lens.capture("the cat the cat")
    tokens = [token.id for token in run.tokens]
    eager = eager_attentions(opened.model, opened.inputs(run))[""]

    found = opened.lens.measure(rule, run).values

    for layer, weights in enumerate(eager):
        for head, matrix in enumerate(weights[0].double().numpy()):
            rows = matrix if not run.tokens[0].special else np.where(np.arange(len(tokens))[:, None] > 0, matrix, 0)
            assert found[layer, head].item() == pytest.approx(score_by_loops(rows, tokens, rule), abs=1e-5)


@cache
def tiny_llama() -> Any:
    return attnlens.load("attnlens/tiny-llama")


def test_the_induction_head_of_the_card_is_found_on_random_tokens():
    card = json.loads((Path(attnlens.__file__).parent / "zoo/models/tiny-llama/card.json").read_text(encoding="utf-8"))
    layer, head = 1, 3
    assert card["induction"]["best_head"] == f"L{layer}H{head}"

    found = tiny_llama().measure("induction", "The king", on="random", sequences=20).values

    assert divmod(int(found.argmax()), found.shape[1]) == (layer, head)
    assert found[layer, head].item() == pytest.approx(card["induction"]["prefix_matching"], abs=0.02)


def test_weights_alone_name_the_previous_token_head_that_the_induction_head_reads():
    lens = tiny_llama()

    previous = lens.measure("previous-token", "The king", on="random").values
    keys = lens.measure("key-composition", "The king", head="L1H3").values

    assert int(previous[0].argmax()) == int(keys[0].argmax()) == 0
    assert previous[0, 0] > 0.8
    assert keys[0, 0] > 1.5 * keys[0, 1:].max()
    assert (lens.measure("copying", "The king", head="L1H3").values > 0.9).all()


def test_random_texts_follow_their_settings():
    lens = tiny_llama()
    settings = {"on": "random", "sequences": 2, "length": 10, "repeats": 2}

    one, same, other = (lens.measure("induction", "The", **settings, seed=seed).values for seed in (0, 0, 1))

    torch.testing.assert_close(one, same)
    assert (one - other).abs().max() > 1e-3
    longer = lens.measure("induction", "The", **settings | {"length": 30}).values
    assert (one - longer).abs().max() > 1e-3


@pytest.mark.parametrize("score", ["mul", "abs"])
def test_scores_of_transformer_lens_are_fields_of_their_own(score):
    lens = tiny_llama()
    run = lens.capture("The king sees the king.")

    found = lens.measure("previous-token", run, score=score).values

    targets = targets_by_loops([token.id for token in run.tokens], "previous-token")
    for layer, head in ((0, 0), (1, 3)):
        matrix = run.attention(layer, head).double().numpy()
        expected = {
            "mul": (matrix * targets).sum() / matrix.sum(),
            "abs": 1 - np.abs(matrix - targets).sum() / len(matrix),
        }[score]
        assert found[layer, head].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("induction_head", "induction"),
        ("duplicate_token_head", "duplicate-token"),
        ("previous_token_head", "previous-token"),
        ("induction_score", "induction"),
        ("K-composition", "key-composition"),
    ],
)
def test_names_of_other_tools(alias, name):
    assert find_measure(alias).name == name


def test_what_cannot_be_measured_is_refused(opened_family):
    lens = tiny_llama()

    assert lens.measure("induction", "The king").values.isnan().all()  # nothing is repeated
    with pytest.raises(UsageError, match="text or random"):
        lens.measure("induction", "The king", on="corpus")
    with pytest.raises(UsageError, match="mean or mul or abs"):
        lens.measure("induction", "The king", score="max")
    with pytest.raises(UsageError, match="cannot be drawn"):
        lens.measure("induction", "The king", on="random", length=5000)
    with pytest.raises(MeasureError, match="one stack"):
        opened_family("t5").lens.measure("induction", ("the", "le"), on="random")
