"""The application of Celery's workers: `celery -A dashboards.jobs.celery_app worker` with `CELERY_BROKER_URL` set.

Workers read and write the same folder of jobs as the server, under the same path. A task is plain JSON: a folder and
the attempt's name; what is to be done, and how far it is, stands in the folder.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from dashboards.jobs.launching import run_here

__all__ = ["TASK", "make_app"]

TASK = "attnlens.probe"
_RESULTS_ARE_FILES: dict[str, Any] = {
    "task_ignore_result": True,
    "task_serializer": "json",
    "accept_content": ["json"],
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
}


@cache
def make_app(broker: str) -> Any:
    """Celery's application on a broker."""
    from celery import Celery

    made = Celery("attnlens", broker=broker)
    made.conf.update(_RESULTS_ARE_FILES)

    @made.task(name=TASK)  # type: ignore[untyped-decorator]
    def probe(folder: str, attempt: str) -> int:
        return run_here(Path(folder), attempt)

    return made


def __getattr__(name: str) -> Any:
    """Celery's command line asks for `app`; nothing is made before."""
    if name in ("app", "celery"):
        return make_app(os.environ.get("CELERY_BROKER_URL", "memory://"))
    raise AttributeError(name)
