"""A model's name becomes a model, or one line that says why not; nothing foreign runs on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from random_models import RandomModel

import attnlens
from attnlens.errors import AttnlensError, ModelNotFoundError, UnsafeWeightsError, UnsupportedModelError, UsageError


def test_folder_gives_the_model_that_was_saved(model_folder: Path, random_model: RandomModel) -> None:
    lens = attnlens.load(str(model_folder))

    direct = attnlens.load(model=random_model.model, tokenizer=random_model.tokenizer)
    assert torch.equal(lens.capture("the dog").attention(), direct.capture("the dog").attention())
    assert lens.anatomy.model == str(model_folder)
    assert lens.anatomy.architecture == type(random_model.model).__name__
    assert len(lens.anatomy.weights_sha256 or "") == 64
    assert not lens.model.training


def pickled(folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save({}, folder / "pytorch_model.bin")
    weights.unlink()


def leave_out_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(dict(list(weights.items())[3:]), folder / "model.safetensors", metadata={"format": "pt"})


def remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('foreign code ran')")


def unheard_of(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), ModelNotFoundError, "no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), ModelNotFoundError, "no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), UnsupportedModelError, "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), UnsupportedModelError, "cannot be loaded"),
        (lambda folder: [file.unlink() for file in folder.glob("tok*")], ModelNotFoundError, "tokenizer"),
        (lambda folder: (folder / "config.json").write_text("null"), UnsupportedModelError, "cannot be loaded"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "bert", "num_attention_heads": "x"}'),
            UnsupportedModelError,
            "cannot be loaded",
        ),
        (pickled, UnsafeWeightsError, "--allow-pickle"),
        (leave_out_weights, UnsupportedModelError, "leaves out 3 weights"),
        (remote_code, UnsafeWeightsError, "--trust-remote-code"),
        (unheard_of, UnsupportedModelError, "unheard-of"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damaged_folder_is_one_clear_line(
    random_llama: RandomModel, tmp_path: Path, damage: Callable[[Path], object], error: type, said: str
) -> None:
    random_llama.model.save_pretrained(tmp_path)
    random_llama.tokenizer.save_pretrained(tmp_path)
    damage(tmp_path)

    with pytest.raises(error, match=said) as raised:
        attnlens.load(str(tmp_path))

    assert "\n" not in str(raised.value)


def test_pickle_loads_when_the_user_asks(random_gpt2: RandomModel, tmp_path: Path) -> None:
    random_gpt2.model.save_pretrained(tmp_path)
    random_gpt2.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(random_gpt2.model.state_dict(), tmp_path / "pytorch_model.bin")

    lens = attnlens.load(str(tmp_path), allow_pickle=True)

    direct = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)
    assert torch.equal(lens.capture("the dog").attention(), direct.capture("the dog").attention())


@pytest.mark.parametrize(
    "name", ["nobody/no-such-model", "./no-such-folder", "/a/no-such-folder", "attnlens/no-such-model"]
)
def test_unknown_model_is_one_clear_line(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no-such") as raised:
        attnlens.load(name)

    assert "\n" not in str(raised.value)


def test_file_instead_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")

    with pytest.raises(ModelNotFoundError, match="is a file"):
        attnlens.load(str(tmp_path / "model.safetensors"))


def test_hostile_name_does_not_reach_the_terminal_raw() -> None:
    with pytest.raises(AttnlensError) as raised:
        attnlens.load("\x1b[2Jmodel\n")

    assert "\x1b" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-here/model", "a\0b"])
def test_name_that_no_file_system_takes_is_one_clear_line(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as raised:
        attnlens.load(name)

    assert "\n" not in str(raised.value)


def test_precision_is_a_choice(model_folder: Path) -> None:
    assert attnlens.load(str(model_folder), dtype="bfloat16").anatomy.dtype == "bfloat16"

    with pytest.raises(UsageError, match="expected float32"):
        attnlens.load(str(model_folder), dtype="int8")


def test_name_or_model_and_not_both(random_gpt2: RandomModel) -> None:
    for arguments in ({}, {"name": "x", "model": random_gpt2.model}, {"model": random_gpt2.model}, {"name": " "}):
        with pytest.raises(UsageError):
            attnlens.load(**arguments)
