"""P3 and P6 against plain sums, designed patterns, and weights read with nothing but transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attnlens
from probes.corpora.sources import open_corpus
from probes.positional.closely import SMALL, Kernels, RestingNorms, determined, resting_norms, sampled
from probes.seeing import Eyes
from probes.split import split_corpus


def rows(seed, n, n_heads=2, causal=True):
    weights = np.random.default_rng(seed).random((n_heads, n, n)) * (np.tri(n) if causal else 1)
    return weights / weights.sum(-1, keepdims=True)


def shares(select, confirm, causal=True, asking=None):
    """P3 by the class: both halves are lists of `[head query key]`."""
    fit = Kernels()
    for kernels, texts in ((fit, select), (None, confirm)):
        scored = kernels or Kernels(fit.means())
        for name, weights in enumerate(texts):
            n = weights.shape[-1]
            visible = torch.ones(n, n, dtype=torch.bool)
            queries = torch.ones(n, dtype=torch.bool) if asking is None else torch.tensor(asking[:n])
            scored.add(0, str(name), torch.from_numpy(weights), visible.tril() if causal else visible, queries)
    return scored.shares()


@pytest.mark.parametrize("causal", [True, False])
def test_the_share_is_what_plain_loops_sum(causal):
    select, confirm = [rows(0, 5, causal=causal), rows(1, 7, causal=causal)], [rows(2, 6, causal=causal)]
    asking = [False, True, True, True, True, True, True]
    expected = []
    for head in range(2):
        by_offset: dict[int, list[float]] = {}
        for weights in select:
            n = weights.shape[-1]
            for q in range(1, n):
                for k in range(q + 1 if causal else n):
                    by_offset.setdefault(k - q, []).append(weights[head, q, k])
        missed = spread = 0.0
        for weights in confirm:
            n = weights.shape[-1]
            for q in range(1, n):
                keys = range(q + 1 if causal else n)
                kernel = np.array([np.mean(by_offset.get(k - q, [0.0])) for k in keys])
                kernel = kernel / kernel.sum()
                row = weights[head, q, list(keys)]
                missed += ((row - kernel) ** 2).sum()
                spread += ((row - 1 / len(keys)) ** 2).sum()
        expected.append(1 - missed / spread)

    found = shares(select, confirm, causal, asking)

    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_head_of_offsets_is_determined_and_a_head_of_tokens_is_not():
    n = 9
    gaps = np.arange(n) - np.arange(n)[:, None]
    offsets = np.where(gaps == -1, 5.0, np.where(gaps == -2, 2.0, 0.1)) * np.tri(n)
    column = np.where(np.arange(n) == 3, 9.0, 0.1) * np.tri(n)
    other = np.where(np.arange(n) == 6, 9.0, 0.1) * np.tri(n)
    select = np.stack([offsets, column])
    confirm = np.stack([offsets, other])
    select, confirm = (part / part.sum(-1, keepdims=True) for part in (select, confirm))

    by_offsets, by_tokens = shares([select], [confirm])

    assert by_offsets > 0.95
    assert by_tokens < 0.1


def test_a_uniform_head_has_no_share():
    uniform = np.tri(6)[None] / np.arange(1, 7)[None, :, None]

    assert np.isnan(shares([uniform], [uniform])).all()


def test_the_planted_previous_token_heads_are_determined():
    lens = attnlens.load("attnlens/planted-gpt2")
    corpus = open_corpus(None, limit=120)
    split = split_corpus(corpus)
    eyes = Eyes(lens, 16)
    select, confirm = sampled(corpus, split, eyes, 0)

    found = determined(eyes, select, confirm)

    names = [str(head) for head in lens.anatomy.heads()]
    assert {name for name, share in zip(names, found, strict=True) if share > 0.99} >= {"L0H0", "L1H5"}
    assert {text.confirm for text in select} == {False}
    assert {text.confirm for text in confirm} == {True}
    again = sampled(corpus, split, eyes, 0)
    assert [text.key for text in again[1]] == [text.key for text in confirm]


def test_resting_norms_by_hand():
    """GPT-2's own tensors: values are a third of c_attn, W_O is c_proj, and the stream is the model's hidden state."""
    lens = attnlens.load("attnlens/tiny-gpt2")
    corpus = open_corpus(None, limit=6)
    _, confirm = sampled(corpus, split_corpus(corpus), Eyes(lens, 4), 0)
    model, size = lens.model, lens.anatomy.d_head
    totals: dict[int, list[float]] = {}
    for text in confirm:
        ids = torch.tensor([[lens.tokenizer.bos_token_id, *lens.tokenizer(text.text)["input_ids"]]])
        ids = ids if ids[0, 1] != ids[0, 0] else ids[:, 1:]
        model.set_attn_implementation("eager")
        with torch.no_grad():
            out = model(input_ids=ids, output_attentions=True, output_hidden_states=True, use_cache=False)
        model.set_attn_implementation("sdpa")
        labels = [lens.tokenizer.decode([i]).strip() for i in ids[0].tolist()]
        sets = [[0], [], [i for i, label in enumerate(labels) if label in (".", ",")]]
        for layer, block in enumerate(model.transformer.h):
            given = block.ln_1(out.hidden_states[layer][0])
            values = (given @ block.attn.c_attn.weight + block.attn.c_attn.bias)[:, -lens.anatomy.d_model :]
            for head in range(lens.anatomy.n_heads):
                own = slice(head * size, (head + 1) * size)
                norms = (values[:, own] @ block.attn.c_proj.weight[own]).norm(dim=-1).detach()
                pattern = out.attentions[layer][0, head, 1:]
                weight = [float(pattern[:, places].sum(-1).mean()) for places in sets]
                rests = sets[int(np.argmax(weight))]
                if max(weight) >= 0.3:
                    others = [i for i in range(1, len(labels)) if i not in rests]
                    ratio = float(norms[rests].mean() / norms[others].mean())
                    totals.setdefault(layer * lens.anatomy.n_heads + head, []).append(ratio)

    found = resting_norms(lens, confirm)

    assert found is not None
    assert set(np.flatnonzero(~np.isnan(found.length)).tolist()) == set(totals)
    for head, ratios in totals.items():
        assert found.length[head] == pytest.approx(np.mean(ratios), rel=1e-3)
    assert ((found.share[list(totals)] >= 0) & (found.share[list(totals)] <= 1.5)).all()


def test_no_op_is_said_of_short_vectors_only():
    norms = RestingNorms(np.array([SMALL / 2, 2 * SMALL, np.nan]), np.array([0.1, 0.5, np.nan]))

    assert norms.no_op.tolist() == [True, False, False]
