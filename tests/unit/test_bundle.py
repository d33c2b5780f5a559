"""A saved run gives the same numbers without the model; a file that is no run is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from random_models import RandomModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import attnlens
from attnlens.capture.bundle import SCHEMA
from attnlens.errors import BundleError, OutputError

HOSTILE = "the dog </script><img src=x onerror=alert(1)>"


@pytest.fixture
def saved(random_llama: RandomModel, tmp_path: Path) -> Path:
    lens = attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer)
    return lens.capture("the dog").save(tmp_path / "run.attn")


@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_round_trip_keeps_every_number(random_model: RandomModel, tmp_path: Path, mode: str) -> None:
    lens = attnlens.load(model=random_model.model, tokenizer=random_model.tokenizer)
    run = lens.capture("the dogs bark", mode=mode, points=("embed", "resid_mid", "resid_post"))

    again = attnlens.open(run.save(tmp_path / "new folder" / "run.attn"))

    assert torch.equal(again.attention(), run.attention())
    assert torch.equal(again.attention(words=True), run.attention(words=True))
    assert torch.equal(again.visible(), run.visible())
    assert torch.equal(again.residual("resid_mid"), run.residual("resid_mid"))
    assert torch.equal(again.logits, run.logits)
    assert (again.tokens, again.words, again.anatomy) == (run.tokens, run.words, run.anatomy)
    assert (again.mode, again.settings, again.versions) == (run.mode, run.settings, run.versions)


def test_hostile_text_survives(random_bert: RandomModel, tmp_path: Path) -> None:
    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)

    again = attnlens.open(lens.capture(HOSTILE).save(tmp_path / "run.attn"))

    assert again.text == HOSTILE


def test_mask_that_layers_share_is_stored_once(random_bert: RandomModel, tmp_path: Path) -> None:
    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)
    padded = next(lens.captures(["the dog", "the keys to the cabinet"]))

    path = padded.save(tmp_path / "run.attn")

    with safe_open(path, framework="pt") as file:
        assert [name for name in file.keys() if name.startswith("mask.")] == ["mask.0"]  # noqa: SIM118


def rewritten(path: Path, **changes: object) -> Path:
    """The same tensors with a changed manifest."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        manifest = json.loads(file.metadata()["attnlens"])
    for key, value in changes.items():
        manifest.pop(key) if value is None else manifest.update({key: value})
    save_file(tensors, path, metadata={"attnlens": json.dumps(manifest)})
    return path


def test_rewriting_alone_does_no_harm(saved: Path) -> None:
    assert attnlens.open(rewritten(saved)).text == "the dog"


def test_files_that_are_no_run_are_refused_by_name(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    damaged = {
        "missing": None,
        "empty": b"",
        "text": b"not a run",
        "cut": whole[: len(whole) // 2],
        "one-byte-short": whole[:-1],
    }

    for name, content in damaged.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BundleError, match=name) as raised:
            attnlens.open(path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "attnlens.run/9"}, SCHEMA),
        ({"schema": None}, "manifest"),
        ({"anatomy": None}, "damaged"),
        ({"tokens": []}, "damaged"),
        ({"layers": [{"kind": "lazy", "mask": 7}]}, "damaged"),
    ],
)
def test_changed_manifest_is_refused(saved: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        attnlens.open(rewritten(saved, **changes))


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")

    with pytest.raises(BundleError, match="no attnlens run"):
        attnlens.open(tmp_path / "model.safetensors")


def test_interrupted_save_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, run = saved.read_bytes(), attnlens.open(saved)

    def fails(_tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("attnlens.capture.bundle.save_file", fails)
    with pytest.raises(KeyboardInterrupt):
        run.save(saved)

    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["run.attn"]


def test_full_disk_is_said(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = attnlens.open(saved)

    def fails(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("attnlens.capture.bundle.save_file", fails)
    with pytest.raises(OutputError, match="No space left"):
        run.save(saved)


def test_path_that_cannot_be_written_is_said(saved: Path, tmp_path: Path) -> None:
    run = attnlens.open(saved)

    with pytest.raises(OutputError, match="folder"):
        run.save(tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        run.save(saved / "below-a-file.attn")
