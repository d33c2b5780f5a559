"""The embedded models' architectures: plain transformers classes with small configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attnlens.zoo.recipes import Recipe

__all__ = ["load_model", "new_model"]


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A model with random weights (drawn from torch's current seed), without dropout."""
    return _BUILDERS[recipe.family](recipe, tokenizer)


def load_model(recipe: Recipe, folder: Path) -> Any:
    """The trained model in `folder`, for evaluation."""
    import transformers

    return getattr(transformers, _CLASSES[recipe.family]).from_pretrained(folder).eval()


def _bert(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.d_model,
            num_hidden_layers=recipe.n_layers,
            num_attention_heads=recipe.n_heads,
            intermediate_size=recipe.d_feed_forward,
            max_position_embeddings=recipe.max_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _gpt2(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=recipe.d_model,
            n_layer=recipe.n_layers,
            n_head=recipe.n_heads,
            n_inner=recipe.d_feed_forward,
            n_positions=recipe.max_length,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _llama(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.d_model,
            num_hidden_layers=recipe.n_layers,
            num_attention_heads=recipe.n_heads,
            num_key_value_heads=recipe.n_kv_heads,
            intermediate_size=recipe.d_feed_forward,
            max_position_embeddings=recipe.max_length,
            rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
            tie_word_embeddings=True,
            attention_dropout=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


_BUILDERS: dict[str, Callable[[Recipe, Any], Any]] = {"bert": _bert, "gpt2": _gpt2, "llama": _llama}
_CLASSES = {"bert": "BertForMaskedLM", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}
