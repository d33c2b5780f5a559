"""A text written one token at a time, with the key-value cache that the model really keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, TextError, UsageError
from attnlens.models.generating import prompt_arguments, whole_batch, written_text
from attnlens.models.inputs import Batch
from attnlens.models.opening import Opened
from attnlens.models.running import Plan, run_batch

__all__ = ["Written", "write_tokens"]


@dataclass(frozen=True, eq=False)
class Written:
    """A prompt with chosen tokens after it, as the model computed them one by one.

    Attributes:
        run: of the whole text, in one pass.
        logits: scores of the token that would come next, from the last step with the cache.
        cache_bytes: of keys and values after the prompt, and after each written token; all layers, cross-attention
            included. Empty for a model that keeps none.
        gap: largest difference between the logits of the step and those of the one pass over the whole text.
    """

    run: Capture
    logits: Float[Tensor, " vocab"]
    cache_bytes: tuple[int, ...]
    gap: float


def write_tokens(
    opened: Opened,
    tokenizer: PreTrainedTokenizerBase | None,
    prompt: Batch,
    tokens: Sequence[int],
    plan: Plan,
    versions: Mapping[str, str],
) -> Written:
    """Give a model its prompt and then tokens one at a time, as generation does, whatever the model would have chosen.

    Args:
        opened: the model, which passed `check_generation`.
        tokenizer: labels and decodes what is written; None labels by number.
        prompt: one row without padding.
        tokens: numbers in the vocabulary.
        plan: what the run keeps; its logits must be among that.
        versions: of the libraries.

    Raises:
        UsageError: a number that is no token.
        TextError: the text would be longer than the model's context.
        CaptureError: the model returns no logits.
    """
    model: Any = opened.tap.model
    arguments = prompt_arguments(model, prompt)
    _check(opened, arguments, tokens)
    begun = _begun(model, arguments)
    sizes, logits = [], None
    output, passed = None, dict(begun)
    with torch.no_grad():
        for place in range(len(tokens) + 1):
            output = model(**passed, use_cache=True)
            logits = output.logits[0, -1]
            cache = getattr(output, "past_key_values", None)
            if cache is not None:
                sizes.append(_bytes(cache))
            if place < len(tokens):
                passed = _next(model, begun, output, tokens[: place + 1])
    ids = [*begun["decoder_input_ids" if "decoder_input_ids" in begun else "input_ids"][0].tolist(), *tokens]
    text = written_text(tokenizer, prompt.texts[0], ids)
    run = next(run_batch(opened, whole_batch(prompt, arguments, ids, text, opened), plan, versions))
    if logits is None or run.logits is None:
        raise CaptureError(f"{opened.anatomy.model} returned no logits, so it cannot be asked for a next token.")
    gap = float((run.logits[-1].float() - logits.float().cpu()).abs().max())
    return Written(run, logits.float().cpu(), tuple(sizes), gap)


def _check(opened: Opened, arguments: Mapping[str, Any], tokens: Sequence[int]) -> None:
    anatomy = opened.anatomy
    wrong = next((token for token in tokens if not 0 <= token < anatomy.vocab_size), None)
    if wrong is not None:
        raise UsageError(f"{wrong} is no token of {anatomy.model}; expected numbers below {anatomy.vocab_size:,}.")
    given = arguments.get("decoder_input_ids" if anatomy.is_encoder_decoder else "input_ids")
    n_tokens = (given.shape[1] if isinstance(given, Tensor) else 1) + len(tokens)
    if anatomy.max_length is not None and n_tokens > anatomy.max_length:
        raise TextError(
            f"the text would have {n_tokens} tokens, {anatomy.model} takes at most {anatomy.max_length}; take fewer."
        )


def _begun(model: PreTrainedModel, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The first call: the prompt, and of an encoder-decoder the token that its text starts with."""
    begun = dict(arguments)
    if model.config.is_encoder_decoder and "decoder_input_ids" not in begun:
        settings: Any = model.generation_config
        start = getattr(settings, "decoder_start_token_id", None)
        start = start if start is not None else getattr(model.config, "decoder_start_token_id", None)
        start = start if start is not None else getattr(settings, "bos_token_id", None)
        if start is None:
            raise CaptureError(f"{type(model).__name__} names no token to start with; set decoder_start_token_id.")
        begun["decoder_input_ids"] = torch.tensor([[int(start)]], device=model.device)
    return begun


def _next(model: PreTrainedModel, begun: Mapping[str, Any], output: Any, tokens: Sequence[int]) -> dict[str, Any]:
    """The call for the last of `tokens`, on the cache of the call before."""
    last = torch.tensor([[tokens[-1]]], device=model.device)
    cache = {"past_key_values": output.past_key_values}
    if cache["past_key_values"] is None:
        raise CaptureError(f"{type(model).__name__} returns no key-value cache, so it cannot go on from a step.")
    if model.config.is_encoder_decoder:
        mask = {name: begun[name] for name in ("attention_mask",) if name in begun}
        return {"decoder_input_ids": last, "encoder_outputs": (output.encoder_last_hidden_state,), **mask, **cache}
    n_tokens = begun["input_ids"].shape[1] + len(tokens)
    return {"input_ids": last, "attention_mask": torch.ones(1, n_tokens, dtype=torch.long, device=last.device), **cache}


def _bytes(cache: Any) -> int:
    """Keys and values that a cache holds now."""
    sides = [getattr(cache, name, None) for name in ("self_attention_cache", "cross_attention_cache")]
    layers = [layer for side in sides if side is not None for layer in side.layers] or getattr(cache, "layers", [])
    kept = [tensor for layer in layers for tensor in (layer.keys, layer.values) if isinstance(tensor, Tensor)]
    return sum(tensor.nbytes for tensor in kept)
