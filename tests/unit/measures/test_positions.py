"""Position schemes as numbers: against transformers' own modules, slow fits, and the laws that pin them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.errors import MeasureError
from attnlens.measures.position_measures import scores_of
from attnlens.measures.positions import (
    alibi_bias,
    alibi_slopes,
    bias_by_distance,
    cosine_by_distance,
    cosines,
    position_share,
    relative_buckets,
    rope_angles,
    rope_decay,
    rope_frequencies,
    rotate,
    sinusoidal_table,
)
from attnlens.models.position_data import position_bias, position_vectors, rotation_frequencies


def test_sinusoidal_table_by_its_formula():
    table = sinusoidal_table(6, 8, base=100.0)

    for position in range(6):
        for pair in range(4):
            angle = position / 100.0 ** (2 * pair / 8)
            assert table[position, 2 * pair].item() == pytest.approx(math.sin(angle))
            assert table[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle))
    assert sinusoidal_table(3, 5).shape == (3, 5)


def test_cosine_of_sinusoids_depends_on_distance_alone():
    table = sinusoidal_table(30, 16)

    known, by_distance = cosines(table), cosine_by_distance(table)

    for distance in (0, 1, 7, 29):
        torch.testing.assert_close(known.diagonal(distance), by_distance[distance].expand(30 - distance))
        torch.testing.assert_close(by_distance[distance], rope_decay(rope_frequencies(16), torch.tensor([distance]))[0])
    assert cosines(torch.zeros(2, 3)).isnan().all()


@pytest.mark.parametrize("halves", [True, False])
def test_rotation_keeps_lengths_and_sees_only_distances(halves):
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 10, generator=generator, dtype=torch.float64)
    angles = rope_angles(rope_frequencies(8), 12)  # the last two of ten coordinates stay

    queries, keys = (rotate(vector.expand(12, -1), angles, halves=halves) for vector in (query, key))

    torch.testing.assert_close(queries.norm(dim=-1), query.norm().expand(12))
    torch.testing.assert_close(queries[0], query[0])
    products = queries @ keys.T
    for distance in range(-11, 12):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand(len(diagonal)))
    assert products.std() > 0.1


@pytest.mark.parametrize("d_head", [8, 12])
def test_decay_is_the_product_of_rotated_constants(d_head):
    frequencies = rope_frequencies(8, base=500.0)
    ones = torch.full((9, d_head), d_head**-0.5, dtype=torch.float64)

    rotated = rotate(ones, rope_angles(frequencies, 9))

    torch.testing.assert_close(rope_decay(frequencies, torch.arange(9), d_head), rotated @ rotated[0])


@pytest.mark.parametrize(("name", "halves"), [("llama", True), ("gpt_neox", True), ("gemma3", True), ("gptj", False)])
def test_frequencies_are_the_models_own(opened_family, name, halves):
    opened = opened_family(name)
    found = rotation_frequencies(opened.lens.opened)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 2, 9, opened.lens.anatomy.d_head, generator=generator)

    turned = {kind: rotate(vectors, rope_angles(one, 9), halves=halves) for kind, one in found.items()}

    for kind, values in turned.items():
        expected = _turned_by_transformers(opened.model, name, kind, vectors)
        torch.testing.assert_close(values.float(), expected, rtol=1e-5, atol=1e-5)
    assert len(found) == (2 if name == "gemma3" else 1)


def _turned_by_transformers(model: Any, name: str, kind: str, vectors: torch.Tensor) -> torch.Tensor:
    places = torch.arange(vectors.shape[2])[None]
    if name == "gptj":
        from transformers.models.gptj import modeling_gptj as gptj

        table = gptj.create_sinusoidal_positions(64, 6)[places]
        sine, cosine = table.chunk(2, -1)
        by_position = vectors.transpose(1, 2)
        turned = gptj.apply_rotary_pos_emb(by_position[..., :6], sine, cosine)
        return torch.cat([turned, by_position[..., 6:]], -1).transpose(1, 2)
    module = {"llama": "model", "gemma3": "model", "gpt_neox": "gpt_neox"}[name]
    rotary = getattr(model, module).rotary_emb
    cosine, sine = rotary(vectors, places, kind) if name == "gemma3" else rotary(vectors, places)
    from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as partly
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as wholly

    turned = (partly if name == "gpt_neox" else wholly)(vectors, vectors, cosine, sine)
    return turned[0]


@pytest.mark.parametrize("n_heads", [1, 3, 4, 6, 8, 12])
def test_slopes_of_alibi_are_those_of_bloom(n_heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    keys = build_alibi_tensor(torch.ones(1, 7), n_heads, torch.float32).view(n_heads, 7)

    torch.testing.assert_close(alibi_slopes(n_heads), keys[:, 1].double(), rtol=1e-5, atol=0)
    bias = alibi_bias(alibi_slopes(n_heads), 7, 7)
    expected = (keys[:, None, :] - keys[:, :, None]).double()  # a constant per row changes no weight
    lower = torch.ones(7, 7, dtype=torch.bool).tril()
    torch.testing.assert_close(bias[:, lower], expected[:, lower], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_those_of_t5(both_ways):
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-300, 301)

    found = relative_buckets(distances, 32, 128, both_ways=both_ways)

    expected = T5Attention._relative_position_bucket(distances, bidirectional=both_ways, num_buckets=32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("letter", ["E", "D"])
def test_bias_of_t5_is_its_table_by_bucket(opened_family, letter):
    opened = opened_family("t5")
    run = opened.lens.capture(source="the cat sat", target="le chat")
    stack = opened.model.encoder if letter == "E" else opened.model.decoder
    table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.detach().double()

    found = position_bias(opened.lens.opened, run, letter)

    assert len(found) == len(stack.block)
    n = found[0].shape[1]
    apart = torch.arange(n)[None, :] - torch.arange(n)[:, None]
    rows = table[relative_buckets(apart, 8, 16, both_ways=letter == "E")].permute(2, 0, 1)
    seen = torch.ones(n, n, dtype=torch.bool) if letter == "E" else apart <= 0
    for bias in found.values():
        torch.testing.assert_close(bias[:, seen], rows[:, seen])


def test_bias_of_mpnet_is_its_own(opened_family):
    opened = opened_family("mpnet")
    run = opened.lens.capture("the cat sat on")
    encoder = opened.model.mpnet.encoder

    found = position_bias(opened.lens.opened, run)

    given = torch.zeros(1, len(run.tokens), 20)
    expected = encoder.compute_position_bias(given)[0].detach().double()
    torch.testing.assert_close(found[2], expected)


@pytest.mark.parametrize(("name", "scale"), [("bloom", 1.0), ("falcon-alibi", 8**-0.5)])
def test_bias_of_alibi_falls_by_its_slope(opened_family, name, scale):
    opened = opened_family(name)

    found = opened.lens.measure("position-bias", "the cat").values

    n = (found.shape[-1] + 1) // 2
    back = torch.arange(-(n - 1), 1).double()
    expected = alibi_slopes(3)[:, None] * back * scale
    for layer in found[:, :, :n]:
        torch.testing.assert_close(layer, expected, rtol=2e-2, atol=1e-3)  # Falcon rounds its slopes to bfloat16
    assert found[:, :, n:].isnan().all()


@pytest.mark.parametrize("name", ["gpt2", "bert", "opt", "roberta", "marian"])
def test_table_begins_at_the_first_position(opened_family, name):
    opened = opened_family(name)
    letter = "E" if name == "marian" else ""

    found = position_vectors(opened.lens.opened, letter)

    places = {
        "gpt2": lambda model: model.transformer.wpe.weight,
        "bert": lambda model: model.bert.embeddings.position_embeddings.weight,
        "opt": lambda model: model.model.decoder.embed_positions.weight[2:],
        "roberta": lambda model: model.roberta.embeddings.position_embeddings.weight[2:],
        "marian": lambda model: model.model.encoder.embed_positions.weight,
    }
    torch.testing.assert_close(found, places[name](opened.model).detach())
    values = opened.lens.measure("position-cosine", opened.text, **({"stack": letter} if letter else {})).values
    rows = found.double().numpy()
    expected = rows[1] @ rows[3] / np.linalg.norm(rows[1]) / np.linalg.norm(rows[3])
    assert values[1, 3].item() == pytest.approx(expected)


def test_bias_by_distance_is_a_mean_over_diagonals():
    bias = torch.randn(2, 4, 5, dtype=torch.float64)
    seen = torch.ones(4, 5, dtype=torch.bool).tril(1)

    found = bias_by_distance(bias, seen)

    for offset in range(-3, 5):
        cells = [bias[:, q, q + offset] for q in range(4) if 0 <= q + offset < 5 and seen[q, q + offset]]
        expected = torch.stack(cells).mean(0) if cells else torch.full((2,), torch.nan, dtype=torch.float64)
        torch.testing.assert_close(found[:, offset + 3], expected, equal_nan=True)


def share_by_dummies(scores: np.ndarray, cells: np.ndarray) -> float:
    """R^2 within rows of a regression on one dummy per distance and one per row, solved by numpy."""
    queries, keys = np.nonzero(cells)
    n = len(scores)
    design = np.zeros((len(queries), n + n + scores.shape[1] - 1))
    design[np.arange(len(queries)), queries] = 1
    design[np.arange(len(queries)), n + keys - queries + n - 1] = 1
    values = scores[queries, keys]
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    means = np.array([values[queries == query].mean() for query in queries])
    return float(1 - (rest**2).sum() / ((values - means) ** 2).sum())


@pytest.mark.parametrize("causal", [True, False])
def test_share_is_the_regression_on_distances(causal):
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 9, 9, generator=generator, dtype=torch.float64)
    scores = noise - torch.tensor([0.0, 0.8])[:, None, None] * (torch.arange(9)[:, None] - torch.arange(9)).abs()
    cells = torch.ones(9, 9, dtype=torch.bool).tril(0 if causal else 8)
    keep = torch.arange(9) != 4

    found = position_share(scores, cells, keep)

    for head in range(2):
        rows = (cells & keep[:, None]).numpy()
        assert found[head].item() == pytest.approx(share_by_dummies(scores[head].numpy(), rows), abs=1e-9)
    assert found[1] > found[0]


def test_share_laws():
    kernel = torch.randn(17, dtype=torch.float64)
    places = torch.arange(9)[None, :] - torch.arange(9)[:, None] + 8
    moved, cells = kernel[places] + torch.randn(9, 1), torch.ones(9, 9, dtype=torch.bool)
    content = torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    shares = position_share(torch.stack([moved, content, torch.full((9, 9), 2.5)]), cells)

    assert shares[0].item() == pytest.approx(1)
    assert 0 < shares[1] < 0.6
    assert shares[2].isnan()
    shifted = position_share(content[None] + 3 * torch.randn(9, 1), cells)
    torch.testing.assert_close(shifted[0], shares[1])


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "gemma2", "t5"])
def test_share_of_models_is_the_same_from_scores_and_from_weights(opened_family, name):
    lens = opened_family(name).lens
    given = {"source": "the cat", "target": "le chat"} if name == "t5" else {"text": "the cat"}

    lazy, exact = (lens.capture(**given, mode=mode) for mode in ("lazy", "exact"))

    shares = [lens.measure("position-share", run).values for run in (lazy, exact)]
    torch.testing.assert_close(shares[0], shares[1], rtol=1e-3, atol=1e-4)
    layer, head = 1, 2
    seen, keep = exact.visible(layer).numpy(), np.array([not token.special for token in exact.tokens])
    weights = exact.attention(layer, head).double().numpy()
    with np.errstate(divide="ignore"):
        expected = share_by_dummies(np.log(weights), seen & keep[:, None] & (weights > 0))
    assert shares[1][layer, head].item() == pytest.approx(expected, abs=1e-6)
    assert lens.measure("position-share", lazy, head=f"L{layer}H{head}").values == shares[0][layer, head]
    assert scores_of(lazy.patterns_of()[layer], head).shape == seen.shape


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        ("position-bias", "llama"),
        ("position-bias", "deberta-v2"),
        ("rope-decay", "gpt2"),
        ("position-cosine", "gptj"),
        ("position-cosine", "t5"),
    ],
)
def test_schemes_that_a_model_does_not_have_are_refused(opened_family, measure, name):
    opened = opened_family(name)

    with pytest.raises(MeasureError, match="Take 'position-share' instead"):
        opened.lens.measure(measure, opened.text)
