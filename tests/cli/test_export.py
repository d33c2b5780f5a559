"""`attnlens export`: every form read back by what reads it, and mistakes."""

from __future__ import annotations

import csv
import json
from importlib.resources import files

import numpy as np
import pytest
from report_samples import HOSTILE, made_run

SENTENCE = "The keys are here."
GPT2 = ("-m", "attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def lens():
    import attnlens

    return attnlens.load("attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def run(lens):
    return lens.capture(SENTENCE, points=())


@pytest.fixture
def run_file(run, tmp_path):
    return run.save(tmp_path / "run.attn")


@pytest.fixture(scope="module")
def results_folder(lens, tmp_path_factory):
    """What `attnlens probe` leaves, with three cells; one has no label, one a label that a spreadsheet would run."""
    import pandas as pd
    from sample_results import heads_document

    from probes.report import HeadReport

    columns = {
        "relation": ["offset -1"] * 3,
        "head": ["L0H0", "L1H2", "L2H0"],
        "score_confirm": [0.25, 0.8125, np.nan],
        "label": pd.array([None, "previous-token", "=1+1"], dtype="string"),
    }
    folder = tmp_path_factory.mktemp("results") / "out"
    HeadReport(heads_document(lens.anatomy, "L1H2", "L2H0"), pd.DataFrame(columns)).save(folder)
    return folder


def test_a_table_has_a_row_for_each_visible_weight(cli, run, run_file, tmp_path):
    import pandas as pd

    assert cli("export", run_file, "-o", tmp_path / "a.csv").code == 0
    assert cli("export", run_file, "-o", tmp_path / "a.parquet", "--heads", "L1H2,L0H0").code == 0

    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rebuilt = np.zeros(run.attention().shape)
    for row in rows:
        rebuilt[tuple(int(row[name]) for name in ("layer", "index", "query", "key"))] = float(row["weight"])
    n = len(run.tokens)
    assert len(rows) == rebuilt.shape[0] * rebuilt.shape[1] * n * (n + 1) // 2
    np.testing.assert_allclose(rebuilt, run.attention().numpy(), atol=1e-7)
    assert {row["from"] for row in rows} == {token.label for token in run.tokens}
    assert list(pd.read_parquet(tmp_path / "a.parquet")["head"].unique()) == ["L0H0", "L1H2"]


def test_json_keeps_its_schema_and_hides_what_the_mask_hides(cli, run, run_file, tmp_path):
    import jsonschema

    assert cli("export", run_file, "-o", tmp_path / "a.json", "--heads", "L1H2").code == 0

    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    schema = json.loads(files("attnlens.exports").joinpath("schema", "run-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert [head["head"] for head in document["heads"]] == ["L1H2"]
    weights = np.array(document["heads"][0]["weights"], dtype=float)  # null becomes NaN
    np.testing.assert_array_equal(np.isnan(weights), np.triu(np.ones_like(weights), 1) > 0)
    np.testing.assert_allclose(np.nan_to_num(weights), run.attention(head="L1H2").numpy(), atol=1e-7)


def test_npz_holds_all_stacks_of_an_encoder_decoder(cli, tmp_path):
    from family_models import FAMILIES

    import attnlens

    pair = attnlens.load(model=FAMILIES["bart"].build(), tokenizer=FAMILIES["bart"].tokenizer())
    run = pair.capture(source="the dogs bark", target="die Hunde", points=())
    run.save(tmp_path / "pair.attn")

    assert cli("export", tmp_path / "pair.attn", "-o", tmp_path / "a.npz").code == 0

    found = np.load(tmp_path / "a.npz")
    for stack in "EDX":
        whole = run.attention(stack=stack).numpy()
        np.testing.assert_allclose(found[f"attention_{stack}"], whole.reshape(-1, *whole.shape[2:]), atol=1e-6)
    assert list(found["keys_X"]) == [token.label for token in run.source.tokens]
    np.testing.assert_array_equal(found["visible_D"][0], np.tril(found["visible_D"][0]))


def test_bertviz_and_circuitsvis_get_their_arguments(cli, run, run_file, tmp_path):
    cli("export", run_file, "--to", "bertviz", "-o", tmp_path / "b.json")
    cli("export", run_file, "--to", "circuitsvis", "-o", tmp_path / "c.json", "--heads", "L1H2,L2H0")

    bertviz, circuitsvis = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("b.json", "c.json"))
    labels = [token.label for token in run.tokens]
    (part,) = bertviz["attention"]
    np.testing.assert_allclose(part["attn"], run.attention().numpy(), atol=1e-4)
    assert part["left_text"] == part["right_text"] == circuitsvis["tokens"] == labels
    heads = [run.attention(head=head).numpy() for head in ("L1H2", "L2H0")]
    np.testing.assert_allclose(circuitsvis["attention"], heads, atol=1e-6)
    assert circuitsvis["attention_head_names"] == ["L1H2", "L2H0"]
    assert circuitsvis["mask_upper_tri"] is True


def test_transformerlens_names_hold_what_its_cache_holds(cli, lens, tmp_path):
    from safetensors.numpy import load_file

    done = cli("export", SENTENCE, *GPT2, "--to", "transformerlens", "-o", tmp_path / "a.safetensors")

    found = load_file(tmp_path / "a.safetensors")
    _, cache = lens.run_with_cache(SENTENCE)
    wanted = ("attn.hook_pattern", "attn.hook_attn_scores", "attn.hook_q", "attn.hook_z", "hook_resid_pre")
    assert {f"blocks.1.{name}" for name in (*wanted, "hook_resid_post")} <= set(found)
    for name, value in found.items():
        np.testing.assert_allclose(value, cache[name].numpy(), atol=1e-5, err_msg=name)
    assert "blocks.N.attn.hook_result" in done.err
    assert "blocks.1.attn.hook_result" not in found


def test_runs_become_a_tree_for_headvis_with_labels(cli, run, run_file, results_folder, tmp_path):
    done = cli("export", run_file, run_file, "--to", "headvis", "--labels", results_folder, "-o", tmp_path / "tree")

    assert done.code == 0, done.err
    head = json.loads((tmp_path / "tree" / "heads" / "L1H2.json").read_text(encoding="utf-8"))
    assert len(head["sequences"]) == 2
    sequence = head["sequences"][0]
    dense = np.zeros(sequence["seq_len"] ** 2)
    dense[sequence["attention_indices"]] = sequence["attention_values"]
    np.testing.assert_allclose(dense.reshape(len(run.tokens), -1), run.attention(head="L1H2").numpy(), atol=0.006)
    assert any(json.loads(path.read_text())["labels"] for path in (tmp_path / "tree" / "heads").iterdir())
    again = cli("export", run_file, "--to", "headvis", "-o", tmp_path / "tree")
    assert "exists already and is kept" in again.err


def test_results_are_written_as_their_table(cli, results_folder, tmp_path):
    import pandas as pd

    for ending in ("csv", "parquet", "npz", "json"):
        assert cli("export", results_folder, "-o", tmp_path / f"a.{ending}").code == 0

    cells = pd.read_parquet(results_folder / "cells.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), cells)
    table = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert table["label"].tolist() == ["", "previous-token", "'=1+1"]
    assert table["score_confirm"].tolist() == ["0.25", "0.8125", ""]
    found = np.load(tmp_path / "a.npz")
    assert list(found["head"]) == list(cells["head"])
    assert list(found["label"]) == ["", "previous-token", "=1+1"]
    np.testing.assert_array_equal(found["score_confirm"], cells["score_confirm"])
    assert (tmp_path / "a.json").read_bytes() == (results_folder / "heads.json").read_bytes()


def test_a_label_that_a_spreadsheet_would_run_is_marked_as_text(cli, tmp_path):
    made_run(np.full((1, 1, 2, 2), 0.5), ["=1+1", HOSTILE]).save(tmp_path / "run.attn")

    cli("export", tmp_path / "run.attn", "-o", tmp_path / "a.csv")

    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert {row["from"] for row in csv.DictReader(file)} == {"'=1+1", HOSTILE}


def test_every_form_is_listed(cli):
    from attnlens.plugins import installed

    printed = cli("export", "--list").out

    assert all(name.split(".")[1] in printed for name in installed("attnlens.exports"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("RUN", "-o", "a.csv", "--to", "xml"), "choose one of bertviz, circuitsvis, csv"),
        (("RUN", "-o", "a.txt"), "does not say in which form"),
        (("RUN", "-o", "a.csv", "--to", "npz"), "ends in .npz"),
        (("RUN", "RUN", "-o", "a.csv"), "one file holds one"),
        (("RUN", "-o", "a.csv", "--heads", "L9H9"), "L9H9 does not exist"),
        (("RUN",), "say what to export"),
        ((SENTENCE, "-o", "a.csv"), "name the model"),
        (("RUN", "-o", "a.csv", "--target", "x"), "--target belongs to"),
    ],
)
def test_a_mistake_is_one_line(cli, run_file, tmp_path, monkeypatch, call, message):
    monkeypatch.chdir(tmp_path)

    done = cli("export", *(run_file if word == "RUN" else word for word in call))

    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("a.")]


def test_too_many_weights_for_a_table_are_refused(cli, run_file, tmp_path, monkeypatch):
    monkeypatch.setattr("attnlens.exports.weights.MOST_ROWS", 10)

    done = cli("export", run_file, "-o", tmp_path / "a.csv")

    assert "name --heads, or take npz" in done.err
