"""What stops a run with workers of Ray: workers that die again and again."""

from __future__ import annotations

import importlib.util
import os
import pickle

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
