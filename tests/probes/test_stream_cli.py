"""Probes of the stream through engine and command line: by name, with all where asked, into files and tables."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from attnlens.errors import CorpusError, UsageError
from attnlens.models.lens import load
from attnlens.report.results import load_results
from probes.corpora.sources import open_corpus
from probes.engine import run
from probes.families import choose_families, separate
from probes.stream.settings import StreamSettings

FAST = {"bootstrap": 50, "permutations": 99, "random_models": 0}


@pytest.fixture(scope="module")
def lens():
    from random_models import random_gpt2

    model, tokenizer = random_gpt2()
    return load(model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def short():
    """The embedded corpus' sentences that fit in the random model's context."""
    from probes.corpora.data import Corpus, Document

    corpus = open_corpus()
    documents = (
        Document(each.id, tuple(sentence for sentence in each.sentences if len(sentence.text) < 45))
        for each in corpus.documents()
    )
    return Corpus.of("short", tuple(document for document in documents if document.sentences))


def test_all_leaves_out_what_is_trained_unless_it_is_asked_for():
    corpus = open_corpus()

    plain, both, named = (
        [each.name for each in separate(choose_families(asked, corpus, with_stream=with_stream)[0])[1]]
        for asked, with_stream in (("all", False), ("all", True), (["all", "linear"], False))
    )

    assert plain == []
    assert both == ["linear", "structural"]
    assert named == ["linear"]


def test_the_stream_alone_fills_layers_and_no_head(lens, short):
    report = run(lens, "structural", short, **FAST)

    document = report.to_json()
    assert document["scope"]["families"] == ["structural"]
    assert document["scope"]["stream"]["structural"]["words"]["confirm"] > 100
    assert {row["task"] for row in document["layers"]} == {"tree distance", "tree depth"}
    assert all(not head["labels"] for head in document["heads"])
    assert report.frame.empty


def test_both_kinds_of_families_stand_in_one_result(lens, short, tmp_path):
    report = run(lens, ["linear", "positional"], short, stream=StreamSettings(words=600), **FAST)
    paths = report.save(tmp_path)

    assert [path.name for path in paths] == ["heads.json", "cells.parquet", "layers.parquet"]
    results = load_results(tmp_path)
    assert set(results.scope["families"]) == {"positional", "linear"}
    assert not report.frame.empty
    frame = pd.read_parquet(tmp_path / "layers.parquet")
    assert len(frame) == len(results.layers) == 8 * lens.anatomy.n_layers + 8
    row = results.layers[1]
    line = frame.iloc[1]
    assert (line["task"], line["place"], line["score"]) == (row.task, row.place, row.score)
    assert line["control_random_weights"] == row.controls["random weights"]
    assert (line["ci_low"], line["ci_high"]) == row.ci


def test_a_run_without_the_stream_leaves_no_table_of_an_earlier_one(lens, short, tmp_path):
    (tmp_path / "layers.parquet").write_bytes(b"old")

    paths = run(lens, "positional", short, **FAST).save(tmp_path)

    assert [path.name for path in paths] == ["heads.json", "cells.parquet"]
    assert not (tmp_path / "layers.parquet").exists()


def test_the_sample_is_as_large_as_asked(lens, short):
    small, large = (
        run(lens, "structural", short, stream=StreamSettings(words=words), **FAST).to_json()["scope"]["stream"]
        for words in (300, 600)
    )

    assert 300 <= small["structural"]["words"]["confirm"] < 330
    assert 600 <= large["structural"]["words"]["confirm"] < 630


def test_a_corpus_without_trees_is_refused_with_another_way(lens, tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("The keys are here.\n\n" * 40, encoding="utf-8")

    with pytest.raises(CorpusError, match=r"has no trees.*`linear`"):
        run(lens, "structural", path, **FAST)


@pytest.fixture
def command(capsys, monkeypatch):
    """`command("linear", ...)`: (exit code, stdout, stderr) of `attnlens probe` with tiny-gpt2 on few sentences."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments):
        from attnlens.cli import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["probe", *arguments, "-m", "attnlens/tiny-gpt2", "--limit", "60"])
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return call


def test_the_terminal_shows_a_table_per_task_and_says_what_it_means(command, tmp_path):
    code, out, err = command("structural", "-o", str(tmp_path))

    assert code == 0
    assert err == ""
    assert "Distance in the syntax tree (structural)" in out
    assert "adjacent words" in out
    assert out.count("→ ") >= 2
    assert "Readable is not used" in out
    assert "heads labelled" not in out
    assert out.rstrip().endswith("layers.parquet")


def test_json_holds_the_same_as_the_file(command, tmp_path):
    code, out, _ = command("structural", "--json", "-o", str(tmp_path), "--rank", "3")

    document = json.loads(out)
    assert code == 0
    assert document == json.loads((tmp_path / "heads.json").read_text(encoding="utf-8"))
    assert document["scope"]["stream"]["structural"]["rank"] == 3


def test_an_unknown_way_of_making_words_is_wrong_usage(command):
    code, out, err = command("linear", "--pieces", "middle")

    assert code == 2
    assert out == ""
    assert "expected mean, first or last" in err


def test_options_are_checked_in_python_too():
    with pytest.raises(UsageError, match="rank"):
        StreamSettings(rank=0)
