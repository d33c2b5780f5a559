"""What transformers' own eager code says about attention: the independent truth that captures are compared with.

Nothing of attnlens runs here. Stacks are keyed "" for a model with one, and "E", "D", "X" for the self-attention of the
encoder, that of the decoder, and the cross-attention of an encoder-decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

ONE_STACK = {"": "attentions"}
TWO_STACKS = {"E": "encoder_attentions", "D": "decoder_attentions", "X": "cross_attentions"}


class EagerGeneration(NamedTuple):
    """What `generate` gave: the sequences, and attention by stack.

    "" and "D" and "X" hold a tuple over steps of tuples over layers of `[batch*beams head query key]`; "E" a tuple
    over layers, since the encoder runs once.
    """

    sequences: Int[Tensor, "sequence position"]
    attentions: dict[str, tuple[Any, ...]]


def eager_attentions(
    model: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> dict[str, list[Float[Tensor, "batch head query key"]]]:
    """Each layer's attention weights by `output_attentions` of one eager forward, by stack.

    The model's attention implementations and its caching are as before afterwards, also if the forward fails;
    transformers leaves its own recording hooks in place. Falcon with ALiBi under SDPA: see `fused_weights`.
    """
    if _eager_is_another_function(model):
        with fused_weights() as weights, torch.no_grad():
            model(**inputs, use_cache=False)
        return {"": weights}
    with run_eagerly(model, use_cache=False), torch.no_grad():
        outputs = model(**inputs, output_attentions=True)
    return {stack: list(getattr(outputs, name)) for stack, name in _stacks(model).items()}


def eager_generation(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], max_new_tokens: int, **options: Any
) -> EagerGeneration:
    """`generate` in eager attention: greedy, and exactly `max_new_tokens` tokens, unless `options` say otherwise.

    The target of an encoder-decoder and the numbers of positions are left to `generate`, which makes its own.
    """
    kept = {name: value for name, value in inputs.items() if name not in ("decoder_input_ids", "position_ids")}
    settings = {"do_sample": False, "min_new_tokens": max_new_tokens, **options}
    settings |= {"output_attentions": True, "return_dict_in_generate": True, "max_new_tokens": max_new_tokens}
    generate: Any = GenerationMixin.generate  # Whisper's override cuts audio into chunks and gives no attention
    if _eager_is_another_function(model):
        with fused_weights() as weights, torch.no_grad():
            outputs = generate(model, **kept, **settings | {"output_attentions": False})
        size = model.config.num_hidden_layers
        steps = tuple(tuple(weights[start : start + size]) for start in range(0, len(weights), size))
        return EagerGeneration(outputs.sequences, {"": steps})
    with run_eagerly(model):
        outputs = generate(model, **kept, **settings)
    return EagerGeneration(outputs.sequences, {stack: getattr(outputs, name) for stack, name in _stacks(model).items()})


def kept_rows(inputs: Mapping[str, Tensor], stack: str) -> list[tuple[slice, slice]]:
    """Per text of the batch, the queries and the keys of a stack that are real tokens and not padding."""
    texts = [_kept(row) for row in inputs["attention_mask"]] if "attention_mask" in inputs else None
    everything = [slice(None)] * len(next(iter(inputs.values())))
    sources = texts or everything
    queries = everything if stack in ("D", "X") else sources
    keys = everything if stack == "D" else sources
    return list(zip(queries, keys, strict=True))


@contextmanager
def fused_weights() -> Iterator[list[Float[Tensor, "batch head query key"]]]:
    """Softmax of what each call of the fused kernel is given while the block runs, in the order of the calls.

    For Falcon with ALiBi: its eager code in transformers 5.23 adds the bias to the scores although the mask already
    holds it, so it computes another function than SDPA, which the model runs by default.
    """
    weights: list[Float[Tensor, "batch head query key"]] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def recorded(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, **options: Any) -> Tensor:
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if is_bool else scores + attn_mask
        weights.append(scores.softmax(-1))
        return fused(query, key, value, attn_mask=attn_mask, **options)

    with patch.object(torch.nn.functional, "scaled_dot_product_attention", recorded):
        yield weights


@contextmanager
def run_eagerly(model: PreTrainedModel, *, use_cache: bool | None = None) -> Iterator[None]:
    """Set eager attention, and caching where `use_cache` is given, in the model and its parts while the block runs.

    It is set in the configs, which every forward reads anew, since families that bypass the attention interface refuse
    `set_attn_implementation`. Falcon, one of them, needs it: under SDPA it adds a mask of booleans and returns weights
    that look ahead.
    """
    configs = _configs(model)
    before = [(config._attn_implementation, getattr(config, "use_cache", None)) for config in configs]
    try:
        for config in configs:
            config._attn_implementation_internal = "eager"  # the public name would change nested configs too
            if use_cache is not None and hasattr(config, "use_cache"):
                config.use_cache = use_cache
        yield
    finally:
        for config, (implementation, caching) in zip(configs, before, strict=True):
            config._attn_implementation_internal = implementation
            if hasattr(config, "use_cache"):
                config.use_cache = caching


def _configs(model: PreTrainedModel) -> list[PreTrainedConfig]:
    found = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    return list(found.values())


def _eager_is_another_function(model: PreTrainedModel) -> bool:
    config = model.config
    return config.model_type == "falcon" and config.alibi and config._attn_implementation == "sdpa"


def _stacks(model: PreTrainedModel) -> dict[str, str]:
    return TWO_STACKS if model.config.is_encoder_decoder else ONE_STACK


def _kept(mask: Int[Tensor, " position"]) -> slice:
    real = mask.nonzero().flatten()
    return slice(int(real[0]), int(real[-1]) + 1)
