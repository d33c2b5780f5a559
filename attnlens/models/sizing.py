"""How large a model is and what it costs, told from its config alone: no weights are read or made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig

from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY
from attnlens.errors import UnsupportedModelError
from attnlens.models.anatomy import Anatomy, SelfCheck, Stack
from attnlens.models.families import refuse_by_name
from attnlens.models.loading import empty_model
from attnlens.models.memory import MemoryEstimate, Request
from attnlens.sizes.cache import cache_by_sharing, cache_bytes
from attnlens.sizes.computing import attention_flops, crossing, linear_flops, moved_bytes
from attnlens.sizes.parameters import Counted, count_parameters
from attnlens.sizes.training import Activations, Training, activations_of, training_of

__all__ = ["LENGTHS", "Cost", "ModelSize", "model_size"]

LENGTHS = (128, 512, 2048, 8192, 32768)
_PROVEN_LATER = "only opening the model proves it"


@dataclass(frozen=True)
class Cost:
    """What one text costs; of an encoder-decoder, a source and a target of this length each.

    Attributes:
        n_tokens: length of the text.
        kv_cache: bytes of the key-value cache after it; a sliding window keeps what the next token will see.
        lazy: bytes that a lazy run keeps, points and logits left out.
        weights: bytes of every attention weight, in float32 at least.
        attention_flops: additions and multiplications of scores and of weighing values, causal halves not computed.
        linear_flops: of everything that is done to each token by itself.
        moved: "eager", "fused" -> bytes that attention reads and writes in main memory.
        activations: bytes that the backward pass of training needs of this text.
        fits: the model's positions reach so far.
    """

    n_tokens: int
    kv_cache: int
    lazy: int
    weights: int
    attention_flops: int
    linear_flops: int
    moved: Mapping[str, int]
    activations: Activations
    fits: bool


@dataclass(frozen=True)
class ModelSize:
    """A model's sizes.

    Attributes:
        family, architecture: transformers' `model_type`, and the class.
        n_parameters: shared ones counted once.
        counted: the same by what they are for.
        dtype: precision that figures are for.
        weight_bytes: of the parameters.
        training: what training adds to them, whatever the text.
        d_model: width of the residual stream.
        max_length: longest text; None where the config names none.
        kv_bytes_per_token: of the key-value cache, before any window is full; 0 for a model that keeps none.
        kv_by_sharing: "MHA", "GQA", "MQA" -> the same if heads shared their keys so.
        crossing: length of a text from which attention's part that grows with the square outweighs the linear one.
        stacks: sizes of each kind of attention; nothing in them is proven.
        costs: by length.
    """

    family: str
    architecture: str
    n_parameters: int
    counted: Counted
    dtype: str
    weight_bytes: int
    training: Training
    d_model: int
    max_length: int | None
    kv_bytes_per_token: int
    kv_by_sharing: Mapping[str, int]
    crossing: int
    stacks: tuple[Stack, ...]
    costs: tuple[Cost, ...]


def model_size(
    config: PretrainedConfig,
    *,
    dtype: torch.dtype | None = None,
    lengths: Sequence[int] = LENGTHS,
    trust_remote_code: bool = False,
) -> ModelSize:
    """The sizes of the model that `config` describes.

    Args:
        config: of the model.
        dtype: precision to reckon with; None takes the config's, float32 where it names none.
        lengths: tokens of the texts whose cost is told.
        trust_remote_code: run the model's own code.

    Raises:
        UnsupportedModelError: no model can be made of the config, its attention is no map from queries to keys, or it
            does not name layers and heads.
    """
    model = empty_model(config, trust_remote_code=trust_remote_code)
    refuse_by_name(model)
    precision = dtype or _precision(config)
    stacks = _stacks(config)
    counted = count_parameters(model, config)
    parameters = counted.parts.total
    text = _decoder_config(config)
    d_model = int(text.hidden_size)
    max_length = _first(text, "max_position_embeddings", "max_target_positions") or None
    vocabulary = int(getattr(text, "vocab_size", 0) or 0)
    anatomy = _anatomy(config, type(model).__name__, parameters, precision, stacks, d_model, max_length, vocabulary)
    windows = _windows(text, stacks)
    return ModelSize(
        family=str(config.model_type),
        architecture=type(model).__name__,
        n_parameters=parameters,
        counted=counted,
        dtype=anatomy.dtype,
        weight_bytes=parameters * precision.itemsize,
        training=training_of(parameters, precision.itemsize),
        d_model=d_model,
        max_length=max_length,
        kv_bytes_per_token=cache_bytes(stacks, 1, windows, precision.itemsize),
        kv_by_sharing=cache_by_sharing(stacks, 1, windows, precision.itemsize),
        crossing=crossing(stacks, counted),
        stacks=stacks,
        costs=tuple(_cost(anatomy, counted, n, windows, precision.itemsize) for n in lengths),
    )


def _precision(config: PretrainedConfig) -> torch.dtype:
    named = getattr(config, "dtype", None)
    found = getattr(torch, named, None) if isinstance(named, str) else named
    return found if isinstance(found, torch.dtype) and found.is_floating_point else torch.float32


def _decoder_config(config: PretrainedConfig) -> Any:
    """The config of what writes: the decoder, or the only stack."""
    decoder = getattr(config, "decoder", None)
    if isinstance(decoder, PretrainedConfig):
        return decoder
    return config if config.is_encoder_decoder else config.get_text_config(decoder=True)


def _stacks(config: PretrainedConfig) -> tuple[Stack, ...]:
    if not config.is_encoder_decoder:
        text = _decoder_config(config)
        return (_stack(text, ONLY, "", causal=_is_causal(text)),)
    encoder, decoder = getattr(config, "encoder", config), _decoder_config(config)
    return (
        _stack(encoder, ENCODER, "encoder", causal=False),
        _stack(decoder, DECODER, "decoder", causal=True),
        _stack(decoder, CROSS, "decoder", causal=False),
    )


def _stack(config: Any, letter: str, side: str, causal: bool) -> Stack:
    layers = _first(config, f"{side}_layers", "num_decoder_layers" if side == "decoder" else "", "num_hidden_layers")
    heads = _first(config, f"{side}_attention_heads", "num_attention_heads")
    width = _first(config, "hidden_size")
    if not layers or not heads or not width:
        raise UnsupportedModelError(
            f"the {config.model_type} config does not name layers, heads and width; attnlens doctor -m MODEL opens the "
            "model itself."
        )
    return Stack(
        letter=letter, causal=causal, n_layers=layers, n_heads=heads, n_kv_heads=_kv_heads(config, heads),
        d_head=_first(config, "head_dim", "d_kv") or width // heads, attention_layers=tuple(range(layers)),
        layout="unknown", position="unknown", max_length=None, residual_points=(), absent={"*": _PROVEN_LATER},
    )  # fmt: skip


def _first(config: Any, *names: str) -> int:
    """The first of the settings that is there, by the family's own name or by transformers' common one."""
    found = (getattr(config, name, None) for name in names if name)
    return next((value for value in found if isinstance(value, int) and value > 0), 0)


def _kv_heads(config: Any, heads: int) -> int:
    if config.model_type == "falcon":  # which repeats its groups' keys before it caches them
        return 1 if config.multi_query and not config.new_decoder_architecture else heads
    grouped = 0 if config.is_encoder_decoder else _first(config, "num_key_value_heads", "num_kv_heads")
    return grouped or heads


def _is_causal(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    return bool(getattr(config, "is_decoder", False)) or (
        config.model_type in CAUSAL and config.model_type not in MASKED
    )


def _windows(config: Any, stacks: Sequence[Stack]) -> tuple[int | None, ...]:
    """Per layer of what writes, how many tokens it keeps; None where it keeps all."""
    layers = next(stack.n_layers for stack in reversed(stacks) if stack.letter in (ONLY, DECODER))
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if not isinstance(window, int) or getattr(config, "use_sliding_window", True) is False:
        return (None,) * layers
    if kinds is None:
        return (window,) * layers
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _cost(anatomy: Anatomy, counted: Counted, n_tokens: int, windows: Sequence[int | None], itemsize: int) -> Cost:
    n_source = n_tokens if anatomy.is_encoder_decoder else 0
    lazy, weights = (
        MemoryEstimate.of(anatomy, n_tokens, Request(weights=dense, logits=False), itemsize, n_source).kept
        for dense in (False, True)
    )
    stacks = anatomy.stacks
    return Cost(
        n_tokens=n_tokens,
        kv_cache=cache_bytes(stacks, n_tokens, windows, itemsize),
        lazy=lazy,
        weights=weights,
        attention_flops=attention_flops(stacks, n_tokens),
        linear_flops=linear_flops(counted, n_tokens),
        moved={kind: moved_bytes(stacks, n_tokens, itemsize, fused=kind == "fused") for kind in ("eager", "fused")},
        activations=activations_of(
            stacks,
            counted,
            d_model=anatomy.d_model,
            vocabulary=anatomy.vocab_size,
            n_tokens=n_tokens,
            itemsize=itemsize,
        ),
        fits=anatomy.max_length is None or n_tokens <= anatomy.max_length,
    )


def _anatomy(
    config: PretrainedConfig,
    architecture: str,
    n_parameters: int,
    precision: torch.dtype,
    stacks: tuple[Stack, ...],
    d_model: int,
    max_length: int | None,
    vocab_size: int,
) -> Anatomy:
    """What the memory estimate reads; nothing in it is proven."""
    main = next(stack for stack in reversed(stacks) if stack.letter in (ONLY, DECODER))
    return Anatomy(
        model=str(config.model_type), family=str(config.model_type), architecture=architecture, causal=main.causal,
        n_layers=main.n_layers, n_heads=main.n_heads, n_kv_heads=main.n_kv_heads, d_model=d_model, d_head=main.d_head,
        vocab_size=vocab_size, max_length=max_length, position="unknown", n_parameters=n_parameters,
        dtype=str(precision).removeprefix("torch."), weights_sha256=None, revision=None, backend="none",
        residual_points=(), absent={}, self_check=SelfCheck(), stacks=stacks,
    )  # fmt: skip
