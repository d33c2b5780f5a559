"""Slow work off the request threads: a few workers, a limit on who waits, one computation for all who ask for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from attnlens.errors import BusyError

__all__ = ["WorkQueue"]

T = TypeVar("T")


class WorkQueue:
    """Runs functions on threads of its own while their callers wait; refuses callers beyond a limit at once.

    A caller that asks for what is being computed already waits for that. The threads start with the first work, so
    that a process may fork before, and end with the process.

    Args:
        n_threads: functions that run at a time.
        max_waiting: callers that wait at a time. Keep it below the number of request threads, so that some are left
            for what is there already.
    """

    def __init__(self, n_threads: int = 4, max_waiting: int = 8) -> None:
        self._n_threads, self._max_waiting = n_threads, max_waiting
        self._jobs: queue.SimpleQueue[tuple[Hashable, Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._pending: dict[Hashable, Future[Any]] = {}
        self._n_waiting = 0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def run(self, key: Hashable, work: Callable[[], T]) -> T:
        """What `work` returns, or what the call under way for the same key does; work that itself asks runs in place.

        Raises:
            BusyError: too many callers wait.
            Exception: whatever `work` raises, for every caller that waits for it.
        """
        if threading.current_thread() in self._threads:
            return work()
        future: Future[T] = self._enter(key, work)
        try:
            return future.result()
        finally:
            with self._lock:
                self._n_waiting -= 1

    def _enter(self, key: Hashable, work: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._n_waiting >= self._max_waiting:
                raise BusyError("the server is busy; try again in a moment. What you typed is still there.")
            self._n_waiting += 1
            if (future := self._pending.get(key)) is None:
                future = self._pending[key] = Future()
                self._jobs.put((key, work, future))
                self._start()
            return future

    def _start(self) -> None:
        if len(self._threads) < min(self._n_threads, len(self._pending)):
            name = f"attnlens-work-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while True:
            key, work, future = self._jobs.get()
            try:
                found = work()
            except BaseException as error:  # the callers' to deal with; a worker lives on
                self._forget(key)
                future.set_exception(error)
                del error
            else:
                self._forget(key)
                future.set_result(found)
                del found
            del work, future

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            del self._pending[key]
