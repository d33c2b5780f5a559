"""One probe that was started from the page: what was asked for, and how far it is, as files of its own folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from attnlens.files import write_text
from attnlens.report.tables import count

__all__ = ["ACTIVE", "Job", "JobRequest", "JobState", "cancel_file", "read_state", "results_folder", "write_state"]

REQUEST, STATE, CANCEL, RESULTS = "job.json", "state.json", "cancel", "results"
SCHEMA = "attnlens.job/1"
ACTIVE = ("queued", "running")
SILENT_S, UNTAKEN_S = 20.0, 120.0  # without a sign of life of a worker; without a worker


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What to probe, on what.

    Attributes:
        model: name of the model, as the page opens it.
        corpus: the embedded corpus, a file of the server's, or an upload's name inside of the job's folder.
        uploaded: `corpus` lies in the job's folder.
        families: of probes; empty for all that the corpus has annotation for.
        limit: the first so many sentences; None for all.
        skip_bad: leave sentences with a fault out.
        causal: put labels to the test by taking heads away.
        created: seconds since 1970.
    """

    model: str
    corpus: str
    uploaded: bool = False
    families: tuple[str, ...] = ()
    limit: int | None = None
    skip_bad: bool = False
    causal: bool = False
    created: float = 0.0

    @property
    def corpus_name(self) -> str:
        """The corpus without its folder."""
        return self.corpus if "/" in self.corpus and not Path(self.corpus).is_absolute() else Path(self.corpus).name

    def write(self, folder: Path) -> None:
        """Keep it.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_text(folder / REQUEST, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1))

    @classmethod
    def read(cls, folder: Path) -> JobRequest | None:
        """The request in a folder; None where there is none that can be read."""
        found = _read_json(folder / REQUEST)
        if found is None or found.get("schema") != SCHEMA:
            return None
        try:
            return cls(**_known(cls, found) | {"families": tuple(str(name) for name in found["families"])})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How far a job is, as its worker, or whoever saw it end, wrote it.

    Attributes:
        state: queued, running, done, stopped, cancelled or failed.
        attempt: names the worker that may write; an older one that still runs finds another name here, and ends.
        stage: what is being done, in words.
        done, total: sentences counted, of how many; 0 where it is not known.
        per_second: sentences counted per second by this worker; 0 where it is not known.
        started, beat: seconds since 1970, of the worker's start and of its last sign of life.
        message: why it ended, for stopped and failed.
    """

    state: str = "queued"
    attempt: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    per_second: float = 0.0
    started: float = 0.0
    beat: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Job:
    """One job as anybody finds it in its folder."""

    name: str
    folder: Path
    request: JobRequest
    state: JobState

    @classmethod
    def read(cls, folder: Path, now: float | None = None) -> Job | None:
        """The job in a folder, or None. One whose worker has been silent for long is stopped, whatever was written.

        `now`: seconds since 1970; None for the clock.
        """
        request = JobRequest.read(folder)
        if request is None:
            return None
        state, now = read_state(folder), time.time() if now is None else now
        silent = {"queued": UNTAKEN_S, "running": SILENT_S}.get(state.state)
        if silent is not None and now - state.beat > silent:
            said = "no worker took it" if state.state == "queued" else "its process ended without a word"
            state = replace(state, state="stopped", message=said)
        return cls(folder.name, folder, request, state)

    @property
    def is_active(self) -> bool:
        """Whether a worker has it, or will."""
        return self.state.state in ACTIVE

    @property
    def is_cancelling(self) -> bool:
        """Whether somebody asked its worker to stop."""
        return self.is_active and cancel_file(self.folder).exists()

    @property
    def has_results(self) -> bool:
        """Whether its `heads.json` is there, whole."""
        return not self.is_active and (results_folder(self.folder) / "heads.json").is_file()

    @property
    def share(self) -> float | None:
        """Sentences counted, 0 to 1; None where it is not known."""
        return self.state.done / self.state.total if self.state.total else None

    @property
    def says(self) -> str:
        """How it stands, in a sentence."""
        state = self.state
        if self.is_cancelling:
            return "Being cancelled …"
        match state.state:
            case "queued":
                return "Waiting for a worker …"
            case "running":
                return f"{state.stage} …{self._pace()}"
            case "done":
                return f"Done in {_duration(state.beat - state.started)}."
            case "cancelled":
                return f"Cancelled{self._at()}. Continue goes on from there."
            case "failed":
                return f"Failed: {state.message}"
        return f"Stopped{self._at()}: {state.message}. Continue goes on from there."

    def _at(self) -> str:
        return "" if self.share is None else f" at {100 * self.share:.0f} %"

    def _pace(self) -> str:
        state = self.state
        if not state.total or state.done >= state.total:
            return ""
        said = f" {state.done:,} of {count(state.total, 'sentence')}"
        if state.per_second > 0:
            left = (state.total - state.done) / state.per_second
            said += f", {state.per_second:,.0f} per second, about {_duration(left)} left"
        return said


def results_folder(folder: Path) -> Path:
    """Where a job's results are written."""
    return folder / RESULTS


def cancel_file(folder: Path) -> Path:
    """The file whose presence asks a job's worker to stop."""
    return folder / CANCEL


def read_state(folder: Path) -> JobState:
    """The state in a folder; one that nobody wrote yet, or that cannot be read, is that of a job without a worker."""
    found = _read_json(folder / STATE) or {}
    plain = JobState()
    known = {name: value for name, value in _known(JobState, found).items() if _same_kind(value, getattr(plain, name))}
    return replace(plain, **known)


def write_state(folder: Path, state: JobState) -> None:
    """Write the state, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(folder / STATE, json.dumps(asdict(state)))


def _same_kind(value: Any, plain: Any) -> bool:
    return isinstance(value, str) if isinstance(plain, str) else isinstance(value, int | float)


def _known(kind: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: found[field.name] for field in fields(kind) if field.name in found}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _duration(seconds: float) -> str:
    """`75` as `1 min 15 s`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
