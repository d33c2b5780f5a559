"""How positions enter a model, and how many tokens that takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["PositionScheme", "longest_text", "position_modules", "position_scheme", "position_table"]

PositionScheme = Literal["sinusoidal", "learned", "rope", "alibi", "relative bias", "none", "unknown"]

# Names of what holds one row per position: wpe, embed_positions, position_embeddings, pos_emb, positional_encoding, pe.
_TABLE_NAME = re.compile(
    r"wpe|pe|(embed_)?pos(ition(al|s)?)?(_?emb(ed(ding)?s?)?)?(_?enc(oding|oder)?s?)?(_?table)?", re.IGNORECASE
)


def position_scheme(module: nn.Module) -> PositionScheme:
    """How a model, or one stack's owner, tells positions apart.

    "alibi": the config or a method of the model says so. "relative bias": a bias by distance on the scores (T5, MPNet,
    which also has a table; DeBERTa's distance embeddings). "rope": a rotary embedding. "sinusoidal": a table whose
    rows are sines and cosines, checked by numbers. "learned": another table. "none": torch's own modules alone, which
    add no position. "unknown": none of these was found; nothing is claimed.
    """
    config = _config_of(module)
    rules: tuple[tuple[PositionScheme, Callable[[nn.Module, Any], bool]], ...] = (
        ("alibi", _has_alibi),
        ("relative bias", _has_relative_bias),
        ("rope", _has_rotary),
        ("sinusoidal", _has_sinusoids),
        ("learned", lambda module, _: next(_tables(module), None) is not None),
        ("none", lambda module, _: all(type(part).__module__.startswith("torch.nn") for part in module.modules())),
    )
    return next((scheme for scheme, holds in rules if holds(module, config)), "unknown")


def longest_text(module: nn.Module) -> int | None:
    """Tokens that the position scheme of a model, or of one stack's owner, takes; None where nothing limits it.

    A table ends; rows in front of its offset (OPT, BART) or padding index (RoBERTa, MPNet) are never a position. A
    rotary embedding is limited by the length that the config names, beyond which the model was never trained. A
    relative bias, ALiBi and tables that grow as needed have no limit, and a sliding window is none.
    """
    limits = [rows - first for rows, first in (_rows(part) for part in position_modules(module)) if rows]
    scheme, config = position_scheme(module), _config_of(module)
    if scheme == "rope":
        named = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        limits += [int(named)] if named else []
    if not limits:
        limits = [table.numel() // table.shape[-1] for table in _lone_tables(module)]
    return min(limits) if limits else None


def position_table(module: nn.Module) -> Tensor | None:
    """The table that has one row per position, sinusoidal or learned, from the first position on; None without one.

    Tables that grow as needed are given as far as they were built.
    """
    for part in position_modules(module):
        weight = getattr(part, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:
            return weight.detach()[_rows(part)[1] :]
    lone = next(_lone_tables(module), None)
    return None if lone is None else lone.detach().reshape(-1, lone.shape[-1])


def _config_of(module: nn.Module) -> Any:
    config: Any = getattr(module, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _has_alibi(module: nn.Module, config: Any) -> bool:
    settings = (getattr(config, "alibi", None), getattr(getattr(config, "attn_config", None), "alibi", None))
    if any(setting is not None for setting in settings):
        return any(setting is True for setting in settings)
    classes = {type(part) for part in module.modules()}
    return any("build" in name and "alibi" in name for kind in classes for name in vars(kind))


def _has_relative_bias(module: nn.Module, config: Any) -> bool:
    tables = ("relative_attention_bias", "rel_embeddings")
    named = any(isinstance(part, nn.Embedding) and _last(name) in tables for name, part in module.named_modules())
    return named or getattr(config, "relative_attention", False) is True


def _has_rotary(module: nn.Module, config: Any) -> bool:
    """A rotary module; or, where the attention rotates on its own (GPT-J, CodeGen, RoFormer), the setting for it."""
    named = any("rotary" in type(part).__name__.lower() for part in module.modules())
    return named or any(getattr(config, name, None) is not None for name in ("rotary_dim", "rotary_value"))


def _has_sinusoids(module: nn.Module, _config: Any) -> bool:
    if any("Sinusoidal" in type(part).__name__ for part in module.modules()):
        return True
    return any(_are_sinusoids(table) for table in _tables(module))


def _are_sinusoids(table: Tensor) -> bool:
    """Columns pair up as sine and cosine of one angle, in two halves or in turn; a padding row may be zero."""
    rows = table.detach().reshape(-1, table.shape[-1]).float()
    rows = rows[rows.abs().amax(-1) > 0]
    pairs = rows.shape[-1] // 2
    if not len(rows) or not pairs:
        return False
    half = rows.shape[-1] - pairs
    layouts = ((rows[:, :pairs], rows[:, half : half + pairs]), (rows[:, : 2 * pairs : 2], rows[:, 1 : 2 * pairs : 2]))
    return any(bool(((sine**2 + cosine**2 - 1).abs() < 1e-2).all()) for sine, cosine in layouts)


def position_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Modules that look a position up."""
    for name, part in module.named_modules():
        if _TABLE_NAME.fullmatch(_last(name)):
            yield part


def _tables(module: nn.Module) -> Iterator[Tensor]:
    """The tables of positions, however they are held."""
    for part in position_modules(module):
        weight = getattr(part, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:
            yield weight
    yield from _lone_tables(module)


def _lone_tables(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers that are a table without a module around them (ViT)."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if _TABLE_NAME.fullmatch(_last(name)) and tensor.ndim >= 2 and tensor.is_floating_point():
            yield tensor


def _rows(part: nn.Module) -> tuple[int, int]:
    """Rows of a table and the first that is a position; (0, 0) for one that grows as needed."""
    weight = getattr(part, "weight", None)
    grows = "Sinusoidal" in type(part).__name__ and hasattr(part, "make_weights" if weight is None else "make_weight")
    if not isinstance(weight, Tensor) or weight.ndim != 2 or grows:
        return 0, 0
    offset, padding = getattr(part, "offset", None), getattr(part, "padding_idx", None)
    first = offset if isinstance(offset, int) else (0 if padding is None else padding + 1)
    return int(weight.shape[0]), int(first)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
