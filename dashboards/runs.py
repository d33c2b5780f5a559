"""Loaded models and captured runs, in memory and on disk as long as they fit; nothing here belongs to one visitor."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.errors import BundleError, TextError
from dashboards.making import check_text, make_run
from dashboards.request import RunRequest
from dashboards.store import FileStore
from dashboards.work import WorkQueue

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["RunRequest", "RunStore"]

log = logging.getLogger(__name__)

_N_LOCKS = 16

Name = tuple[str, bool, str]  # request, with or without points, the model's files


class RunStore:
    """Opens runs by what they are made of; the least recently used models and runs are dropped first.

    A page keeps a request, never a run, so a dropped run is read again from disk, or made again. Safe to use from
    several threads: a model is loaded once, one text at a time is captured on it, and the threads that ask do not
    compute but wait.

    Args:
        load: name -> lens, raising an `AttnlensError` for what cannot be opened.
        allow: returns if a model of this name may be opened, and raises an `AttnlensError` if not.
        stamp: name -> a string that changes when the model does.
        files: where runs are kept beyond this process; None keeps them in memory alone.
        work: what makes the runs.
        max_models_bytes: bound on the weights of all kept models; a single larger model is kept alone.
        max_bytes: bound on the bytes of all runs kept in memory; a single larger run is kept alone.
        max_characters: longest text looked at.
        max_tokens: longest text run.
    """

    def __init__(
        self,
        load: Callable[[str], Lens],
        *,
        allow: Callable[[str], None] = lambda name: None,
        stamp: Callable[[str], str] = lambda name: "",
        files: FileStore | None = None,
        work: WorkQueue | None = None,
        max_models_bytes: int = 4 * 2**30,
        max_bytes: int = 256 * 2**20,
        max_characters: int = 20_000,
        max_tokens: int = 512,
    ) -> None:
        self._load, self._allow, self._stamp = load, allow, stamp
        self._files, self._work = files, work or WorkQueue()
        self._max_models_bytes, self._max_bytes = max_models_bytes, max_bytes
        self._max_characters, self._max_tokens = max_characters, max_tokens
        self._lenses: OrderedDict[str, tuple[str, Lens]] = OrderedDict()
        self._own: dict[str, Lens] = {}
        self._runs: OrderedDict[Name, Capture] = OrderedDict()
        self._model_locks = tuple(threading.RLock() for _ in range(_N_LOCKS))  # by hash: names come from visitors
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that the runs kept in memory take."""
        with self._lock:
            return sum(run.nbytes for run in self._runs.values())

    @property
    def keys(self) -> tuple[str, ...]:
        """Content keys of the requests whose runs are kept in memory, the least recently used first."""
        with self._lock:
            return tuple(dict.fromkeys(key for key, _, _ in self._runs))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the loaded models, the least recently used first."""
        with self._lock:
            return (*self._own, *self._lenses)

    def adopt(self, name: str, lens: Lens) -> None:
        """Serve a model that the caller opened, under this name, for as long as the store lives."""
        with self._lock:
            self._own[name] = lens

    def opened(self, model: str) -> Lens | None:
        """The model if it is loaded now."""
        with self._lock:
            if model in self._own:
                return self._own[model]
            return self._lenses[model][1] if model in self._lenses else None

    def lens(self, model: str) -> Lens:
        """The loaded model, loaded now if it is not, or if its files changed.

        Raises:
            AttnlensError: it may not or cannot be opened; a model that fails is not kept and may be tried again.
        """
        stamp = self._stamp_of(model)
        if (lens := self._kept_lens(model, stamp)) is not None:
            return lens
        self._allow(model)
        return self._work.run((model, stamp), lambda: self._loaded(model, stamp))

    def holds(self, request: RunRequest) -> bool:
        """Whether the request's run is there, so that showing it opens no model."""
        name = self._name(request, points=False)
        with self._lock:
            if name in self._runs:
                return True
        return self._files is not None and self._files.find(_file(request, name)) is not None

    def open(self, request: RunRequest, *, points: bool = False) -> Capture:
        """The run of a request: kept, or read from disk, or captured now.

        Args:
            request: what to run; or which uploaded run to show.
            points: a run that holds the residual stream and the logits as well.

        Raises:
            TextError: a text is empty, or longer than this server or the model takes.
            BundleError: an uploaded run that is not (or no longer) here.
            BusyError: too many runs are being made.
            AttnlensError: the model cannot be opened.
        """
        name = self._name(request, points)
        if (run := self._kept(name)) is not None:
            return run
        if request.run:
            return self._keep(name, self._uploaded(request))
        check_text(request, self._max_characters)
        if request.model not in self._own:
            self._allow(request.model)
        if (run := self._read(_file(request, name))) is not None:
            return self._keep(name, run)
        return self._work.run(name, lambda: self._made(request, name))

    def take(self, path: Path, key: str) -> RunRequest:
        """Keep an uploaded run for all who have its key, and return the request that shows it.

        Args:
            path: the file.
            key: SHA-256 of its content.

        Raises:
            BundleError: it is no run, of a later version, or damaged.
        """
        from attnlens.capture.bundle import open_run

        run = open_run(path, verify=True)
        request = RunRequest(run.anatomy.model, run.text, run=key)
        if self._files is not None:
            self._files.keep(f"{key}.attn", lambda part: shutil.copyfile(path, part))
        self._keep(self._name(request, points=False), run)
        return request

    def _uploaded(self, request: RunRequest) -> Capture:
        run = self._read(_file(request, self._name(request, points=False)))
        if run is None:
            raise BundleError(
                f"the uploaded run {request.run[:12]} is not (or no longer) here; drop its .attn file here again."
            )
        return run

    def _made(self, request: RunRequest, name: Name) -> Capture:
        with self._lock_of(request.model):
            if (run := self._kept(name)) is not None:
                return run
            lens = self.lens(request.model)
            with _memory("running the text"):
                run = make_run(lens, request, max_tokens=self._max_tokens, points=name[1])
            if self._files is not None and request.model not in self._own:
                self._files.keep(_file(request, name), run.save)
            return self._keep(name, run)

    def _read(self, file: str) -> Capture | None:
        """The run of a file, None if it is not there; a damaged file is removed, so that the run is made again."""
        from attnlens.capture.bundle import open_run

        path = None if self._files is None else self._files.find(file)
        if self._files is None or path is None:
            return None
        try:
            return open_run(path, verify=True)
        except BundleError as error:
            log.warning("a kept run is dropped: %s", error)
            self._files.drop(file)
            return None

    def _loaded(self, model: str, stamp: str) -> Lens:
        with self._lock_of(model):
            if (lens := self._kept_lens(model, stamp)) is not None:
                return lens
            with _memory(f"opening {model[:200]}"):
                lens = self._load(model)
            with self._lock:
                self._lenses[model] = stamp, lens
                self._lenses.move_to_end(model)
                total = sum(_weights(kept) for _, kept in self._lenses.values())
                while total > self._max_models_bytes and len(self._lenses) > 1:
                    total -= _weights(self._lenses.popitem(last=False)[1][1])
            return lens

    def _kept_lens(self, model: str, stamp: str) -> Lens | None:
        with self._lock:
            if model in self._own:
                return self._own[model]
            if (found := self._lenses.get(model)) is None or found[0] != stamp:
                return None
            self._lenses.move_to_end(model)
            return found[1]

    def _kept(self, name: Name) -> Capture | None:
        with self._lock:
            if (run := self._runs.get(name)) is not None:
                self._runs.move_to_end(name)
            return run

    def _keep(self, name: Name, run: Capture) -> Capture:
        with self._lock:
            self._runs[name] = run
            self._runs.move_to_end(name)
            total = sum(kept.nbytes for kept in self._runs.values())
            while total > self._max_bytes and len(self._runs) > 1:
                total -= self._runs.popitem(last=False)[1].nbytes
        return run

    def _name(self, request: RunRequest, points: bool) -> Name:
        if request.run:  # the file is the run, whatever an address says beside it
            return request.run, False, ""
        return request.key, points, self._stamp_of(request.model)

    def _stamp_of(self, model: str) -> str:
        return "" if model in self._own else self._stamp(model)

    def _lock_of(self, model: str) -> threading.RLock:
        return self._model_locks[hash(model) % _N_LOCKS]


def _file(request: RunRequest, name: Name) -> str:
    """Name of the file that holds a run: an uploaded one's content key, or what the run is made of."""
    return f"{request.run or hashlib.sha256(json.dumps(name).encode()).hexdigest()}.attn"


@contextmanager
def _memory(doing: str) -> Iterator[None]:
    """Say in words that there is not enough memory; torch raises a `RuntimeError` of many lines."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise TextError(
            f"{doing} takes more memory than this machine has free; shorten the text, or open a smaller model."
        ) from error


def _weights(lens: Lens) -> int:
    """Bytes of a model's weights."""
    return sum(tensor.nbytes for tensor in (*lens.model.parameters(), *lens.model.buffers()))
