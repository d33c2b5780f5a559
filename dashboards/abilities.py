"""What a model can be given: told from the opened model, or from its files while nobody has opened it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import CaptureError
from dashboards.request import CHAT, PAIR, TARGET, TEXT, WRITE

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["kinds_of_files", "kinds_of_lens"]

_WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def kinds_of_lens(lens: Lens) -> tuple[str, ...]:
    """The kinds of request that an opened model takes, its usual one first."""
    from attnlens.models.generating import check_generation

    try:
        check_generation(lens.opened)
        writes = True
    except CaptureError:
        writes = False
    tokenizer = lens.tokenizer
    pairs = tokenizer is not None and (
        tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False)
    )
    chat = getattr(tokenizer, "chat_template", None) is not None
    causal = lens.anatomy.causal
    return _kinds(lens.anatomy.is_encoder_decoder, writes=writes, pairs=pairs and not causal, chat=chat)


def kinds_of_files(folder: Path) -> tuple[str, ...]:
    """The same from a model's folder, without its weights; the plain text for what cannot be read."""
    config = _json(folder / "config.json")
    names = config.get("architectures")
    writes = isinstance(names, list) and any(str(name).endswith(_WRITERS) for name in names)
    chat = "chat_template" in _json(folder / "tokenizer_config.json") or (folder / "chat_template.jinja").is_file()
    two_stacks = bool(config.get("is_encoder_decoder"))
    return _kinds(two_stacks, writes=writes, pairs=not writes and _takes_pairs(folder), chat=chat)


def _kinds(two_stacks: bool, *, writes: bool, pairs: bool, chat: bool) -> tuple[str, ...]:
    """An encoder-decoder reads one text and writes another; other models may be given two as one."""
    if two_stacks:
        return (WRITE, TARGET) if writes else (TARGET,)
    offered = {TEXT: True, PAIR: pairs, WRITE: writes, CHAT: chat}
    return tuple(kind for kind, can in offered.items() if can)


def _takes_pairs(folder: Path) -> bool:
    """Whether the tokenizer marks the border between two texts."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # whatever the reader, written in Rust, raises for a stranger's file
        return False
    return bool(tokenizer.num_special_tokens_to_add(True) > tokenizer.num_special_tokens_to_add(False))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
