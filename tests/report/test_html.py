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
from family_models import FAMILIES
from report_samples import HOSTILE, made_run, results_document

import attnlens
from attnlens.errors import HeadAddressError, OutputError, ResultsError, UsageError
from attnlens.report.file import weights as packing
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
        self.styles: list[str] = []
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
        elif self._inside == "style":
            self.styles.append(data)
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


def test_only_the_scripts_and_styles_inside_may_act(page):
    running = [text for attributes, text in page.scripts if "type" not in attributes]

    assert len(running) == len(page.styles) == 1
    script, style = ("sha256-" + digest(text) for text in (*running, *page.styles))
    assert page.policy == (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; form-action 'none'"
    )
    assert not any("style" in attributes for _, attributes in page.tags)


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


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
    assert all(a.get("aria-label") for t, a in page.tags if t == "svg" and "aria-hidden" not in a)
    labelled = {a["for"] for t, a in page.tags if t == "label"}
    controls = {a["id"] for t, a in page.tags if t in {"select", "input"}}
    assert controls <= labelled
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in page.tags if t == "a"}
    assert targets <= set(ids) | {name for run in page.data["runs"] for name in run["stacks"][""]["heads"]}


def test_the_same_input_gives_the_same_bytes(bert_run, results, run_page, heads_page):
    assert run_report(bert_run) == run_page
    assert heads_report(results) == heads_page


def inside(html: str) -> dict:
    """The one run in a page."""
    return Page(html).data["runs"][0]


def decoded(stack: dict, head: str) -> np.ndarray:
    """The weights of a head's visible cells, by what the schema says of them."""
    raw = base64.b64decode(stack["heads"][head])
    if stack["bits"] == 8:
        return np.frombuffer(raw, dtype=np.uint8) / 255
    codes = np.frombuffer(raw, dtype="<u2").astype(float)
    return np.where(codes == 0, 0, (codes + 0.5) / 60_000)


@pytest.mark.parametrize(("bits", "most"), [(8, 0.5 / 255 + 1e-7), (16, 1 / 60_000), (None, 1 / 60_000)])
@pytest.mark.parametrize("name", ["bert_run", "gpt2_run"])
def test_the_weights_inside_stay_within_the_error_that_is_stated(request, name, bits, most):
    run = request.getfixturevalue(name)
    html = run_report(run, precision=bits)

    stack = inside(html)["stacks"][""]

    stated = re.search(r"rounded to (8|16) bits: they differ from the run's by ([0-9.]+) at most", html)
    assert int(stated[1]) == stack["bits"] == (bits or 16)
    n = len(run.tokens)
    cells = np.tri(n, dtype=bool) if name == "gpt2_run" else np.ones((n, n), dtype=bool)
    assert stack["masks"] == ["causal" if name == "gpt2_run" else "all"]
    differences = [
        np.abs(decoded(stack, head) - run.attention(head=head).numpy()[cells]).max() for head in stack["heads"]
    ]
    assert len(differences) == run.n_layers * run.n_heads
    assert 0 < max(differences) <= stack["error"] + 1e-7 <= float(stated[2]) + 1e-7 <= most + 2e-5


def test_any_mask_is_kept_bit_by_bit():
    visible = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    run = made_run(np.full((1, 2, 3, 3), 0.25), visible=visible)

    stack = inside(run_report(run))["stacks"][""]

    bits = np.unpackbits(np.frombuffer(base64.b64decode(stack["masks"][0]), dtype=np.uint8))[:9]
    np.testing.assert_array_equal(bits.reshape(3, 3), visible)
    assert len(decoded(stack, "L0H1")) == visible.sum()


def test_a_long_text_takes_fewer_bits_then_keeps_the_chosen_heads_and_says_so(bert_run, monkeypatch):
    n_base64 = -(-(len(bert_run.tokens) ** 2) // 3) * 4
    monkeypatch.setattr(packing, "FINE", 10)
    monkeypatch.setattr(packing, "MOST", 3 * n_base64)

    page = Page(run_report(bert_run, heads=["L2H3", "L0H1"]))

    stack = page.data["runs"][0]["stacks"][""]
    assert stack["bits"] == 8
    assert page.data["page"]["view"]["opened"] == "L2H3"
    assert {"L2H3", "L0H1"} < set(stack["heads"])
    assert (len(stack["heads"]), len(stack["pictures"])) == (3, 9)
    assert any("the weights of 3 of 12 heads" in text for text in page.texts)


def test_too_large_a_report_says_what_to_leave_out(bert_run, monkeypatch):
    monkeypatch.setattr(packing, "LIMIT", 1000)

    with pytest.raises(OutputError, match=r"--precision 8 makes .* attnlens capture --layers or --heads"):
        run_report(bert_run, precision=16)
    with pytest.raises(UsageError, match="choose 8 or 16"):
        run_report(bert_run, precision=12)


def test_twelve_layers_of_twelve_heads_on_128_tokens_take_at_most_4_mb():
    weights = np.random.default_rng(0).dirichlet(np.ones(128), (12, 12, 128))

    html = run_report(made_run(weights))

    assert len(html.encode()) <= 4e6


@pytest.fixture(scope="module")
def ablated():
    lens = attnlens.load("attnlens/tiny-gpt2")
    run = lens.capture("The keys to the cabinet", points=())
    options = {"measures": ["rollout", "diagonal", "kovaleva-class"], "ablate": ["L0H1"], "lens": lens}
    return run, Page(run_report(run, heads=["L1H1"], **options))


def test_measures_stand_where_they_belong(ablated):
    run, page = ablated
    view, tables = (page.data["page"][name] for name in ("view", "tables"))

    (rollout,) = view["maps"]
    assert rollout["per"] == "layer"
    assert list(rollout["maps"]) == ["0", "1", "2"]
    first = np.frombuffer(base64.b64decode(rollout["maps"]["0"]["wide"]), dtype="<u2").reshape(len(run.tokens), -1)
    mixed = (run.attention(0).numpy().mean(0) + np.eye(len(run.tokens))) / 2  # Abnar and Zuidema 2020, equation 1
    seen = first != 65_535
    np.testing.assert_allclose((first[seen] + 0.5) / 60_000, mixed[seen], atol=1 / 60_000)
    diagonal = view["metrics"][""]["diagonal"]["values"]
    assert np.array(diagonal).shape == (3, 4)
    assert [row[0] for row in tables["measure-0"]["rows"]][:5] == ["L0H0", "L0H1", "L0H2", "L0H3", "L1H0"]


def test_the_prediction_without_a_head_stands_beside_the_one_with_it(ablated):
    _, page = ablated

    text = " ".join(" ".join(page.texts).split())
    changed = page.data["page"]["view"]["metrics"][""]["without"]
    assert "Without L0H1" in text
    assert "The prediction moves by" in text
    assert page.data["page"]["view"]["metric"] == "without"
    assert max(changed["values"][0]) == 0.0  # heads beside it read what they read before
    assert max(changed["values"][1]) > 0


def test_a_head_of_the_last_layer_moves_no_attention_and_colours_no_map():
    lens = attnlens.load("attnlens/tiny-gpt2")
    run = lens.capture("The keys to the cabinet", points=())

    page = Page(run_report(run, ablate=["L2H1"], lens=lens))

    view = page.data["page"]["view"]
    assert "without" not in view["metrics"][""]
    assert view["metric"] in view["metrics"][""]
    assert "No head looks elsewhere for it" in " ".join(page.texts)


def test_heads_cannot_be_switched_off_without_the_model(bert_run):
    with pytest.raises(UsageError, match="-m MODEL TEXT instead of a file"):
        run_report(bert_run, ablate=["L0H0"])


def test_an_encoder_decoder_shows_its_three_stacks():
    model, tokenizer = FAMILIES["bart"].build(), FAMILIES["bart"].tokenizer()
    run = attnlens.load(model=model, tokenizer=tokenizer).capture(source="the dogs bark", target="die Hunde", points=())

    page = Page(run_report(run, precision=16))

    stacks = page.data["runs"][0]["stacks"]
    assert set(stacks) == {"D", "E", "X"}
    for letter, head in (("D", "DL0H0"), ("E", "EL1H0"), ("X", "XL0H1")):
        assert run.attention(head=head).sum() == pytest.approx(decoded(stacks[letter], head).sum(), abs=1e-2)
    assert "previous" not in page.data["page"]["view"]["metrics"]["X"]


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
    assert "keys → The, weight 0.93: a hit" in text
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

    labels = page.data["page"]["view"]["labels"]["L1H2"]
    assert [label["name"] for label in labels] == ["obj (dependent to head)", "first-token"]
    assert labels[0]["text"] == "does obj"


def test_a_heads_report_can_carry_a_run(bert_run, results):
    page = Page(heads_report(results, bert_run))

    assert (len(page.data["runs"]), len(page.data["results"])) == (1, 1)
    assert {"labels-table", "links", "matrix"} <= {a.get("id") for _, a in page.tags}


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
        assert len(page.scripts) == 2
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
