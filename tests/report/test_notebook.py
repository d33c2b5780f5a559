"""What notebooks show: the run's own numbers, in one frame, bounded and escaped."""

from __future__ import annotations

import base64
import json
import re
from html import unescape

import numpy as np
from packed_maps import weights_of
from report_samples import HOSTILE, made_run

from attnlens.report.notebook import heads as notebook
from attnlens.report.views import head_map_view, pattern_view

FRAME = re.compile(r'<iframe title="([^"<>]*)" sandbox="allow-scripts" [^<>]*srcdoc="([^"]*)"></iframe>')


def page_of(html: str) -> str:
    """The page inside, once it is certain that nothing is outside."""
    match = FRAME.fullmatch(html)
    assert match
    return unescape(match[2])


def data_of(html: str) -> dict:
    return json.loads(re.search(r'id="al-data">(.*?)</script>', page_of(html))[1])


def maps_of(data: dict) -> tuple[dict, np.ndarray]:
    return weights_of(base64.b64decode(data["maps"]))


def test_a_run_shows_every_heads_own_weights(bert_run):
    data = data_of(bert_run._repr_html_())

    header, weights = maps_of(data)
    assert data["heads"] == header["names"] == [str(head) for head in bert_run.anatomy.heads()]
    np.testing.assert_allclose(weights.reshape(3, 4, *weights.shape[1:]), bert_run.attention().numpy(), atol=1e-4)
    assert data["cells"]["name"]
    assert data["thumbnails"]


def test_the_page_inside_may_run_its_own_script_and_load_nothing(bert_run):
    page = page_of(bert_run._repr_html_())

    assert re.search(r"default-src 'none'; script-src 'sha256-[^' ]+'; style-src 'unsafe-inline'", page)
    assert not re.search(r"(src|href)=|https?://", page.replace("http://www.w3.org/2000/svg", ""))
    assert "require" not in page


def test_a_long_text_shows_its_beginning_and_many_heads_the_strongest(bert_run, monkeypatch):
    n = len(bert_run.tokens)
    monkeypatch.setattr(notebook, "WHOLE", n - 1)
    monkeypatch.setattr(notebook, "BEGINNING", 5)
    monkeypatch.setattr(notebook, "MOST_WEIGHTS", 2 * 5 * 5 * 3)

    data = data_of(bert_run._repr_html_())

    _, weights = maps_of(data)
    inner = bert_run.attention().numpy()[:, :, :5, 1:5].max(-1).mean(-1).ravel()
    expected = sorted(np.argsort(-inner)[:3].tolist())
    assert data["heads"] == [str(bert_run.anatomy.heads()[at]) for at in expected]
    assert data["selected"] == str(bert_run.anatomy.heads()[int(inner.argmax())])
    assert weights.shape == (3, 5, 5)
    assert f"{n} tokens" in data["about"]
    assert "3 of 12 heads" in data["about"]


def test_what_takes_too_long_is_a_table(bert_run, monkeypatch):
    monkeypatch.setattr(notebook, "_WORK", 10)

    html = bert_run._repr_html_()

    assert html.startswith("<table>")
    assert "3 layers of 4" in html
    assert "pattern_view" in html


def test_the_size_is_bounded():
    run = made_run(np.full((12, 12, 100, 100), 0.01))

    assert len(run._repr_html_()) < notebook.MOST_BYTES


def test_one_head_shows_hidden_cells_as_hidden_and_a_table_without_scripts(gpt2_run):
    view = pattern_view(gpt2_run, "L1H2")

    html = view._repr_html_()

    _, weights = maps_of(data_of(html))
    np.testing.assert_array_equal(weights[0] > 1, ~view.visible)
    np.testing.assert_allclose(np.where(view.visible, weights[0], 0), view.weights, atol=1e-4)
    assert re.search(r"<noscript>.*<th>from</th>", page_of(html))


def test_hostile_text_stays_text(document):
    from probes.report import HeadReport

    run = made_run(np.full((1, 2, 2, 2), 0.5), [HOSTILE, '"></iframe><script>alert(1)</script>'])
    document["heads"][2]["labels"][0]["label"] = HOSTILE
    document["corpus"]["name"] = HOSTILE

    for html in (run._repr_html_(), pattern_view(run, "L0H1")._repr_html_()):
        page = page_of(html)
        assert page.lower().count("</script") == 2
        assert "<img" not in page
    shown = HeadReport(document, None)._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown


def test_a_result_shows_its_labelled_heads_and_its_map(document, results, monkeypatch):
    from probes.report import HeadReport

    html = HeadReport(document, None)._repr_html_()

    assert html == results._repr_html_()
    rows = re.findall(r"<tr>(.*?)</tr>", html)[1:]
    assert [re.findall(r">([^<>]+)</td>", row)[:4] for row in rows] == [
        ["L0H2", "previous-token", "0.75", "0.70 – 0.80"],
        ["L1H2", "obj (dependent to head); first-token", "0.75", "0.70 – 0.80"],
    ]
    assert html.count("<rect") == 1 + 12 + 2  # the ground, the heads, the legend
    monkeypatch.setattr("attnlens.report.notebook.results.MOST_ROWS", 1)
    assert "1 more are in" in results._repr_html_()


def test_a_map_of_heads_is_a_picture(bert_run, monkeypatch):
    view = head_map_view(bert_run, "entropy")

    assert view._repr_html_().count("<rect") > 12
    monkeypatch.setattr("attnlens.report.notebook.results.MOST_CELLS", 11)
    assert unescape(view._repr_html_()) == f"<p>{view.caption}</p>"


def test_an_encoder_decoder_shows_its_decoder():
    from family_models import FAMILIES

    import attnlens

    lens = attnlens.load(model=FAMILIES["bart"].build(), tokenizer=FAMILIES["bart"].tokenizer())
    run = lens.capture(source="the dogs bark", target="die Hunde", points=())

    data = data_of(run._repr_html_())

    assert data["heads"] == [str(head) for head in run.anatomy.stack("D").heads()]
    assert data["selected"] in data["cells"]["heads"]
    seen = np.tril_indices(len(run.tokens))
    np.testing.assert_allclose(maps_of(data)[1][0][seen], run.attention(head="DL0H0").numpy()[seen], atol=1e-4)
