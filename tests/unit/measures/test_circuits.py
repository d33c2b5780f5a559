"""Circuits against dense matrices in numpy, and against the laws that pin them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attnlens.errors import MeasureError, UsageError
from attnlens.measures.circuits import (
    FactoredMatrix,
    composition_scores,
    copying_score,
    token_eigenvalues,
)
from attnlens.models.circuits import circuits_of


def random_factors(rows: int = 11, rank: int = 3, columns: int = 11, heads: int = 2) -> FactoredMatrix:
    generator = torch.Generator().manual_seed(rows + columns)
    left = torch.randn(heads, rows, rank, generator=generator, dtype=torch.float64)
    return FactoredMatrix(left, torch.randn(heads, rank, columns, generator=generator, dtype=torch.float64))


def sorted_by_size(values: np.ndarray) -> np.ndarray:
    return np.array(sorted(values, key=lambda value: (-round(abs(value), 6), value.imag)))


def test_factored_matrix_is_its_product():
    one, other = random_factors(), random_factors(rank=5, columns=7)
    whole = one.product().numpy()

    assert one.shape == (2, 11, 11)
    np.testing.assert_allclose((one @ other).product(), whole @ other.product().numpy(), atol=1e-12)
    assert (one @ other).rank == 3
    assert (other.T @ one).rank == 3
    np.testing.assert_allclose((other.T @ one).product(), other.product().numpy().transpose(0, 2, 1) @ whole)
    np.testing.assert_allclose(one.T.product().mT, whole)
    np.testing.assert_allclose(one.norm(), np.linalg.norm(whole, axis=(1, 2)))
    np.testing.assert_allclose(one.singular_values(), np.linalg.svd(whole)[1][:, :3])
    np.testing.assert_allclose(one[1].apply(torch.eye(11).double()), whole[1], atol=1e-12)
    for head in range(2):
        dense = sorted_by_size(np.linalg.eigvals(whole[head]))[:3]
        np.testing.assert_allclose(sorted_by_size(one.eigenvalues()[head].numpy()), dense, atol=1e-8)


def test_eigenvalues_are_of_square_matrices():
    with pytest.raises(ValueError, match="11 x 7"):
        random_factors(columns=7).eigenvalues()


def test_copying_score_laws():
    identity = FactoredMatrix(torch.eye(6)[None, :, :4], torch.eye(6)[None, :4])
    negative = FactoredMatrix(-identity.left, identity.right)
    turning = FactoredMatrix(torch.eye(2)[None], torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]]))

    scores = [copying_score(one.eigenvalues()).item() for one in (identity, negative, turning)]

    assert scores[:2] == [1.0, -1.0]
    assert scores[2] == pytest.approx(0.0, abs=1e-12)
    assert copying_score(torch.zeros(2, 3, dtype=torch.complex128)).isnan().all()


def test_token_eigenvalues_are_those_of_the_whole_vocabulary():
    circuit = random_factors()
    generator = torch.Generator().manual_seed(1)
    embedding, read = torch.randn(2, 17, 11, generator=generator, dtype=torch.float64)

    found = token_eigenvalues(circuit, embedding, read)

    for head in range(2):
        dense = np.linalg.eigvals(embedding.numpy() @ circuit.product()[head].numpy() @ read.numpy().T)
        np.testing.assert_allclose(sorted_by_size(found[head].numpy()), sorted_by_size(dense)[:3], atol=1e-6)


def test_composition_scores_are_ratios_of_dense_norms():
    writers, readers = random_factors(heads=3), random_factors(columns=9, rank=4)

    found = composition_scores(writers, readers)

    assert found.shape == (2, 3)
    for reader in range(2):
        for writer in range(3):
            first, second = writers.product()[writer].numpy(), readers.product()[reader].numpy()
            expected = np.linalg.norm(first @ second) / np.linalg.norm(first) / np.linalg.norm(second)
            assert found[reader, writer].item() == pytest.approx(expected)


def test_heads_that_share_no_direction_do_not_compose():
    space = torch.eye(8).double()
    writer = FactoredMatrix(space[None, :, :2], space[None, :2])  # writes directions 0 and 1
    same = FactoredMatrix(space[None, :, :1], space[None, :1])
    apart = FactoredMatrix(space[None, :, 4:6], space[None, 4:6])

    assert composition_scores(writer, apart).item() == 0
    assert composition_scores(writer, same).item() == pytest.approx(1 / np.sqrt(2))  # half of what is written is read


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("how", ["query", "key", "value"])
def test_composition_of_models_against_dense_matrices(opened_family, name, how):
    opened = opened_family(name)
    found = opened.lens.measure(f"{how}-composition", **_text(opened)).values

    ov, qk = dense_circuits(opened.model, name)
    n_layers, n_heads = ov.shape[:2]
    assert found.shape == (n_layers, n_heads, n_layers, n_heads)
    for layer in range(n_layers):
        assert found[layer, :, layer:].isnan().all()
        for earlier in range(layer):
            for head in range(n_heads):
                for writer in range(n_heads):
                    first = ov[earlier, writer]
                    second = {"query": qk, "key": qk.transpose(0, 1, 3, 2), "value": ov}[how][layer, head]
                    expected = np.linalg.norm(first @ second) / np.linalg.norm(first) / np.linalg.norm(second)
                    assert found[layer, head, earlier, writer].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_copying_of_models_against_the_whole_vocabulary(opened_family, name):
    opened = opened_family(name)
    model = opened.model
    ov, _ = dense_circuits(model, name)
    embedding = model.get_input_embeddings().weight.detach().double().numpy()
    norm = {"gpt2": "transformer.ln_f", "llama": "model.norm", "t5": "decoder.final_layer_norm"}[name]
    read = folded(model.get_submodule(norm), model.get_output_embeddings().weight.detach().double().numpy().T)

    found = opened.lens.measure("copying", **_text(opened)).values

    for layer, head in ((0, 1), (1, 2)):
        values = np.linalg.eigvals(embedding @ ov[layer, head] @ read)
        expected = values.sum().real / np.abs(values).sum()
        assert found[layer, head].item() == pytest.approx(expected, abs=1e-4)


def test_copying_is_refused_where_the_head_is_not_linear(opened_family):
    with pytest.raises(MeasureError, match="logit-attribution"):
        opened_family("bert").lens.measure("copying", "the cat")


def test_keys_of_cross_attention_do_not_compose(opened_family):
    lens = opened_family("t5").lens

    with pytest.raises(MeasureError, match="encoder"):
        lens.measure("key-composition", ("the", "le"), stack="X")


def test_circuits_are_not_folded_where_nobody_wants_it(opened_family):
    opened = opened_family("llama")

    plain, folded_in = (circuits_of(opened.lens.opened, fold=fold)[1] for fold in (False, True))

    gain = opened.model.model.layers[1].input_layernorm.weight.detach()
    torch.testing.assert_close(plain.ov.left * gain[:, None], folded_in.ov.left)
    assert plain.rotated


def test_a_head_of_a_composition_gives_its_own_rows(opened_family):
    lens = opened_family("gpt2").lens

    every, one = (lens.measure("key-composition", "the cat", head=head).values for head in (None, "L1H2"))

    torch.testing.assert_close(one, every[1, 2], equal_nan=True)
    with pytest.raises(UsageError, match="no option"):
        lens.measure("key-composition", "the cat", rank=3)


def _text(opened: Any) -> dict[str, Any]:
    return {"text": opened.text}


def folded(norm: torch.nn.Module, weight: np.ndarray) -> np.ndarray:
    """A matrix behind a norm, with the norm's weight and, for LayerNorm, its centring in it."""
    scaled = norm.weight.detach().double().numpy()[:, None] * weight
    n = len(scaled)
    return (np.eye(n) - 1 / n) @ scaled if isinstance(norm, torch.nn.LayerNorm) else scaled


def dense_circuits(model: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """W_V W_O and W_Q W_K^T of every layer and head as whole matrices, read off the modules by name."""
    ov, qk = [], []
    for norm, query, key, value, output, n_heads, n_groups in _places(model, name):
        maps = [matrix if norm is None else folded(norm, matrix) for matrix in (query, key, value)]
        width = maps[0].shape[1] // n_heads
        ovs, qks = [], []
        for head in range(n_heads):
            own = slice(head * width, (head + 1) * width)
            group = head // (n_heads // n_groups)
            shared = slice(group * width, (group + 1) * width)
            ovs.append(maps[2][:, shared] @ output[own])
            qks.append(maps[0][:, own] @ maps[1][:, shared].T)
        ov.append(np.stack(ovs))
        qk.append(np.stack(qks))
    return np.stack(ov), np.stack(qk)


def _places(model: Any, name: str) -> Any:
    def right(linear: Any) -> np.ndarray:
        return linear.weight.detach().double().numpy().T

    if name == "gpt2":
        for layer in model.transformer.h:
            thirds = np.split(right(layer.attn.c_attn).T, 3, axis=1)  # Conv1D multiplies from the right already
            yield layer.ln_1, *thirds, right(layer.attn.c_proj).T, 3, 3
    elif name == "llama":
        for layer in model.model.layers:
            own = layer.self_attn
            maps = (right(one) for one in (own.q_proj, own.k_proj, own.v_proj, own.o_proj))
            yield layer.input_layernorm, *maps, 6, 3
    elif name == "bert":
        for layer in model.bert.encoder.layer:
            own = layer.attention
            maps = (right(one) for one in (own.self.query, own.self.key, own.self.value, own.output.dense))
            yield None, *maps, 4, 4
    else:
        for block in model.decoder.block:
            own = block.layer[0].SelfAttention
            yield block.layer[0].layer_norm, *(right(one) for one in (own.q, own.k, own.v, own.o)), 3, 3
