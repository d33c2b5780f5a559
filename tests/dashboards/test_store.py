"""Files on disk and the queue of work: bounds, damage, a full disk, many who ask at once."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlens.errors import BundleError, BusyError, ResultsError
from dashboards.runs import RunRequest, RunStore
from dashboards.shelf import Shelf
from dashboards.store import FileStore
from dashboards.work import WorkQueue

REQUEST = RunRequest("attnlens/random", "the dogs bark")


def name(number: int) -> str:
    return f"{number:012x}.attn"


def filled(store: FileStore, numbers, size: int = 10) -> None:
    """Keep files with times a second apart, oldest first."""
    for at, number in enumerate(numbers):
        path = store.keep(name(number), lambda part: part.write_bytes(b"x" * size))
        if path is not None:
            os.utime(path, (at, at))


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.integers(1, 5))
def test_the_files_left_are_the_last_ones_used(tmp_path_factory, numbers, n_kept):
    store = FileStore(tmp_path_factory.mktemp("files"), 10 * n_kept)

    filled(store, numbers)

    last_used = list(dict.fromkeys(reversed(numbers)))[:n_kept]
    assert {path.name for path in store.folder.iterdir()} == {name(number) for number in last_used}
    assert store.nbytes <= store.max_bytes


def test_a_file_that_was_looked_for_counts_as_used(tmp_path):
    store = FileStore(tmp_path, 20)
    filled(store, [1, 2])

    store.find(name(1))
    filled(store, [3])

    assert store.find(name(2)) is None
    assert store.find(name(1)) is not None


@pytest.mark.parametrize("bad", ["../x.attn", "x.attn", "0" * 12, "", "0" * 12 + ".attn\n", "0" * 12 + ".attn/../y"])
def test_a_name_that_is_no_key_finds_nothing(tmp_path, bad):
    assert FileStore(tmp_path, 10).find(bad) is None


def test_a_disk_that_takes_nothing_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = FileStore(tmp_path / "file" / "folder", 10)

    assert store.keep(name(1), lambda part: part.write_bytes(b"x")) is None
    assert "is not kept" in caplog.text


def test_a_write_that_fails_leaves_nothing(tmp_path):
    store = FileStore(tmp_path, 10)

    def full(part):
        part.write_bytes(b"x")
        raise OSError(28, "No space left on device")

    assert store.keep(name(1), full) is None
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def store_on(random_lens):
    """`store_on(files)`: a worker's store of runs of the random BERT; `store.made` counts the models that it loaded."""

    def make(files, **options):
        loaded = []
        store = RunStore(lambda name: loaded.append(name) or random_lens, files=files, **options)
        store.made = loaded
        return store

    return make


def test_what_one_process_ran_another_shows_without_the_model(tmp_path, store_on):
    files = FileStore(tmp_path, 2**24)
    first, second = store_on(files), store_on(FileStore(tmp_path, 2**24))

    made = first.open(REQUEST)

    assert second.holds(REQUEST)
    assert torch.equal(second.open(REQUEST).attention(), made.attention())
    assert second.made == []


def test_a_damaged_file_is_dropped_and_made_again(tmp_path, store_on, caplog):
    files = FileStore(tmp_path, 2**24)
    expected = store_on(files).open(REQUEST).attention()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])

    again = store_on(files)

    assert torch.equal(again.open(REQUEST).attention(), expected)
    assert again.made == [REQUEST.model]
    assert "dropped" in caplog.text
    assert store_on(files).open(REQUEST) is not None


def test_a_model_that_changed_is_loaded_and_run_again(tmp_path, store_on):
    stamp = ["one"]
    store = store_on(FileStore(tmp_path, 2**24), stamp=lambda name: stamp[0])
    store.open(REQUEST)

    stamp[0] = "two"

    assert not store.holds(REQUEST)
    store.open(REQUEST)
    assert store.made == [REQUEST.model] * 2


def test_a_run_on_disk_is_not_shown_where_its_model_may_not_be_opened(tmp_path, store_on):
    files = FileStore(tmp_path, 2**24)
    store_on(files).open(REQUEST)

    def refuse(name):
        raise ResultsError("no")

    with pytest.raises(ResultsError):
        store_on(files, allow=refuse).open(REQUEST)


def test_an_uploaded_run_is_there_for_every_process_and_needs_no_model(tmp_path, store_on, random_lens):
    saved = random_lens.capture("she saw").save(tmp_path / "mine.attn")
    files = FileStore(tmp_path / "files", 2**24)

    request = store_on(files).take(saved, "ab" * 32)

    other = store_on(files)
    assert other.open(request).text == "she saw"
    assert other.made == []
    with pytest.raises(BundleError, match=r"drop its \.attn file"):
        other.open(RunRequest("m", "a", run="cd" * 32))


def test_uploaded_results_are_there_for_every_process(tmp_path, results_folder):
    name = Shelf(files=FileStore(tmp_path / "files", 2**20)).take((results_folder / "heads.json").read_bytes())

    assert Shelf(files=FileStore(tmp_path / "files", 2**20)).open(name).labelled
    with pytest.raises(ResultsError):
        Shelf().open(name)


def test_callers_beyond_the_limit_are_refused_and_the_others_served():
    work = WorkQueue(n_threads=1, max_waiting=2)
    started, finish = threading.Event(), threading.Event()

    def slow():
        started.set()
        assert finish.wait(20)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work.run, "a", slow)
        assert started.wait(20)
        second = pool.submit(work.run, "a", lambda: pytest.fail("made twice"))
        while work._n_waiting < 2:
            pass
        with pytest.raises(BusyError, match="try again"):
            work.run("b", lambda: None)
        finish.set()

        assert (first.result(20), second.result(20)) == ("done", "done")
    assert work.run("b", lambda: 1) == 1


def test_an_error_reaches_the_caller_and_the_next_one_is_served():
    work = WorkQueue(n_threads=1)

    with pytest.raises(ZeroDivisionError):
        work.run("a", lambda: 1 / 0)

    assert work.run("a", lambda: 2) == 2


def test_work_that_asks_for_work_does_not_wait_for_itself():
    work = WorkQueue(n_threads=1, max_waiting=1)

    assert work.run("a", lambda: work.run("b", lambda: 3)) == 3
