"""The process that runs one job: `python -m dashboards.jobs.worker FOLDER ATTEMPT`.

It writes its state about once a second, and ends when it is cancelled, when another attempt took its place, or when the
process that started it is gone (its standard input closes). What was counted stays, and the next attempt goes on there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError, OutputError
from dashboards.jobs.job import JobRequest, JobState, cancel_file, read_state, results_folder, write_state

if TYPE_CHECKING:
    from probes.report import HeadReport

__all__ = ["main", "run_job"]

log = logging.getLogger(__name__)

BEAT_S, LOOK_S = 1.0, 0.25
SHARD_SENTENCES = 64  # counted and kept together: little is lost, and the page has something to tell
FAILED, TAKEN = 1, 3


class Worker:
    """Keeps a job's state on disk up to date from a thread of its own while the probe runs."""

    def __init__(self, folder: Path, attempt: str) -> None:
        self.folder, self.attempt = folder, attempt
        now = time.time()
        self._state = replace(read_state(folder), state="running", stage="Starting", started=now, beat=now, message="")
        self._lock = threading.Lock()
        self._first: tuple[float, int] | None = None  # when counting began, and at how many sentences
        self.orphaned = threading.Event()

    def says(self, stage: str) -> None:
        """What is being done from now on."""
        with self._lock:
            self._state = replace(self._state, stage=stage)

    def counted(self, done: int, total: int) -> None:
        """How many sentences are counted. What an earlier attempt counted comes first, and says nothing about speed."""
        now = time.time()
        with self._lock:
            if self._first is None or now - self._first[0] < 0.5:
                self._first = (now, done) if self._first is None else (self._first[0], done)
            began, before = self._first
            speed = (done - before) / (now - began) if now > began and done > before else 0.0
            stage = "Counting" if done < total else "Holding labels against baselines"
            self._write(replace(self._state, stage=stage, done=done, total=total, per_second=speed))

    def ends(self, state: str, message: str = "") -> None:
        """The last state of this attempt."""
        with self._lock:
            if state == "done":
                self._state = replace(self._state, done=self._state.total)
            self._write(replace(self._state, state=state, message=message))

    def watch(self) -> None:
        """Write signs of life until the process ends; end it when nobody wants it any more."""
        written = 0.0
        while True:
            if read_state(self.folder).attempt != self.attempt:
                os._exit(TAKEN)  # at once: another worker writes here now
            if cancel_file(self.folder).exists():
                self._leave("cancelled", "")
            if self.orphaned.is_set():
                self._leave("stopped", "the server ended")
            if time.time() - written >= BEAT_S:
                written = time.time()
                with self._lock:
                    self._write(self._state)
            time.sleep(LOOK_S)

    def _leave(self, state: str, message: str) -> None:
        self.ends(state, message)
        os._exit(FAILED)  # at once: a forward pass takes as long as it takes

    def _write(self, state: JobState) -> None:
        self._state = replace(state, beat=time.time())
        with contextlib.suppress(OutputError):  # a full disk: the next one may fit
            write_state(self.folder, self._state)


def run_job(folder: Path, worker: Worker) -> None:
    """Probe what the folder's request asks for, and leave the results there.

    Raises:
        AttnlensError: the model or the corpus cannot be opened, or does not have what the families need.
    """
    request = JobRequest.read(folder)
    if request is None:
        raise OutputError(f"{folder} holds no request.")
    worker.says("Opening the model")
    from attnlens.models.lens import load
    from probes.checkpoints import FOLDER, remove

    lens = load(request.model, allow_pickle=False, trust_remote_code=False)
    results = results_folder(folder)
    worker.says("Reading the corpus")
    report = _probe(request, folder, lens, worker, results / FOLDER)
    worker.says("Writing the results")
    report.save(results)
    remove(results / FOLDER)


def _probe(request: JobRequest, folder: Path, lens: Any, worker: Worker, shards: Path) -> HeadReport:
    from probes.causal import CausalSettings
    from probes.engine import run
    from probes.families import ALL

    return run(
        lens,
        list(request.families) or ALL,
        folder / request.corpus if request.uploaded else request.corpus,
        limit=request.limit,
        skip_bad=request.skip_bad,
        shard_sentences=SHARD_SENTENCES,
        checkpoints=shards,
        resume=True,
        causal=CausalSettings() if request.causal else None,
        progress=worker.counted,
        causal_progress=lambda done, total: worker.says(f"Taking heads away: {done} of {total}"),
    )


def main() -> int:
    """Run the job that the command line names."""
    folder, attempt = Path(sys.argv[1]), sys.argv[2]
    found = read_state(folder)
    if found.attempt != attempt or found.state != "queued":
        return TAKEN  # cancelled before it began, or taken up by another
    worker = Worker(folder, attempt)
    if "--detached" not in sys.argv[3:]:
        threading.Thread(target=_wait_for_end, args=(worker.orphaned,), daemon=True).start()
    threading.Thread(target=worker.watch, daemon=True).start()
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)  # the page comes first
    try:
        run_job(folder, worker)
    except AttnlensError as error:
        worker.ends("failed", printable(str(error)))
        return FAILED
    except KeyboardInterrupt:
        worker.ends("stopped", "it was interrupted")
        return FAILED
    except Exception:
        log.exception("the probe failed")
        worker.ends("failed", f"something went wrong; {folder.name}/log.txt says what.")
        return FAILED
    worker.ends("done")
    return 0


def _wait_for_end(orphaned: threading.Event) -> None:
    """Standard input is a pipe from the process that started this one: it closes when that one ends, however."""
    sys.stdin.buffer.read()
    orphaned.set()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no waiting for threads of libraries
