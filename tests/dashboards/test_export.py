"""Exports, asked for over HTTP as the page does, on real runs of a random model."""

from __future__ import annotations

import csv
import io
import json

import pytest

import attnlens
from attnlens.report.tables import Table, as_csv
from dashboards import export


@pytest.fixture
def client(desk):
    from flask import Flask

    server = Flask(__name__)
    export.register(server, desk)
    return server.test_client()


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_the_run_comes_back_whole(client, shown, random_lens, tmp_path):
    answer = client.get("/export/run.attn", query_string=shown | {"request": ""})

    (tmp_path / "run.attn").write_bytes(answer.data)
    expected = random_lens.capture(shown["text"]).attention()
    assert attnlens.open(tmp_path / "run.attn").attention() == pytest.approx(expected, abs=1e-6)
    assert "attachment" in answer.headers["Content-Disposition"]


def test_weights_are_those_of_the_view(client, shown, random_lens):
    given = shown | {"head": "L1H2", "words": "1", "hide_special": "1"}

    table = rows_of(client.get("/export/head.csv", query_string=given).text)
    document = json.loads(client.get("/export/head.json", query_string=given).text)

    expected = random_lens.capture(shown["text"]).attention(head="L1H2", words=True)[1:-1, 1:-1].tolist()
    expected = [pytest.approx(row, abs=1e-6) for row in expected]
    assert [[float(cell) for cell in row[1:]] for row in table[1:]] == expected
    assert document["weights"] == expected
    assert document["rows"] == table[0][1:] == shown["text"].split()


def test_a_measure_of_all_heads_has_a_row_per_head(client, shown, random_lens):
    table = rows_of(client.get("/export/heads.csv", query_string=shown | {"metric": "max"}).text)

    run = random_lens.capture(shown["text"])
    largest = run.attention(head="L2H3")[1:-1].max(-1).values.mean()
    assert [row[0] for row in table[1:]] == [str(head) for head in run.anatomy.heads()]
    assert float(table[-1][3]) == pytest.approx(float(largest), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "status", "said"),
    [
        ("other", {}, 404, "head.csv"),
        ("head.csv", {"model": "org/unknown"}, 400, "not open here"),
        ("head.csv", {"head": "L9H9"}, 400, "L9H9"),
        ("run.attn", {"text": ""}, 400, "empty"),
    ],
)
def test_what_cannot_be_exported_is_said(client, shown, name, changes, status, said):
    answer = client.get(f"/export/{name}", query_string=shown | changes)

    assert answer.status_code == status
    assert said in answer.text
    assert answer.mimetype == "text/plain"


@pytest.mark.parametrize("word", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_spreadsheet_takes_no_token_for_a_formula(word):
    [[_, number], [text, value]] = rows_of(as_csv(Table("", ("word", "weight"), ((word, -0.5),))))

    assert number == "weight"
    assert text == f"'{word}"
    assert float(value) == -0.5
