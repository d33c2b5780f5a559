"""Batches side by side on a CPU's cores: one thread each, with one thread of torch each.

A forward pass of short texts keeps two cores less busy than two forward passes on one core each, and the work of numpy
between the layers runs on one core only. What the batches add up is whole numbers, so their order does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from typing import TypeVar

import torch

__all__ = ["side_by_side"]

Item = TypeVar("Item")


def side_by_side(work: Callable[[Item], None], items: Sequence[Item], n_threads: int) -> Iterator[Item]:
    """Work on all items, and yield each when it is done; the first error ends it.

    Args:
        work: is called in several threads at once, each time with the caller's context variables.
        items: what to work on; those at the front begin first.
        n_threads: at most so many at once, each with one thread of torch; with 1, this thread does the work as it is.
    """
    n_workers = min(n_threads, len(items))
    if n_workers < 2:
        for item in items:
            work(item)
            yield item
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        running = {pool.submit(copy_context().run, work, item): item for item in items}
        for done in as_completed(running):
            done.result()
            yield running[done]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
