"""Clusters: one that is joined by its address, and what stops a run: workers that die again and again."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys

import pytest
from probe_arrays import sentence

from attnlens.errors import EngineError
from probes.corpora.data import Document
from probes.counting import Plan
from probes.shards import Shard
from probes.split import split_units

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")


class Deadly:
    """Ends the process that unpickles it, as the kernel does when memory runs out."""

    def __reduce__(self):
        return os._exit, (1,)


def test_workers_that_die_three_times_stop_the_run_with_what_to_do():
    from probes.ray_engine import connected
    from probes.ray_workers import Crew, Opening

    plan = Plan((), split_units("document", ["a", "b"]))
    opening = Opening(None, pickle.dumps(Deadly()), "", on_gpu=False)
    shard = Shard(0, (Document("a", (sentence("the keys rust"),)),))

    with connected(None, 1) as means:
        crew = Crew(plan, opening, means)
        with pytest.raises(EngineError, match="3 workers died while it opened the model; is there memory") as caught:
            list(crew.count(iter([shard])))

    assert "ask for fewer workers" in str(caught.value)
    assert "\n" not in str(caught.value)


CLUSTER = """
import ray
from probes.ray_engine import connected

with connected(None, 1):
    print(ray.get_runtime_context().gcs_address, flush=True)
    input()
"""
GUEST = """
import os
import sys

import ray
from probes.ray_engine import connected

with connected(sys.argv[1], 1) as means:
    other = ray.get(ray.remote(lambda: os.getpid()).remote())
    print(means.workers, other != os.getpid(), *[node["NodeManagerAddress"] for node in ray.nodes()])
"""


def test_a_cluster_on_the_loopback_interface_is_joined_by_its_address():
    token = os.environ | {"RAY_AUTH_MODE": "token"}  # as Ray asks of who joins a cluster by its address
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=token
    ) as host:
        address = host.stdout.readline().strip()
        guest = subprocess.run(
            [sys.executable, "-c", GUEST, address], capture_output=True, text=True, env=token, timeout=120, check=False
        )
        host.communicate("\n", timeout=60)

    assert address.startswith("127.0.0.1:")
    assert guest.stdout.split() == ["1", "True", "127.0.0.1"], guest.stderr
