"""A report read back: the same numbers within the stated error, and a name for everything that can be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from family_models import FAMILIES
from report_samples import HOSTILE, made_run

import attnlens
from attnlens.cli.open import open_command
from attnlens.errors import BundleError, OutputError, UsageError
from attnlens.report.file.opened import open_report
from attnlens.report.html import heads_report, run_report
from attnlens.report.results import load_results, parse_results

DATA = re.compile(r'(id="data" data-sha256=")([0-9a-f]{64})(">)([^<]*)')


@pytest.fixture
def call(called):
    return called(open_command)


@pytest.fixture
def written(tmp_path):
    """`written(html)`: a file that holds it."""

    def write(html: str) -> Path:
        file = tmp_path / "ein Bericht é.html"
        file.write_text(html, encoding="utf-8")
        return file

    return write


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["bert_run", "gpt2_run", "hostile_run"])
def test_a_run_comes_back_within_the_error_that_is_stated(request, written, call, tmp_path, name, bits):
    run = request.getfixturevalue(name)
    file = written(run_report(run, precision=bits))

    call(file, "-o", tmp_path / "back.attn")

    back, opened = attnlens.open(tmp_path / "back.attn"), open_report(file)
    assert (back.text, back.tokens, back.words, back.anatomy) == (run.text, run.tokens, run.words, run.anatomy)
    assert opened.bits == bits
    assert opened.error == back.settings["stored"]["largest_difference"]
    for layer in range(run.n_layers):
        difference = (back.attention(layer) - run.attention(layer)).abs().max()
        assert difference <= opened.error + 1e-7 <= (0.5 / 255 if bits == 8 else 1 / 60_000) + 2e-7
        assert (back.visible(layer) == run.visible(layer)).all()


def test_every_stack_of_an_encoder_decoder_comes_back(written):
    model, tokenizer = FAMILIES["bart"].build(), FAMILIES["bart"].tokenizer()
    run = attnlens.load(model=model, tokenizer=tokenizer).capture(source="the dogs bark", target="die Hunde", points=())

    opened = open_report(written(run_report(run)))

    (back,) = opened.runs
    assert back.source == run.source
    for letter in "EDX":
        difference = (back.attention(0, stack=letter) - run.attention(0, stack=letter)).abs().max()
        assert difference <= opened.error + 1e-7


def test_heads_that_were_left_out_are_not_made_up(written, monkeypatch):
    from attnlens.report.file import weights

    monkeypatch.setattr(weights, "FINE", 1)
    monkeypatch.setattr(weights, "MOST", 12)
    run = made_run(np.random.default_rng(0).dirichlet(np.ones(3), (2, 3, 3)))

    (back,) = open_report(written(run_report(run, heads=["L1H2"]))).runs

    assert back.patterns[0] is None
    assert back.patterns[1].heads == (2,)
    np.testing.assert_allclose(back.attention(head="L1H2"), run.attention(head="L1H2"), atol=0.5 / 255 + 1e-7)


def test_probe_results_come_back_as_they_were(written, call, document, bert_run, tmp_path):
    document["corpus"]["name"] = HOSTILE
    file = written(heads_report(parse_results(document), bert_run))

    printed = call(file)
    target = Path(call(file, "-o", tmp_path / "a folder").strip())

    assert load_results(tmp_path / "a folder").document == document == json.loads(target.read_text(encoding="utf-8"))
    assert "a report on a model's heads" in printed
    assert "2 of 12 heads labelled" in printed


def test_what_is_inside_is_told_to_scripts(call, written, gpt2_run):
    told = json.loads(call(written(run_report(gpt2_run, precision=8)), "--json"))

    assert (told["kind"], told["bits"], told["results"]) == ("run", 8, [])
    assert told["runs"] == [{"model": gpt2_run.anatomy.model, "text": "the keys", "tokens": 8, "heads": 6}]


def resealed(html: str, change) -> str:
    """The page with its data changed and sealed again, as another version would write it."""
    front, _, end, text = DATA.search(html).groups()
    data = json.dumps(change(json.loads(text)))
    return DATA.sub(lambda _: f"{front}{hashlib.sha256(data.encode()).hexdigest()}{end}{data}", html)


def changed_weights(document: dict) -> dict:
    document["runs"][0]["stacks"][""]["heads"]["L0H0"] = "AAAA"
    return document


def without_tokens(document: dict) -> dict:
    del document["runs"][0]["tokens"]
    return document


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda html: html[: len(html) // 2], "is cut off after [0-9,]+ bytes"),
        (lambda html: html[:-20], "is cut off"),
        (lambda html: html.replace('"mode":"', '"mode":"x'), "was changed after it was written"),
        (lambda html: "<!doctype html><p>Hello</p></html>", "is no report of attnlens"),
        (lambda html: resealed(html, lambda d: d | {"schema": "attnlens.report/2"}), "upgrade attnlens"),
        (lambda html: resealed(html, lambda d: d | {"schema": "other/1"}), "'other/1'; write the report again"),
        (lambda html: resealed(html, changed_weights), "is damaged: L0H0 has 3 weights for 64 visible cells"),
        (lambda html: resealed(html, without_tokens), "'tokens' is a required property"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(written, bert_run, spoil, message):
    run = replace(bert_run, tokens=bert_run.tokens)
    html = run_report(run, precision=8)
    n = len(run.tokens) ** 2

    with pytest.raises(BundleError, match=message.replace("64", str(n))) as caught:
        open_report(written(spoil(html)))

    assert "\n" not in str(caught.value)


def test_what_cannot_be_restored_is_refused(call, written, gpt2_run, tmp_path):
    file = written(run_report(gpt2_run))
    there = tmp_path / "there.attn"
    there.write_text("mine")

    with pytest.raises(BundleError, match="does not exist"):
        call(tmp_path / "nowhere.html")
    with pytest.raises(UsageError, match=r"0 probe results, none as number 1. A run is restored to a file"):
        call(file, "-o", tmp_path / "out")
    with pytest.raises(UsageError, match="holds 1 runs"):
        call(file, "-o", tmp_path / "b.attn", "--which", 2)
    with pytest.raises(OutputError, match="kept; choose another"):
        call(file, "-o", there)
    assert there.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_named(call, written, gpt2_run, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)

    with pytest.raises(OutputError, match=r"cannot write .*closed"):
        call(written(run_report(gpt2_run)), "-o", closed / "run.attn")


@pytest.mark.browser
def test_the_offline_check_passes_a_report_and_names_what_a_page_does(chromium, monkeypatch, written, gpt2_run, capfd):
    pytest.importorskip("playwright", reason="needs playwright: pip install attnlens[dev]")
    from attnlens.cli.open import say_offline

    monkeypatch.setenv("ATTNLENS_CHROMIUM", chromium)
    file = written(run_report(gpt2_run))
    say_offline(file)
    assert "no request, no dialog, no error" in capfd.readouterr().err

    acting = "<script>alert('hi'); console.error('no'); fetch('https://example.org/x').catch(() => 0)</script>"
    with pytest.raises(OutputError, match=r"asked for https://example.org/x; showed 'hi'; logged 'no'"):
        say_offline(written(f"<!doctype html><html data-ready>{acting}</html>"))


def test_without_a_browser_the_check_says_how_to_get_one(monkeypatch, written, gpt2_run):
    import sys

    from attnlens.report.file.offline import check_offline

    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)

    with pytest.raises(UsageError, match="pip install playwright"):
        check_offline(written("x"))
