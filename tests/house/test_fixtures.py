"""The random models must be what the other tests take them for."""

from __future__ import annotations

import pytest
import torch
from random_models import BUILDERS

TEXT = "The keys to the cabinet, 42!"


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_no_two_axes_of_a_random_model_have_the_same_length(family):
    config = BUILDERS[family]().model.config
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    axes = {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "d_head": d_head,
        "d_model": config.hidden_size,
        "mlp": getattr(config, "intermediate_size", None) or config.n_inner,
        "position": config.max_position_embeddings,
        "vocab": config.vocab_size,
    }
    if family == "llama":
        axes["kv_head"] = config.num_key_value_heads

    assert len(set(axes.values())) == len(axes), axes


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_attention_of_a_random_model_is_far_from_uniform(family):
    model, tokenizer = BUILDERS[family]()
    model.set_attn_implementation("eager")

    with torch.no_grad():
        attentions = model(**tokenizer(TEXT, return_tensors="pt"), output_attentions=True).attentions

    last_rows = torch.stack([layer[0, :, -1] for layer in attentions])
    assert last_rows.max(-1).values.mean() > 4 / last_rows.shape[-1]


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_a_random_tokenizer_knows_every_character_and_where_it_stands(family):
    _, tokenizer = BUILDERS[family]()

    encoded = tokenizer(TEXT, return_offsets_mapping=True)

    assert tokenizer.unk_token_id not in encoded["input_ids"] or family == "gpt2"
    pieces = [TEXT[start:end] for start, end in encoded["offset_mapping"]]
    assert "".join(pieces) == TEXT.replace(" ", "") if family == "bert" else "".join(pieces) == TEXT


def test_two_seeds_give_two_models_and_one_seed_gives_one():
    first, again, other = (BUILDERS["bert"](seed).model.state_dict() for seed in (0, 0, 1))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["bert.embeddings.word_embeddings.weight"], other["bert.embeddings.word_embeddings.weight"]
    )
