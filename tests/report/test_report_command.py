"""`attnlens report`: one source, one file, one line for a mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from family_models import FAMILIES
from random_models import random_bert
from report_samples import TEXT

from attnlens.cli.report import report
from attnlens.errors import AttnlensError, OutputError, ResultsError, UsageError


@pytest.fixture
def call(called):
    return called(report)


@pytest.fixture
def run_file(bert_run, tmp_path) -> Path:
    return bert_run.save(tmp_path / "run.attn")


@pytest.fixture
def results_folder(document, tmp_path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "heads.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_a_run_becomes_a_file_and_its_path_is_printed(call, run_file, tmp_path):
    out = tmp_path / "my report.html"

    printed = call(run_file, "-o", out)

    assert printed == f"{out}\n"
    assert TEXT in out.read_text(encoding="utf-8")


def test_a_folder_of_results_becomes_a_head_report(call, results_folder, tmp_path):
    call(results_folder, "-o", tmp_path / "a.html")
    call(results_folder / "heads.json", "-o", tmp_path / "b.html")

    assert "What the heads of" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_text_is_run_through_the_model(call, tmp_path):
    model, tokenizer = random_bert()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")

    call("-m", tmp_path / "model", "the dogs bark", "-o", tmp_path / "a.html", "--head", "2.3")

    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "the dogs bark" in html
    assert '"opened":"L2H3"' in html


def test_two_of_a_kind_stand_side_by_side(call, run_file, results_folder, tmp_path):
    model = ["-m", "attnlens/tiny-gpt2"]
    out = [tmp_path / f"{name}.html" for name in "abcd"]

    call(*model, "The keys", "The key", "-o", out[0])
    call(*model, "The keys", "--against", "attnlens/tiny-bert", "-o", out[1])
    call(run_file, run_file, "-o", out[2], "--precision", "8")
    call(results_folder, results_folder, "-o", out[3])

    pages = [file.read_text(encoding="utf-8") for file in out]
    assert all('"kind":"comparison"' in page for page in pages)
    assert "“The keys”" in pages[0]
    assert "attnlens/tiny-bert" in pages[1]
    assert "rounded to 8 bits" in pages[2]
    assert "with the same primary label" in pages[3]


def test_an_encoder_decoder_reports_on_what_it_writes(call, tmp_path):
    family = FAMILIES["bart"]
    for part in (family.build(), family.tokenizer()):
        part.save_pretrained(tmp_path / "model")

    call("-m", tmp_path / "model", "the dogs bark", "--target", "die Hunde", "-o", tmp_path / "a.html")

    assert "die Hunde" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_labels_and_head_change_the_report(call, run_file, results_folder, tmp_path):
    call(run_file, "-o", tmp_path / "plain.html")
    call(run_file, "-o", tmp_path / "labels.html", "--labels", results_folder, "--head", "L1H2")

    plain, labelled = ((tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("plain", "labels"))
    assert "does obj" in labelled
    assert "does obj" not in plain
    assert '"opened":"L1H2"' in labelled


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], UsageError, "nothing to report on"),
        (["nowhere.attn"], UsageError, "is no file or folder; to run it as a text, name the model"),
        (["word " * 100], UsageError, "name the model"),
        (["{run}", "--head", "nonsense"], UsageError, "is not a head"),
        (["{run}", "--head", "L9H0"], UsageError, "L9H0 does not exist"),
        (["{run}", "--labels", "{empty}"], ResultsError, "holds no heads.json"),
        (["{empty}"], ResultsError, "holds no heads.json"),
        (["{results}", "--head", "L0H0"], UsageError, "belong to a text"),
        (["{results}", "--labels", "{results}"], UsageError, "belong to a text"),
        (["{results}", "--measure", "rollout"], UsageError, "belong to a text"),
        (["{run}", "--measure", "nonsense"], UsageError, "there is no measure 'nonsense'"),
        (["{run}", "--ablate", "L0H0"], UsageError, "-m MODEL TEXT instead of a file"),
        (["{run}", "{results}"], UsageError, "give two of a kind"),
        (["{run}", "{run}", "--measure", "rollout"], UsageError, "belong to a report on one text"),
        (["{run}", "--against", "attnlens/tiny-bert"], UsageError, "belong to a text that a model runs"),
        (["A", "B", "-m", "attnlens/tiny-bert", "--against", "attnlens/tiny-gpt2"], UsageError, "not both"),
        (["{run}", "--precision", "12"], UsageError, "choose 8 or 16"),
        (["{results}/heads.json/x"], UsageError, "is no file or folder"),
        (["{run}", "--target", "Die"], UsageError, "--target belongs to a text that a model runs"),
        (["A text.", "-m", "attnlens/tiny-bert", "--target", "Die"], UsageError, "has one stack"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(call, run_file, results_folder, tmp_path, arguments, error, message):
    empty = tmp_path / "empty"
    empty.mkdir()
    names = {"run": run_file, "results": results_folder, "empty": empty}
    out = tmp_path / "out.html"

    with pytest.raises(error, match=re.escape(message)) as caught:
        call(*(argument.format(**names) for argument in arguments), "-o", out)

    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, AttnlensError)
    assert not out.exists()


def test_the_output_is_checked_before_any_work(call, tmp_path):
    with pytest.raises(OutputError, match="it is a folder"):
        call("-m", "no/such/model", "text", "-o", tmp_path)


def test_a_file_that_is_there_is_kept_unless_forced(call, run_file, tmp_path):
    out = tmp_path / "über den Bericht.html"
    out.write_text("mine")

    with pytest.raises(OutputError, match=r"exists already and is kept; .* add --force"):
        call(run_file, "-o", out)

    assert out.read_text() == "mine"
    assert call(run_file, "-o", out, "--force") == f"{out}\n"
    assert TEXT in out.read_text(encoding="utf-8")


def test_measures_ablations_and_precision_change_the_report(call, tmp_path):
    options = ["--measure", "diagonal", "--measure", "rollout", "--ablate", "L0H1", "--precision", "8"]
    call("-m", "attnlens/tiny-gpt2", "The keys", "-o", tmp_path / "a.html", *options)

    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "rounded to 8 bits" in html
    assert "Without L0H1" in html
    assert '"diagonal":{' in html
    assert '"name":"rollout"' in html


def test_a_run_is_not_overwritten_by_its_report(call, run_file):
    before = run_file.read_bytes()

    with pytest.raises(OutputError, match="it is the run itself"):
        call(run_file, "-o", run_file)

    assert run_file.read_bytes() == before
