"""Probe results on the shelf: given at start, or uploaded."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from attnlens.errors import ResultsError
from dashboards.shelf import Shelf


def upload(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return f"data:application/json;base64,{b64encode(raw).decode()}"


def test_results_given_at_start_are_named_after_their_folder(results_folder):
    shelf = Shelf((results_folder, results_folder / "heads.json"))

    assert shelf.names == ("found", "found-2")
    assert shelf.open("found").labelled[0].primary == "previous-token"


def test_a_wrong_path_is_found_at_start(tmp_path):
    with pytest.raises(ResultsError):
        Shelf((tmp_path / "nothing",))


def test_the_same_upload_has_the_same_name(results_folder):
    shelf = Shelf()
    data = (results_folder / "heads.json").read_bytes()

    first, second = shelf.add(upload(data)), shelf.add(upload(data))

    assert first == second
    assert shelf.open(first).labelled


def test_old_uploads_make_room(results_folder):
    shelf = Shelf()
    document = json.loads((results_folder / "heads.json").read_text())

    names = []
    for number in range(9):
        document["corpus"]["n_words"] = number
        names.append(shelf.add(upload(json.dumps(document))))

    assert len(set(names)) == 9
    with pytest.raises(ResultsError, match="again"):
        shelf.open(names[0])
    assert all(shelf.open(name) for name in names[1:])


@pytest.mark.parametrize(
    "contents",
    ["", "data:", "no comma", "data:;base64,!!!", upload("{"), upload("[]"), upload("null"), upload(b"\xff\xfe"),
     upload('{"schema": "other/1"}'), upload("[" * 100_000), upload('{"schema": NaN}'), upload('{"schema": 1e999}'),
     upload('{"schema": "attnlens.heads/1"}')],
)  # fmt: skip
def test_a_file_that_is_not_ours_is_refused_in_one_line(contents):
    with pytest.raises(ResultsError) as refused:
        Shelf().add(contents)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "missing", "../found", "upload-000000000000"])
def test_an_unknown_name_is_refused(results_folder, name):
    with pytest.raises(ResultsError, match=r"load its heads\.json again"):
        Shelf((results_folder,)).open(name)


def test_a_number_that_is_not_json_is_refused_where_the_schema_takes_anything(results_folder):
    document = json.loads((results_folder / "heads.json").read_text())
    document["scope"]["thresholds"] = {"margin": float("nan")}

    with pytest.raises(ResultsError, match="is not JSON"):
        Shelf().add(upload(json.dumps(document)))
