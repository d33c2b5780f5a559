"""The list of heads, the page of one head and the list of jobs, as the plain functions behind the callbacks."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from dash import no_update
from dash.development.base_component import Component

from attnlens.errors import AttnlensError, CorpusError, ModelNotFoundError, UsageError
from dashboards import ids
from dashboards.jobs.job import read_state, write_state
from dashboards.jobs.store import JobStore
from dashboards.pages import head, heads, probing
from dashboards.pages.probing import Form
from dashboards.state import SHOWN, ViewState

HOSTILE = "</script><img src=x onerror=alert(1)>"
EMBEDDED = Form("embedded", None, None, None, (), 500, causal=False, skip_bad=False)


@pytest.fixture
def tested(make_desk, results_folder):
    """A desk with a probe result, "found", of its model."""
    return make_desk(results=(results_folder,))


@pytest.fixture
def working(desk, tmp_path):
    """A desk that starts probes, which nobody runs."""
    return replace(desk, jobs=JobStore(tmp_path / "jobs", lambda folder, attempt: None))


def parts_of(component, kind: str) -> list[Component]:
    """Every component of a kind in a tree."""
    if isinstance(component, list | tuple):
        return [found for child in component for found in parts_of(child, kind)]
    if not isinstance(component, Component):
        return []
    inner = parts_of(getattr(component, "children", None), kind)
    return [component, *inner] if type(component).__name__ == kind else inner


def text_of(component) -> str:
    if isinstance(component, list | tuple):
        return " ".join(text_of(child) for child in component)
    if isinstance(component, Component):
        return text_of(getattr(component, "children", None))
    return "" if component is None else str(component)


def test_the_list_says_what_was_found_and_what_was_nearly_found(tested, shown):
    kind, facts, figure, style, caption, weak = heads.draw_heads(tested, shown, "found", "L1H2", "light")

    assert kind == "heads"
    assert "with a label 1   of 12 heads" in text_of(facts)
    assert [cell for row in figure.data[0].customdata for cell in row][6] == "L1H2"
    assert style == {"height": f"{figure.layout.height}px"}
    assert "1 of 12 heads" in caption
    assert "selectivity 0.06 < 0.15" in text_of(weak)


@pytest.mark.parametrize("name", ["", None, "gone"])
def test_without_results_the_list_says_what_to_do(desk, shown, name):
    kind, facts, *_ = heads.draw_heads(desk, shown, name, None, "dark")

    assert kind == "heads is-untested"
    assert "Nothing has been tested" in text_of(facts)
    assert heads.grid_rows(desk, shown, name, "all") == []


def test_the_grid_has_a_row_per_head_and_shows_those_of_a_verdict(tested, shown):
    rows = {show: heads.grid_rows(tested, shown, "found", show) for show in SHOWN}

    assert [row["head"] for row in rows["labelled"]] == ["L1H2"]
    assert [row["head"] for row in rows["nearly"]] == ["L2H0"]
    assert len(rows["unclassified"]) == 10
    assert len(rows["all"]) == 12
    row = rows["labelled"][0]
    assert (row["score"], row["interval"], row["baseline"], row["n"]) == (0.8125, "0.75 – 0.88", 0.0625, 640)
    assert rows["nearly"][0]["verdict"] == "nearly nsubj (dependent to head): selectivity 0.06 < 0.15"


def test_no_text_of_a_row_is_a_formula(tested, shown, results_folder):
    document = json.loads((results_folder / "heads.json").read_text())
    label = document["heads"][6]["labels"][0]
    label |= {"label": "=1+1", "baseline_name": "@SUM(A1)", "causal": {"verdict": "-1"}}
    document["heads"][6]["primary"] = "=1+1"
    name = tested.shelf.take(json.dumps(document).encode())

    (row,) = heads.grid_rows(tested, shown, name, "labelled")

    assert (row["labels"], row["rule"], row["causal"]) == ("'=1+1", "'@SUM(A1)", "'-1")


def test_a_row_can_be_sent_to_the_browser(tested, shown):
    assert json.loads(json.dumps(heads.grid_rows(tested, shown, "found", "all")))[0]["head"] == "L0H0"


def test_sentences_are_pictures_with_words_for_those_who_do_not_see_them(tested, shown):
    results, _ = tested.results_for(tested.run(shown), "found")

    drawn = head.draw_sentences(results, "L1H2", "light")

    (picture,) = parts_of(drawn, "Img")
    svg = b64decode(picture.src.removeprefix("data:image/svg+xml;base64,")).decode()
    assert picture.alt == f"a {HOSTILE} b"
    assert f"b → {HOSTILE}, weight 0.50: a hit" in text_of(parts_of(drawn, "P"))
    assert "<img" not in svg
    assert "&lt;img" in svg or "&lt;/script" in svg
    assert HOSTILE in text_of(parts_of(drawn, "Table"))


@pytest.mark.parametrize("address", ["L0H0", "L2H0"])
def test_a_head_without_a_label_has_no_sentences_and_says_so(tested, shown, address):
    results, _ = tested.results_for(tested.run(shown), "found")

    assert "No label" in text_of(head.draw_sentences(results, address, "light"))
    assert "unclassified" in text_of(head.draw_findings(results, address, "light"))
    assert "No label" in text_of(head.draw_sentences(None, address, "light"))


def test_similar_heads_link_to_their_pages_and_keep_the_view(tested, shown):
    links = parts_of(head.draw_similar(tested, shown, "L1H2", "found"), "A")

    assert len(links) == 6
    assert all(getattr(link, "data-head") == link.children for link in links)
    address = urlsplit(links[0].href)
    assert address.path == links[0].children
    assert parse_qs(address.query) == {"model": [shown["model"]], "text": [shown["text"]], "results": ["found"]}


def test_an_uploaded_run_opens_no_model_for_its_tables(desk, shown):
    said = head.draw_tokens(desk, shown | {"run": "0" * 64, "model": "org/elsewhere"}, "L0H0")

    assert "uploaded run does not hold" in text_of(said)
    assert desk.runs.models == ()


def test_a_probe_is_started_with_what_was_filled_in(working):
    name = probing.start(working, "attnlens/random", replace(EMBEDDED, families=("syntax",), causal=True))

    request = working.jobs.find(name).request
    assert (request.model, request.corpus, request.uploaded) == ("attnlens/random", "attnlens/grammar", False)
    assert (request.families, request.limit, request.causal, request.skip_bad) == (("syntax",), 500, True, False)


def test_an_uploaded_corpus_lies_in_the_folder_of_its_job(working):
    form = replace(EMBEDDED, corpus="upload", upload="data:;base64,IyB0ZXh0", upload_name="../a b.conllu", limit="")

    job = working.jobs.find(probing.start(working, "attnlens/random", form))

    assert (job.folder / "a-b.conllu").read_bytes() == b"# text"
    assert (job.request.corpus, job.request.uploaded, job.request.limit) == ("a-b.conllu", True, None)


@pytest.mark.parametrize(
    ("model", "changes", "error"),
    [
        ("/etc", {}, ModelNotFoundError),
        ("attnlens/random", {"corpus": "file", "path": "/etc/passwd"}, CorpusError),
        ("attnlens/random", {"corpus": "upload"}, CorpusError),
        ("attnlens/random", {"families": ("x",)}, UsageError),
        ("attnlens/random", {"limit": 0}, UsageError),
        ("attnlens/random", {"limit": "many"}, UsageError),
    ],
)
def test_what_may_not_be_probed_is_refused_before_anything_is_written(working, model, changes, error):
    with pytest.raises(error):
        probing.start(working, model, replace(EMBEDDED, **changes))

    assert working.jobs.all() == ()


def test_the_list_of_jobs_says_how_each_stands_and_what_can_be_done(working):
    name = probing.start(working, "attnlens/random", EMBEDDED)
    folder = working.jobs.folder / name

    def listed(**state):
        write_state(folder, replace(read_state(folder), beat=time.time(), **state))
        drawn, still = probing.draw_jobs(working, "/below/")
        return text_of(drawn), [button.children for button in parts_of(drawn, "Button")], parts_of(drawn, "A"), still

    assert listed(state="running", stage="Counting", done=64, total=256)[1::2] == (["Cancel"], False)
    text, buttons, links, still = listed(state="stopped", message="the server ended")
    assert "Stopped at 25 %: the server ended. Continue goes on from there." in text
    assert (buttons, links, still) == (["Continue", "Remove"], [], True)
    (folder / "results").mkdir()
    (folder / "results" / "heads.json").write_text("{}")
    _, buttons, links, _ = listed(state="done")
    assert buttons == ["Remove"]
    assert links[0].href == f"/below/heads{ViewState(model='attnlens/random', results=name).query_string()}"


def test_results_come_up_in_the_picker_and_leave_it(working, random_lens):
    from sample_results import heads_document

    options = [{"value": "", "label": "none"}, {"value": "upload-0123456789ab", "label": "upload-0123456789ab"}]
    name = probing.start(working, "attnlens/random", EMBEDDED)
    assert probing.with_results(working, options) is no_update

    folder = working.jobs.folder / name
    (folder / "results").mkdir()
    (folder / "results" / "heads.json").write_text(json.dumps(heads_document(random_lens.anatomy, "L1H2", "L2H0")))
    write_state(folder, replace(read_state(folder), state="done"))
    after = probing.with_results(working, options)

    assert after == [*options, {"value": name, "label": name}]
    probing.act(working, "remove", name, 1)
    assert probing.with_results(working, after) == options


def test_a_button_does_what_it_says_and_nothing_else(working):
    name = probing.start(working, "attnlens/random", EMBEDDED)

    with pytest.raises(UsageError):
        probing.act(working, "find", name, 1)
    with pytest.raises(AttnlensError, match="no probe"):
        probing.act(working, "cancel", "../x", 1)
    probing.act(working, "cancel", name, 1)

    assert working.jobs.find(name).state.state == "cancelled"


def test_a_server_that_starts_no_probes_has_no_form(desk, working):
    assert ids.JOB_START not in str(probing.layout(desk).to_plotly_json())
    assert ids.JOB_START in str(probing.layout(working).to_plotly_json())
