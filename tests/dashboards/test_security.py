"""Who may ask, with what, and what every answer says; through Flask's test client."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.errors import ServerError
from dashboards.app import create_app
from dashboards.config import DashboardConfig
from dashboards.security import content_hash, is_loopback, token_for

TOKEN = "a-secret-of-enough-letters"


@pytest.fixture(scope="module")
def local():
    return create_app(DashboardConfig()).server.test_client()


@pytest.fixture(scope="module")
def public_app():
    return create_app(DashboardConfig(host="0.0.0.0", token=TOKEN, allowed_hosts=("lens.example",))).server


@pytest.fixture
def public(public_app):
    return public_app.test_client()


def get(client, path="/", host="127.0.0.1:8050", **headers):
    return client.get(
        path, buffered=True, headers={"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    )


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:9999", "[::1]:8050", "LOCALHOST", "127.0.0.1"])
def test_this_machine_is_answered(local, host):
    assert get(local, host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.7:8050", "localhost.evil", "[::1", ""]
)
@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/assets/attnlens.js", "/classic", "/data/maps"])
def test_a_foreign_host_name_is_refused_everywhere(local, host, path):
    answer = get(local, path, host=host)

    assert answer.status_code in (400, 403)
    assert b"attnlens.js" not in answer.data


def test_another_site_may_not_send_a_callback(local):
    answers = [
        local.post("/_dash-update-component", json={}, headers={"Host": "127.0.0.1:8050", "Origin": origin})
        for origin in ("http://evil.example", "null", "http://127.0.0.1:9999")
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]


LINK = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("/?model=m", LINK, 200),
        ("/?model=m", {"Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}, 403),
        ("/?model=m", {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, 403),
        ("/classic?model=org/x&text=a", LINK, 403),
        ("/data/maps?model=org/x&text=a", LINK, 403),
        ("/classic?model=org/x&text=a", {"Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}, 403),
        ("/_dash-layout", {}, 403),
    ],
)
def test_another_site_may_link_to_the_page_and_to_nothing_else(local, site, path, kind, expected):
    assert get(local, path, Sec_Fetch_Site=site, **kind).status_code == expected


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_the_page_itself_and_a_typed_address_are_answered(local, site):
    assert get(local, "/_dash-layout", Sec_Fetch_Site=site).status_code == 200


@pytest.mark.parametrize("path", ["/classic", "/data/maps", "/data/thumbnails"])
@pytest.mark.parametrize("model", ["org/x", "gpt2", ".", ""])
def test_an_address_of_a_view_opens_no_new_model(monkeypatch, model, path):
    loaded = []
    monkeypatch.setattr("dashboards.desk._load", loaded.append)
    client = create_app(DashboardConfig()).server.test_client()

    answer = client.get(path, query_string={"model": model, "text": "a", "head": "L0H0"})

    assert answer.status_code == 400
    assert "press Run" in answer.text
    assert loaded == []


def test_the_classic_view_shows_a_model_that_is_already_open(make_desk):
    from dashboards.classic import classic_view_of

    desk = make_desk()
    given = {"model": "org/opened", "text": "the keys"}
    desk.run(given)

    assert "<script" in classic_view_of(desk, given)


def test_the_policy_allows_own_files_and_known_scripts_and_no_other_host(local):
    answer = get(local)

    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    assert not re.search(r"https?:|\*", answer.headers["Content-Security-Policy"])
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"


def test_every_inline_script_of_the_page_has_its_hash_in_the_policy(local):
    from dashboards.classic import inline_scripts

    answer = get(local)
    scripts = re.findall(r"<script(?![^>]*(?:src=|application/json))[^>]*>(.*?)</script>", answer.text, re.DOTALL)

    assert scripts
    assert set(scripts) <= set(inline_scripts(answer.text))
    assert all(content_hash(script) in answer.headers["Content-Security-Policy"] for script in scripts)


def test_the_page_names_no_other_host(local):
    page = get(local).text

    assert set(re.findall(r"(?:src|href)=\"(?:https?:)?//[^\"]*", page)) == set()


@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/assets/attnlens.css", "/nothing", "/classic"])
def test_every_answer_has_the_headers(local, path):
    headers = get(local, path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Content-Security-Policy" in headers


def test_a_body_beyond_the_limit_is_refused():
    client = create_app(DashboardConfig(max_body_bytes=1000)).server.test_client()

    answer = client.post("/_dash-update-component", data=b" " * 2000, content_type="application/json")

    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path", ["/", "/_dash-layout", "/_dash-dependencies", "/assets/attnlens.css", "/classic?token="]
)
def test_without_the_token_nothing_is_served(public, path):
    answer = get(public, path, host="192.0.2.7:8050")

    assert answer.status_code == 401
    assert "token" in answer.text


@pytest.mark.parametrize("wrong", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é" * 20])
def test_a_wrong_token_opens_nothing(public, wrong):
    assert get(public, f"/?token={wrong}").status_code == 401
    assert get(public, "/", Cookie=f"attnlens_8050={wrong.encode('ascii', 'ignore').decode()}").status_code == 401


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(public):
    welcome = get(public, f"/?model=m&token={TOKEN}&head=L1H2")
    cookie = welcome.headers["Set-Cookie"]

    assert welcome.status_code == 200
    assert "url=/?model=m&amp;head=L1H2" in welcome.text
    assert TOKEN not in welcome.text
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    assert get(public).status_code == 200


def test_the_way_on_stays_on_this_server(public):
    for path in ("//evil.example", "///evil.example", "/\\evil.example"):
        page = get(public, f"{path}?token={TOKEN}").text
        target = re.search(r"url=([^\"]*)", page)

        assert target is None or re.match(r"/(?![/\\])", target[1])


def test_a_public_server_answers_to_addresses_and_to_its_names(public):
    statuses = {
        host: get(public, host=host).status_code
        for host in ("192.0.2.7", "lens.example", "LENS.example:80", "other.example")
    }

    assert statuses == {"192.0.2.7": 401, "lens.example": 401, "LENS.example:80": 401, "other.example": 403}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("", False), ("192.168.1.2", False), ("my-machine", False),
    ],
)  # fmt: skip
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def test_a_server_that_others_reach_always_has_a_token():
    generated = token_for("0.0.0.0", None)

    assert generated is not None
    assert len(generated) >= 40
    assert generated != token_for("0.0.0.0", None)
    assert token_for("127.0.0.1", None) is None
    assert token_for("127.0.0.1", TOKEN) == token_for("0.0.0.0", TOKEN) == TOKEN


@given(st.text(max_size=15))
def test_a_short_token_is_refused(short):
    with pytest.raises(ServerError, match="at least 16"):
        token_for("0.0.0.0", short)
