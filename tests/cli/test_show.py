"""`attnlens show`: what it prints is what the library says, and a mistake is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from random_models import BUILDERS

TEXT = "The keys to the cabinet are on the table."
HOSTILE = "</script><img src=x onerror=alert(1)>[bold]\x1b[31m"


@pytest.fixture(scope="module")
def eager():
    """What transformers itself says: attention `[layer head query key]` of the random BERT on TEXT."""
    model, tokenizer = BUILDERS["bert"]()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = model(**tokenizer(TEXT, return_tensors="pt"), output_attentions=True).attentions
    return torch.stack([layer[0] for layer in layers]).numpy()


def test_the_head_map_holds_every_head_and_fits_80_columns(cli, bert):
    done = cli("show", "-m", bert, TEXT)

    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    rows = [line.split() for line in lines if line.startswith("  L")]
    assert [row[0] for row in rows] == ["L0", "L1", "L2"]
    assert all(len(row) == 5 for row in rows)
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)


def test_json_agrees_with_transformers_own_attention(cli, bert, eager):
    done = cli("show", "-m", bert, TEXT, "--json")

    document = json.loads(done.out)
    inner = slice(1, -1)  # queries that are no special tokens
    previous = np.stack([eager[:, :, i, i - 1] for i in range(1, eager.shape[2] - 1)]).mean(0)
    first = eager[:, :, inner, 0].mean(-1)
    assert len(document["heads"]) == 12
    for head in document["heads"]:
        at = head["layer"], head["index"]
        assert head["metrics"]["previous"] == pytest.approx(previous[at], abs=1e-5)
        assert head["metrics"]["first"] == pytest.approx(first[at], abs=1e-5)


def test_the_table_has_the_three_strongest_heads_of_each_kind(cli, bert):
    rows = [line.split() for line in cli("show", "-m", bert, TEXT).out.partition("\nhead ")[2].splitlines()[1:]]
    heads = json.loads(cli("show", "-m", bert, TEXT, "--json").out)["heads"]

    listed = {row[0]: next(word for word in row if word.endswith("%")) for row in rows}
    assert rows
    for kind in {head["mostly"] for head in heads}:
        strong = [head for head in heads if head["mostly"] == kind and head["share"] >= 0.3]
        best = sorted(strong, key=lambda head: -head["share"])[:3]
        assert all(listed.pop(head["head"]) == f"{head['share']:.1%}" for head in best)
    assert listed == {}


def test_the_first_token_is_not_counted_twice(cli, bert):
    heads = json.loads(cli("show", "-m", bert, TEXT, "--json").out)["heads"]

    for head in heads:
        metrics = head["metrics"]
        others = {"special": metrics["special"] - metrics["first"]}
        habits = {key: metrics[key] for key in ("previous", "next", "self", "first")} | others
        assert head["share"] == pytest.approx(max(habits.values()))
        assert head["mostly"] == max(habits, key=habits.get)


def test_one_head_as_json_is_transformers_own_map(cli, bert, eager):
    document = json.loads(cli("show", "-m", bert, TEXT, "--head", "L2H3", "--json").out)

    np.testing.assert_allclose(np.array(document["head"]["attention"]), eager[2, 3], atol=1e-5)
    strongest = document["head"]["strongest"][0]
    assert strongest["weight"] == pytest.approx(eager[2, 3].max(), abs=1e-5)
    assert eager[2, 3, strongest["query"], strongest["key"]] == pytest.approx(strongest["weight"], abs=1e-5)


def test_what_a_causal_head_cannot_see_is_null_and_blank(cli, gpt2):
    drawn = cli("show", "-m", gpt2, "abc", "--head", "L1H2")
    attention = json.loads(cli("show", "-m", gpt2, "abc", "--head", "1.2", "--json").out)["head"]["attention"]

    assert [[weight is None for weight in row] for row in attention] == np.triu(np.ones((3, 3)), 1).astype(
        bool
    ).tolist()
    assert next(line.split()[1:] for line in drawn.out.splitlines() if line.startswith("  0 ")) == ["a", "100"]


def test_words_put_pieces_together(cli, bert):
    pieces = json.loads(cli("show", "-m", bert, "keys bark", "--head", "L0H0", "--json").out)["head"]
    words = json.loads(cli("show", "-m", bert, "keys barks", "--head", "L0H0", "--words", "--json").out)["head"]

    assert (pieces["level"], words["level"]) == ("tokens", "words")
    assert words["labels"] == ["[CLS]", "keys", "barks", "[SEP]"]
    assert np.array(words["attention"]).sum(-1) == pytest.approx(1, abs=1e-5)


def test_a_dash_reads_stdin(cli, bert):
    piped = cli("show", "-m", bert, "-", "--json", stdin=f"{TEXT}\n")
    given = cli("show", "-m", bert, TEXT, "--json")

    assert piped.out == given.out


@pytest.mark.parametrize(("head", "stack", "rows", "columns"), [
    ("XL3H1", "X", "tokens", "source_tokens"),
    ("EL1H2", "E", "source_tokens", "source_tokens"),
    ("L4H0", "D", "tokens", "tokens"),
])  # fmt: skip
def test_heads_of_an_encoder_decoder_are_transformers_own(cli, family_folder, head, stack, rows, columns):
    from eager_truth import eager_attentions
    from family_models import FAMILIES

    done = cli("show", "-m", family_folder("bart"), "The keys", "--target", "are on", "--head", head, "--json")

    document = json.loads(done.out)
    ids = {name: torch.tensor([[token["id"] for token in document[name]]]) for name in ("source_tokens", "tokens")}
    inputs = {"input_ids": ids["source_tokens"], "decoder_input_ids": ids["tokens"]}
    shown = document["head"]
    layer, index = shown["layer"], shown["index"]
    expected = eager_attentions(FAMILIES["bart"].build(), inputs)[stack][layer][0, index].numpy()
    found = np.array([[0 if weight is None else weight for weight in row] for row in shown["attention"]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert shown["labels"] == [token["label"] for token in document[rows]]
    assert shown["key_labels"] == [token["label"] for token in document[columns]]
    assert document["source"] == "The keys"


def test_the_heads_of_all_stacks_are_named(cli, family_folder):
    done = cli("show", "-m", family_folder("bart"), "The keys", "--target", "are on")

    assert (done.code, done.err) == (0, "")
    assert {"EL0H0 to EL1H2:", "XL0H0 to XL4H3:"} <= {line[:15] for line in done.out.splitlines()}
    assert "DL0H3" in done.out
    assert max(map(len, done.out.splitlines()[1:])) <= 80


@pytest.mark.parametrize(
    ("family", "options", "expected"),
    [
        ("bart", [], "--target TEXT"),
        ("llama", ["--target", "are on"], "leave --target out"),
        ("whisper", ["--target", "are on"], "reads input_features"),
        ("bart", ["--target", "are on", "--head", "XL5H0"], "XL0H0 to XL4H3"),
    ],
)
def test_a_target_that_does_not_fit_is_one_line(cli, family_folder, family, options, expected):
    done = cli("show", "-m", family_folder(family), "The keys", *options)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert expected in done.err


@pytest.mark.parametrize("options", [[], ["--head", "L0H0"], ["--json"], ["--head", "L0H0", "--json"]])
def test_hostile_text_stays_text(cli, bert, options):
    done = cli("show", "-m", bert, HOSTILE, *options)

    assert done.code == 0
    assert "\x1b" not in done.out


def test_json_is_all_that_is_printed(script, bert):
    done = script("show", "-m", bert, TEXT, "--json")

    assert done.code == 0
    assert done.err == ""
    assert json.loads(done.out)["text"] == TEXT


def test_a_pipe_gets_no_colour_codes_and_a_forced_terminal_does(script, bert):
    piped = script("show", "-m", bert, TEXT)
    forced = script("show", "-m", bert, TEXT, FORCE_COLOR="1")

    assert "\x1b[" not in piped.out
    assert "\x1b[" in forced.out


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["-m", "no-such-model", TEXT], 1, "no-such-model"),
        (["-m", "attnlens/no-such", TEXT], 1, "attnlens/tiny-bert"),
        (["-m", "", TEXT], 2, "name is empty"),
        (["-m", "BERT", ""], 1, "empty"),
        (["-m", "BERT", "   "], 1, "empty"),
        (["-m", "BERT", "a " * 60], 1, "48"),
        (["-m", "BERT", TEXT, "--head", "L9H9"], 2, "L0H0 to L2H3"),
        (["-m", "BERT", TEXT, "--head", "nonsense"], 2, "L5H1"),
        (["-m", "BERT", TEXT, "--dtype", "int8"], 2, "float32"),
        (["-m", "BERT", TEXT, "--device", "abacus"], 2, "abacus"),
        (["-m", "BERT", "\udcff"], 1, "UTF-8"),
    ],
)
def test_a_mistake_is_one_line(cli, bert, arguments, code, expected):
    done = cli("show", *(str(bert) if word == "BERT" else word for word in arguments))

    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("attnlens: ")
    assert done.err.count("\n") == 1
    assert expected in done.err
    assert "bug" not in done.err


def test_a_folder_without_a_config_is_refused(cli, tmp_path):
    done = cli("show", "-m", tmp_path, TEXT)

    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "config.json" in done.err


def test_a_pickle_is_refused_unless_allowed(cli, tmp_path):
    model, tokenizer = BUILDERS["bert"]()
    model.config.save_pretrained(tmp_path)
    model.config.architectures = ["BertForMaskedLM"]
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    refused, allowed = cli("show", "-m", tmp_path, TEXT), cli("show", "-m", tmp_path, TEXT, "--allow-pickle")

    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "--allow-pickle" in refused.err
    assert allowed.code == 0
