"""Runs side by side: aligned by words, and against what numpy and scipy say of the same maps."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from family_models import FAMILIES
from scipy.spatial.distance import jensenshannon

TEXT = "The keys to the cabinet are on the table."
LONGER = "The old keys to the cabinet are on the table."


def open_model(random_model):
    import attnlens

    return attnlens.load(model=random_model.model, tokenizer=random_model.tokenizer)


def permute_heads(model, orders):
    """The same GPT-2 with the heads of each layer in another order: columns of q, k, v and rows of W_O go along."""
    permuted = copy.deepcopy(model)
    d_head = model.config.n_embd // model.config.n_head
    with torch.no_grad():
        for block, order in zip(permuted.transformer.h, orders, strict=True):
            places = torch.cat([torch.arange(head * d_head, (head + 1) * d_head) for head in order])
            thirds = torch.cat([third * model.config.n_embd + places for third in range(3)])
            block.attn.c_attn.weight.copy_(block.attn.c_attn.weight[:, thirds])
            block.attn.c_attn.bias.copy_(block.attn.c_attn.bias[thirds])
            block.attn.c_proj.weight.copy_(block.attn.c_proj.weight[places])
    return permuted


def test_words_that_both_texts_have_are_aligned_in_order(random_bert):
    from attnlens.compare import compare_runs

    lens = open_model(random_bert)

    comparison = compare_runs(lens.capture(TEXT), lens.capture(LONGER))

    assert comparison.rows.only_first == ()
    assert comparison.rows.only_second == ("old",)
    assert comparison.rows.labels == tuple(unit.label for unit in comparison.first.units)
    for one, other in comparison.rows.pairs:
        assert comparison.first.units[one].label == comparison.second.units[other].label


def test_the_difference_is_that_of_the_aligned_maps(random_bert):
    from attnlens.compare import compare_runs

    lens = open_model(random_bert)
    short, long = lens.capture(TEXT), lens.capture(LONGER)
    old = next(index for index, unit in enumerate(long.units) if unit.label == "old")
    rest = [index for index in range(len(long.units)) if index != old]

    difference = compare_runs(short, long).difference("L1H2")

    expected = long.attention(head="L1H2", words=True)[rest][:, rest] - short.attention(head="L1H2", words=True)
    torch.testing.assert_close(difference, expected)


def test_divergence_is_scipys_with_the_unaligned_words_as_one_more_key(random_bert):
    from attnlens.compare import compare_runs

    lens = open_model(random_bert)
    short, long = lens.capture(TEXT), lens.capture(LONGER)
    old = next(index for index, unit in enumerate(long.units) if unit.label == "old")
    rest = [index for index in range(len(long.units)) if index != old]

    divergence = compare_runs(short, long).divergence()

    for layer, head in np.ndindex(3, 4):
        here = short.attention(layer, head, words=True).double().numpy()
        there = long.attention(layer, head, words=True).double().numpy()[rest]
        here = np.concatenate([here, np.zeros((len(here), 1))], 1)
        there = np.concatenate([there[:, rest], there[:, [old]]], 1)
        rows = [row for row, unit in enumerate(short.units) if not unit.special]
        expected = np.mean([jensenshannon(here[row], there[row]) ** 2 for row in rows])
        assert float(divergence[layer, head]) == pytest.approx(expected, abs=1e-5)


def test_a_run_is_the_same_as_itself(random_model):
    from attnlens.compare import compare_runs

    run = open_model(random_model).capture(TEXT)

    comparison = compare_runs(run, run, words=False)

    assert comparison.rows.pairs == tuple((index, index) for index in range(len(run.tokens)))
    assert not comparison.divergence().any()
    assert not comparison.difference("L1H0").any()
    assert [(match.first, match.divergence) for match in comparison.matched()] == [
        (match.second, 0.0) for match in comparison.matched()
    ]


def test_heads_of_a_permuted_copy_are_matched_back_within_and_across_layers(random_gpt2):
    import attnlens
    from attnlens.compare import compare_models

    orders = [(2, 0, 1), (1, 2, 0)]
    lens = open_model(random_gpt2)
    copied = permute_heads(random_gpt2.model, orders)
    other = attnlens.load(model=copied, tokenizer=random_gpt2.tokenizer)
    torch.testing.assert_close(lens.capture("keys").logits, other.capture("keys").logits, atol=1e-4, rtol=1e-4)

    comparison = compare_models(lens, other, ["the keys", "to the cabinet"])

    expected = {(layer, order[place]): (layer, place) for layer, order in enumerate(orders) for place in range(3)}
    for within_layers in (False, True):
        matched = comparison.matched(within_layers=within_layers)
        found = {(m.first.layer, m.first.head): (m.second.layer, m.second.head) for m in matched}
        assert found == expected
        assert max(match.divergence for match in matched) < 1e-6
    assert max(comparison.divergence().values()) > 0.01
    assert comparison.n_texts == 2


def test_several_texts_weigh_by_their_rows(random_gpt2, random_llama):
    from attnlens.compare import compare_models, compare_runs

    first, second = open_model(random_gpt2), open_model(random_llama)
    texts = ["the keys", "to the cabinet on"]

    found = compare_models(first, second, texts)

    parts = [compare_runs(first.capture(text), second.capture(text)) for text in texts]
    sizes = [int(part.keep.sum()) for part in parts]
    expected = sum(part.distances() * size for part, size in zip(parts, sizes, strict=True)) / sum(sizes)
    torch.testing.assert_close(found.distances, expected, atol=1e-6, rtol=0)
    assert found.n_rows == sum(sizes)
    assert found.distances.shape == (6, 20)


def test_checkpoints_differ_in_the_layers_that_were_changed(random_gpt2):
    import attnlens
    from attnlens.compare import compare_models

    later = copy.deepcopy(random_gpt2.model)
    with torch.no_grad():
        later.transformer.h[1].attn.c_attn.weight[:, :7] += 1.0  # queries of L1H0
    lens, changed = open_model(random_gpt2), attnlens.load(model=later, tokenizer=random_gpt2.tokenizer)

    found = compare_models(lens, changed, [TEXT], words=False).divergence()

    assert [str(head) for head, value in found.items() if value > 1e-4] == ["L1H0"]


def test_models_of_other_sizes_have_no_same_head_but_counterparts(random_bert, random_llama):
    from attnlens.compare import compare_runs
    from attnlens.errors import UsageError

    comparison = compare_runs(open_model(random_bert).capture(TEXT), open_model(random_llama).capture(TEXT))

    with pytest.raises(UsageError, match=r"3 layers x 4 heads and 5 layers x 4 heads.*take matched"):
        comparison.divergence()
    matched = comparison.matched()
    assert len(matched) == 12
    assert len({match.second for match in matched}) == 12
    assert all(match.first.layer == match.second.layer for match in comparison.matched(within_layers=True))


def test_two_heads_of_a_run(random_bert):
    from attnlens.compare import compare_heads

    run = open_model(random_bert).capture(TEXT)
    one, two = run.attention(head="L0H1").double(), run.attention(head="L2H3").double()

    found = compare_heads(run, "L0H1", "2.3")

    torch.testing.assert_close(found.difference.double(), two - one)
    expected = jensenshannon(one.numpy(), two.numpy(), axis=-1) ** 2
    torch.testing.assert_close(found.divergence, torch.from_numpy(expected), atol=1e-6, rtol=0)
    assert found.mean == pytest.approx(expected[[not token.special for token in run.tokens]].mean(), abs=1e-6)
    assert found.labels == tuple(token.label for token in run.tokens)


def test_stacks_of_an_encoder_decoder_are_compared_by_their_own_words():
    import attnlens
    from attnlens.compare import compare_heads, compare_runs
    from attnlens.errors import UsageError

    family = FAMILIES["t5"]
    lens = attnlens.load(model=family.build(), tokenizer=family.tokenizer())
    first, second = lens.capture(("one two three", "uno dos")), lens.capture(("one two four", "uno tres"))

    for stack, rows, columns in (("E", "one two", "one two"), ("D", "uno", "uno"), ("X", "uno", "one two")):
        comparison = compare_runs(first, second, stack=stack)
        labels = [[unit for unit in part.labels if unit.isalpha()] for part in (comparison.rows, comparison.columns)]
        maps = [
            run.attention(head=f"{stack}L1H0", words=True)[list(places[0])][:, list(places[1])]
            for run, places in (
                (first, (comparison.rows.first, comparison.columns.first)),
                (second, (comparison.rows.second, comparison.columns.second)),
            )
        ]

        assert labels == [rows.split(), columns.split()]
        torch.testing.assert_close(comparison.difference("L1H0"), maps[1] - maps[0])
        assert comparison.divergence().shape == (lens.anatomy.stack(stack).n_layers, lens.anatomy.stack(stack).n_heads)
    with pytest.raises(UsageError, match="choose heads of one stack"):
        compare_heads(first, "EL0H0", "XL0H0")


def test_texts_without_a_common_word_are_refused(random_gpt2):
    from attnlens.compare import compare_runs
    from attnlens.errors import TextError

    lens = open_model(random_gpt2)

    with pytest.raises(TextError, match="no word in common"):
        compare_runs(lens.capture("keys"), lens.capture("table"))


def test_no_text_and_no_such_head_are_refused(random_gpt2):
    from attnlens.compare import compare_heads, compare_models
    from attnlens.errors import HeadAddressError, UsageError

    lens = open_model(random_gpt2)
    run = lens.capture("the keys")

    with pytest.raises(UsageError, match="at least one text"):
        compare_models(lens, lens, [])
    with pytest.raises(HeadAddressError, match="L0H0 to L1H2"):
        compare_heads(run, "L0H0", "L7H0")


def test_heads_that_a_run_does_not_hold_are_nan(random_bert):
    from attnlens.compare import compare_runs

    lens = open_model(random_bert)

    divergence = compare_runs(lens.capture(TEXT, heads=["L1H2"]), lens.capture(LONGER)).divergence()

    assert (~divergence.isnan()).nonzero().tolist() == [[1, 2]]
    assert 0 < float(divergence[1, 2]) < math.log(2)
