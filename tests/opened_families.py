"""Families of `family_models`, each opened once in a process, with a run to take apart."""

from __future__ import annotations

from functools import cache
from typing import Any

from family_models import FAMILIES

import attnlens


@cache
def opened(name: str) -> tuple[Any, Any, Any]:
    """A family's lens, a run of it, and the tensors of that run where it is of no text."""
    family = FAMILIES[name]
    lens = attnlens.load(model=family.build(), tokenizer=family.tokenizer())
    if family.kind in ("vision", "speech"):
        inputs = family.inputs(batch=1)
        return lens, lens.capture(inputs=inputs), inputs
    if family.kind == "encoder-decoder":
        return lens, lens.capture(source="the cat", target="le chat"), None
    return lens, lens.capture("the cat", points=("resid_post", "final")), None
