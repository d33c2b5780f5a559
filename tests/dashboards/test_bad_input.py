"""What visitors type, models that cannot be shown, machines without room: a message, and the next request works."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from attnlens.errors import AttnlensError, SelfCheckError, TextError, UnsupportedModelError
from dashboards import folders
from dashboards.config import DashboardConfig
from dashboards.desk import Desk
from dashboards.folders import check_room, stamp_of
from dashboards.pages import running
from dashboards.request import RunRequest
from dashboards.runs import RunStore
from dashboards.store import FileStore

REFUSED = ["", " \n\t", "a " * 600, "a" * 20_001, "\x00\u200b\ufeff"]
READ = {
    "joined emoji": "👩\u200d👩\u200d👧 dogs",
    "right to left": "שלום dogs עולם",
    "Chinese": "你好 dogs 世界",
    "control characters": "the\x00 dogs\x1b[31m \u202ebark",
    "half a character": "the dogs \ud83d bark",
    "markup": "<b>{{7*7}}</b>",
}


def request_of(text: str, kind: str) -> dict[str, str]:
    return {"model": "attnlens/random", "text": text, "kind": kind, "second": text}


@pytest.mark.parametrize("kind", ["text", "pair"])
@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:4]))
def test_a_text_that_cannot_be_read_is_refused_in_one_line(desk, text, kind):
    with pytest.raises(TextError) as refused:
        running.show_run(desk, request_of(text, kind), "", "")

    assert "\n" not in str(refused.value)
    assert running.show_run(desk, request_of("the dogs", "text"), "", "")[1] == "stage"


@pytest.mark.parametrize("kind", ["text", "pair"])
@pytest.mark.parametrize("name", READ)
def test_any_other_text_is_run_and_its_tokens_can_be_printed(desk, name, kind):
    shown = running.show_run(desk, request_of(READ[name], kind), "", "")

    labels = [token.label for token in desk.run(shown[0]).tokens]
    assert all(label.replace("\u200d", "").isprintable() for label in labels)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (SelfCheckError("m does not reproduce its own output"), "own output"),
        (MemoryError(), "more memory than"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 10\n0x1"), "more memory"),
    ],
)
def test_a_model_that_cannot_be_opened_is_said_and_another_is_served(random_lens, raised, said):
    def load(name):
        if name == "bad":
            raise raised
        return random_lens

    store = RunStore(load)

    with pytest.raises(AttnlensError, match=said) as refused:
        store.open(RunRequest("bad", "a"))
    assert "\n" not in str(refused.value)
    assert store.open(RunRequest("good", "a")).tokens


def test_an_error_of_ours_is_not_taken_for_a_lack_of_memory():
    def load(name):
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        RunStore(load).lens("m")


def test_a_run_is_shown_though_the_disk_takes_nothing(tmp_path, random_lens):
    (tmp_path / "file").write_text("in the way")
    store = RunStore(lambda name: random_lens, files=FileStore(tmp_path / "file", 10))

    assert store.open(RunRequest("m", "the dogs")).text == "the dogs"


def test_two_models_are_never_loaded_at_once(monkeypatch):
    from attnlens.models import lens

    busy = threading.Lock()

    def load(name, **_options):
        assert busy.acquire(blocking=False), "another model is being loaded"
        time.sleep(0.05)
        busy.release()
        return SimpleNamespace(model=SimpleNamespace(parameters=list, buffers=list))

    monkeypatch.setattr(lens, "load", load)
    desks = [Desk.of(DashboardConfig()) for _ in range(2)]
    names = ["attnlens/tiny-bert", "attnlens/tiny-gpt2"]

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda at: desks[at % 2].runs.lens(names[at // 2]), range(4)))

    assert len(opened) == 4


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x" * 5000)
    return tmp_path


def test_a_model_larger_than_the_free_memory_is_refused_before_it_is_read(folder, monkeypatch):
    from attnlens.models import memory

    monkeypatch.setattr(memory, "available_bytes", lambda: 4999)
    with pytest.raises(UnsupportedModelError, match=r"needs 4\.9 KiB of memory and 4\.9 KiB are free"):
        check_room(str(folder))

    monkeypatch.setattr(memory, "available_bytes", lambda: 5000)
    check_room(str(folder))


def test_the_stamp_of_a_folder_changes_with_its_files_and_with_the_libraries(folder, monkeypatch):
    first = stamp_of(str(folder))
    assert stamp_of(str(folder)) == first

    (folder / "model.safetensors").write_bytes(b"y" * 5001)
    second = stamp_of(str(folder))
    monkeypatch.setattr(folders, "_versions", lambda: ("other",))

    assert len({first, second, stamp_of(str(folder)), stamp_of("org/unknown"), stamp_of("\0")}) == 4


def test_too_long_a_text_says_how_long_it_may_be(make_desk):
    with pytest.raises(TextError, match=r"602 tokens, this page takes 512"):
        make_desk(max_tokens=512).run({"model": "attnlens/random", "text": "a " * 600})
