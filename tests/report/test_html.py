"""Report files: complete, escaped, allowed to run only their own scripts, the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from report_samples import HOSTILE, made_run, results_document

from attnlens import Head
from attnlens.errors import HeadAddressError, ResultsError
from attnlens.report import embed
from attnlens.report.html import heads_report, run_report
from attnlens.report.metrics import METRICS
from attnlens.report.results import parse_results
from attnlens.report.scope import model_rows


class Page(HTMLParser):
    """Start tags with their attributes, scripts, and text outside scripts and styles, of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self._inside: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._inside is None:
            self.texts.append(data)

    @property
    def data(self) -> dict:
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == "data"))

    @property
    def policy(self) -> str:
        return next(a["content"] for t, a in self.tags if a.get("http-equiv") == "Content-Security-Policy")


@cache
def parsed(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def run_page(bert_run) -> str:
    return run_report(bert_run)


@pytest.fixture(scope="module")
def heads_page(bert_run) -> str:
    return heads_report(parse_results(results_document(bert_run.anatomy.to_json())))


@pytest.fixture(params=["run_page", "heads_page"])
def page(request) -> Page:
    return parsed(request.getfixturevalue(request.param))


def test_only_the_scripts_inside_may_run(page):
    running = [text for attributes, text in page.scripts if "type" not in attributes]

    allowed = re.findall(r"'(sha256-[^']+)'", page.policy)
    hashes = ["sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert len(running) == 2
    assert hashes == allowed
    assert page.policy.startswith("default-src 'none'; ")
    assert "unsafe" not in page.policy.replace("style-src 'unsafe-inline'", "")
    assert "http" not in page.policy


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href"}:
                assert value.startswith("#")


def test_the_page_can_be_read_aloud(page):
    tags = [tag for tag, _ in page.tags]
    by_tag = dict(page.tags)

    assert by_tag["html"]["lang"] == "en"
    assert tags.count("h1") == 1
    assert "main" in tags
    assert all(a.get("aria-label") for t, a in page.tags if a.get("role") in {"img", "region"})
    assert all(a.get("scope") in {"col", "row"} for t, a in page.tags if t == "th")
    assert tags.count("caption") == tags.count("table")
    labelled = {a["for"] for t, a in page.tags if t == "label"}
    controls = {a["id"] for t, a in page.tags if t in {"select", "input"}}
    assert controls <= labelled
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in page.tags if t == "a"}
    assert targets <= set(ids) | set(page.data.get("weights", {}).get("heads", ()))


def test_the_same_input_gives_the_same_bytes(bert_run, results, run_page, heads_page):
    assert run_report(bert_run) == run_page
    assert heads_report(results) == heads_page


def test_the_weights_inside_are_the_runs(bert_run, run_page):
    weights = parsed(run_page).data["weights"]

    n = len(bert_run.tokens)
    assert weights["bits"] == 32
    assert len(weights["heads"]) == 12
    for head, text in weights["heads"].items():
        inside = np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(n, n)
        np.testing.assert_allclose(inside, bert_run.attention(head=head).numpy(), atol=1e-6)
    mask = np.unpackbits(np.frombuffer(base64.b64decode(weights["masks"][0]), dtype=np.uint8))[: n * n]
    assert mask.all()
    assert weights["mask_of"] == [0, 0, 0]


def test_hidden_cells_are_marked_inside(gpt2_run):
    weights = Page(run_report(gpt2_run)).data["weights"]

    n = len(gpt2_run.tokens)
    mask = np.unpackbits(np.frombuffer(base64.b64decode(weights["masks"][0]), dtype=np.uint8))[: n * n]
    np.testing.assert_array_equal(mask.reshape(n, n), np.tril(np.ones((n, n))))


def test_sixteen_bits_stay_within_the_error_that_is_stated(bert_run):
    packed = embed.pack_weights(bert_run, [Head(1, 3)], bits=16)

    inside = np.frombuffer(base64.b64decode(packed.heads["L1H3"]), dtype="<u2") / 65535
    difference = np.abs(inside - bert_run.attention(1).numpy()[3].ravel()).max()
    assert 0 < difference <= packed.error <= 0.5 / 65535 + 1e-7


def test_a_long_text_keeps_the_chosen_heads_and_says_so(bert_run, monkeypatch):
    n_base64 = -(-(len(bert_run.tokens) ** 2) * 2 // 3) * 4
    monkeypatch.setattr(embed, "EXACT_BASE64", 10)
    monkeypatch.setattr(embed, "MAX_BASE64", 3 * n_base64)

    page = Page(run_report(bert_run, heads=["L2H3", "L0H1"]))

    assert page.data["opened"] == "L2H3"
    assert {"L2H3", "L0H1"} < set(page.data["weights"]["heads"])
    assert len(page.data["weights"]["heads"]) == 3
    assert any("the weights of 3 of 12 heads" in text for text in page.texts)
    stated = re.search(r"rounded to 16 bits: they differ from the run's by ([0-9.]+) at most", " ".join(page.texts))
    exact = bert_run.attention(head="L2H3").numpy().ravel()
    inside = np.frombuffer(base64.b64decode(page.data["weights"]["heads"]["L2H3"]), dtype="<u2") / 65535
    assert 0 < np.abs(inside - exact).max() <= float(stated[1]) < 1e-5


def test_every_metric_of_every_head_is_in_a_table(run_page, bert_run):
    text = " ".join(parsed(run_page).texts)

    for metric in METRICS.values():
        assert metric.name in text
    assert "L2H3" in text


def test_the_scope_is_told(run_page, heads_page, bert_run):
    for html in (run_page, heads_page):
        text = " ".join(" ".join(parsed(html).texts).split())
        assert "Attention is evidence of information movement, not explanation." in text
        assert "transformers" in text or "torch" in text
        for check in bert_run.anatomy.self_check.checks:
            assert check.name in text
            assert f"{check.value:.3g}" in text
    text = " ".join(" ".join(parsed(heads_page).texts).split())
    for shown in ("tiny.conllu", "8,640", "312", "83.3 %", "by hash", "margin", "1,575"):
        assert shown in text


def test_evidence_stands_beside_each_label(heads_page):
    text = " ".join(" ".join(parsed(heads_page).texts).split())

    assert "0.700 to 0.800" in text
    assert "1,234" in text
    assert "keys → The , weight 0.93" in text
    assert "selectivity 0.07 &lt; 0.15" in heads_page
    assert "insufficient data" in text
    assert "< 0.001" in text
    assert "No label here has been checked by removing the head." in text


def test_a_failed_self_check_is_shown(document):
    document["model"]["self_check"]["checks"][0]["passed"] = False

    text = " ".join(Page(heads_report(parse_results(document))).texts)

    assert "capture ≠ model" in text


def test_results_without_a_label_are_a_report_too(document):
    for head in document["heads"]:
        head |= {"labels": [], "weak": [], "primary": None}
    document["relations"] = []

    text = " ".join(Page(heads_report(parse_results(document))).texts)

    assert "Unclassified is a normal answer" in text


def test_labels_show_in_a_run_report(bert_run, results):
    page = Page(run_report(bert_run, results, heads=["L1H2"]))

    assert [label["name"] for label in page.data["labels"]["L1H2"]] == ["obj (dependent to head)", "first-token"]
    assert any("does obj" in text for text in page.texts)


def test_a_heads_report_can_carry_a_run(bert_run, results):
    page = Page(heads_report(results, bert_run))

    assert {"labels_map", "weights"} <= set(page.data)
    assert {"figure-labels", "figure-links"} <= {a.get("id") for _, a in page.tags}


def test_mistakes_are_refused(bert_run, gpt2_run, results):
    with pytest.raises(HeadAddressError):
        run_report(bert_run, heads=["L7H0"])
    with pytest.raises(ResultsError):
        run_report(gpt2_run, results)
    with pytest.raises(ResultsError):
        heads_report(results, gpt2_run)


def hostile(value):
    """`value` with every free text replaced by something that would act, did it get out."""
    if isinstance(value, dict):
        kept = ("schema", "head", "best_head", "direction", "sha256", "unit", "weights_sha256", "from", "to", "letter")
        return {key: part if key in kept else hostile(part) for key, part in value.items()}
    if isinstance(value, list):
        return [hostile(part) for part in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_texts_stay_text_everywhere(document):
    results = parse_results(hostile(document))
    tokens = [HOSTILE, "<b>bold</b>", "&lt;", "{{ 7*7 }}", "]]>", "<!--", "\u2028"]
    run = made_run(np.full((3, 4, 7, 7), 1 / 7), tokens)
    object.__setattr__(run, "anatomy", results.anatomy)

    pages = [Page(html) for html in (run_report(run), heads_report(results), heads_report(results, run))]

    for page in pages:
        assert "img" not in {tag for tag, _ in page.tags}
        assert "b" not in {tag for tag, a in page.tags} or "bold" not in page.texts
        assert len(page.scripts) == 3
        assert HOSTILE in " ".join(page.texts)
        assert page.data
    assert "{{ 7*7 }}" in " ".join(pages[0].texts)


@pytest.mark.parametrize(("unit", "other"), [("document", "sentences"), ("sentence", "documents")])
def test_the_report_speaks_of_the_unit_that_was_split(document, unit, other):
    document["scope"]["unit"] = unit

    text = " ".join(" ".join(parsed(heads_report(parse_results(document))).texts).split())

    assert f"on {unit}s that played no part in choosing it" in text
    assert f"one half of the {unit}s" in text
    assert not re.search(f"(half of the|resamples of those|label on) {other}", text)


def test_selectivity_is_explained_as_it_is_measured(heads_page):
    text = " ".join(parsed(heads_page).texts)

    assert "same distances at other words of the sentence" in text
    assert "shuffled" not in text


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"weights_sha256": "a" * 64, "revision": None}, "SHA-256 " + "a" * 64),
        ({"weights_sha256": None, "revision": "1" * 40}, "hub commit " + "1" * 40),
        ({"weights_sha256": None, "revision": None}, "not hashed"),
    ],
)
def test_the_report_says_what_names_the_weights(document, known, expected):
    anatomy = parse_results(document | {"model": document["model"] | known}).anatomy

    assert dict(model_rows(anatomy))["weights"] == expected
