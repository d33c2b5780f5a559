"""What is said of a head's steps and of all heads: rows, words and numbers against their arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opened_families import opened

from attnlens.errors import UsageError
from attnlens.report.inside.head_view import find_query, head_steps_view
from attnlens.report.inside.heads_view import many_heads_view
from attnlens.steps.head import head_steps
from attnlens.steps.heads import many_heads


def labels_of(run):
    return tuple(token.label for token in run.tokens)


def test_of_many_keys_those_with_the_most_weight_have_a_row_in_their_order():
    lens, run, _ = opened("gpt2")
    steps, labels = head_steps(lens, run, "L1H2", -1), labels_of(run)

    view = head_steps_view(steps, labels, labels, most=3)

    best = sorted(torch.topk(steps.weights, 3).indices.tolist())
    assert view.positions == tuple(best)
    assert view.labels == tuple(labels[place] for place in best)
    rest = 1 - float(steps.weights[best].sum())
    assert view.left_out == f"{len(labels) - 3} more tokens, {rest:.1%} of the weight together"
    assert [row[0] for row in view.table().rows] == best


def test_hidden_keys_have_no_weight_to_show():
    lens, run, _ = opened("llama")
    labels = labels_of(run)

    view = head_steps_view(head_steps(lens, run, "L1H2", 2), labels, labels)

    table = view.table()
    place, seen = table.columns.index("softmax"), table.columns.index("visible")
    assert [row[seen] for row in table.rows] == ["yes"] * 3 + ["hidden"] * (len(labels) - 3)
    assert [row[place] is None for row in table.rows] == [False] * 3 + [True] * (len(labels) - 3)
    assert sum(row[place] for row in table.rows[:3]) == pytest.approx(1)
    assert view.sharing.startswith("H2, H3 share key-value head 1")


@pytest.mark.parametrize(("name", "head", "own"), [
    ("gemma2", "L1H2", ["rotation", "capped"]), ("gpt_oss", "L1H2", ["rotation"]), ("t5", "EL1H2", ["added"]),
    ("bloom", "L1H2", ["added"]), ("deberta-v2", "L1H2", ["added"]),
])  # fmt: skip
def test_steps_stand_in_the_order_in_which_the_model_takes_them(name, head, own):
    lens, run, inputs = opened(name)
    labels = labels_of(run if name != "t5" else run.source)

    view = head_steps_view(head_steps(lens, run, head, 1, inputs=inputs), labels, labels)

    every = [
        "query", "keys", "rotation", "products", "raw", "scaled", "capped", "added", "seen", "weights", "values",
        "weighted", "write", "layer",
    ]  # fmt: skip
    keys = [step.key for step in view.steps]
    assert keys == [key for key in every if key in keys]
    assert [key for key in keys if key in ("rotation", "capped", "added")] == own
    assert view.exact
    softmax = next(step for step in view.steps if step.key == "weights")
    assert ("sink" in softmax.sentence) == (name == "gpt_oss")
    assert bool(view.absent) == (name == "deberta-v2")
    assert all(step.gap.startswith("recomputes to") for step in view.steps if step.key in ("weights", "weighted"))


@pytest.mark.parametrize(("given", "place"), [("keys", 1), ("THE", 0), ("2", 2), ("-1", 3), ("5", None), ("a", None)])
def test_a_query_is_found_by_position_or_text(given, place):
    labels = ("The", "Ġkeys", "a", "a")

    if place is None:
        with pytest.raises(UsageError, match=r"no token 5|more than once, at 2, 3"):
            find_query(labels, given)
    else:
        assert find_query(labels, given) == place


def test_all_heads_say_whom_they_look_at_and_who_shares():
    lens, run, _ = opened("llama")
    many, labels = many_heads(lens, run, 1, -1), labels_of(run)

    view = many_heads_view(many, labels, labels)

    names = [row[0] for row in view.table().rows]
    assert names == [f"L1H{head}" for head in range(6)]
    strongest = run.attention(layer=1)[:, -1].argmax(-1)
    assert [row[1].rsplit("%")[0].rsplit(" ", 1)[0] for row in view.table().rows] == [labels[at] for at in strongest]
    assert "H0, H1; H2, H3; H4, H5" in view.groups
    assert view.outputs.shape == (6, 8)
    np.testing.assert_allclose(np.nansum(view.weights, 1), 1)
    np.testing.assert_allclose(view.lengths, many.writes.norm(dim=-1))
    assert sum(view.shares) == pytest.approx(1)
