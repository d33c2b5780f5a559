"""What is shown about heads: rows of the grid, sentences under arcs, heads that are alike, tokens read and written."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import attnlens
from attnlens.heads import Head
from attnlens.report.arc_figure import arcs_svg
from attnlens.report.causal_words import causal_badge, causal_sentence
from attnlens.report.evidence_view import Arc, Sentence, evidence_view
from attnlens.report.heads_view import heads_view
from attnlens.report.results import parse_results
from attnlens.report.similar_view import same_label_view, similar_view
from attnlens.report.token_view import tokens_view

HOSTILE = "</svg><img src=x onerror=alert(1)>&\"'"
TEXT = "The keys to the cabinet are on the table."
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def lens():
    return attnlens.load("attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def run(lens):
    return lens.capture(TEXT)


@pytest.fixture
def results(lens):
    from sample_results import heads_document

    return parse_results(heads_document(lens.anatomy, "L1H2", "L2H0"))


def test_every_head_has_a_row_with_the_numbers_of_its_primary_label(results):
    view = heads_view(results)

    assert [str(row.head) for row in view.rows] == [f"L{layer}H{head}" for layer in range(3) for head in range(4)]
    labelled, nearly, plain = (view.rows[at] for at in (6, 8, 0))
    assert labelled.labels == ("previous-token",)
    assert (labelled.score, labelled.low, labelled.high, labelled.baseline) == (0.8125, 0.75, 0.875, 0.0625)
    assert (labelled.n, labelled.confidence, labelled.verdict, labelled.missed) == (640, 1.0, "labelled", "")
    assert (nearly.verdict, nearly.missed, nearly.category) == ("nearly", "selectivity 0.06 < 0.15", "")
    assert (plain.verdict, plain.score, plain.labels) == ("unclassified", None, ())


def test_what_was_tried_and_what_stays_unclassified_is_said(results):
    view = heads_view(replace(results, scope={**results.scope, "n_cells": 2652, "n_tested": 21, "line": "model m"}))

    assert (view.n_labelled, view.n_heads, view.n_cells, view.n_tested) == (1, 12, 2652, 21)
    assert "1 of 12 heads carries a label; 92 % stay unclassified" in view.caption
    assert "2,652 pairs" in view.caption
    assert view.scope == "model m"
    assert view.weak_table().rows == (("L2H0", "nsubj (dependent to head)", 0.375, 0.0625, "selectivity 0.06 < 0.15"),)


def test_the_table_has_a_row_for_each_head_and_says_what_is_missed(results):
    table = heads_view(results).table()

    assert len(table.rows) == 12
    assert table.rows[8][-1] == "nearly: selectivity 0.06 < 0.15"


@pytest.mark.parametrize("verdict", ["supported", "supported together", "not supported", "void", "not tested", "new"])
def test_every_causal_verdict_is_put_in_words(verdict):
    said = causal_sentence({"verdict": verdict, "task": "agreement", "effect": 0.25, "ci": [0.125, 0.5], "reason": "x"})

    assert causal_badge({"verdict": verdict}) == verdict
    assert said[0].isupper()
    assert "effect 0.25 [0.12, 0.50]" in said
    assert "{" not in said


def test_a_head_that_nobody_removed_is_said_to_be_untested():
    assert "--causal" in causal_sentence(None)


def test_the_best_and_the_worst_sentences_are_told_apart(results):
    document_label = results.of("L1H2").labels[0]
    best, worst = document_label.examples[0], replace(document_label.examples[0], side="worst", hit=False, argmax=0)

    view = evidence_view(replace(document_label, examples=(best, worst)))

    assert [len(view.best), len(view.worst)] == [1, 1]
    assert view.best[0].arcs == (Arc(2, 1, "target"),)
    assert view.worst[0].arcs == (Arc(2, 1, "target"), Arc(2, 0, "instead"))
    assert view.worst[0].caption.endswith("the strongest was a: a miss")
    assert [row[0] for row in view.table().rows] == ["best", "worst"]


def sentence(tokens, query, *arcs):
    return Sentence(tuple(tokens), query, arcs, 0.5, len(arcs) == 1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_in_the_picture_stays_text(theme):
    svg = arcs_svg(sentence([HOSTILE, "b"], 0, Arc(0, 1, "target")), theme=theme)

    tree = ElementTree.fromstring(svg)
    assert {element.tag for element in tree.iter()} == {
        f"{SVG}{name}" for name in ("svg", "path", "circle", "rect", "text")
    }
    assert [element.text for element in tree.iter(f"{SVG}text")][1] == "b"
    assert not any(name.startswith("on") for element in tree.iter() for name in element.attrib)


@pytest.mark.parametrize(("query", "key"), [(3, 1), (1, 3), (0, 4)])
def test_an_arc_goes_from_the_middle_of_the_query_to_the_middle_of_the_key(query, key):
    words = ["a", "long-word", "漢字", "is", "it"]

    tree = ElementTree.fromstring(arcs_svg(sentence(words, query, Arc(query, key, "target"))))

    texts = list(tree.iter(f"{SVG}text"))
    middles = [float(text.get("x")) + float(text.get("textLength")) / 2 for text in texts]
    path = next(tree.iter(f"{SVG}path")).get("d")
    start, end = (float(pair.split()[0]) for pair in (re.findall(r"M([\d. ]+)C", path)[0], path.split()[-2] + " 0"))
    assert start == pytest.approx(middles[query], abs=0.06)
    assert end == pytest.approx(middles[key], abs=0.06)


def test_words_far_from_the_arcs_are_left_out_and_the_gap_is_shown():
    words = [f"w{i}" for i in range(40)]

    tree = ElementTree.fromstring(arcs_svg(sentence(words, 2, Arc(2, 30, "target"))))

    shown = [text.text for text in tree.iter(f"{SVG}text")]
    assert shown == [*words[:8], "…", *words[25:36], "…"]


def test_a_miss_has_a_dashed_arc_to_what_was_looked_at_instead():
    svg = arcs_svg(sentence("a b c".split(), 2, Arc(2, 1, "target"), Arc(2, 0, "instead")))

    assert svg.count("stroke-dasharray") == 1
    assert svg.count("<path") == 2


def test_similar_heads_are_those_whose_rows_diverge_least(run, results):
    from scipy.spatial.distance import jensenshannon

    weights = run.attention().double().numpy()
    keep = [i for i, token in enumerate(run.tokens) if not token.special]
    mine = weights[1, 2]
    expected = {
        f"L{layer}H{head}": np.mean([jensenshannon(mine[i], weights[layer, head, i]) ** 2 for i in keep])
        for layer in range(3)
        for head in range(4)
        if (layer, head) != (1, 2)
    }

    view = similar_view(run, "L1H2", results, limit=20)

    assert [str(each.head) for each in view.heads] == sorted(expected, key=expected.__getitem__)
    assert [each.value for each in view.heads] == pytest.approx(sorted(expected.values()), abs=1e-6)


def test_heads_that_share_a_label_are_listed_with_their_scores(results):
    twin = replace(results.of("L1H2"), head=Head(0, 3))
    both = replace(results, heads=(*(each for each in results.heads if each.head != twin.head), twin))

    assert [(str(each.head), each.value) for each in same_label_view(both, "L1H2").heads] == [("L0H3", 0.8125)]
    assert same_label_view(results, "L1H2").heads == ()
    assert same_label_view(results, "L0H0").heads == ()


def test_tokens_read_and_written_are_those_of_the_weights_multiplied_out(lens, run):
    layer, head = 2, 1
    model = lens.model.transformer
    block, d_model = model.h[layer], model.config.n_embd
    at = slice(head * d_model // 4, (head + 1) * d_model // 4)
    with torch.no_grad():
        embedding = model.wte.weight.double()
        gain = block.ln_1.weight.double()
        maps = block.attn.c_attn.weight.double() * gain[:, None]
        maps = maps - maps.mean(0, keepdim=True)  # LayerNorm takes the mean of what it reads away
        query, key, value = maps.split(d_model, dim=1)
        token = torch.tensor([run.tokens[2].id])
        reads = (embedding[token] @ query[:, at]) @ (embedding @ key[:, at]).T
        unembedding = model.ln_f.weight.double()[:, None] * lens.model.lm_head.weight.double().T
        unembedding = unembedding - unembedding.mean(0, keepdim=True)
        writes = embedding[token] @ value[:, at] @ block.attn.c_proj.weight.double()[at] @ unembedding

    view = tokens_view(lens, run, f"L{layer}H{head}")

    def words(scores):
        return tuple(lens.tokenizer.decode([each]).strip() for each in scores[0].topk(6).indices.tolist())

    row = view.rows[1]
    assert row.token == "keys"
    assert row.reads == words(reads)
    assert row.writes == words(writes)
    assert view.absent == ()


def test_a_model_without_a_linear_prediction_head_says_why_it_writes_nothing():
    bert = attnlens.load("attnlens/tiny-bert")

    view = tokens_view(bert, bert.capture("The cat sees."), "L0H1")

    assert view.table().columns == ("token", "looks for")
    assert len(view.absent) == 1
    assert "more than a linear map" in view.absent[0]
