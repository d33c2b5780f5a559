"""Opened tiny models of the families that measures are held against, each opened once."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pytest
import torch


class OpenedFamily(NamedTuple):
    """A tiny random model, opened.

    Attributes:
        lens: the lens.
        model: the model.
        text: what to capture; (source, target) for an encoder-decoder.
        stacks: letters of its stacks.
    """

    lens: Any
    model: Any
    text: Any
    stacks: tuple[str, ...]

    def inputs(self, run: Any) -> dict[str, torch.Tensor]:
        """What `model` is called with for the tokens of `run`."""
        own = torch.tensor([[token.id for token in run.tokens]])
        if run.source is None:
            return {"input_ids": own}
        return {"input_ids": torch.tensor([[token.id for token in run.source.tokens]]), "decoder_input_ids": own}


@cache
def _open(name: str) -> OpenedFamily:
    from family_models import FAMILIES

    import attnlens

    family = FAMILIES[name]
    model: Any = family.build()
    lens = attnlens.load(model=model, tokenizer=family.tokenizer())
    text = ("the cat", "le chat") if lens.anatomy.is_encoder_decoder else "the cat"
    return OpenedFamily(lens, model, text, tuple(stack.letter for stack in lens.anatomy.stacks))


@pytest.fixture
def opened_family() -> Any:
    """`opened_family(name)`: a tiny model of `family_models.FAMILIES`, opened."""
    return _open
