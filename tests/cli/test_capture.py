"""`attnlens capture`: files that hold the run, whole or not at all."""

from __future__ import annotations

import json
import os

import pytest
import torch
from eager_truth import eager_attentions
from family_models import FAMILIES

TEXT = "The keys to the cabinet are on the table."


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "in" / "sentences.txt"
    path.parent.mkdir()
    path.write_text("the keys\n\n  the dog barks \nshe saw her\n", encoding="utf-8")
    return path


def test_a_captured_run_opens_without_the_model_and_is_the_same(cli, bert, tmp_path):
    import attnlens

    done = cli("capture", "-m", bert, TEXT, "-o", tmp_path / "run.attn")

    kept, fresh = attnlens.open(tmp_path / "run.attn"), attnlens.load(str(bert)).capture(TEXT)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(str(tmp_path / "run.attn"))
    assert kept.tokens == fresh.tokens
    torch.testing.assert_close(kept.attention(), fresh.attention())


def test_the_mode_changes_what_is_kept_and_not_what_is_read(cli, bert, tmp_path):
    import attnlens

    for mode in ("lazy", "exact"):
        cli("capture", "-m", bert, TEXT, "-o", tmp_path / f"{mode}.attn", "--mode", mode)

    lazy, exact = (attnlens.open(tmp_path / f"{mode}.attn") for mode in ("lazy", "exact"))
    assert (lazy.mode, exact.mode) == ("lazy", "exact")
    torch.testing.assert_close(lazy.attention(), exact.attention(), atol=1e-5, rtol=0)


def test_a_file_of_sentences_becomes_a_folder_named_by_lines(cli, bert, lines, tmp_path):
    import attnlens

    done = cli("capture", "-m", bert, "-i", lines, "-o", tmp_path / "runs")

    files = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert (done.code, files) == (0, ["0001.attn", "0003.attn", "0004.attn"])
    assert attnlens.open(tmp_path / "runs" / "0003.attn").text == "the dog barks"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "runs"]


def test_a_file_of_one_sentence_may_become_one_file(cli, bert, lines, tmp_path):
    lines.write_text("the keys\n", encoding="utf-8")

    done = cli("capture", "-m", bert, "-i", lines, "-o", tmp_path / "run.attn")

    assert done.code == 0
    assert (tmp_path / "run.attn").is_file()


def test_a_folder_that_is_there_keeps_its_other_files(cli, bert, lines, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("mine")

    cli("capture", "-m", bert, "-i", lines, "-o", tmp_path / "runs")

    assert len(list((tmp_path / "runs").iterdir())) == 4


def test_json_says_what_was_written(cli, bert, lines, tmp_path):
    done = cli("capture", "-m", bert, "-i", lines, "-o", tmp_path / "runs", "--json")

    written = json.loads(done.out)
    assert [file["text"] for file in written] == ["the keys", "the dog barks", "she saw her"]
    assert all(file["bytes"] == os.path.getsize(file["path"]) for file in written)  # noqa: PTH202
    assert {(file["layers"], file["heads"], file["mode"]) for file in written} == {(3, 4, "lazy")}


def test_one_bad_line_leaves_nothing_behind_and_is_named(cli, bert, lines, tmp_path):
    lines.write_text("the keys\n" + "a " * 60 + "\nthe dog\n", encoding="utf-8")

    done = cli("capture", "-m", bert, "-i", lines, "-o", tmp_path / "runs")

    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"{lines}, line 2" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_encoder_decoder_keeps_source_and_target_and_what_looks_across(cli, family_folder, tmp_path):
    import attnlens

    done = cli("capture", "-m", family_folder("bart"), "The keys", "--target", "are on", "-o", tmp_path / "run.attn")

    run = attnlens.open(tmp_path / "run.attn")
    inputs = {
        "input_ids": torch.tensor([[token.id for token in run.source.tokens]]),
        "decoder_input_ids": torch.tensor([[token.id for token in run.tokens]]),
    }
    expected = eager_attentions(FAMILIES["bart"].build(), inputs)
    assert done.code == 0
    assert (run.source.text, run.text) == ("The keys", "are on")
    torch.testing.assert_close(run.attention(kind="cross"), torch.cat(expected["X"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(run.attention(stack="E"), torch.cat(expected["E"]), atol=1e-5, rtol=0)


def test_lines_with_a_tab_are_sources_and_targets(cli, family_folder, lines, tmp_path):
    import attnlens

    lines.write_text("The keys\tare on\n\nThe dog\tbarks\n", encoding="utf-8")

    done = cli("capture", "-m", family_folder("bart"), "-i", lines, "-o", tmp_path / "runs")

    runs = [attnlens.open(path) for path in sorted((tmp_path / "runs").iterdir())]
    assert done.code == 0
    assert [(run.source.text, run.text) for run in runs] == [("The keys", "are on"), ("The dog", "barks")]


def test_a_line_without_a_target_is_named(cli, family_folder, lines, tmp_path):
    done = cli("capture", "-m", family_folder("bart"), "-i", lines, "-o", tmp_path / "runs")

    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "line 1" in done.err
    assert "tab" in done.err


def test_only_the_layers_heads_and_points_asked_for_are_kept(cli, family_folder, tmp_path):
    import attnlens
    from attnlens.errors import CaptureError

    llama, path = family_folder("llama"), tmp_path / "run.attn"
    options = ["--layers", "0,3", "--heads", "L3H1, L0H2,L2H0", "--points", "q,resid_mid"]

    done = cli("capture", "-m", llama, TEXT, "-o", path, *options)

    kept = attnlens.open(path)
    whole = attnlens.load(str(llama)).capture(TEXT, points=("q", "resid_mid"))
    assert done.code == 0
    for head in ("L3H1", "L0H2"):
        torch.testing.assert_close(kept.attention(head=head), whole.attention(head=head))
    for head in ("L3H2", "L2H0", "L1H1"):
        with pytest.raises(CaptureError, match="not kept"):
            kept.attention(head=head)
    torch.testing.assert_close(kept.residual("resid_mid", 3), whole.residual("resid_mid", 3))
    with pytest.raises(CaptureError, match="not kept"):
        kept.residual("resid_post")


def test_a_file_in_half_precision_is_smaller_and_says_what_that_costs(cli, bert, tmp_path):
    import attnlens

    for precision in ("float32", "float16"):
        cli("capture", "-m", bert, TEXT, "-o", tmp_path / f"{precision}.attn", "--precision", precision)

    single, half = (attnlens.open(tmp_path / f"{precision}.attn") for precision in ("float32", "float16"))
    gap = (single.attention() - half.attention()).abs().max()
    assert 0 < gap < 2e-2
    assert half.nbytes < single.nbytes


def test_the_model_writes_on_as_transformers_does(cli, family_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    import attnlens

    folder = family_folder("llama")
    ids = FAMILIES["llama"].tokenizer()("the keys", return_tensors="pt")

    done = cli("capture", "-m", folder, "the keys", "--generate", 5, "-o", tmp_path / "run.attn")

    model = AutoModelForCausalLM.from_pretrained(folder)
    expected = model.generate(**ids, max_new_tokens=5, do_sample=False)
    run = attnlens.open(tmp_path / "run.attn")
    assert done.code == 0
    assert [token.id for token in run.tokens] == expected[0].tolist()
    assert run.n_prompt == ids["input_ids"].shape[1]
    truth = torch.cat(eager_attentions(model, {"input_ids": expected})[""])
    torch.testing.assert_close(run.attention(), truth, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (["--layers", "0,9"], 2, "0 to 3"),
        (["--layers", "one"], 2, "--layers 0,3-5"),
        (["--heads", "L0H9"], 2, "L0H0 to L3H5"),
        (["--heads", "nonsense"], 2, "L5H1"),
        (["--points", "resid_mild"], 2, "resid_mid"),
        (["--max-memory", "lots"], 2, "512M"),
        (["--max-memory", "1K"], 1, "would fit"),
        (["--precision", "int4"], 2, "float16"),
        (["--target", "are on"], 2, "leave --target out"),
        (["--generate", "0"], 2, "equal to 1"),
        (["--generate", "500"], 1, "64"),
        (["--generate", "5", "--mode", "exact"], 2, "leave --target, --mode out"),
    ],
)
def test_an_option_that_does_not_fit_is_one_line_and_writes_nothing(
    cli, family_folder, tmp_path, options, code, expected
):
    done = cli("capture", "-m", family_folder("llama"), TEXT, "-o", tmp_path / "run.attn", *options)

    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert expected in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["-o", "OUT/run.attn"], 2, "either TEXT or -i"),
        (["text", "-i", "LINES", "-o", "OUT/run.attn"], 2, "either TEXT or -i"),
        (["-i", "LINES", "-o", "OUT/run.attn"], 2, "3 sentences"),
        (["-i", "LINES", "--target", "x", "-o", "OUT/runs"], 2, "behind a tab"),
        (["-i", "OUT/missing.txt", "-o", "OUT/runs"], 1, "missing.txt"),
        (["-i", "OUT", "-o", "OUT/runs"], 1, "cannot read"),
        (["", "-o", "OUT/run.attn"], 1, "empty"),
        (["text", "-o", "LINES/run.attn"], 1, "is not a folder"),
        (["text", "-o", "OUT"], 1, "is a folder"),
        (["-i", "LINES", "-o", "LINES"], 1, "it is a file"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(cli, bert, lines, tmp_path, arguments, code, expected):
    out = tmp_path / "out"
    out.mkdir()
    words = [word.replace("LINES", str(lines)).replace("OUT", str(out)) for word in arguments]

    done = cli("capture", "-m", bert, *words)

    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("attnlens: ")
    assert done.err.count("\n") == 1
    assert expected in done.err
    assert list(out.iterdir()) == []


def test_a_file_that_is_no_text_is_refused(cli, bert, lines, tmp_path):
    lines.write_bytes(b"the \xff\xfe keys")

    done = cli("capture", "-m", bert, "-i", lines, "-o", tmp_path / "runs")

    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "UTF-8" in done.err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_before_the_work(cli, tmp_path):
    tmp_path.chmod(0o500)

    done = cli("capture", "-m", "no-such-model", "text", "-o", tmp_path / "run.attn")

    tmp_path.chmod(0o700)
    assert "cannot write" in done.err
