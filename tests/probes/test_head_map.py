"""The head map: every head once, at its place, whatever the width and the names."""

from __future__ import annotations

import re

import pytest

from probes.head_map import code_of, head_map

HOSTILE = "\x1b[31mred\u202e"


def document(n_layers: int, n_heads: int, labels: dict[str, tuple[str, str]]):
    heads = []
    for layer in range(n_layers):
        for head in range(n_heads):
            name = f"L{layer}H{head}"
            label, family = labels.get(name, ("", ""))
            own = [{"label": label, "family": family, "relation": label}] if label else []
            heads.append({"head": name, "labels": own})
    return {"heads": heads}


def lines(made, width=80):
    return [line.plain for line in head_map(made, width)]


def test_each_head_stands_at_its_place():
    made = document(3, 4, {"L0H1": ("previous-token", "positional"), "L2H3": ("nsubj", "syntax")})

    shown = lines(made)

    assert shown[0].split() == ["H0", "H1", "H2", "H3"]
    assert [line.split() for line in shown[1:4]] == [
        ["L0", "·", "prev", "·", "·"],
        ["L1", "·", "·", "·", "·"],
        ["L2", "·", "·", "·", "nsubj"],
    ]
    assert shown[1].index("prev") == shown[0].index("H1")
    assert shown[3].index("nsubj") == shown[0].index("H3")
    assert shown[-1] == "· unclassified: 10"


@pytest.mark.parametrize(("n_heads", "width"), [(12, 80), (16, 80), (12, 40), (40, 80), (1, 80)])
def test_no_line_is_wider_than_the_terminal_and_every_head_is_shown(n_heads, width):
    labels = {f"L{i}H{n_heads - 1}": ("previous-token", "positional") for i in range(12)}
    shown = lines(document(12, n_heads, labels), width)

    grid = [line for line in shown if re.match(r"L\d+ ", line)]
    assert max(map(len, shown)) <= width
    assert sum(len(line.split()) - 1 for line in grid) == 12 * n_heads


def test_a_label_that_a_simple_rule_explains_is_marked_with_its_relation():
    made = document(1, 2, {})
    made["heads"][0]["labels"] = [{"label": "explained-by-POS", "family": "syntax", "relation": "obj"}]

    shown = lines(made)

    assert "=obj" in shown[1]
    assert any(line.startswith("=nsubj: ") for line in shown)


def test_the_legend_counts_first_labels_and_says_what_codes_mean():
    labels = {
        "L0H0": ("induction", "induction"),
        "L0H1": ("induction", "induction"),
        "L1H0": ("nsubj-strong", "syntax"),
    }

    legend = lines(document(2, 2, labels))[4:]

    assert "induction and copies: induc = induction 2" in legend
    assert "syntax: nsubj = nsubj-strong 1" in legend


@pytest.mark.parametrize(
    ("label", "code"),
    [("offset -2", "@-2"), ("leans to offset +3", "~+3"), ("nearest-VERB left", "^VERB<"), ("acl:relcl", "relcl")],
)
def test_codes_say_what_they_stand_for(label, code):
    assert code_of(label) == code


def test_a_hostile_label_cannot_act_on_the_terminal():
    shown = "".join(lines(document(1, 1, {"L0H0": (HOSTILE, "plugin")})))

    assert "\x1b" not in shown
    assert "\u202e" not in shown
