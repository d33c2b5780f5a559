"""The folder of all jobs: start one, cancel it, continue it, find its results; every process sees the same."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.errors import BusyError, OutputError, ResultsError, ServerError
from attnlens.files import whole_file
from dashboards.jobs.job import Job, JobRequest, JobState, cancel_file, read_state, results_folder, write_state

if TYPE_CHECKING:
    from attnlens.report.results import HeadResults

__all__ = ["JobStore", "Launch", "default_folder"]

Launch = Callable[[Path, str], None]
"""Called with a job's folder and the attempt's name: something takes the job up, now or when it has time."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}", re.ASCII)
_OFF = "probes cannot be started here; start the server with --jobs DIR, a folder for their results."


def default_folder() -> Path:
    """Where a user's data lie on this system."""
    from platformdirs import user_data_path

    return user_data_path("attnlens", appauthor=False) / "jobs"


class JobStore:
    """Jobs by name. What is known about them is read from disk each time, so processes and restarts do not matter.

    Args:
        folder: one folder in it for each job; None where no probe can be started.
        launch: what has a job run.
        max_active: jobs that wait or run at a time.
        max_kept: jobs that are kept; more are refused until somebody removes one.
    """

    def __init__(self, folder: Path | None, launch: Launch, *, max_active: int = 2, max_kept: int = 100) -> None:
        self.folder, self._launch = folder, launch
        self.max_active, self.max_kept = max_active, max_kept
        self._lock = threading.Lock()
        self._read: dict[str, tuple[int, HeadResults]] = {}  # by name: when the file was written, what it says

    @property
    def is_on(self) -> bool:
        """Whether probes can be started."""
        return self.folder is not None

    def all(self) -> tuple[Job, ...]:
        """Every job, the newest first."""
        if self.folder is None or not self.folder.is_dir():
            return ()
        found = [Job.read(path) for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
        jobs = [job for job in found if job is not None]
        return tuple(sorted(jobs, key=lambda job: (-job.request.created, job.name)))

    def find(self, name: str) -> Job:
        """One job.

        Raises:
            ResultsError: there is none of this name.
        """
        job = None
        if self.folder is not None and _NAME.fullmatch(name):
            job = Job.read(self.folder / name)
        if job is None:
            raise ResultsError(f"there is no probe {name[:80]!r} here (any more); reload the page.")
        return job

    def start(self, request: JobRequest, upload: bytes | None = None) -> str:
        """Start a job and return its name.

        Args:
            request: what to probe; the caller has checked that the model and the corpus may be opened.
            upload: the corpus, of an uploaded one.

        Raises:
            ServerError: no probe can be started here, or whatever runs jobs cannot be reached.
            BusyError: as many jobs run as may, or as many are kept.
            OutputError: the folder cannot be written.
        """
        if self.folder is None:
            raise ServerError(_OFF)
        with self._lock:
            self._check_room()
            name = f"{_slug(request.model)}-{_slug(Path(request.corpus).stem)}-{secrets.token_hex(3)}"
            folder = self.folder / name
            if upload is not None:
                with whole_file(folder / request.corpus) as part:
                    part.write_bytes(upload)
            replace(request, created=time.time()).write(folder)
            self._have_run(folder, JobState())
        return name

    def cancel(self, name: str) -> None:
        """Ask a job's worker to stop; what was counted stays.

        Raises:
            ResultsError: there is no such job.
            OutputError: the folder cannot be written.
        """
        job = self.find(name)
        if job.state.state == "queued":  # whoever takes it up finds this and leaves it
            write_state(job.folder, replace(job.state, state="cancelled", attempt="", beat=time.time()))
        elif job.is_active:
            try:
                cancel_file(job.folder).touch()
            except OSError as error:
                raise OutputError(f"cannot write in {job.folder}: {error.strerror or error}.") from error

    def resume(self, name: str) -> None:
        """Go on with a job that did not end well, from what it has counted.

        Raises:
            ResultsError: there is no such job.
            ServerError, BusyError, OutputError: as `start`.
        """
        with self._lock:
            job = self.find(name)
            if job.is_active or job.state.state == "done":
                return
            self._check_room(of_kept=False)
            cancel_file(job.folder).unlink(missing_ok=True)
            self._have_run(job.folder, JobState(done=job.state.done, total=job.state.total))

    def remove(self, name: str) -> None:
        """Delete a job that is not running, with its results.

        Raises:
            ResultsError: there is no such job.
            BusyError: it is running.
        """
        job = self.find(name)
        if job.is_active:
            raise BusyError("it is still running; cancel it first.")
        shutil.rmtree(job.folder, ignore_errors=True)
        self._read.pop(name, None)

    def finished(self) -> tuple[str, ...]:
        """Names of the jobs that have results, the newest first."""
        return tuple(job.name for job in self.all() if job.has_results)

    def results(self, name: str) -> HeadResults | None:
        """The results of a job; None where no job of this name has any.

        Raises:
            ResultsError: they cannot be read.
        """
        from attnlens.report.results import load_results

        if self.folder is None or not _NAME.fullmatch(name):
            return None
        path = results_folder(self.folder / name) / "heads.json"
        try:
            written = path.stat().st_mtime_ns
        except OSError:
            return None
        with self._lock:
            if name in self._read and self._read[name][0] == written:
                return self._read[name][1]
        found = load_results(path)
        with self._lock:
            self._read[name] = (written, found)
            while len(self._read) > 8:
                self._read.pop(next(iter(self._read)))
        return found

    def _check_room(self, *, of_kept: bool = True) -> None:
        jobs = self.all()
        if sum(job.is_active for job in jobs) >= self.max_active:
            raise BusyError(f"{self.max_active} probes are running or waiting; cancel one, or start this one later.")
        if of_kept and len(jobs) >= self.max_kept:
            raise BusyError(f"{len(jobs)} probes are kept here; remove one that is not needed any more.")

    def _have_run(self, folder: Path, state: JobState) -> None:
        attempt = secrets.token_hex(8)
        write_state(folder, replace(state, state="queued", attempt=attempt, beat=time.time()))
        try:
            self._launch(folder, attempt)
        except Exception:
            current = read_state(folder)
            write_state(folder, replace(current, state="stopped", message="it could not be started"))
            raise


def _slug(name: str) -> str:
    """The last part of a name in small letters, digits and dashes."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9]+", "-", last, flags=re.ASCII).strip("-")[:28].strip("-") or "x"
