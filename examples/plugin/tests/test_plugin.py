"""Every part of the package is found by attnlens, and says what it should."""

import json

import attnlens
import torch
from attnlens.capture.run import Capture
from attnlens.cli import main
from attnlens.report.html import run_report
from attnlens.report.sections import sections_for
from attnlens_plugin.family import WIDTH, Reader
from attnlens_plugin.section import SURE
from probes.corpora.sources import open_corpus

import pytest

TEXT = "the dog sees the dog"


@pytest.fixture(scope="module")
def lens() -> attnlens.Lens:
    return attnlens.load("attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def run(lens: attnlens.Lens) -> Capture:
    return lens.capture(TEXT)


def test_the_adapter_claims_its_model() -> None:
    reader = attnlens.load(model=Reader())

    assert reader.anatomy.family == "reader"
    assert reader.capture(inputs=torch.randn(1, 7, WIDTH)).attention().shape == (2, 3, 7, 7)


def test_the_measure_is_the_weight_on_the_last_token(lens: attnlens.Lens, run: Capture) -> None:
    values = lens.measure("last-token", run).values

    words = [not token.special for token in run.tokens]  # special tokens are no queries
    torch.testing.assert_close(values, run.attention()[:, :, words, -1].double().mean(-1))


def test_the_reader_reads_words_with_their_tags(tmp_path) -> None:
    file = tmp_path / "corpus.tagged"
    file.write_text("the/DET dog/NOUN barks/VERB\n\nhe/PRON sees/VERB 1/2/NUM\n")

    corpus = open_corpus(file)
    (first,), (second,) = (document.sentences for document in corpus.read())

    assert (first.text, first.upos) == ("the dog barks", ("DET", "NOUN", "VERB"))
    assert [second.text[start:end] for start, end in second.spans] == list(second.forms) == ["he", "sees", "1/2"]


def test_a_word_without_a_tag_is_named_by_its_line(tmp_path) -> None:
    file = tmp_path / "corpus.tagged"
    file.write_text("the/DET dog/NOUN\n" * 30 + "the dog/NOUN\n")

    with pytest.raises(attnlens.errors.CorpusError, match=r"corpus\.tagged, line 31: a word without a tag"):
        open_corpus(file)


def test_the_probe_finds_the_head_that_was_made_for_it(tmp_path) -> None:
    """One head of the planted model looks at the last token of the same kind by construction."""
    file = tmp_path / "corpus.txt"
    file.write_text("\n\n".join(f"the {noun} sees the {noun}" for noun in ("dog", "cat", "king", "queen") * 10))

    report = attnlens.load("attnlens/planted-gpt2").probe("repeats", str(file))
    best = report.to_frame().sort_values("score_confirm").iloc[-1]

    assert best["relation"] == "repeat"
    assert best["score_confirm"] > 0.9


def test_the_section_counts_what_a_loop_counts(run: Capture) -> None:
    (section,) = sections_for(run)
    text, table = section.parts

    weights = run.attention()
    assert "5 tokens" in text or f"{len(run.tokens)} tokens" in text
    for layer, (_, *counts) in enumerate(table.rows):
        assert counts == [sum(max(row) > SURE for row in head) for head in weights[layer].tolist()]


def test_the_section_stands_in_reports(run: Capture) -> None:
    page = run_report(run)

    assert 'id="section-sure-heads"' in page
    assert "Tokens that are sure, by head." in page


def test_the_commands_list_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    printed = {}
    for words in (["models", "--json"], ["measures", "--json"], ["probe", "--list"], ["--help"]):
        with pytest.raises(SystemExit):
            main(words)
        printed[words[0]] = capsys.readouterr().out

    assert {"name": "reader", "where": "attnlens_plugin.family:READER"} in json.loads(printed["models"])["plugins"]
    assert "last-token" in printed["measures"]
    assert "repeats" in printed["probe"]
    assert "longest" in printed["--help"]
