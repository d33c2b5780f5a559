"""Settings from the environment, several worker processes behind one port, and a notebook's server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attnlens.errors import AttnlensError, ServerError, UsageError
from dashboards.config import DashboardConfig
from dashboards.notebook import show
from dashboards.settings import config_from, prefix_from

N_USERS = 20
TEXT = "The dogs bark."


def test_settings_are_those_that_the_environment_names(tmp_path):
    config = config_from(
        {
            "ATTNLENS_MODEL": "m", "ATTNLENS_TEXT": "t", "ATTNLENS_ROOTS": f"/a{os.pathsep}/b",
            "ATTNLENS_CACHE": str(tmp_path), "ATTNLENS_CACHE_SIZE": "1M", "ATTNLENS_MAX_WAITING": "3",
            "ATTNLENS_ALLOW_HOSTS": "one.example, two.example", "ATTNLENS_TOKEN": "x" * 16, "HOME": "/root",
            "ATTNLENS_JOBS": "/jobs", "CELERY_BROKER_URL": "redis://",
        }
    )  # fmt: skip

    assert config == DashboardConfig(
        model="m", text="t", roots=(Path("/a"), Path("/b")), cache=tmp_path, max_cache_bytes=2**20, max_waiting=3,
        allowed_hosts=("one.example", "two.example"), token="x" * 16, jobs=Path("/jobs"), broker="redis://",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"ATTNLENS_HOST": "0.0.0.0"}, ServerError),
        ({"ATTNLENS_TOKEN": "short"}, ServerError),
        ({"ATTNLENS_MAX_TOKENS": "many"}, UsageError),
        ({"ATTNLENS_CACHE_SIZE": "much"}, UsageError),
    ],
)
def test_a_setting_that_cannot_be_is_named(environment, error):
    with pytest.raises(AttnlensError) as refused:
        config_from(environment)

    assert type(refused.value) is error


@pytest.mark.parametrize(("given", "expected"), [("", "/"), ("attn", "/attn/"), ("/a/b/", "/a/b/"), ("/", "/")])
def test_the_prefix_may_be_written_with_or_without_slashes(given, expected):
    assert prefix_from({"ATTNLENS_PREFIX": given}) == expected


class Workers:
    """Two gunicorn workers, and what they log: which process answered what."""

    def __init__(self, cache: Path) -> None:
        settings = {"ATTNLENS_CACHE": str(cache), "ATTNLENS_MODEL": "attnlens/tiny-gpt2", "ATTNLENS_TEXT": TEXT}
        log = ["--access-logfile", "-", "--access-logformat", "%(p)s %(U)s %(s)s", "--log-file", "-"]
        listen = ["--bind", "127.0.0.1:0", "--workers", "2", "--threads", "4"]
        command = [sys.executable, "-m", "gunicorn", *listen, *log, "dashboards.wsgi:create()"]
        self.process = subprocess.Popen(
            command, env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.started = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        assert self.started.wait(120), self.lines
        self.address = next(found[0] for line in self.lines if (found := re.search(r"http://127\S+\d", line)))

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if sum("Booting worker" in one for one in self.lines) == 2:
                self.started.set()

    def answered(self, path: str) -> set[str]:
        """The processes that have answered a path with success."""
        return {line.split()[0] for line in self.lines if line.split()[1:] == [path, "200"]}

    def post(self, path: str, data: bytes, kind: str) -> dict:
        """One request on a connection of its own."""
        request = urllib.request.Request(self.address + path, data, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def run(self, request: dict, results: str = "") -> dict:
        """What the page's question for a run answers."""
        if not hasattr(self, "question"):
            with urllib.request.urlopen(f"{self.address}/_dash-dependencies", timeout=120) as answer:
                self.question = next(one for one in json.load(answer) if one["output"].startswith("..run.data"))
        values = {"request": request, "results": results, "head": "", "run": None}
        given = {
            kind: [
                {"id": one["id"], "property": one["property"], "value": values[one["id"]]}
                for one in self.question[kind]
            ]
            for kind in ("inputs", "state")
        }
        outputs = [
            dict(zip(("id", "property"), part.split("@")[0].rsplit(".", 1), strict=True))
            for part in self.question["output"].strip(".").split("...")
        ]
        body = {"output": self.question["output"], "outputs": outputs, "changedPropIds": ["request.data"], **given}
        return self.post("/_dash-update-component", json.dumps(body).encode(), "application/json")["response"]


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    pytest.importorskip("gunicorn", reason="needs gunicorn: pip install attnlens[dev]")
    workers = Workers(tmp_path_factory.mktemp("cache"))
    yield workers
    workers.process.terminate()
    workers.process.wait(30)
    workers.reader.join(30)
    workers.process.stdout.close()


def test_twenty_users_at_once_get_the_same_run_from_both_workers(workers):
    request = {"model": "attnlens/tiny-gpt2", "text": TEXT}
    first = workers.run(request)

    with ThreadPoolExecutor(N_USERS) as pool:
        answers = list(pool.map(lambda _: workers.run(request), range(2 * N_USERS)))
        for _ in range(30):  # which worker takes a connection is the system's choice
            if len(workers.answered("/_dash-update-component")) == 2:
                break
            answers += pool.map(lambda _: workers.run(request), range(N_USERS))

    assert all(answer == first for answer in answers)
    assert first["run"]["data"]["n_layers"] == 3
    assert len(workers.answered("/_dash-update-component")) == 2


def test_what_one_worker_took_the_other_shows(workers, tmp_path):
    from sample_results import heads_document

    import attnlens

    lens = attnlens.load("attnlens/tiny-gpt2")
    saved = lens.capture("She likes the dogs.", points=()).save(tmp_path / "mine.attn").read_bytes()
    document = json.dumps(heads_document(lens.anatomy, "L1H2", "L2H0")).encode()

    request = workers.post("/upload", saved, "application/octet-stream")["request"]
    results = workers.post("/upload", document, "application/json")["results"]
    del workers.lines[:]
    for _ in range(60):
        shown = workers.run(request, results)
        assert shown["run"]["data"]["text"] == "She likes the dogs."
        assert shown["head"]["value"] == "L1H2"
        if len(workers.answered("/_dash-update-component")) == 2:
            return
        time.sleep(0.05)
    pytest.fail("one worker answered everything")


def test_a_notebook_shows_an_opened_model_in_a_frame(random_bert):
    import attnlens

    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)

    shown = show(lens, "the <dogs> bark")
    try:
        with urllib.request.urlopen(shown.address, timeout=60) as answer:
            policy = answer.headers["Content-Security-Policy"]
    finally:
        shown.close()

    assert shown._repr_html_().startswith('<iframe src="http://127.0.0.1:')
    assert "<dogs>" not in shown._repr_html_()
    assert "frame-ancestors http://localhost:*" in policy
    with pytest.raises(UsageError, match=r"attnlens\.load"):
        show(7)


def test_a_worker_is_set_up_before_its_first_request(monkeypatch):
    from dashboards.app import create_app, warm_up
    from dashboards.pages import frame

    app = create_app(DashboardConfig(token="t" * 32))
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)  # no first run
    warm_up(app)
    monkeypatch.delattr(frame, "layout")  # which Dash asks for when it sets itself up

    answer = app.server.test_client().get(
        "/_dash-component-suites/dash/html/dash_html_components.min.js?token=" + "t" * 32
    )

    assert answer.status_code == 200
