"""`attnlens probe --keep-counts` and `attnlens merge`: what is written, and that no part is overwritten."""

from __future__ import annotations

import json

import pytest
from probe_arrays import write_conllu

SENTENCE = "# newdoc id = {name}{i}\n1 the _ DET _ _ 2 det\n2 keys _ NOUN _ _ 3 nsubj\n3 fall _ VERB _ _ 0 root"


@pytest.fixture
def call(capsys, monkeypatch):
    """`call("merge", ...)`: (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        from attnlens.cli import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments)])
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.fixture
def parts(call, tmp_path):
    """Two folders with counts: twenty documents in one corpus, thirty in the other."""
    folders = []
    for name, n in (("a", 20), ("b", 30)):
        corpus = write_conllu(
            tmp_path / f"{name}.conllu", "\n\n".join(SENTENCE.format(name=name, i=i) for i in range(n))
        )
        folder = tmp_path / name
        options = ("--bootstrap", 20, "--random-models", 0, "--keep-counts", "-o", folder)
        code, _, err = call("probe", "syntax", "-m", "attnlens/tiny-bert", "-c", corpus, *options)
        assert code == 0, err
        assert (folder / "counts.parquet").is_file()
        folders.append(folder)
    return folders


def test_a_merged_result_is_a_result(call, parts, tmp_path):
    code, out, _ = call("merge", *parts, "-o", tmp_path / "out", "--json")

    document = json.loads(out)
    assert code == 0
    assert document == json.loads((tmp_path / "out" / "heads.json").read_text(encoding="utf-8"))
    assert document["corpus"]["n_sentences"] == 50
    one = next(each for each in document["relations"] if (each["relation"], each["direction"]) == ("det", "d2h"))
    assert one["n"] == 25  # each of the 10 + 15 documents that confirm has one article
    assert not (tmp_path / "out" / "counts.parquet").exists()


def test_a_part_is_not_overwritten(call, parts):
    code, out, err = call("merge", *parts, "-o", parts[0])

    assert (code, out) == (2, "")
    assert "another folder" in err
    assert (parts[0] / "counts.parquet").is_file()


def test_a_folder_without_a_result_is_refused_before_anything_is_written(call, tmp_path):
    code, out, err = call("merge", tmp_path / "none", tmp_path / "nothing", "-o", tmp_path / "out")

    assert (code, out) == (1, "")
    assert "holds no heads.json" in err
    assert not (tmp_path / "out").exists()


def test_counts_need_a_folder(call):
    code, _, err = call("probe", "syntax", "-m", "attnlens/tiny-bert", "--keep-counts")

    assert code == 2
    assert "--keep-counts needs -o DIR" in err
