"""The models of the table: every family of the tests, and three of plain PyTorch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from families_measured import Subject
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from eager_truth import eager_attentions, kept_rows  # noqa: E402
from family_models import FAMILIES  # noqa: E402

__all__ = ["PLAIN", "subject_of", "subjects"]

# Name of the row -> what makes it.
PLAIN = ("nn.MultiheadAttention", "nn.TransformerEncoder", "a module of one's own")


def subjects() -> Iterator[Subject]:
    """Every model, one at a time."""
    for name in (*FAMILIES, *PLAIN):
        yield subject_of(name)


def subject_of(name: str) -> Subject:
    """The model of one row."""
    if name in FAMILIES:
        family = FAMILIES[name]
        model = family.build()
        return Subject(
            name=name,
            architecture=family.architecture,
            model=model,
            batches=tuple(family.inputs(padding=padding) for padding in family.paddings),
            truth=lambda batch: eager_attentions(model, batch),
            kept=kept_rows,
            tokenizer=family.tokenizer(),
        )
    torch.manual_seed(0)
    makers = dict(zip(PLAIN, (_multi_head, _torch_encoder, _own_module), strict=True))
    return makers[name]()


def _plain(
    name: str, model: nn.Module, batch: Tensor, truth: Callable[[Tensor], list[Tensor]], **options: Any
) -> Subject:
    """A plain module that takes one tensor; `truth` gives each layer's weights."""
    everything = [(slice(None), slice(None))] * len(batch)
    wider = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    with torch.no_grad():
        for parameter in wider:  # PyTorch's own start leaves attention nearly flat
            parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
    return Subject(
        name=name,
        architecture=type(model).__name__,
        model=model.eval(),
        batches=({"": batch},),
        truth=lambda inputs: {"": truth(inputs[""])},
        kept=lambda inputs, stack: everything,
        **options,
    )


class Block(nn.Module):
    """What many people write: a norm, `nn.MultiheadAttention`, a norm, an MLP."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width + 2), nn.GELU(), nn.Linear(2 * width + 2, width))

    def attend(self, stream: Tensor, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Causal attention, and its weights by PyTorch's own code where they are asked for."""
        n = stream.shape[1]
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        given = self.ln_1(stream)
        return self.attn(given, given, given, attn_mask=hidden, need_weights=need_weights, average_attn_weights=False)

    def forward(self, stream: Tensor) -> Tensor:
        """`[batch position width]` to the same."""
        stream = stream + self.attend(stream, need_weights=False)[0]
        return stream + self.mlp(self.ln_2(stream))


class Blocks(nn.Module):
    """Ids in, one vector per id out."""

    def __init__(self, n_layers: int = 2, width: int = 21, n_heads: int = 3, vocabulary: int = 40) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(16, width)
        self.blocks = nn.ModuleList(Block(width, n_heads) for _ in range(n_layers))

    def embed(self, ids: Tensor) -> Tensor:
        """What the first block reads."""
        return self.table(ids) + self.positions(torch.arange(ids.shape[1]))

    def forward(self, ids: Tensor) -> Tensor:
        """`[batch position]` to `[batch position width]`."""
        stream = self.embed(ids)
        for block in self.blocks:
            stream = block(stream)
        return stream


def _multi_head() -> Subject:
    model = Blocks()

    @torch.no_grad()
    def truth(ids: Tensor) -> list[Tensor]:
        stream, found = model.embed(ids), []
        for block in model.blocks:
            found.append(block.attend(stream, need_weights=True)[1])
            stream = block(stream)
        return found

    return _plain(PLAIN[0], model, torch.randint(40, (2, 11)), truth)


def _torch_encoder() -> Subject:
    layer = nn.TransformerEncoderLayer(d_model=20, nhead=4, dim_feedforward=37, batch_first=True)
    model = nn.TransformerEncoder(layer, num_layers=3)

    @torch.no_grad()
    def truth(stream: Tensor) -> list[Tensor]:
        found = []
        for block in model.layers:
            found.append(block.self_attn(stream, stream, stream, average_attn_weights=False)[1])
            stream = block(stream)  # the fused path, which builds no weights
        return found

    return _plain(PLAIN[1], model, torch.randn(2, 11, 20), truth)


def _own_module() -> Subject:
    example = _example()
    model = example.Reader()

    @torch.no_grad()
    def truth(ids: Tensor) -> list[Tensor]:
        stream, found = model.table(ids), []
        for step in model.steps:
            query, key, _ = step.mixer.together(step.before_mixer(stream)).chunk(3, dim=-1)
            scores = torch.einsum("bqhd,bkhd->bhqk", *(part.unflatten(-1, (3, -1)) for part in (query, key))) / 8**0.5
            later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            found.append(scores.masked_fill(later, -torch.inf).softmax(-1))
            stream = step(stream)
        return found

    return _plain(PLAIN[2], model, torch.randint(50, (2, 11)), truth, family=example.FAMILY)


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_module", ROOT / "examples" / "own_module.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
