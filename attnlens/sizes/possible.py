"""Configurations that no model can have, refused by what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnlens.errors import UnsupportedModelError

__all__ = ["refuse_impossible"]

_WIDTH = ("hidden_size", "d_model", "n_embd", "dim")
_LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
)
_HEADS = (
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
)
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_OWN_WIDTH = ("head_dim", "d_kv", "attention_head_size", "qk_nope_head_dim")  # of heads, whatever the stream's
_SIZES = (*_WIDTH, *_LAYERS, *_HEADS, *_KEY_HEADS, "vocab_size", "intermediate_size", "n_inner", "d_ff", "head_dim")


def refuse_impossible(settings: Mapping[str, Any]) -> None:
    """Return if a model of these sizes can exist.

    Args:
        settings: of a config, by the family's own names, as in its `config.json`.

    Raises:
        UnsupportedModelError: a size is no positive number, heads do not divide the width or key-value heads the
            heads, or more experts are asked for than there are; the settings are named.
    """
    for name in _SIZES:
        value = settings.get(name)
        if value is not None and not isinstance(value, list) and (not isinstance(value, int) or value < 1):
            raise UnsupportedModelError(f"the config has {name}={str(value)[:40]}; expected a whole number from 1 on.")
    width, key_heads = _named(settings, _WIDTH), _named(settings, _KEY_HEADS)
    own_width = any(settings.get(name) for name in _OWN_WIDTH) or _has_own_width(settings.get("model_type"))
    for name in _HEADS:
        heads = settings.get(name)
        if not isinstance(heads, int):
            continue
        if width and not own_width and width[1] % heads:
            raise UnsupportedModelError(
                f"the config has {name}={heads}, which does not divide {width[0]}={width[1]}; take a divisor, or name "
                "head_dim where the family has it."
            )
        if key_heads and heads % key_heads[1]:
            raise UnsupportedModelError(
                f"the config has {key_heads[0]}={key_heads[1]}, which does not divide {name}={heads}."
            )
    experts, chosen = _named(settings, _EXPERTS), settings.get("num_experts_per_tok")
    if experts and isinstance(chosen, int) and not 1 <= chosen <= experts[1]:
        raise UnsupportedModelError(
            f"the config has num_experts_per_tok={chosen}; expected 1 to {experts[0]}={experts[1]}."
        )


def _has_own_width(family: Any) -> bool:
    """Whether the family's heads have a width of their own even where a config does not say so (Gemma)."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = CONFIG_MAPPING[family] if isinstance(family, str) and family in CONFIG_MAPPING else None
    return isinstance(getattr(known, "head_dim", None), int)


def _named(settings: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, int] | None:
    return next(((name, value) for name in names if isinstance(value := settings.get(name), int)), None)
