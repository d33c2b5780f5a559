"""Lengths and cosines of the stream against closed forms and against transformers' hidden states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnlens.errors import MeasureError
from attnlens.measures import stream


def test_cosine_of_the_same_opposite_orthogonal_and_no_vector():
    one = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[2.0, 4.0], [-1.0, -2.0], [0.0, 3.0], [1.0, 0.0]])

    found = stream.cosine(one, other)

    assert found[:3].tolist() == pytest.approx([1.0, -1.0, 0.0])
    assert found[3].isnan()


def test_cosine_sees_a_turn_that_float32_cannot_tell_from_none():
    angle = 1e-5
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([1.0, angle])

    found = stream.cosine(one, other)

    assert 1 - float(found) == pytest.approx(angle**2 / 2, rel=1e-3)


def test_length_is_euclidean():
    assert stream.norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [5.0, 0.0]


@pytest.mark.parametrize(("name", "letter", "states"), [
    ("bert", None, "hidden_states"), ("gpt2", None, "hidden_states"), ("llama", None, "hidden_states"),
    ("t5", "E", "encoder_hidden_states"), ("t5", "D", "decoder_hidden_states"),
])  # fmt: skip
def test_lengths_and_turns_are_those_of_the_hidden_states(opened_family, name, letter, states):
    family = opened_family(name)
    run = family.lens.capture(family.text, points=("resid_pre", "resid_post", "embed"))
    with torch.no_grad():
        hidden = [state[0].numpy() for state in getattr(
            family.model(**family.inputs(run), output_hidden_states=True), states
        )]  # fmt: skip

    lengths = family.lens.measure("stream-norm", run, stack=letter).values
    turns = family.lens.measure("layer-cosine", run, stack=letter).values

    for layer in range(len(hidden) - 2):  # behind the last layer most families have a norm
        before, after = hidden[layer], hidden[layer + 1]
        expected = np.linalg.norm(after, axis=-1)
        np.testing.assert_allclose(lengths[layer], expected, rtol=1e-5)
        np.testing.assert_allclose(
            turns[layer], (before * after).sum(-1) / (np.linalg.norm(before, axis=-1) * expected), atol=1e-5
        )


def test_updates_are_held_against_the_stream(opened_family):
    family = opened_family("gpt2")
    run = family.lens.capture(family.text, points=("embed", "resid_pre", "attn_out", "mlp_out", "resid_post"))

    found = [
        family.lens.measure(name, run).values
        for name in ("attention-write-norm", "mlp-write-norm", "attention-update-cosine", "mlp-update-cosine")
    ]

    attention, mlp = run.residual("attn_out").numpy(), run.residual("mlp_out").numpy()
    before, after = run.residual("resid_pre").numpy(), run.residual("resid_post").numpy()
    lengths = [np.linalg.norm(vectors, axis=-1) for vectors in (attention, mlp, before, after)]
    np.testing.assert_allclose(found[0], lengths[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], lengths[1], rtol=1e-5)
    np.testing.assert_allclose(found[2], (attention * before).sum(-1) / (lengths[0] * lengths[2]), atol=1e-5)
    np.testing.assert_allclose(found[3], (mlp * after).sum(-1) / (lengths[1] * lengths[3]), atol=1e-5)


def test_cross_attention_has_no_stream_of_its_own(opened_family):
    family = opened_family("t5")

    with pytest.raises(MeasureError, match="E or D"):
        family.lens.measure("stream-norm", family.text, stack="X")
