"""What a visitor asks to see: a model and what it is to read or write; the run follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["CHAT", "KINDS", "MAX_NEW_TOKENS", "NEW_TOKENS", "PAIR", "TARGET", "TEXT", "WRITE", "RunRequest", "count_of"]

TEXT, PAIR, TARGET, WRITE, CHAT = "text", "pair", "target", "write", "chat"
KINDS = (TEXT, PAIR, TARGET, WRITE, CHAT)
NEW_TOKENS = 20
MAX_NEW_TOKENS = 256

_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class RunRequest:
    """Everything a run depends on; two equal requests are the same run.

    Attributes:
        model: name of the model.
        text: the text; of a pair the first; what an encoder-decoder reads; the prompt; the turn of a user.
        kind: "text", "pair" (`text` and `second`), "target" (an encoder-decoder reads `text` and is given `second` as
            what it writes), "write" (the model goes on from `text`), "chat" (`text` in the model's chat template).
        second: the second text, where the kind has one.
        new_tokens: how many tokens the model writes at most, where it writes ("write", "chat").
        run: content key of an uploaded run that is shown instead; empty where the run is made here.
    """

    model: str
    text: str
    kind: str = TEXT
    second: str = ""
    new_tokens: int = 0
    run: str = ""

    @property
    def key(self) -> str:
        """Content key, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps([getattr(self, field.name) for field in fields(self)]).encode()).hexdigest()

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that the kind needs."""
        return (self.text, self.second) if self.kind in (PAIR, TARGET) else (self.text,)

    def to_json(self) -> dict[str, Any]:
        """Model and text, and what differs from a single text: what stores hold, and the address spells."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in document.items() if value != plain[name]}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> RunRequest:
        """The request of a store, or of an address; what a kind does not use is left out, and so is what is no value.

        >>> RunRequest.from_json({"model": "m", "text": "a", "kind": "nonsense", "second": "b"})
        RunRequest(model='m', text='a', kind='text', second='', new_tokens=0, run='')
        """
        model, text, second, key = (_whole(str(given.get(name) or "")) for name in ("model", "text", "second", "run"))
        if _KEY.fullmatch(key):
            return cls(model, text, run=key)
        kind = given.get("kind")
        kind = kind if kind in KINDS else TEXT
        asked = count_of(str(given.get("new_tokens") or ""))
        written = {WRITE: asked or NEW_TOKENS, CHAT: asked}.get(kind, 0)
        return cls(model, text, kind, second if kind in (PAIR, TARGET) else "", written)


def _whole(text: str) -> str:
    """`text` with halves of characters, which no tokenizer takes, replaced as browsers do in addresses."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def count_of(text: str) -> int:
    """A number of tokens to write, from 1 to the most that the page takes; 0 for all else."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    return min(number, MAX_NEW_TOKENS)
