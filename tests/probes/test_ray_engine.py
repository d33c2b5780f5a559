"""Workers of Ray give what the local engine gives, to the byte, also when one is killed, or all of the run is."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from interrupted_run import FOLDER, descendants, results_in, run_into, start

from attnlens.errors import AttnlensError, PluginError, UsageError
from attnlens.plugins import load_plugin
from probes.counting import Plan
from probes.ray_workers import Opening, Worker
from probes.shards import Shard
from probes.split import split_units

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("local")
    run_into(folder)
    return results_in(folder)


def gone(pids: Iterable[int], seconds: float = 60) -> bool:
    """Whether processes end within some time."""
    pids = list(pids)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def end(started: dict[int, str]) -> None:
    """End what is left of these processes, and no other that got the number of one of them."""
    for pid, name in started.items():
        with contextlib.suppress(OSError):
            if (Path(f"/proc/{pid}") / "cmdline").read_text().replace("\0", " ") == name:
                os.kill(pid, signal.SIGKILL)


@needs_ray
def test_a_worker_that_is_killed_is_replaced_and_nothing_counts_twice(local, tmp_path):
    process = start(tmp_path, "--ray", "--at", "worker")
    told, _ = process.communicate()

    assert (process.returncode, told) == (0, "killed a worker\n")
    assert results_in(tmp_path) == local


@needs_ray
def test_a_run_with_workers_that_is_killed_leaves_no_process_and_goes_on_locally(local, tmp_path):
    process = start(tmp_path, "--ray", "--at", "between shards")
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    started = descendants(process.pid)
    process.kill()
    process.communicate()

    assert sum(name.startswith("ray::Worker") for name in started.values()) == 2
    assert gone(pid for pid, name in started.items() if not name.startswith("ray::") or "Worker" in name)
    end(started)  # Ray's own two agents, which would take more than a minute to see that they are alone
    assert 2 <= len(list((tmp_path / FOLDER).glob("*.parquet"))) < 6
    run_into(tmp_path, resume=True)
    assert results_in(tmp_path) == local


def test_without_ray_the_message_names_what_to_install(lens, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(PluginError, match=r"needs Ray; install it with `pip install 'attnlens\[ray\]'`"):
        load_plugin("attnlens.engines", "ray")(lens, "positional")


def test_no_worker_is_an_error(lens):
    with pytest.raises(UsageError, match="0 workers were asked for; expected at least 1"):
        load_plugin("attnlens.engines", "ray")(lens, "positional", workers=0)


@pytest.fixture
def lens():
    from attnlens.models.lens import load

    return load("attnlens/tiny-bert")


@needs_ray
def test_an_opened_model_is_sent_as_it_is(lens):
    sent = Opening.of(lens, None)

    assert sent.n_bytes > 2_000_000
    assert repr(sent.open()) == repr(lens)


@needs_ray
def test_a_worker_that_finds_another_model_under_the_name_says_so(lens):
    from attnlens.errors import EngineError

    with pytest.raises(EngineError, match="other weights, settings or tokenizer"):
        Opening.of(lens, {"name": "attnlens/tiny-gpt2"}).open()


def test_a_model_that_has_read_is_still_the_same_model():
    """Calling a tokenizer changes how it would cut and pad the next text, and nothing that it is."""
    from attnlens.models.lens import load
    from probes.manifest import fingerprint

    lens = load("attnlens/tiny-bert")
    before = fingerprint(lens)
    lens.tokenizer("a text", truncation=True, max_length=4, padding="max_length")

    assert fingerprint(lens) == before


def test_a_worker_without_a_model_says_why_whatever_it_is_asked_first():
    split = split_units("sentence", ["a", "b"])
    worker = Worker(Plan((), split), Opening({"name": "attnlens/none"}, b"", "", on_gpu=False), 1)
    with pytest.raises(AttnlensError) as first:
        worker.open()

    with pytest.raises(AttnlensError) as then:
        worker.count(Shard(0, ()), split)

    assert then.value is first.value
