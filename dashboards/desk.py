"""What every callback is given: settings, models, runs and results of this server."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import CaptureError, ModelNotFoundError, ResultsError
from dashboards.abilities import kinds_of_files, kinds_of_lens
from dashboards.choices import Choice, ModelChoices
from dashboards.config import DashboardConfig
from dashboards.folders import check_room, folder_of, stamp_of
from dashboards.jobs.launching import launcher, start_here
from dashboards.jobs.store import JobStore
from dashboards.memo import Memo
from dashboards.request import KINDS
from dashboards.runs import RunRequest, RunStore
from dashboards.sentences import SentenceStore
from dashboards.shelf import Shelf
from dashboards.store import FileStore
from dashboards.work import WorkQueue

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens
    from attnlens.report.results import HeadResults

__all__ = ["Desk"]

# Transformers changes global state while it loads: of two models loaded at once, one can lack weights.
_LOADING = threading.Lock()
_ANSWERS = 48_000_000  # bytes of packed numbers that are kept


@dataclass(frozen=True)
class Desk:
    """The server's side of the page; shared by all visitors and threads."""

    config: DashboardConfig
    choices: ModelChoices
    runs: RunStore
    shelf: Shelf
    memo: Memo = field(default_factory=Memo)
    blocks: Memo = field(default_factory=lambda: Memo(2))  # layers taken apart hold every neuron of every token
    layers: Memo = field(default_factory=lambda: Memo(2))  # taken apart; each holds a copy of weights
    answers: Memo = field(default_factory=lambda: Memo(_ANSWERS, weigh=len))
    jobs: JobStore = field(default_factory=lambda: JobStore(None, start_here))
    sentences: SentenceStore = field(default_factory=lambda: SentenceStore(DashboardConfig()))

    @classmethod
    def of(cls, config: DashboardConfig) -> Desk:
        """The desk that a configuration describes; loads no model yet."""
        choices = ModelChoices(config, _listed())
        files = None if config.cache is None else FileStore(config.cache, config.max_cache_bytes)
        work = WorkQueue(max_waiting=config.max_waiting)
        runs = RunStore(
            _load,
            allow=choices.check,
            stamp=stamp_of,
            files=files,
            work=work,
            max_models_bytes=config.max_models_bytes,
            max_bytes=config.max_runs_bytes,
            max_characters=config.max_characters,
            max_tokens=config.max_tokens,
        )
        jobs = JobStore(config.jobs, launcher(config.broker), max_active=config.max_jobs)
        sentences = SentenceStore(config, files)
        return cls(config, choices, runs, Shelf(config.results, files, jobs), jobs=jobs, sentences=sentences)

    def run(self, request: Mapping[str, Any], *, points: bool = False) -> Capture:
        """The run that a page's store names.

        Args:
            request: the store.
            points: the run with the residual stream and the logits.

        Raises:
            AttnlensError: it cannot be run.
        """
        return self.runs.open(RunRequest.from_json(request), points=points)

    def lens(self, request: Mapping[str, Any]) -> Lens:
        """The model that made the run which a page's store names.

        Raises:
            CaptureError: an uploaded run, which brings no model along.
            AttnlensError: the model cannot be opened.
        """
        asked = RunRequest.from_json(request)
        if asked.run:
            raise CaptureError("this run came from a file, without its model; type a text and press Run to see this.")
        return self.runs.lens(asked.model)

    def linked(self, given: Mapping[str, str]) -> Capture:
        """The run that an address names. An address alone opens no new model: pages ask for runs that they show.

        Raises:
            ModelNotFoundError: the model is neither listed nor open.
            AttnlensError: the run cannot be made.
        """
        return self.runs.open(self.allowed(given))

    def allowed(self, given: Mapping[str, str]) -> RunRequest:
        """The request of an address, which `linked` may run.

        Raises:
            ModelNotFoundError: the model is neither listed nor open.
        """
        request = RunRequest.from_json(given)
        if not self.may_open(request):
            raise ModelNotFoundError(f"{request.model[:200]!r} is not open here; press Run to open it.")
        return request

    def stamp(self, request: Mapping[str, Any]) -> tuple[str, str]:
        """What the run that a page's store names is made of: what is asked for, and the state of the model's files."""
        asked = RunRequest.from_json(request)
        return asked.key, "" if asked.run else stamp_of(asked.model)

    def kinds(self, model: str) -> tuple[str, ...]:
        """What this model can be given (see `dashboards.request.KINDS`), its usual kind first.

        All kinds where nothing is known of it: the model refuses what it does not take, with a reason.
        """
        if (lens := self.runs.opened(model)) is not None:
            return kinds_of_lens(lens)
        try:
            self.choices.check(model)
        except ModelNotFoundError:
            return KINDS
        folder = folder_of(model)
        return KINDS if folder is None else _kinds(folder, stamp_of(model))

    def may_open(self, request: RunRequest) -> bool:
        """Whether an address alone may show this: it loads and fetches nothing that nobody pressed Run for."""
        return self.choices.is_listed(request.model) or request.model in self.runs.models or self.runs.holds(request)

    def results_for(self, run: Capture, name: str | None) -> tuple[HeadResults | None, str]:
        """The results of this name and "", or None and why they cannot be put on this run's heads.

        Nothing is lost where they cannot: the run is shown without labels.
        """
        if not name:
            return None, ""
        try:
            results = self.shelf.open(name)
            results.check_same_model(run.anatomy)
        except ResultsError as error:
            return None, str(error)
        return results, ""


@lru_cache(maxsize=64)
def _kinds(folder: Path, _stamp: str) -> tuple[str, ...]:
    """Read once, until a file in the folder changes."""
    return kinds_of_files(folder)


def _listed() -> tuple[Choice, ...]:
    """The embedded models, each with texts on which it shows something true."""
    from attnlens.zoo.registry import embedded_models, example_texts

    return tuple(Choice(model.name, model.description, example_texts(model.name)) for model in embedded_models())


def _load(name: str) -> Lens:
    """Open a model with no code and no pickle of its own."""
    from attnlens.models.lens import load

    with _LOADING:
        check_room(name)
        return load(name, allow_pickle=False, trust_remote_code=False)
