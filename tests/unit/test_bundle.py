"""A saved run gives the same numbers without the model; a file that is no run, or was changed, is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from random_models import RandomModel
from random_models import random_llama as build_llama
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import attnlens
from attnlens.capture import bundle
from attnlens.errors import AttnlensError, BundleError, CaptureError, OutputError, UsageError
from attnlens.models.anatomy import SelfCheck

HOSTILE = "the dog </script><img src=x onerror=alert(1)>"
# One of each: padding, a relative bias and three stacks, sinks, softcap, ALiBi, windows, weights of its own, pictures.
KINDS = ("bert", "t5", "gpt_oss", "gemma2", "falcon-alibi", "mistral", "deberta-v2", "whisper", "vit")


@pytest.fixture
def llama_run(random_llama: RandomModel) -> attnlens.Capture:
    return attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer).capture("the dog")


@pytest.fixture
def saved(llama_run: attnlens.Capture, tmp_path: Path) -> Path:
    return llama_run.save(tmp_path / "run.attn")


def manifest_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["attnlens"])


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)


def resealed(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> Path:
    """A file changed by somebody who knows how to compute the hashes, so that only its sense is left to check."""
    manifest, tensors = manifest_of(path), tensors_of(path)
    change(manifest, tensors)
    for name, tensor in tensors.items():
        content = f"{tensor.dtype} {list(tensor.shape)}\n".encode() + tensor.contiguous().numpy().tobytes()
        manifest.get("tensors", {})[name] = hashlib.sha256(content).hexdigest()
    manifest.pop("sha256", None)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    save_file(tensors, path, metadata={"attnlens": json.dumps(manifest)})
    return path


def assert_same(again: attnlens.Capture, run: attnlens.Capture) -> None:
    """Every number that is kept bit by bit, what is computed from them closely, and everything that is no number.

    Weights are computed again from mapped memory, which is aligned otherwise: on some processors the last bit differs.
    """
    for side in ("patterns", "encoder", "cross"):
        for one, other in zip(getattr(again, side), getattr(run, side), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert one.heads == other.heads
                torch.testing.assert_close(one.weights(), other.weights(), atol=1e-6, rtol=1e-5)
                assert torch.equal(one.visible(), other.visible())
    assert set(again.stream) == set(run.stream)
    for point in run.stream:
        torch.testing.assert_close(again.stream[point], run.stream[point], rtol=0, atol=0)
    assert (again.logits is None) == (run.logits is None)
    assert run.logits is None or torch.equal(again.logits, run.logits)
    assert (again.text, again.tokens, again.words, again.source) == (run.text, run.tokens, run.words, run.source)
    assert (again.anatomy, again.mode, again.n_prompt) == (run.anatomy, run.mode, run.n_prompt)
    assert (again.settings, again.versions, again.nbytes) == (run.settings, run.versions, run.nbytes)


@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_round_trip_keeps_every_number(random_model: RandomModel, tmp_path: Path, mode: str) -> None:
    lens = attnlens.load(model=random_model.model, tokenizer=random_model.tokenizer)
    run = lens.capture("the dogs bark", mode=mode, points=("embed", "resid_mid", "resid_post"))

    again = attnlens.open(run.save(tmp_path / "new folder" / "run.attn"))

    assert_same(again, run)
    assert torch.equal(again.attention(words=True), run.attention(words=True))
    assert torch.equal(again.residual("resid_mid", 1), run.residual("resid_mid")[1])


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_attention_comes_back(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    lens = attnlens.load(model=family.build(), tokenizer=family.tokenizer())
    runs = list(lens.captures(inputs=family.inputs(padding=family.paddings[-1]), points=("resid_post",), logits=True))

    again = [attnlens.open(run.save(tmp_path / f"{row}.attn")) for row, run in enumerate(runs)]

    for one, run in zip(again, runs, strict=True):
        assert_same(one, run)


def test_layers_heads_and_generated_texts_come_back_in_part(random_llama: RandomModel, tmp_path: Path) -> None:
    lens = attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer)
    run = replace(lens.capture("the dog", heads=("L1H3", "L3H0", "L3H2"), points=("resid_post", "q")), n_prompt=4)

    again = attnlens.open(run.save(tmp_path / "run.attn"))

    assert_same(again, run)
    assert [pattern is None for pattern in again.patterns] == [True, False, True, False, True]
    assert torch.equal(again.attention(head="L3H2"), run.attention(head="L3H2"))
    with pytest.raises(CaptureError, match="L3H0, L3H2 only"):
        again.attention(3)


def test_figures_that_are_no_numbers_come_back(llama_run: attnlens.Capture, tmp_path: Path) -> None:
    checks = (replace(llama_run.anatomy.self_check.checks[0], value=float("inf"), limit=float("-inf")),)
    odd = replace(llama_run, anatomy=replace(llama_run.anatomy, self_check=SelfCheck(checks)))

    again = attnlens.open(odd.save(tmp_path / "run.attn"))

    assert again.anatomy == odd.anatomy


def test_hostile_text_survives(random_bert: RandomModel, tmp_path: Path) -> None:
    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)

    again = attnlens.open(lens.capture(HOSTILE).save(tmp_path / "run.attn"))

    assert again.text == HOSTILE


def test_what_layers_share_is_stored_once_and_shared_again(random_bert: RandomModel, tmp_path: Path) -> None:
    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)
    padded = next(lens.captures(["the dog", "the keys to the cabinet"], points=("embed", "resid_pre", "resid_post")))

    path = padded.save(tmp_path / "run.attn")

    names = list(tensors_of(path))
    assert [name for name in names if "mask" in name] == ["L0.mask"]
    assert len([name for name in names if "resid" in name or "embed" in name]) == 4  # embed, and after each of 3 layers
    again = attnlens.open(path)
    assert len({pattern.scores.mask.data_ptr() for pattern in again.patterns}) == 1


def test_run_of_a_batch_saves_its_own_part(random_bert: RandomModel, tmp_path: Path) -> None:
    lens = attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer)
    points = ("resid_post", "q")
    alone = lens.capture("the dog", points=points)
    batched = list(lens.captures(["the dog"] * 15 + ["the keys to the cabinet are on the table"], points=points))

    sizes = [
        sum(tensor.nbytes for tensor in tensors_of(run.save(tmp_path / "run.attn")).values())
        for run in (alone, replace(batched[3], logits=alone.logits))
    ]

    assert sizes[1] - sizes[0] == 4 * 4  # the mask of 4 x 4 that a text alone does not need


def test_the_same_run_has_the_same_bytes(llama_run: attnlens.Capture, saved: Path, tmp_path: Path) -> None:
    twice = llama_run.save(tmp_path / "twice.attn")
    reopened = attnlens.open(saved).save(tmp_path / "reopened.attn")

    assert saved.read_bytes() == twice.read_bytes() == reopened.read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fewer_bits_say_what_they_cost(llama_run: attnlens.Capture, tmp_path: Path, dtype: torch.dtype) -> None:
    path = llama_run.save(tmp_path / "half.attn", dtype=dtype)

    again = attnlens.open(path)
    exact = llama_run.attention()
    rounded = []
    for pattern in llama_run.patterns:
        scores = pattern.scores
        query, key = scores.query[0].to(dtype).float(), scores.key[0].to(dtype).float().repeat_interleave(2, 0)
        hidden = ~torch.ones(query.shape[1], query.shape[1], dtype=torch.bool).tril()
        rounded.append((query @ key.mT * scores.scaling).masked_fill(hidden, -torch.inf).softmax(-1))
    torch.testing.assert_close(again.attention(), torch.stack(rounded), rtol=1e-5, atol=1e-6)
    lost = float((torch.stack(rounded) - exact).abs().max())
    stored = again.settings["stored"]
    assert (stored["dtype"], stored["rows_compared"]) == (str(dtype).removeprefix("torch."), len(llama_run.tokens))
    assert stored["largest_difference"] == pytest.approx(lost, abs=1e-6)
    assert lost > 1e-5
    assert manifest_of(path)["settings"]["stored"] == stored
    assert {t.dtype for name, t in tensors_of(path).items() if "query" in name or "key" in name} == {dtype}
    assert "stored" not in llama_run.settings


def test_losses_add_up_and_weights_are_rounded_too(random_llama: RandomModel, tmp_path: Path) -> None:
    lens = attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer)
    run = lens.capture("the dog", mode="exact")

    once = attnlens.open(run.save(tmp_path / "once.attn", dtype=torch.float16))
    twice = attnlens.open(once.save(tmp_path / "twice.attn", dtype=torch.bfloat16))

    losses = [float((other.attention() - run.attention()).abs().max()) for other in (once, twice)]
    assert once.settings["stored"]["largest_difference"] == losses[0] > 0
    assert twice.settings["stored"]["largest_difference"] >= losses[1] > losses[0]


def test_long_runs_are_compared_in_blocks(tmp_path: Path) -> None:
    model, tokenizer = build_llama()
    model.config.max_position_embeddings = tokenizer.model_max_length = 400
    run = attnlens.load(model=model, tokenizer=tokenizer).capture("the dog " * 45, points=())

    stored = attnlens.open(run.save(tmp_path / "run.attn", dtype=torch.float16)).settings["stored"]

    assert len(run.tokens) > 300
    assert stored["rows_compared"] == 64
    assert 0 < stored["largest_difference"] < 0.02


def test_precisions_that_do_not_fit_are_refused(llama_run: attnlens.Capture, tmp_path: Path) -> None:
    layer = llama_run.patterns[0]
    query = layer.scores.query.clone()
    query[0, 1, 2, 3] = 1e6
    large = replace(layer, scores=replace(layer.scores, query=query))
    loud = replace(llama_run, patterns=(large, *llama_run.patterns[1:]))

    with pytest.raises(UsageError, match="too large for float16; take bfloat16"):
        loud.save(tmp_path / "run.attn", dtype=torch.float16)
    with pytest.raises(UsageError, match="expected one of float16"):
        llama_run.save(tmp_path / "run.attn", dtype=torch.int8)
    loud.save(tmp_path / "run.attn", dtype=torch.bfloat16)


def big_run(n_layers: int = 12) -> attnlens.Capture:
    from report_samples import made_run

    weights = torch.rand(n_layers, 8, 512, 512).softmax(-1)
    return made_run(weights.numpy(), [str(i) for i in range(512)])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_large_file_is_mapped_and_read_where_it_is_used(tmp_path: Path) -> None:
    path = big_run().save(tmp_path / "run.attn")
    before = resident_bytes()

    run = attnlens.open(path)
    opened = resident_bytes()
    path.unlink()
    layer = run.patterns[5].weights(slice(0, 1))
    read = resident_bytes()

    assert run.nbytes > 96 << 20
    assert opened - before < 4 << 20
    assert 8 << 20 <= read - opened < 24 << 20  # one layer, and its mask
    torch.testing.assert_close(layer.sum(-1), torch.ones(1, 512))


def flipped(path: Path, name: str) -> Path:
    """The file with one bit of one tensor turned."""
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    start = json.loads(content[8 : 8 + length])[name]["data_offsets"][0]
    content[8 + length + start] ^= 1
    path.write_bytes(content)
    return path


def test_a_changed_number_is_refused(saved: Path) -> None:
    with pytest.raises(BundleError, match=r"run\.attn was changed after it was saved: 'L2\.query'"):
        attnlens.open(flipped(saved, "L2.query"))


def test_in_a_large_file_a_changed_layer_is_refused_when_it_is_used(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipped(flipped(saved, "L2.query"), "resid_post.1")
    monkeypatch.setattr(bundle, "_CHECKED_AT_ONCE", 0)

    run = attnlens.open(saved)

    assert run.attention(1).shape == run.attention(3).shape
    run.residual("resid_post", 0)
    for use in (
        lambda: run.attention(2),
        lambda: run.visible(2),
        lambda: run.residual("resid_post", 1),
        lambda: run.residual("resid_post"),
        lambda: run.save(tmp_path / "again.attn"),
        lambda: attnlens.open(saved, verify=True),
    ):
        with pytest.raises(BundleError, match="was changed after it was saved"):
            use()
    assert attnlens.open(saved, verify=False).attention(2).shape == run.attention(1).shape
    with pytest.raises(BundleError, match="'logits'"):
        attnlens.open(flipped(saved, "logits"))


def test_a_changed_number_gets_no_new_hash(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_CHECKED_AT_ONCE", 0)
    run = attnlens.open(flipped(saved, "L2.key"))

    for dtype in (None, torch.float16):
        with pytest.raises(BundleError, match=r"'L2\.key'"):
            run.save(tmp_path / "again.attn", dtype=dtype)


def test_changed_manifest_is_refused(saved: Path) -> None:
    tensors, manifest = tensors_of(saved), manifest_of(saved)
    manifest["anatomy"]["model"] = "another model"
    save_file(tensors, saved, metadata={"attnlens": json.dumps(manifest)})

    with pytest.raises(BundleError, match="manifest does not have its SHA-256"):
        attnlens.open(saved)


def test_rewriting_alone_does_no_harm(saved: Path) -> None:
    assert attnlens.open(resealed(saved, lambda manifest, tensors: None)).text == "the dog"


def test_files_that_are_no_run_are_refused_by_name(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    damaged = {
        "missing": None,
        "empty": b"",
        "text": b"not a run",
        "cut": whole[: len(whole) // 2],
        "one-byte-short": whole[:-1],
        "lying-header": (1 << 40).to_bytes(8, "little") + whole[8:],
        "nested": nested_json(),
    }

    for name, content in damaged.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BundleError, match=name) as raised:
            attnlens.open(path)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 600


def nested_json() -> bytes:
    """A header whose manifest nests deeper than a parser goes."""
    header = json.dumps({"__metadata__": {"attnlens": "[" * 100_000}}).encode()
    return len(header).to_bytes(8, "little") + header


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    """A change to the manifest."""

    def change(manifest: dict[str, Any], _tensors: dict[str, torch.Tensor]) -> None:
        at: Any = manifest
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


def tensor(name: str, value: torch.Tensor) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    """A change to a tensor."""
    return lambda _manifest, tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("schema", value="attnlens.run/9"), "attnlens.run/2.*later version; upgrade"),
        (put("schema", value="attnlens.run/1"), "attnlens.run/1.*another version"),
        (put("schema", value="somebody.else/2"), "no schema"),
        (put("schema", value=2), "no schema"),
        (lambda manifest, _: manifest.pop("anatomy"), "manifest.anatomy is missing"),
        (put("tokens", value=[]), "8 queries for 0 tokens"),
        (put("tokens", value="the dog"), "tokens is 'the dog', expected an array"),
        (put("tokens", 0, "id", value="7"), r"tokens\[0\].id is '7', expected a whole number"),
        (put("tokens", 0, "id", value=True), r"tokens\[0\].id is True, expected a whole number"),
        (put("tokens", 0, "special", value=1), "expected true or false"),
        (put("tokens", 1, "span", value=[1]), r"tokens\[1\].span has 1 entries, expected 2"),
        (put("tokens", 1, "word", value=70), r"tokens\[1\].word is 70, and there are 2 words"),
        (put("words", value={}), "words is {}, expected an array"),
        (put("n_prompt", value=2.5), "n_prompt is 2.5"),
        (put("settings", "layers", value="all"), "settings.layers"),
        (put("anatomy", "n_heads", value=10**12), "counts heads that no model has"),
        (put("anatomy", "n_layers", value=None), "n_layers is None"),
        (put("anatomy", "self_check", value={"checks": [{"name": "x"}]}), r"checks\[0\].value is missing"),
        (put("stacks", value={}), "manifest.stacks has"),
        (put("stacks", "", value=[None]), "has 1 layers, the anatomy says 5"),
        (put("stacks", "", 0, "kind", value="fused"), "kind is 'fused'"),
        (put("stacks", "", 0, "kind", value="dense"), "expected probabilities, seen"),
        (put("stacks", "", 0, "parts", value={"query": "L0.query"}), r"\[0\].parts has \['query'\]"),
        (put("stacks", "", 0, "parts", "key", value="L9.key"), "'L9.key', which does not exist"),
        (put("stacks", "", 0, "heads", value=[0, 1, 2, 9]), "do not fit the model's 4"),
        (put("stacks", "", 0, "heads", value=[3, 2, 1, 0]), "do not fit the model's 4"),
        (put("stacks", "", 0, "scaling", value="nan"), "scaling, softcap or offset"),
        (put("stacks", "", 0, "softcap", value=0.0), "scaling, softcap or offset"),
        (put("stacks", "", 0, "offset", value=1 << 70), "scaling, softcap or offset"),
        (put("points", value={"resid_late": ["logits"]}), "no point of this model"),
        (put("points", value={"E.embed": ["logits"]}), "no point of this model"),
        (put("points", value={"embed": ["logits", "logits"]}), "has 2 tensors"),
        (put("logits", value="elsewhere"), "'elsewhere', which does not exist"),
        (lambda _, tensors: tensors.pop("L0.key"), "'L0.key' is missing"),
        (tensor("L0.query", torch.zeros(4, 6)), r"query is float32 \[4, 6\]"),
        (tensor("L0.query", torch.zeros(4, 8, 6, dtype=torch.int32)), "query is int32"),
        (tensor("L0.query", torch.zeros(4, 3, 6)), "3 queries for 8 tokens"),
        (tensor("L0.key", torch.zeros(3, 8, 6)), r"key is float32 \[3, 8, 6\], expected \[kv_head key 6\] for 4"),
        (tensor("L0.key", torch.zeros(2, 0, 6)), r"key is float32 \[2, 0, 6\]"),
        (tensor("logits", torch.zeros(4)), r"logits is float32 \[4\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(saved: Path, change: Callable[..., Any], said: str) -> None:
    changed = resealed(saved, change)

    with pytest.raises(BundleError, match=said) as raised:
        attnlens.open(changed)

    assert "run.attn" in str(raised.value)


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")

    with pytest.raises(BundleError, match="no attnlens run"):
        attnlens.open(tmp_path / "model.safetensors")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, attnlens.Capture]:
    from report_samples import made_run

    run = made_run(torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]]]).numpy(), ["a", "b"])
    path = run.save(tmp_path_factory.mktemp("small") / "run.attn")
    return path, path.read_bytes(), run


@given(data=st.data())
def test_damage_is_refused_or_harmless(small: tuple[Path, bytes, attnlens.Capture], data: st.DataObject) -> None:
    path, whole, run = small
    content = bytearray(whole)
    places = st.integers(0, len(whole) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        content[place] = value
    cut = data.draw(st.one_of(st.none(), places))
    path.write_bytes(bytes(content[:cut]))

    try:
        again = attnlens.open(path)
    except BundleError:
        return

    assert_same(again, run)


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


KILLED = """
import os, signal, sys
import attnlens
from attnlens.capture import bundle

def killed(tensors, path, metadata):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

bundle.save_file = killed
attnlens.open(sys.argv[1]).save(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_killed_save_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()

    ended = subprocess.run([sys.executable, "-c", KILLED, str(saved)], check=False, timeout=120)

    assert ended.returncode == -signal.SIGKILL
    assert saved.read_bytes() == before
    assert attnlens.open(saved).text == "the dog"


def test_full_disk_is_said(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = attnlens.open(saved)

    def fails(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("attnlens.capture.bundle.save_file", fails)
    with pytest.raises(OutputError, match="No space left"):
        run.save(saved)


def test_path_that_cannot_be_used_is_said(saved: Path, tmp_path: Path) -> None:
    run = attnlens.open(saved)

    with pytest.raises(OutputError, match="folder"):
        run.save(tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        run.save(saved / "below-a-file.attn")
    for odd in ("x" * 5000, "a\0b", tmp_path):
        with pytest.raises(AttnlensError):
            attnlens.open(odd)
