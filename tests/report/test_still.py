"""Still pictures: the numbers of the view, escaped text, millimetres, the same bytes, nobody's settings changed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from report_samples import HOSTILE, made_run

from attnlens.compare import compare_runs
from attnlens.errors import OutputError, ResultsError, UsageError
from attnlens.heads import Head
from attnlens.report import still
from attnlens.report.comparison_view import difference_view
from attnlens.report.evidence_view import Arc, EvidenceView, Sentence
from attnlens.report.layers import LayerScore, layer_panels
from attnlens.report.maps import Window
from attnlens.report.palette import THEMES
from attnlens.report.views import head_map_view, pattern_view, results_map_view

LIGHT = THEMES["light"]
SVG = "{http://www.w3.org/2000/svg}"


def parsed(picture) -> ElementTree.Element:
    return ElementTree.fromstring(still.svg_of(picture))


def boxes(picture, colour: str) -> list[tuple[float, float]]:
    """Upper left corners of the boxes of one colour."""
    return [
        (float(each.get("x")), float(each.get("y")))
        for each in parsed(picture).iter(f"{SVG}rect")
        if each.get("fill") == colour and each.get("x") is not None
    ]


def test_each_weight_from_the_threshold_on_is_one_curve(gpt2_run):
    view = pattern_view(gpt2_run, "L1H2")

    picture = still.token_picture(view, threshold=0.1)

    weights = gpt2_run.attention(head="L1H2").numpy()
    curves = [each.get("d") for each in parsed(picture).iter(f"{SVG}path")]
    assert len(curves) == np.count_nonzero(np.tril(weights) >= 0.1)
    widths = [float(each.get("stroke-width")) for each in parsed(picture).iter(f"{SVG}path")]
    expected = np.sort(weights[np.tril(weights) >= 0.1])
    np.testing.assert_allclose(widths, 0.35 + 2 * expected, atol=0.006)  # the strongest last, so on top


def test_the_cells_of_a_matrix_stand_where_their_weights_are():
    weights = np.array([[[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]])
    seen = [[True, False, False], [True, True, True], [True, True, True]]
    view = pattern_view(made_run(weights, ["a", "b", "c"], visible=seen), "L0H0")

    picture = still.matrix_picture(view)

    frame = next(each for each in parsed(picture).iter(f"{SVG}rect") if each.get("stroke") == LIGHT.faint)
    below = float(frame.get("y")) + float(frame.get("height"))  # where the scale stands
    full, empty = (
        [corner for corner in boxes(picture, LIGHT.sequential[step]) if corner[1] < below] for step in (-1, 0)
    )
    rows, columns = (sorted({corner[axis] for corner in full + empty}) for axis in (1, 0))
    assert {(columns.index(x), rows.index(y)) for x, y in full} == {(0, 0), (2, 1), (0, 2)}
    assert len(empty) == 4
    assert len(boxes(picture, LIGHT.not_visible)) == 1


def test_heads_of_a_map_stand_in_rows_of_layers(results):
    picture = still.map_picture(results_map_view(results))

    position, syntax = (boxes(picture, LIGHT.categories[name])[0] for name in ("position", "syntax"))
    assert len(boxes(picture, LIGHT.unlabelled)) == 10
    assert position[0] == syntax[0]  # L0H2 above L1H2
    assert position[1] < syntax[1]
    assert {"prev", "obj", "fixed position", "syntax"} <= set(picture.words())


def test_the_scale_of_a_map_ends_at_its_largest_value(bert_run):
    view = head_map_view(bert_run, "distance")

    words = still.map_picture(view).words()

    assert f"{view.values.max():.2f}" in words
    assert "distance (tokens)" in words


def test_scores_of_a_forest_lie_on_its_axis(results):
    picture = still.forest_picture(results, "L1H2")

    first, second = [float(each.get("cx")) for each in parsed(picture).iter(f"{SVG}circle")][:2]
    ticks = {each.text: float(each.get("x")) for each in parsed(picture).iter(f"{SVG}text")}
    assert first == second == pytest.approx((ticks["0.5"] + ticks["1"]) / 2, abs=0.02)  # both score 0.75
    assert "0.75 [0.70, 0.80]" in ticks
    with pytest.raises(ResultsError, match="L2H3 has no label"):
        still.forest_picture(results, "L2H3")


def test_a_difference_is_orange_where_the_second_run_has_more():
    first, second = (made_run(np.array([[[[a, 1 - a], [0.5, 0.5]]]]), ["a", "b"]) for a in (0.2, 0.9))

    view = difference_view(compare_runs(first, second, words=False), Head(0, 0), Head(0, 0))
    picture = still.difference_picture(view)

    more, less = (boxes(picture, colour)[0] for colour in (LIGHT.accent, LIGHT.sequential[6]))
    assert more[1] == less[1]
    assert more[0] < less[0]
    assert {"+0.70", "−0.70"} <= set(picture.words())


def test_hostile_text_stays_text():
    names = [HOSTILE, "\x00\x1b[31m", "]]>&amp;", "$x^2$"]
    view = pattern_view(made_run(np.full((1, 1, 4, 4), 0.25), names), "L0H0")

    for picture in (still.token_picture(view, width="page"), still.matrix_picture(view, width="page")):
        root = parsed(picture)

        assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {"svg", "title", "desc", "rect", "path", "text"}
        assert "]]>&amp;" in {each.text for each in root.iter(f"{SVG}text")}
        assert not [name for each in root.iter() for name in each.attrib if "href" in name or name.startswith("on")]


@pytest.mark.parametrize("ending", still.FORMATS)
def test_the_same_view_gives_the_same_bytes_and_changes_no_settings(gpt2_run, tmp_path, ending):
    import matplotlib

    view = pattern_view(gpt2_run, "L1H0")
    settings = dict(matplotlib.rcParams)

    first = tmp_path / f"a{ending}"
    still.save(still.matrix_picture(view), first, dpi=80)
    matplotlib.rcParams["lines.linewidth"] = 9.0
    still.save(still.matrix_picture(view), tmp_path / f"b{ending}", dpi=80)
    matplotlib.rcParams["lines.linewidth"] = settings["lines.linewidth"]

    assert first.read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    assert dict(matplotlib.rcParams) == settings


def test_a_pdf_holds_vectors_and_fonts_in_the_width_that_was_asked_for(gpt2_run, tmp_path):
    picture = still.token_picture(pattern_view(gpt2_run, "L1H0"), width="90mm")

    still.save(picture, tmp_path / "head.pdf")

    content = (tmp_path / "head.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ *0 0 ([\d.]+)", content)
    assert float(box[1]) == pytest.approx(90 / 25.4 * 72, abs=0.01)
    assert b"/FontFile2" in content
    assert b"/Subtype /Image" not in content


def test_characters_without_a_font_are_named(tmp_path):
    view = pattern_view(made_run(np.ones((1, 1, 1, 1)), ["\ue000"]), "L0H0")

    missing = still.save(still.token_picture(view), tmp_path / "a.png", dpi=50)

    assert missing == "\ue000"
    assert still.save(still.token_picture(view), tmp_path / "a.svg") == ""


def test_mistakes_are_named(gpt2_run, long_run, tmp_path):
    view = pattern_view(gpt2_run, "L1H0")
    picture = still.token_picture(view)

    for message, call in {
        "ends in .svg, .pdf, .png": lambda: still.save(picture, tmp_path / "a.gif"),
        "20 dpi": lambda: still.save(picture, tmp_path / "a.png", dpi=20),
        "'wide' is no width": lambda: still.token_picture(view, width="wide"),
        "millimetres": lambda: still.token_picture(view, width=5),
    }.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            call()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        still.save(picture, tmp_path / "file" / "a.svg")


def test_a_part_of_a_long_text_is_drawn(long_run):
    n = len(long_run.tokens)
    part = pattern_view(long_run, "L0H1", window=Window((10, 20), (0, 5)))

    picture = still.matrix_picture(part)

    assert part.weights.shape == (10, 5)
    np.testing.assert_array_equal(part.weights, long_run.attention(head="L0H1")[10:20, :5])
    assert len(picture.words()) == 10 + 5 + 3
    assert n > 64


def test_arcs_lead_to_the_target_and_dashed_to_what_a_miss_looked_at():
    hit = Sentence(("The", "keys", HOSTILE, "open"), 3, (Arc(3, 1, "target"),), 0.9, True)
    miss = Sentence(tuple(f"w{at}" for at in range(60)), 5, (Arc(5, 50, "target"), Arc(5, 6, "instead")), 0.1, False)
    view = EvidenceView("nsubj", "syntax", (hit,), (miss,), "From a sample.")

    picture = still.evidence_picture(view, width="column")

    strokes = [each for each in parsed(picture).iter(f"{SVG}path") if "C" in each.get("d")]
    assert [each.get("stroke-dasharray") is not None for each in strokes] == [False, False, True]
    places = {each.text: each for each in parsed(picture).iter(f"{SVG}text")}
    start, end = (float(re.search(pattern, strokes[0].get("d"))[1]) for pattern in (r"M([\d.]+) ", r"([\d.]+) [\d.]+$"))
    assert start > float(places["open"].get("x")) > end > float(places["keys"].get("x"))
    assert places["open"].get("font-weight") == "bold"
    assert {"w5", "w6", "w50", "…", "0.90", "0.10"} <= set(picture.words())
    assert "w30" not in picture.words()  # far from all arcs
    assert max(float(each.get("x")) for each in places.values()) <= picture.width
    with pytest.raises(ResultsError, match="--examples"):
        still.evidence_picture(EvidenceView("nsubj", "syntax", (), (), ""))


def test_scores_of_layers_lie_on_their_axis():
    def score(depth: int, value: float | None) -> LayerScore:
        place = f"L{depth - 1}" if depth else "embeddings"
        controls = {"random labels": 0.25}
        return LayerScore(
            "linear", "upos", "accuracy", depth, place, "higher", 9, value, None, None, depth == 2, None, controls
        )

    (panel,) = layer_panels([score(0, 0.5), score(1, None), score(2, 0.75), score(3, 0.0)])

    picture = still.layers_picture(panel)

    root = parsed(picture)
    ticks = {each.text: float(each.get("y")) for each in root.iter(f"{SVG}text")}
    dots = [each for each in root.iter(f"{SVG}circle") if each.get("fill") != "none"]
    (ring,) = (each for each in root.iter(f"{SVG}circle") if each.get("fill") == "none")
    above = ticks["0"] - ticks["1"]
    shares = [(ticks["0"] - 2.3 - float(each.get("cy"))) / above for each in dots]
    np.testing.assert_allclose(shares, [0.5, 0.75, 0.0], atol=1e-3)
    assert (ring.get("cx"), ring.get("cy")) == (dots[1].get("cx"), dots[1].get("cy"))
    solid = [each for each in root.iter(f"{SVG}path") if each.get("stroke") == LIGHT.sequential[7]]
    assert len(solid) == 1 + 1  # from depth 2 to 3, and in the key: nothing bridges what was not measured
    assert "random labels" in picture.words()
