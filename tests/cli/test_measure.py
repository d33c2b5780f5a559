"""`attnlens measure` and `measures`: numbers are those of an eager forward, drawings fit, mistakes are one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from random_models import BUILDERS

TEXT = "The keys to the cabinet are on the table."


@pytest.fixture(scope="module")
def eager():
    """What transformers itself says: attention `[layer head query key]` of the random BERT on TEXT."""
    model, tokenizer = BUILDERS["bert"]()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = model(**tokenizer(TEXT, return_tensors="pt"), output_attentions=True).attentions
    return torch.stack([layer[0] for layer in layers]).double().numpy()


def test_json_agrees_with_transformers_own_attention(cli, bert, eager):
    done = cli("measure", "entropy", "-m", bert, TEXT, "--json")

    document = json.loads(done.out)
    expected = -(eager * np.log(eager)).sum(-1)[:, :, 1:-1].mean(-1)
    assert (done.code, done.err) == (0, "")
    np.testing.assert_allclose(document["values"], expected, atol=1e-5)
    assert document["axes"] == ["layer", "head"]
    assert document["shape"] == [3, 4]
    assert document["measure"]["unit"] == "nats"
    assert document["text"] == TEXT
    assert document["tokens"][0] == "[CLS]"


def test_one_head_and_a_setting(cli, bert, eager):
    done = cli("measure", "offset", "-m", bert, TEXT, "--head", "L2H3", "--set", "offset=-2", "--json")

    document = json.loads(done.out)
    inner = range(2, eager.shape[2] - 1)
    assert document["values"] == pytest.approx(np.mean([eager[2, 3, q, q - 2] for q in inner]), abs=1e-5)
    assert (document["head"], document["axes"], document["options"]["offset"]) == ("L2H3", [], -2)


def test_the_table_has_every_head_and_the_largest_first(cli, bert):
    document = json.loads(cli("measure", "previous", "-m", bert, TEXT, "--json").out)
    values = np.array(document["values"])

    lines = cli("measure", "previous", "-m", bert, TEXT).out.splitlines()

    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("L") and len(line.split()) == 5}
    assert rows == {f"L{layer}": [f"{value:.3f}" for value in row] for layer, row in enumerate(values)}
    best = np.unravel_index(values.argmax(), values.shape)
    assert lines[lines.index("largest:") + 1].split() == [f"L{best[0]}H{best[1]}", f"{values.max():.3f}"]
    assert max(map(len, lines)) <= 80


def test_what_is_not_defined_is_null_and_a_dash(cli, gpt2):
    document = json.loads(cli("measure", "next", "-m", gpt2, "the keys", "--json").out)
    drawn = cli("measure", "next", "-m", gpt2, "the keys").out
    one = cli("measure", "next", "-m", gpt2, "the keys", "--head", "L0H0").out

    assert document["values"] == [[None] * 3] * 2
    assert drawn.count("–") == 6
    assert "not defined" in one


def test_classes_have_names(cli, gpt2):
    drawn = cli("measure", "kovaleva-class", "-m", gpt2, "the keys", "--head", "L0H0").out
    table = cli("measure", "kovaleva-class", "-m", gpt2, "the keys").out

    assert drawn.splitlines()[2] in ("vertical", "diagonal", "vertical + diagonal", "block", "heterogeneous")
    assert "0 vertical; 1 diagonal" in table


def test_maps_tables_and_points_are_drawn(cli, gpt2):
    weights = cli("measure", "rollout", "-m", gpt2, "the keys").out
    streams = cli("measure", "stream-norm", "-m", gpt2, "the keys").out
    points = cli("measure", "head-map", "-m", gpt2, "the keys").out
    nearest = cli("measure", "head-distance", "-m", gpt2, "the keys", "--head", "L1H1").out

    assert "percent of the row's attention" in weights
    assert ["L0", "L1"] in [line.split() for line in streams.splitlines()]
    assert [line.split()[0] for line in points.splitlines() if line.startswith("L")] == [
        f"L{layer}H{head}" for layer in range(2) for head in range(3)
    ]
    listed = nearest.partition("nearest:")[2].split()
    assert "L1H1" not in listed
    assert listed[2] == "nats"


def test_a_run_in_a_file_is_measured_without_a_model(cli, bert, tmp_path):
    file = tmp_path / "run.attn"
    cli("capture", "-m", bert, TEXT, "-o", file)

    from_file = json.loads(cli("measure", "entropy", file, "--json").out)

    from_text = json.loads(cli("measure", "entropy", "-m", bert, TEXT, "--json").out)
    np.testing.assert_allclose(from_file["values"], from_text["values"], atol=1e-6)


def test_an_encoder_decoder_has_three_kinds_of_heads(cli, family_folder):
    folder = family_folder("t5")

    def measured(*more):
        return json.loads(cli("measure", "first", "-m", folder, "the keys", "--target", "die", *more, "--json").out)

    decoder, encoder, cross = measured(), measured("--set", "stack=E"), measured("--head", "XL0H1")

    assert (decoder["stack"], encoder["stack"], cross["stack"]) == ("D", "E", "X")
    assert decoder["values"] != encoder["values"]
    assert 0 <= cross["values"] <= 1
    assert encoder["source"] == "the keys"


def test_the_list_says_what_each_measure_is(cli):
    from attnlens.measures.registry import measures

    document = json.loads(cli("measures", "--json").out)["measures"]
    listed = cli("measures").out.splitlines()

    assert [entry["name"] for entry in document] == list(measures())
    assert all(entry["description"] and entry["source"] and entry["more"] for entry in document)
    assert {line.split()[0] for line in listed if not line.startswith(" ")} == set(measures())
    assert max(map(len, listed)) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["entropie", "-m", "{bert}", TEXT], 2, "there is no measure 'entropie'. Did you mean 'entropy'?"),
        (["entropy", "-m", "{bert}", TEXT, "--head", "L9H0"], 2, "3 layers of 4 heads, L0H0 to L2H3"),
        (["offset", "-m", "{bert}", TEXT, "--set", "offset"], 2, "is no setting; write --set NAME=VALUE"),
        (["offset", "-m", "{bert}", TEXT, "--set", "far=2"], 2, "'offset' has no option 'far'; it has stack, offset"),
        (["offset", "-m", "{bert}", TEXT, "--set", "offset=far"], 2, "is no int, such as -1"),
        (["entropy", TEXT], 2, "say which model reads TEXT by -m MODEL, or give a .attn file"),
        (["entropy", "-m", "{bert}", ""], 1, "the text is empty"),
        (["rollout", "-m", "{bert}", TEXT, "--head", "L0H0"], 2, "'rollout' has no value per head"),
        (["head-rollout", "-m", "{bert}", TEXT], 2, "name one head by --head, or take --json"),
    ],
)
def test_a_mistake_is_one_line(cli, bert, arguments, code, message):
    done = cli("measure", *(argument.format(bert=bert) for argument in arguments))

    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_hostile_text_is_printed_as_text(cli, bert):
    text = "</script>[bold]\x1b[31m the keys"

    drawn = cli("measure", "rollout", "-m", bert, text).out
    document = cli("measure", "rollout", "-m", bert, text, "--json").out

    assert "\x1b" not in drawn + document
    assert json.loads(document)["text"] == text
