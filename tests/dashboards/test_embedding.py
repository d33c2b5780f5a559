"""The dashboard below a path of another Flask server, in a notebook, and under gunicorn."""

from __future__ import annotations

import pytest

from attnlens.errors import UsageError
from dashboards.app import DashboardConfig, create_app

HOST = {"Host": "127.0.0.1:8050"}


@pytest.fixture(scope="module")
def host():
    """Somebody's server with a page of its own, and the dashboard below /attn/."""
    from flask import Flask, request

    server = Flask("somebody")
    server.get("/mine", endpoint="mine")(lambda: "mine")
    create_app(DashboardConfig(max_body_bytes=1000), server=server, prefix="/attn/")
    server.post("/big", endpoint="big")(lambda: str(len(request.get_data())))
    return server.test_client()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/attn/", "<title>attnlens</title>"),
        ("/attn/heads", "<title>attnlens</title>"),
        ("/attn/assets/attnlens.js", "dash_clientside"),
        ("/attn/_dash-layout", r'"prefix":"\u002fattn\u002f"'),
        ("/attn/_dash-dependencies", "head-map"),
        ("/attn/classic?model=attnlens/tiny-bert&text=a", "<script"),
    ],
)
def test_everything_works_below_the_prefix(host, path, expected):
    answer = host.get(path, headers=HOST, buffered=True)

    assert answer.status_code == 200
    assert expected in answer.text
    assert "Content-Security-Policy" in answer.headers


def test_the_rest_of_the_server_is_left_alone(host):
    mine = host.get("/mine", headers={"Host": "somebody.example"})
    big = host.post("/big", data=b"x" * 5000, headers={"Host": "somebody.example", "Origin": "http://else.example"})

    assert mine.text == "mine"
    assert "Content-Security-Policy" not in mine.headers
    assert big.text == "5000"


def test_below_the_prefix_the_guard_stands(host):
    post = {"data": b" " * 2000, "content_type": "application/json", "headers": HOST}

    assert host.get("/attn/", headers={"Host": "evil.example"}).status_code == 403
    assert host.get("/attn/classic?model=org/x&text=a", headers=HOST).status_code == 400
    assert host.post("/attn/_dash-update-component", **post).status_code == 413
    link = HOST | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert host.get("/attn/?model=m", headers=link).status_code == 200
    assert host.get("/attn/classic?model=m", headers=link).status_code == 403


@pytest.mark.parametrize("prefix", ["attn", "/attn", "attn/", ""])
def test_a_prefix_that_is_no_path_is_refused(prefix):
    with pytest.raises(UsageError, match="/attn/"):
        create_app(prefix=prefix)


@pytest.mark.parametrize(("ancestors", "expected"), [((), 403), (("http://localhost:*",), 200)])
def test_a_page_is_framed_only_where_the_settings_say_by_whom(ancestors, expected):
    client = create_app(DashboardConfig(frame_ancestors=ancestors)).server.test_client()
    frame = HOST | {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}

    answer = client.get("/", headers=frame)

    assert answer.status_code == expected
    assert ("frame-ancestors http://localhost:*" in answer.headers["Content-Security-Policy"]) is bool(ancestors)
