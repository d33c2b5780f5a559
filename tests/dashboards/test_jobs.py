"""Probes that the page starts: bounds, states, what is left after a kill, and a real process that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from attnlens.errors import BusyError, CorpusError, ResultsError, ServerError, UsageError
from attnlens.report.results import load_results
from dashboards.config import DashboardConfig
from dashboards.jobs.asking import allowed_corpus, allowed_families, families, uploaded_corpus
from dashboards.jobs.job import SILENT_S, UNTAKEN_S, Job, JobRequest, JobState, cancel_file, read_state, write_state
from dashboards.jobs.launching import launcher, start_here
from dashboards.jobs.store import JobStore
from dashboards.shelf import Shelf

REQUEST = JobRequest(model="attnlens/tiny-bert", corpus="attnlens/grammar")
PATIENCE_S = 180.0  # two busy cores


class Launched(list):
    """Stands for what has jobs run: it remembers what it was given."""

    def __call__(self, folder: Path, attempt: str) -> None:
        self.append((folder, attempt))


@pytest.fixture
def launched() -> Launched:
    return Launched()


@pytest.fixture
def store(tmp_path, launched) -> JobStore:
    return JobStore(tmp_path / "jobs", launched, max_active=2, max_kept=3)


def put(store: JobStore, name: str, **changes) -> None:
    """Write a state as a worker would."""
    folder = store.folder / name
    write_state(folder, replace(read_state(folder), **({"beat": time.time()} | changes)))


def finish(store: JobStore, name: str, document: dict) -> None:
    put(store, name, state="done")
    (store.folder / name / "results").mkdir()
    (store.folder / name / "results" / "heads.json").write_text(json.dumps(document))


def test_a_started_job_waits_and_every_process_sees_it(store, launched):
    name = store.start(REQUEST)

    other = JobStore(store.folder, Launched())
    assert name.startswith("tiny-bert-grammar-")
    assert launched == [(store.folder / name, read_state(store.folder / name).attempt)]
    assert [(job.name, job.state.state, job.request.model) for job in other.all()] == [(name, "queued", REQUEST.model)]
    assert other.all()[0].request.created == pytest.approx(time.time(), abs=60)


def test_only_so_many_run_and_only_so_many_are_kept(store):
    names = [store.start(REQUEST), store.start(REQUEST)]
    with pytest.raises(BusyError, match="2 probes are running"):
        store.start(REQUEST)
    for name in names:
        put(store, name, state="done")
    put(store, store.start(REQUEST), state="failed")

    with pytest.raises(BusyError, match="3 probes are kept"):
        store.start(REQUEST)
    store.remove(names[0])

    assert store.start(REQUEST)
    assert not (store.folder / names[0]).exists()


def test_a_server_without_a_folder_starts_nothing(launched):
    store = JobStore(None, launched)

    with pytest.raises(ServerError, match="--jobs"):
        store.start(REQUEST)

    assert (store.all(), store.finished(), launched) == ((), (), [])


def test_what_cannot_be_launched_is_stopped_and_can_be_continued(store, launched):
    def refuse(folder: Path, attempt: str) -> None:
        raise ServerError("no broker")

    with pytest.raises(ServerError, match="no broker"):
        JobStore(store.folder, refuse).start(REQUEST)

    (job,) = store.all()
    assert "could not be started" in job.says
    store.resume(job.name)
    assert launched[0][0] == job.folder


@pytest.mark.parametrize(("state", "silent_s"), [("running", SILENT_S), ("queued", UNTAKEN_S)])
def test_a_worker_that_gives_no_sign_of_life_has_stopped(store, state, silent_s):
    name = store.start(REQUEST)
    put(store, name, state=state, done=40, total=100, beat=1000.0)

    alive, dead = (Job.read(store.folder / name, now=1000.0 + silent_s + after) for after in (-1, 1))

    assert alive.is_active
    assert dead.state.state == "stopped"
    assert dead.says.startswith("Stopped at 40 %: ")
    assert "Continue" in dead.says


def test_a_running_job_says_how_fast_it_is_and_how_long_it_will_take(store):
    name = store.start(REQUEST)
    put(store, name, state="running", stage="Counting", done=300, total=1500, per_second=16.0)

    assert store.find(name).says == "Counting … 300 of 1,500 sentences, 16 per second, about 1 min 15 s left"
    assert store.find(name).share == 0.2


def test_cancelling_asks_a_running_worker_and_ends_a_waiting_one(store):
    running, waiting = store.start(REQUEST), store.start(REQUEST)
    put(store, running, state="running")

    store.cancel(running)
    store.cancel(waiting)

    assert cancel_file(store.folder / running).exists()
    assert store.find(running).says == "Being cancelled …"
    assert store.find(waiting).state.state == "cancelled"


def test_continuing_names_a_new_attempt_and_keeps_what_was_counted(store, launched):
    name = store.start(REQUEST)
    first = launched[0][1]
    cancel_file(store.folder / name).touch()
    put(store, name, state="cancelled", done=40, total=100)

    store.resume(name)

    state = store.find(name).state
    assert (state.state, state.done, state.total) == ("queued", 40, 100)
    assert state.attempt == launched[1][1] != first
    assert not cancel_file(store.folder / name).exists()


def test_a_running_job_can_neither_be_removed_nor_started_twice(store, launched):
    name = store.start(REQUEST)

    with pytest.raises(BusyError, match="cancel it first"):
        store.remove(name)
    store.resume(name)

    assert len(launched) == 1


@pytest.mark.parametrize("name", ["..", "../outside", "/etc", "", "A" * 200, "nothing-here", "a\0b"])
def test_a_name_leads_nowhere_but_to_a_job(store, name):
    store.start(REQUEST)
    outside = store.folder.parent / "outside"
    REQUEST.write(outside)
    write_state(outside, JobState(state="done"))

    with pytest.raises(ResultsError, match="no probe"):
        store.remove(name)

    assert store.results(name) is None
    assert len(store.all()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "x"}', '{"schema": "attnlens.job/1"}', "[" * 10_000])
def test_a_folder_that_holds_no_job_is_passed_over(store, text):
    name = store.start(REQUEST)
    (store.folder / "other").mkdir()
    (store.folder / "other" / "job.json").write_text(text)
    (store.folder / name / "state.json").write_text(text)

    assert [job.name for job in store.all()] == [name]
    assert store.find(name).state == replace(JobState(), state="stopped", message="no worker took it")


def test_finished_results_are_on_the_shelf_of_every_process_and_leave_it_with_the_job(store, random_lens):
    from sample_results import heads_document

    name = store.start(REQUEST)
    shelf = Shelf(jobs=JobStore(store.folder, Launched()))
    assert shelf.names == ()

    finish(store, name, heads_document(random_lens.anatomy, "L1H2", "L2H0"))

    assert shelf.names == (name,)
    assert [str(result.head) for result in shelf.open(name).labelled] == ["L1H2"]
    put(store, name, state="running")
    assert shelf.names == ()
    put(store, name, state="stopped")
    assert shelf.names == (name,)
    store.remove(name)
    assert shelf.names == ()
    with pytest.raises(ResultsError):
        shelf.open(name)


def test_only_files_below_the_roots_of_a_server_of_this_machine_are_read(tmp_path):
    inside, outside = tmp_path / "in" / "a.conllu", tmp_path / "out.conllu"
    inside.parent.mkdir()
    for path in (inside, outside):
        path.write_text("x")
    (tmp_path / "in" / "link.conllu").symlink_to(outside)
    config = DashboardConfig(roots=(tmp_path / "in",))

    assert allowed_corpus(config, f" {inside} ") == str(inside)
    for name in (str(outside), str(tmp_path / "in" / ".." / "out.conllu"), str(tmp_path / "in" / "link.conllu"), "\0"):
        with pytest.raises(CorpusError, match="outside"):
            allowed_corpus(config, name)
    with pytest.raises(CorpusError, match="not a file"):
        allowed_corpus(config, str(inside.parent))
    with pytest.raises(CorpusError, match="no file"):
        allowed_corpus(config, "")
    with pytest.raises(CorpusError, match="uploads"):
        allowed_corpus(replace(config, host="192.0.2.1"), str(inside))


def data_address(data: bytes) -> str:
    return f"data:text/plain;base64,{b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("dev.conllu", "dev.conllu"),
        ("../../etc/passwd", "passwd"),
        ("C:\\texts\\dev set.conllu", "dev-set.conllu"),
        ("job.json", "corpus.conllu"),
        ("State.json", "corpus.conllu"),
        ("..", "corpus.conllu"),
        ("漢字", "corpus.conllu"),
        (None, "corpus.conllu"),
    ],
)
def test_an_uploaded_file_keeps_a_name_that_harms_nothing(name, safe):
    assert uploaded_corpus(data_address(b"# text"), name, 100) == (safe, b"# text")


@pytest.mark.parametrize("contents", [None, "", "data:,%%", data_address(b""), data_address(b"x" * 101)])
def test_an_upload_that_is_empty_broken_or_too_large_is_refused(contents):
    with pytest.raises(CorpusError):
        uploaded_corpus(contents, "a.conllu", 100)


def test_families_are_those_that_look_at_heads():
    assert {"positional", "syntax", "induction"} <= set(families())
    assert not {"structural", "linear"} & set(families())
    assert allowed_families(["syntax"]) == ("syntax",)
    with pytest.raises(UsageError, match="no family"):
        allowed_families(["syntax", "os.system"])


def test_a_broker_without_celery_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "celery", None)

    with pytest.raises(ServerError, match="Celery is not installed"):
        launcher("memory://")


def test_jobs_go_to_the_workers_of_celery_as_plain_json(tmp_path, monkeypatch):
    pytest.importorskip("celery", reason="needs Celery: pip install attnlens[celery]")
    from dashboards.jobs import celery_app

    ran = []
    monkeypatch.setattr(celery_app, "run_here", lambda folder, attempt: ran.append((folder, attempt)) or 0)
    app = celery_app.make_app("memory://")

    launcher("memory://")(tmp_path, "attempt")
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("celery").get(timeout=5)
    arguments = message.decode()[0]
    app.tasks[message.headers["task"]](*arguments)

    assert message.content_type == "application/json"
    assert arguments == [str(tmp_path), "attempt"]
    assert ran == [(tmp_path, "attempt")]


SERVER = """
import sys, time
from pathlib import Path
from dashboards.jobs.job import JobRequest
from dashboards.jobs.launching import start_here
from dashboards.jobs.store import JobStore

request = JobRequest(model="attnlens/tiny-bert", corpus="attnlens/grammar", families=("positional",), limit=192)
print(JobStore(Path(sys.argv[1]), start_here).start(request), flush=True)
time.sleep(600)
"""


def waits_for(store: JobStore, name: str, condition) -> Job:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        job = store.find(name)
        if condition(job):
            return job
        time.sleep(0.02)
    raise AssertionError(f"still {store.find(name).says}; log: {(store.folder / name / 'log.txt').read_text()[-2000:]}")


def workers_on(folder: Path) -> list[int]:
    """Processes that were started for a job."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(folder) in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_probe_whose_server_and_whose_worker_are_killed_goes_on_to_its_results(tmp_path):
    store = JobStore(tmp_path / "jobs", start_here)
    server = subprocess.Popen([sys.executable, "-c", SERVER, store.folder], stdout=subprocess.PIPE, text=True)
    name = server.stdout.readline().strip()
    waits_for(store, name, lambda job: 0 < job.state.done < job.state.total or not job.is_active)

    server.kill()
    server.communicate()
    stopped = waits_for(store, name, lambda job: not job.is_active)
    assert stopped.state.state == "stopped"
    assert stopped.says.startswith("Stopped at ")
    assert "the server ended" in stopped.says
    waits_for(store, name, lambda job: not workers_on(job.folder))

    store.resume(name)
    waits_for(store, name, lambda job: job.state.state == "running")
    for pid in workers_on(store.folder / name):
        os.kill(pid, signal.SIGKILL)
    killed = waits_for(store, name, lambda job: not job.is_active)
    assert "signal 9" in killed.says
    assert killed.state.done >= stopped.state.done > 0

    store.resume(name)
    done = waits_for(store, name, lambda job: not job.is_active)
    assert done.state.state == "done", done.says
    assert store.finished() == (name,)
    assert load_results(store.folder / name / "results").corpus["n_sentences"] == 192
    assert not (store.folder / name / "results" / ".shards").exists()
