"""Files that a visitor brings, through the route that takes them."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from dashboards.app import DashboardConfig, create_app, desk_of

HOST = {"Host": "127.0.0.1:8050"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return create_app(DashboardConfig(cache=tmp_path_factory.mktemp("cache"), max_upload_bytes=200_000))


@pytest.fixture
def send(app):
    """`send(bytes)`: the answer to a file."""

    def post(data: bytes, name: str = "mine.attn", **headers: str):
        query = {"name": name}
        return app.server.test_client().post("/upload", data=data, query_string=query, headers=HOST | headers)

    return post


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    import attnlens

    lens = attnlens.load("attnlens/tiny-gpt2")
    run = lens.capture("The dogs bark.", points=(), logits=False)
    return run, run.save(tmp_path_factory.mktemp("runs") / "mine.attn").read_bytes()


def test_a_run_comes_back_as_the_request_that_shows_it(app, send, saved):
    run, data = saved

    answer = send(data).json

    key = hashlib.sha256(data).hexdigest()
    assert answer == {"request": {"model": "attnlens/tiny-gpt2", "text": "The dogs bark.", "run": key}}
    assert torch.equal(desk_of(app).run(answer["request"]).attention(), run.attention())


def test_a_probe_result_comes_back_as_its_name(app, send, results_folder):
    answer = send((results_folder / "heads.json").read_bytes(), "heads.json").json

    assert desk_of(app).shelf.open(answer["results"]).labelled


def later(data: bytes) -> bytes:
    """The same run, as a version after ours would name its schema."""
    return data.replace(b"attnlens.run/2", b"attnlens.run/9")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: b"PK\x03\x04 not ours", "not a readable run"),
        (lambda data: data[:-100], "not a readable run"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256"),
        (later, "later version; upgrade attnlens"),
        (lambda data: b"\x00" * 200_001, "larger than 195.3 KiB"),
        (lambda data: b'{"schema": "other/1"}', "not probe results"),
        (lambda data: b"[1, 2", "JSON"),
        (lambda data: "<img src=x onerror=alert(1)>\u202e".encode(), "not a readable run"),
    ],
    ids=["empty", "foreign", "truncated", "flipped", "later", "large", "other-json", "no-json", "hostile"],
)  # fmt: skip
def test_a_file_that_cannot_be_shown_is_a_message_in_one_line(send, saved, change, said):
    answer = send(change(saved[1]), "<b>mine</b>\u202e.attn")

    assert answer.status_code == 200  # the page says it; an error status would be one in the browser's console
    message = answer.json["error"]
    assert said in message
    assert "\n" not in message
    assert "\u202e" not in message
    assert "/tmp" not in message


def test_a_safetensors_file_that_is_no_run_is_named(send, tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")

    message = send((tmp_path / "weights.safetensors").read_bytes(), "weights.safetensors").json["error"]

    assert "no attnlens run" in message


def test_another_site_may_not_send_a_file(send, saved):
    assert send(saved[1], Origin="http://evil.example").status_code == 403
    assert json.dumps(send(saved[1], Origin="http://127.0.0.1:8050").json)
