"""What has a job run: a process of this machine, or workers of Celery that read the same folder."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from attnlens.errors import OutputError, ServerError
from dashboards.jobs.job import ACTIVE, read_state, write_state
from dashboards.jobs.store import Launch

__all__ = ["launcher", "on_celery", "run_here", "start_here"]

LOG = "log.txt"
_NO_CELERY = "a broker is configured, but Celery is not installed; pip install 'attnlens[celery]'."


def launcher(broker: str | None) -> Launch:
    """What runs the jobs of a server.

    Args:
        broker: address of Celery's broker; None for processes of this machine.

    Raises:
        ServerError: a broker is named, and Celery is not installed.
    """
    if broker is None:
        return start_here
    try:
        import celery  # noqa: F401
    except ImportError:
        raise ServerError(_NO_CELERY) from None
    return lambda folder, attempt: on_celery(broker, folder, attempt)


def start_here(folder: Path, attempt: str) -> None:
    """Run a job in a process of its own, which ends with this one.

    Raises:
        ServerError: no process can be started.
    """
    process = _started(folder, attempt)
    threading.Thread(target=_see_off, args=(process, folder, attempt), daemon=True).start()


def run_here(folder: Path, attempt: str) -> int:
    """Run a job in a process of its own and wait for it; its exit code."""
    return _see_off(_started(folder, attempt), folder, attempt)


def on_celery(broker: str, folder: Path, attempt: str) -> None:
    """Send a job to the workers of Celery.

    Raises:
        ServerError: the broker cannot be reached.
    """
    from dashboards.jobs.celery_app import TASK, make_app

    try:
        make_app(broker).send_task(TASK, args=[str(folder.resolve()), attempt], retry=False)
    except Exception as error:
        raise ServerError(f"the broker of Celery cannot be reached ({type(error).__name__}); is it running?") from error


def _started(folder: Path, attempt: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dashboards.jobs.worker", str(folder), attempt]
    try:
        with (folder / LOG).open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: S603
    except OSError as error:
        raise ServerError(f"no process could be started for the probe ({error.strerror or error}).") from error


def _see_off(process: subprocess.Popen[bytes], folder: Path, attempt: str) -> int:
    """Wait for a worker; where it ended without a word (it was killed, or had no memory), say so in its place."""
    code = process.wait()
    if process.stdin is not None:  # it was open until now: its closing would have told the worker to end
        process.stdin.close()
    state = read_state(folder)
    if state.attempt == attempt and state.state in ACTIVE:
        how = f"was killed (signal {-code})" if code < 0 else f"ended with code {code}"
        try:
            write_state(folder, replace(state, state="stopped", beat=time.time(), message=f"its process {how}"))
        except OutputError:
            return code  # removed, or a full disk: its silence will tell
    return code
