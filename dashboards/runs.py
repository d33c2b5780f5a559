"""Loaded models and captured runs, kept in memory as long as they fit; nothing here belongs to one visitor."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnlens.errors import TextError

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["RunRequest", "RunStore"]

_N_LOCKS = 16


@dataclass(frozen=True)
class RunRequest:
    """Everything a run depends on; two equal requests are the same run."""

    model: str
    text: str

    @property
    def key(self) -> str:
        """Content key, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps([self.model, self.text]).encode()).hexdigest()


class RunStore:
    """Opens runs by what they are made of; the least recently used models and runs are dropped first.

    A page keeps a request, never a run, so a dropped run is simply made again. Safe to use from several threads:
    a model is loaded once, and one text at a time is captured on it.

    Args:
        load: name -> lens, raising an `AttnlensError` for what may not or cannot be opened.
        max_lenses: models kept.
        max_bytes: bound on the bytes of all kept runs; a single larger run is kept alone.
        max_characters: longest text looked at.
        max_tokens: longest text run.
    """

    def __init__(
        self,
        load: Callable[[str], Lens],
        *,
        max_lenses: int = 3,
        max_bytes: int = 256 * 2**20,
        max_characters: int = 20_000,
        max_tokens: int = 512,
    ) -> None:
        self._load = load
        self._max_lenses, self._max_bytes = max_lenses, max_bytes
        self._max_characters, self._max_tokens = max_characters, max_tokens
        self._lenses: OrderedDict[str, Lens] = OrderedDict()
        self._runs: OrderedDict[str, Capture] = OrderedDict()
        self._model_locks = tuple(threading.RLock() for _ in range(_N_LOCKS))  # by hash: names come from visitors
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that the kept runs take."""
        with self._lock:
            return sum(run.nbytes for run in self._runs.values())

    @property
    def keys(self) -> tuple[str, ...]:
        """Content keys of the kept runs, the least recently used first."""
        with self._lock:
            return tuple(self._runs)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the loaded models, the least recently used first."""
        with self._lock:
            return tuple(self._lenses)

    def lens(self, model: str) -> Lens:
        """The loaded model, loaded now if it is not.

        Raises:
            AttnlensError: whatever `load` raises; a model that fails is not kept and may be tried again.
        """
        with self._lock_of(model):
            with self._lock:
                if (lens := self._lenses.get(model)) is not None:
                    self._lenses.move_to_end(model)
                    return lens
            lens = self._load(model)
            with self._lock:
                self._lenses[model] = lens
                while len(self._lenses) > self._max_lenses:
                    self._lenses.popitem(last=False)
            return lens

    def open(self, request: RunRequest) -> Capture:
        """The run of a request, captured now if it is not kept.

        Raises:
            TextError: the text is empty, or longer than this server or the model takes.
            AttnlensError: the model cannot be opened.
        """
        if (run := self._kept(request.key)) is not None:
            return run
        self._check(request.text)
        with self._lock_of(request.model):
            if (run := self._kept(request.key)) is not None:
                return run
            lens = self.lens(request.model)
            self._check_length(lens, request.text)
            run = lens.capture(request.text, points=())
            self._keep(request.key, run)
            return run

    def _kept(self, key: str) -> Capture | None:
        with self._lock:
            if (run := self._runs.get(key)) is not None:
                self._runs.move_to_end(key)
            return run

    def _keep(self, key: str, run: Capture) -> None:
        with self._lock:
            self._runs[key] = run
            total = sum(kept.nbytes for kept in self._runs.values())
            while total > self._max_bytes and len(self._runs) > 1:
                total -= self._runs.popitem(last=False)[1].nbytes

    def _check(self, text: str) -> None:
        if not text.strip():
            raise TextError("the text is empty; type a sentence.")
        if len(text) > self._max_characters:
            raise TextError(
                f"the text has {len(text):,} characters, this page takes {self._max_characters:,}; shorten it."
            )

    def _check_length(self, lens: Lens, text: str) -> None:
        if (n_tokens := lens.n_tokens(text)) > self._max_tokens:
            raise TextError(
                f"the text has {n_tokens:,} tokens, this page takes {self._max_tokens:,}; "
                "shorten it, or start the server with a larger --max-tokens."
            )

    def _lock_of(self, model: str) -> threading.RLock:
        return self._model_locks[hash(model) % _N_LOCKS]
