"""A next token: drawn as transformers draws it, and reached step by step with the cache that is really kept."""

from __future__ import annotations

import pytest
import torch
from family_models import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import attnlens
from attnlens.errors import CaptureError, TextError, UsageError
from attnlens.steps.sampling import next_token_probabilities

LOGITS = torch.randn(61, generator=torch.Generator().manual_seed(0)) * 3
WRITERS = [name for name, family in FAMILIES.items() if "decoder" in family.kind]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 3), st.none() | st.integers(1, 70), st.none() | st.floats(0.02, 1))
def test_probabilities_are_those_of_the_processors_of_transformers(temperature, top_k, top_p):
    scores = TemperatureLogitsWarper(temperature)(None, LOGITS.double()[None])
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p is not None and top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)

    found = next_token_probabilities(LOGITS, temperature=temperature, top_k=top_k, top_p=top_p)

    torch.testing.assert_close(found, scores[0].softmax(-1))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"temperature": 0.0}, "temperature"), ({"temperature": float("nan")}, "temperature"), ({"top_k": 0}, "top_k"),
     ({"top_p": 0.0}, "top_p"), ({"top_p": 1.1}, "top_p")],
)  # fmt: skip
def test_numbers_that_nothing_can_be_drawn_with_are_refused(options, named):
    with pytest.raises(UsageError, match=named):
        next_token_probabilities(LOGITS, **options)


@pytest.mark.parametrize("name", WRITERS)
def test_steps_give_the_models_own_logits_and_the_bytes_of_its_cache(name):
    family = FAMILIES[name]
    model = family.build()
    lens = attnlens.load(model=model, tokenizer=family.tokenizer())
    taken = [40, 90, 12]

    written = lens.write("the keys", taken)

    ids = [token.id for token in written.run.tokens]
    begun = len(ids) - len(taken)
    given = {"input_ids": torch.tensor([ids])}
    if lens.anatomy.is_encoder_decoder:
        source = torch.tensor([[token.id for token in written.run.source.tokens]])
        given = {"input_ids": source, "decoder_input_ids": given["input_ids"]}
    with torch.no_grad():
        once = model(**given, use_cache=False).logits[0, -1]
        filled = model(**given, use_cache=True).past_key_values
    assert ids[begun:] == taken
    torch.testing.assert_close(written.logits, once, rtol=1e-4, atol=1e-4)
    assert written.gap < 1e-4
    caches = (
        [filled] if isinstance(filled, DynamicCache) else [filled.self_attention_cache, filled.cross_attention_cache]
    )
    layers = [layer for cache in caches for layer in cache.layers]
    assert written.cache_bytes[-1] == sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    assert len(written.cache_bytes) == len(taken) + 1


def test_the_cache_grows_by_the_same_bytes_at_every_step(random_llama):
    lens = attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer)
    stack = lens.anatomy.stacks[0]

    written = lens.write("the keys", [7, 8])

    per_token = 2 * stack.n_layers * stack.n_kv_heads * stack.d_head * 4
    n_prompt = len(written.run.tokens) - 2
    assert written.cache_bytes == tuple(per_token * (n_prompt + more) for more in (0, 1, 2))


def test_what_cannot_be_written_is_said(random_bert, random_gpt2):
    encoder = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)

    with pytest.raises(CaptureError):
        encoder.write("the keys")
    with pytest.raises(UsageError, match="no token"):
        lens.write("the keys", [10**6])
    with pytest.raises(TextError, match="takes at most"):
        lens.write("the keys", [7] * 60)
