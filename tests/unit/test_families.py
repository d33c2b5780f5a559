"""Adapters: a user's module that no rule understands is opened in a few lines; families without maps are refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

import attnlens
from attnlens.errors import PluginError, UnsupportedModelError
from attnlens.models.families import Family, family_of

WIDTH, HEADS = 20, 4


class Stir(nn.Module):
    """Attention under a name that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def weights(self, x: Tensor) -> Tensor:
        q, k = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k))
        return (q @ k.transpose(-1, -2)).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        v = self.v(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        result: Tensor = self.o((self.weights(x) @ v).transpose(1, 2).flatten(2))
        return result


class Simmer(nn.Module):
    """An MLP with a softmax of its own, which is no attention."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(x) * F.softmax(self.gate(x), -1)
        return result


class Pot(nn.Module):
    """A block."""

    def __init__(self) -> None:
        super().__init__()
        self.stir, self.simmer = Stir(), Simmer()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stir(x)
        result: Tensor = x + self.simmer(x)
        return result


class Kitchen(nn.Module):
    """Blocks in a list, behind an argument that nobody could guess."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.pots = nn.ModuleList(Pot() for _ in range(3))

    def forward(self, *, soup: Tensor, spice: float) -> Tensor:
        x = soup * spice
        for pot in self.inner.pots:
            x = pot(x)
        return x


@pytest.fixture
def kitchen() -> Kitchen:
    torch.manual_seed(0)
    return Kitchen().eval()


def soup(seed: int = 0) -> dict[str, Any]:
    return {"soup": torch.randn(2, 8, WIDTH, generator=torch.Generator().manual_seed(seed)), "spice": 1.5}


FAMILY = Family(
    name="kitchen",
    claims=lambda model: isinstance(model, Kitchen),
    layers="inner.pots",
    attention="stir",
    example=lambda _model: soup(1),
)


def truth(model: Kitchen, inputs: dict[str, Any]) -> Tensor:
    """[layer batch head query key] by the module's own formula."""
    x, found = inputs["soup"] * inputs["spice"], []
    with torch.no_grad():
        for pot in model.inner.pots:
            found.append(pot.stir.weights(x))
            x = pot(x)
    return torch.stack(found)


def check(lens: attnlens.Lens, model: Kitchen) -> None:
    expected = truth(model, soup())

    runs = list(lens.captures(inputs=soup(), points=("attn_out", "resid_pre", "resid_post")))

    assert (lens.anatomy.family, lens.anatomy.n_layers, lens.anatomy.n_heads) == ("kitchen", 3, HEADS)
    for row, run in enumerate(runs):
        torch.testing.assert_close(run.attention(), expected[:, row], atol=1e-6, rtol=0)
        torch.testing.assert_close(run.residual("resid_pre")[0], soup()["soup"][row] * 1.5)


def test_a_module_that_no_rule_understands_is_refused(kitchen: Kitchen) -> None:
    with pytest.raises(UnsupportedModelError, match="no layers with attention"):
        attnlens.load(model=kitchen)


def test_an_adapter_given_by_hand_opens_it(kitchen: Kitchen) -> None:
    check(attnlens.load(model=kitchen, family=FAMILY), kitchen)


def test_an_installed_adapter_opens_it(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A distribution with the entry point lies on the path, as pip leaves it there."""
    install(tmp_path, monkeypatch, "kitchen = kitchen_for_attnlens:FAMILY", "from families_under_test import FAMILY")
    monkeypatch.setitem(sys.modules, "families_under_test", _module_with(FAMILY))

    check(attnlens.load(model=kitchen), kitchen)


def test_an_installed_adapter_leaves_other_models_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(tmp_path, monkeypatch, "kitchen = kitchen_for_attnlens:FAMILY", "from families_under_test import FAMILY")
    monkeypatch.setitem(sys.modules, "families_under_test", _module_with(FAMILY))

    assert family_of(nn.Linear(2, 3)) is None
    assert family_of(Kitchen()) is FAMILY


@pytest.mark.parametrize(
    ("code", "message"),
    [("FAMILY = 'kitchen'", "the family 'broken' is str"), ("import no_such_module", "cannot be loaded")],
)
def test_a_broken_adapter_is_an_error(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, message: str
) -> None:
    install(tmp_path, monkeypatch, "broken = kitchen_for_attnlens:FAMILY", code)

    with pytest.raises(PluginError, match=message):
        attnlens.load(model=kitchen)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str, code: str) -> None:
    information = folder / "kitchen_for_attnlens-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: kitchen-for-attnlens\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[attnlens.families]\n{entry}\n")
    (folder / "kitchen_for_attnlens.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "kitchen_for_attnlens", raising=False)


def _module_with(family: Family) -> Any:
    module = ModuleType("families_under_test")
    module.FAMILY = family
    return module


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Family("kitchen", lambda _: True, layers="outer.pots", example=lambda _: soup()), "has no 'outer.pots'"),
        (
            Family("kitchen", lambda _: True, layers="inner.pots", attention="whisk", example=lambda _: soup()),
            "a block of Kitchen has no 'whisk'",
        ),
        (
            Family("kitchen", lambda _: True, layers="inner.pots", attention="simmer.up", example=lambda _: soup()),
            "no attention of Kitchen could be reached",
        ),
        (
            Family("kitchen", lambda _: True, layers="inner.pots", attention="stir", example=lambda _: {"soup": None}),
            "Kitchen cannot be run on",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(kitchen: Kitchen, family: Family, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        attnlens.load(model=kitchen, family=family)


SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
UNMAPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "longformer": ("LongformerModel", SMALL | {"attention_window": [4, 4]}),
    "led": ("LEDModel", {"vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
                         "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
                         "decoder_ffn_dim": 24, "attention_window": 4}),
    "big_bird": ("BigBirdModel", SMALL | {"attention_type": "block_sparse"}),
    "nystromformer": ("NystromformerModel", SMALL | {"segment_means_seq_len": 16, "num_landmarks": 4}),
    "yoso": ("YosoModel", SMALL),
    "fnet": ("FNetModel", {key: value for key, value in SMALL.items() if key != "num_attention_heads"}),
    "mamba": ("MambaModel", {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}),
    "rwkv": ("RwkvModel", {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16}),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNMAPPED)
def test_families_without_a_map_are_refused_with_the_reason(kind: str) -> None:
    name, settings = UNMAPPED[kind]
    architecture = getattr(transformers, name)
    model = architecture(architecture.config_class(**settings))
    assert model.config.model_type == kind

    with pytest.raises(UnsupportedModelError, match=f"{name} cannot be captured: its attention .*Choose a model"):
        attnlens.load(model=model, tokenizer=_tokenizer())


def _tokenizer() -> Any:
    from random_models import random_bert

    return random_bert().tokenizer
