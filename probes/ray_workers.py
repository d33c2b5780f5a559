"""Workers of Ray: each opens the model once and counts shards; one that dies is replaced and its shards done again."""

from __future__ import annotations

import logging
import pickle
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from attnlens.errors import EngineError, UsageError
from probes.counting import Plan
from probes.manifest import fingerprint
from probes.shards import Shard, ShardResult
from probes.split import Split

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["Crew", "Means", "Opening", "Worker"]

LOG = logging.getLogger(__name__)
AHEAD = 2  # shards that each worker has: one that it counts and one that waits, so that it never does
MOST_DEATHS = 3  # over one shard, or over opening the model


@dataclass(frozen=True)
class Means:
    """How many workers there are, and the cores and accelerators of each."""

    workers: int
    cpus: int
    gpus: float = 0.0


@dataclass(frozen=True)
class Opening:
    """How a worker comes by the model.

    Attributes:
        load: arguments of `attnlens.load`; None where `pickled` is the opened model.
        pickled: the opened model; empty where it is loaded.
        sha256: of its weights, settings and tokenizer (`probes.manifest.fingerprint`).
        on_gpu: it runs on an accelerator.
    """

    load: Mapping[str, Any] | None
    pickled: bytes = field(repr=False)
    sha256: str
    on_gpu: bool

    @property
    def n_bytes(self) -> int:
        """What is sent to every machine."""
        return len(self.pickled)

    @classmethod
    def of(cls, lens: Lens, load: Mapping[str, Any] | None) -> Opening:
        """From an opened model.

        Raises:
            UsageError: it is to be sent, and cannot be.
        """
        on_gpu = next(lens.model.parameters()).device.type != "cpu"
        if load is not None:
            return cls(dict(load), b"", fingerprint(lens), on_gpu)
        from ray import cloudpickle

        try:
            return cls(None, cloudpickle.dumps(lens), fingerprint(lens), on_gpu)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(
                f"{lens.anatomy.model} cannot be sent to other processes ({error}); give load={{'name': ...}}, with "
                "which every worker opens it itself, or run with the local engine."
            ) from error

    def open(self) -> Lens:
        """The model, in a worker.

        Raises:
            EngineError: other weights, settings or tokenizer than those of the process that sent this.
            AttnlensError: it cannot be loaded.
        """
        from attnlens.models.lens import load

        lens: Lens = load(**self.load) if self.load is not None else pickle.loads(self.pickled)  # noqa: S301
        if fingerprint(lens) != self.sha256:
            raise EngineError(
                f"a worker found other weights, settings or tokenizer under {lens.anatomy.model} than the run was "
                "started with; make the same files available on every machine."
            )
        return lens


class Worker:
    """What an actor does; it lives in a process of its own."""

    def __init__(self, plan: Plan, opening: Opening, threads: int) -> None:
        """Keep what is needed; nothing is loaded yet, so that a fault in it can be told from a death."""
        self.plan, self.opening, self.threads = plan, opening, threads
        self.fault: Exception | None = None

    def open(self) -> None:
        """Load the model, and use as many threads as the worker has cores."""
        import torch

        torch.set_num_threads(self.threads)
        try:
            self.lens = self.opening.open()
        except Exception as error:
            self.fault = error
            raise

    def count(self, shard: Shard, split: Split) -> ShardResult:
        """The sums of one shard; `split` needs to know its units only."""
        if self.fault is not None:  # asked for before it was known that there is no model
            raise self.fault
        return replace(self.plan, split=split).count(self.lens, shard)


@dataclass(eq=False)
class _Member:
    """A worker as the crew sees it: its actor, and what it was given that is not done, oldest first.

    What it is given is a shard, or None for opening the model.
    """

    actor: Any
    given: dict[Any, Shard | None] = field(default_factory=dict)


class Crew:
    """Workers, and who counts what."""

    def __init__(self, plan: Plan, opening: Opening, means: Means) -> None:
        """Start no worker yet; Ray has to be connected."""
        import ray

        self.plan, self.means = plan, means
        # Units are many in a large corpus, so each shard brings its own.
        bare = replace(plan, split=replace(plan.split, clusters={}))
        self._shared = ray.put(bare), ray.put(opening)
        gpus = means.gpus if opening.on_gpu else 0
        self._actor_class = ray.remote(num_cpus=means.cpus, num_gpus=gpus, max_restarts=0)(Worker)
        self._members: list[_Member] = []
        self._again: deque[Shard] = deque()
        self._deaths: Counter[int | None] = Counter()

    def open(self) -> None:
        """Start the workers, and wait until each has the model or has failed; `count` says so."""
        import ray

        self._start()
        opening = [ref for one in self._members for ref in one.given]
        ray.wait(opening, num_returns=len(opening))

    def count(self, shards: Iterator[Shard]) -> Generator[ShardResult, None, None]:
        """Every shard's result once, as it is done; then the workers end.

        Raises:
            EngineError: workers died `MOST_DEATHS` times over the same shard, or over opening the model.
            AttnlensError: what counting raised in a worker.
        """
        import ray

        try:
            self._start()
            while self._give(shards):
                given = {ref: one for one in self._members for ref in one.given}
                (ref, *_), _ = ray.wait(list(given), num_returns=1)
                one = given[ref]
                try:
                    result = ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    raise _cause(error) from error
                except ray.exceptions.RayError as error:
                    self._mourn(one, error)
                    ray.kill(one.actor)
                    self._members[self._members.index(one)] = self._member()
                    continue
                one.given.pop(ref)
                if result is not None:
                    yield result
        finally:
            for one in self._members:
                ray.kill(one.actor)
            self._members = []

    def _start(self) -> None:
        if not self._members:
            self._members = [self._member() for _ in range(self.means.workers)]

    def _member(self) -> _Member:
        """A new worker, told to open the model."""
        actor = self._actor_class.remote(*self._shared, self.means.cpus)
        return _Member(actor, {actor.open.remote(): None})

    def _give(self, shards: Iterator[Shard]) -> bool:
        """Let every worker have a shard, and then one to go on with; False when nothing is left to be done."""
        for n in range(1, AHEAD + 1):
            for one in self._members:
                if _n_shards(one) < n and (shard := self._next(shards)) is not None:
                    one.given[one.actor.count.remote(shard, _split_of(self.plan.split, shard))] = shard
        return any(_n_shards(one) for one in self._members)

    def _next(self, shards: Iterator[Shard]) -> Shard | None:
        return self._again.popleft() if self._again else next(shards, None)

    def _mourn(self, one: _Member, error: Exception) -> None:
        """What a dead worker had been given is done again, by anyone; the oldest of it is what it died over."""
        oldest = next(iter(one.given.values()))
        number = None if oldest is None else oldest.number
        self._deaths[number] += 1
        if self._deaths[number] >= MOST_DEATHS:
            over = "while it opened the model" if oldest is None else f"over the sentences {_named(oldest)}"
            raise EngineError(
                f"{MOST_DEATHS} workers died {over}; is there memory enough for so many? ask for fewer workers. "
                f"({_first_line(error)})"
            ) from error
        LOG.warning("a worker died; what it had been given is done again (%s)", _first_line(error))
        self._again.extend(shard for shard in one.given.values() if shard is not None)


def _n_shards(one: _Member) -> int:
    return sum(shard is not None for shard in one.given.values())


def _split_of(split: Split, shard: Shard) -> Split:
    """The split as far as a shard's sentences need it."""
    names = {document.id for document in shard.documents}
    if split.unit == "sentence":
        names = {document.key(at) for document in shard.documents for at in range(len(document.sentences))}
    return replace(split, clusters={name: split.clusters[name] for name in names})


def _named(shard: Shard) -> str:
    if not shard.documents:
        return "that the families bring themselves"
    first, last = shard.documents[0], shard.documents[-1]
    return f"{first.sentences[0].id} to {last.sentences[-1].id}"


def _cause(error: Any) -> Exception:
    """What a worker raised, as if it had been raised here."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else EngineError(f"a worker failed: {_first_line(error)}.")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
