"""The engine `ray`: workers that each hold the model count the shards of a corpus, on this machine or on a cluster.

Everything else of a run happens here, in the process that was started: reading the corpus, adding up, the statistics.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from attnlens.errors import EngineError, PluginError, UsageError
from probes import engine
from probes.corpora.sources import OneSource
from probes.counting import Plan
from probes.families import ALL
from probes.ray_workers import Crew, Means, Opening
from probes.report import HeadReport
from probes.shards import Shard, ShardResult

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["connected", "run"]

LOOPBACK = "127.0.0.1"
STORE_BYTES = 256 << 20  # of shards and results on their way, when Ray is started here


def run(
    lens: Lens,
    families: str | Sequence[str] = ALL,
    corpus: OneSource | Sequence[OneSource] | None = None,
    *,
    workers: int | None = None,
    address: str | None = None,
    load: Mapping[str, Any] | None = None,
    **options: Any,
) -> HeadReport:
    """As `probes.engine.run`, with workers of Ray for the pass over the corpus; the result is the same, to the byte.

    Args:
        lens: the opened model.
        families: as there.
        corpus: as there.
        workers: how many processes hold the model; None for two, or for one where there is one core. They share the
            cores among them.
        address: of a Ray cluster ("auto", "host:6379"); None starts one on this machine
            that listens on the loopback interface only, and stops it in the end. Where Ray runs in this process
            already, that is used.
        load: the arguments of `attnlens.load` with which every worker opens the model itself, from a name or a folder
            that it can reach; weights, settings and tokenizer must be those of `lens`. None sends it the opened model
            by pickle, its own adapter included: every class in it must be importable there.
        options: everything else that `probes.engine.run` takes, such as `settings` or single ones.

    Raises:
        PluginError: Ray is not installed.
        UsageError: fewer than one worker.
        EngineError: no such cluster, too small a cluster, or workers that die again and again.
        AttnlensError: as `probes.engine.run`.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers were asked for; expected at least 1.")
    _require_ray()
    opening = Opening.of(lens, load)

    def count(_: Lens, plan: Plan, shards: Iterator[Shard]) -> Generator[ShardResult, None, None]:
        with connected(address, workers, opening.n_bytes) as means:
            yield from Crew(plan, opening, means).count(shards)

    return engine.run(lens, families, corpus, counter=count, **options)


def _require_ray() -> None:
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise PluginError("the engine 'ray' needs Ray; install it with `pip install 'attnlens[ray]'`.") from error


@contextmanager
def connected(address: str | None, workers: int | None, model_bytes: int = 0) -> Iterator[Means]:
    """Ray for the length of the block: one that runs in this process already, a cluster's, or one of our own.

    Args:
        address: of a cluster.
        workers: how many will be started; None as in `run`.
        model_bytes: of a model that is sent to them.

    Raises:
        EngineError: no such cluster, or too small a one.
    """
    import ray

    if ray.is_initialized():
        yield _means(workers)
        return
    if address is None:
        _start(max(_cores(), workers or 1), STORE_BYTES + 2 * model_bytes)
    else:
        _join(address)
    try:
        with _silent():
            yield _means(workers)
    finally:
        ray.shutdown()


def _start(cpus: int, store_bytes: int) -> None:
    """A Ray of our own, which nobody else can reach and which reports to nobody.

    Raises:
        EngineError: this release of Ray listens elsewhere than on the loopback interface all the same.
    """
    import ray

    with _environment(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0"), _alone():  # workers as quick as this one
        ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            _node_ip_address=LOOPBACK,
            object_store_memory=store_bytes,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    found = {node["NodeManagerAddress"] for node in ray.nodes()}
    if found != {LOOPBACK}:
        ray.shutdown()
        raise EngineError(
            f"Ray {ray.__version__} listens on {', '.join(sorted(found))} and not on {LOOPBACK} alone; start Ray "
            "yourself with `ray start --head`, and give its --address."
        )


@contextmanager
def _alone() -> Iterator[None]:
    """For the length of the block, keep Ray from taking the machine's outward address in the place of the loopback one.

    Its servers listen on the loopback interface alone where that is the node's address. It has a switch for this,
    which it reads when it is imported; so here it is set in both places.
    """
    from ray._private import ray_constants

    known = getattr(ray_constants, "ENABLE_RAY_CLUSTER", None)
    with _environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"):
        ray_constants.ENABLE_RAY_CLUSTER = False
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = known


@contextmanager
def _silent() -> Iterator[None]:
    """For the length of the block, keep Ray from telling of dead workers on stdout, where nothing but results goes.

    The crew tells of them.
    """
    from ray._private import worker

    known = getattr(worker, "print_to_stdstream", None)
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = known


def _join(address: str | None) -> None:
    import ray

    near = address is not None and address.rpartition(":")[0] in (LOOPBACK, "localhost")
    try:
        with _environment(RAY_USAGE_STATS_ENABLED="0"), _alone() if near else nullcontext():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(
            f"no Ray cluster at {address} ({first}); give --address the address that `ray start --head` printed, with "
            "RAY_AUTH_MODE=token in the environment where the cluster asks for its token, or leave it out."
        ) from error


def _means(workers: int | None) -> Means:
    """How many workers there will be, and what each may use: an equal share of all."""
    import ray

    resources = ray.cluster_resources()
    cpus, gpus = int(resources.get("CPU", 0)), float(resources.get("GPU", 0))
    n_workers = workers or max(1, min(2, cpus))
    if n_workers > cpus:
        raise EngineError(
            f"{n_workers} workers were asked for, and the Ray cluster has {cpus} cores; ask for fewer, or add machines."
        )
    return Means(n_workers, cpus // n_workers, gpus / n_workers if gpus < n_workers else 1.0)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for the length of the block; what the user has set stays as it is."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
