"""The store of runs: least recently used first out, bounded, one run per request however many threads ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.errors import ModelNotFoundError, TextError
from dashboards.runs import RunRequest, RunStore

TEXTS = st.lists(st.sampled_from("abcdef"), max_size=30)


def fake_lens(nbytes: int = 10, n_tokens: int = 3, log: list[str] | None = None) -> Any:
    """A lens whose runs are empty objects of a given size; `log` gets every captured text."""

    def capture(text: str, **_options: Any) -> Any:
        if log is not None:
            log.append(text)
        return SimpleNamespace(text=text, nbytes=nbytes)

    weights = SimpleNamespace(parameters=lambda: [SimpleNamespace(nbytes=100)], buffers=lambda: [])
    return SimpleNamespace(capture=capture, n_tokens=lambda text: n_tokens, model=weights)


def store_of(log=None, **options):
    return RunStore(lambda name: fake_lens(log=log), **options)


def request(text: str, model: str = "m") -> RunRequest:
    return RunRequest(model, text)


def test_the_same_request_is_the_same_run():
    log: list[str] = []
    store = store_of(log)

    first, second = store.open(request("a")), store.open(request("a"))

    assert first is second
    assert log == ["a"]


def test_a_key_depends_on_every_part_and_on_nothing_between_them():
    requests = [request("b", "a"), request("a", "b"), request("", "ab"), request("ab", "")]
    parts = [{"kind": "pair"}, {"second": "x"}, {"new_tokens": 3}, {"run": "0" * 64}]
    keys = {one.key for one in requests} | {RunRequest("a", "b", **part).key for part in parts}

    assert len(keys) == 8
    assert all(len(key) == 64 for key in keys)


@given(TEXTS, st.integers(1, 6))
def test_kept_runs_are_the_last_ones_used(texts, n_kept):
    store = store_of(max_bytes=10 * n_kept)

    for text in texts:
        store.open(request(text))

    last_used = list(dict.fromkeys(reversed(texts)))[:n_kept]
    assert list(reversed(store.keys)) == [request(text).key for text in last_used]


@given(st.lists(st.tuples(st.text(min_size=1, max_size=3), st.integers(0, 50)), max_size=20))
def test_memory_stays_within_bound_or_holds_one_run(sizes):
    sizes = [(text, size) for text, size in sizes if text.strip()]
    wanted = dict(sizes)
    lens = fake_lens()
    lens.capture = lambda text, **_: type("Run", (), {"nbytes": wanted[text]})()
    store = RunStore(lambda name: lens, max_bytes=60)

    for text, _ in sizes:
        store.open(request(text))

        assert store.nbytes <= 60 or len(store.keys) == 1


def test_models_are_dropped_least_recently_used_first():
    loaded: list[str] = []
    store = RunStore(lambda name: loaded.append(name) or fake_lens(), max_models_bytes=250)

    for name in ("a", "b", "a", "c", "a"):
        store.lens(name)

    assert store.models == ("c", "a")
    assert loaded == ["a", "b", "c"]


def test_threads_that_ask_at_once_get_one_run():
    log: list[str] = []
    n_threads = 8
    barrier = threading.Barrier(n_threads)
    store = store_of(log)

    def ask(_index: int):
        barrier.wait()
        return store.open(request("a"))

    with ThreadPoolExecutor(n_threads) as pool:
        runs = list(pool.map(ask, range(n_threads)))

    assert log == ["a"]
    assert len({id(run) for run in runs}) == 1


def test_a_model_that_failed_is_tried_again():
    lenses = iter([ModelNotFoundError("gone"), fake_lens()])

    def load(_name):
        found = next(lenses)
        if isinstance(found, Exception):
            raise found
        return found

    store = RunStore(load)
    with pytest.raises(ModelNotFoundError):
        store.open(request("a"))

    assert store.open(request("a")).text == "a"


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_text_is_refused_before_a_model_is_loaded(text):
    store = RunStore(lambda name: pytest.fail("loaded a model"))

    with pytest.raises(TextError, match="empty"):
        store.open(request(text))


def test_a_long_text_is_refused_before_a_model_is_loaded():
    store = RunStore(lambda name: pytest.fail("loaded a model"), max_characters=5)

    with pytest.raises(TextError, match=r"6 characters, this page takes 5"):
        store.open(request("abcdef"))


def test_too_many_tokens_are_refused_before_the_model_runs():
    log: list[str] = []
    store = RunStore(lambda name: fake_lens(n_tokens=9, log=log), max_tokens=8)

    with pytest.raises(TextError, match=r"9 tokens, this page takes 8; .*--max-tokens"):
        store.open(request("abcdef"))

    assert log == []
