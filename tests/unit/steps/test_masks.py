"""Masks: kinds by their cells, the masks of every family against its config, and a row on its way through softmax."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from family_models import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.steps.masks import KINDS, MaskKind, make_mask, mask_groups, mask_kind, masked_row, window_of
from attnlens.steps.padding import padded_pair

READING = [name for name, family in FAMILIES.items() if family.kind not in ("vision", "speech")]
TEXT = "ab c de"


def captured(lens: Any, **options: Any) -> Any:
    given = {"source": TEXT, "target": "x yz"} if lens.anatomy.is_encoder_decoder else {"text": TEXT}
    return lens.capture(**given, points=(), logits=False, **options)


def window_in_config(config: Any, layer: int) -> tuple[str, int] | None:
    """What the config says of a layer's window, family by family as their documentation has it."""
    kinds = getattr(config, "layer_types", None)
    if config.model_type == "modernbert":
        return ("both-sided window", config.local_attention // 2) if layer % config.global_attn_every_n_layers else None
    if config.model_type == "gpt_neo":
        return ("sliding window", config.window_size) if config.attention_layers[layer] == "local" else None
    if kinds is not None and kinds[layer] != "sliding_attention":
        return None
    window = getattr(config, "sliding_window", None)
    return ("sliding window", window) if window else None


@pytest.mark.parametrize("name", READING)
def test_the_masks_of_every_family_are_those_of_its_config(opened_family, name):
    lens = opened_family(name).lens
    run = captured(lens)

    found = {(group.letter, layer): group for group in mask_groups(run) for layer in group.layers}

    for stack in lens.anatomy.stacks:
        for layer in stack.attention_layers:
            kind = found[stack.letter, layer].kind
            expected = (
                "cross"
                if stack.letter == "X"
                else "none"
                if FAMILIES[name].kind != "decoder" and stack.letter != "D"
                else "causal"
            )
            windowed = None if stack.letter else window_in_config(lens.model.config, layer)
            assert (kind.name, kind.window) == (windowed or (expected, None)), (stack.letter, layer)
            assert kind.padding == ()
            weights = run.patterns_of(stack=stack.letter or None)[layer].weights()
            assert not weights[:, ~found[stack.letter, layer].visible].any()
            assert (weights.sum(-1) > 0).all()


@pytest.mark.parametrize("name", READING)
def test_a_row_goes_through_softmax_as_the_model_lets_it(opened_family, name):
    lens = opened_family(name).lens
    run = captured(lens)
    head = lens.anatomy.heads()[-1]
    query = 2

    row = masked_row(run, head, query)

    own = run.attention(head=head)[query].double()
    exponents = torch.where(row.visible, row.scores.nan_to_num(0.0), -torch.inf).exp()
    total = exponents.sum() + (0.0 if row.sink is None else torch.tensor(row.sink).double().exp())
    torch.testing.assert_close(exponents / total, own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(row.weights, own, rtol=1e-4, atol=1e-5)
    assert row.difference < 1e-5
    assert torch.equal(row.masked.isneginf(), ~row.visible)
    assert row.from_weights == (lens.anatomy.route == "softmax")
    hidden = ~row.visible
    if hidden.any() and not row.from_weights:  # without the mask, later keys take weight from the others
        assert (row.unmasked[hidden] > 0).all()
        assert row.unmasked[row.visible].sum() < 1


@settings(max_examples=30)
@given(
    kind=st.sampled_from([name for name in KINDS if name != "cross"]),
    n=st.integers(7, 12),
    size=st.integers(2, 3),
    padded=st.sampled_from([(), (-1,), (-1, -2)]),
)
def test_a_kind_is_told_from_its_mask(kind, n, size, padded):
    padding = tuple(sorted(n + place for place in padded))
    window = size if "window" in kind else None
    prefix = size if kind == "prefix" else None

    found = mask_kind(make_mask(kind, n, n, window=window, prefix=prefix, padding=padding))

    assert found == MaskKind(kind, window, prefix, padding)


def test_masks_by_hand():
    rows = lambda mask: ["".join(".x"[int(cell)] for cell in row) for row in mask.tolist()]  # noqa: E731

    assert rows(make_mask("causal", 3, 3)) == ["x..", "xx.", "xxx"]
    assert rows(make_mask("sliding window", 4, 4, window=2)) == ["x...", "xx..", ".xx.", "..xx"]
    assert rows(make_mask("both-sided window", 3, 3, window=1)) == ["xx.", "xxx", ".xx"]
    assert rows(make_mask("prefix", 4, 4, prefix=2)) == ["xx..", "xx..", "xxx.", "xxxx"]
    assert rows(make_mask("none", 2, 3, padding=(2,))) == ["xx.", "xx."]
    assert rows(make_mask("causal", 2, 4)) == ["xxx.", "xxxx"]  # the newest queries of a cache
    checkered = torch.eye(4, dtype=torch.bool) | torch.eye(4, dtype=torch.bool).flip(0)
    assert mask_kind(checkered).name == "other"
    assert mask_kind(torch.zeros(2, 2, dtype=torch.bool)).name == "nothing"
    assert mask_kind(torch.ones(2, 5, dtype=torch.bool), cross=True).name == "cross"
    with pytest.raises(UsageError, match="window=None"):
        make_mask("sliding window", 3, 3)


@pytest.mark.parametrize("name", ["bert", "gpt2", "bloom", "mistral", "t5"])
def test_padding_is_hidden_and_changes_nothing(opened_family, name):
    lens = opened_family(name).lens

    pair = padded_pair(lens, TEXT, "ab")

    long, short = pair.lengths
    assert (long, short) == tuple(
        len(labels) - (0 if place == 0 else long - short) for place, labels in enumerate(pair.labels)
    )
    assert pair.labels[1][short:] == ("<pad>",) * (long - short)
    assert not pair.visible[1][:, short:].any()
    assert pair.visible[1][:short, :short].any(-1).all()
    assert mask_kind(pair.visible[0]).padding == ()
    assert pair.on_padding == 0
    assert pair.difference < 1e-5


def test_a_window_that_the_text_is_too_short_to_show_is_named(opened_family):
    lens = opened_family("phi3").lens
    assert window_of(lens.model.config) == 6

    (group,) = mask_groups(lens.capture("ab", points=()), window_of(lens.model.config))

    assert (group.kind.name, group.window) == ("causal", 6)
    assert mask_groups(captured(lens), 6)[0].window is None
    assert window_of(opened_family("llama").model.config) is None


def test_one_head_of_a_run_that_holds_few(opened_family):
    lens = opened_family("llama").lens
    whole, some = lens.capture(TEXT), lens.capture(TEXT, heads=["L2H4"])

    torch.testing.assert_close(masked_row(some, Head(2, 4), 3).weights, masked_row(whole, Head(2, 4), 3).weights)
