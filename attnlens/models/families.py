"""Where each family keeps the parts of a block, and the rule that finds the layers of a family nobody listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.errors import UnsupportedModelError

__all__ = ["Wiring", "attention_layers", "longest_text", "position_scheme", "vocabulary_size", "wiring_of"]


@dataclass(frozen=True)
class Wiring:
    """Names, within one layer, of the modules whose output or input is a point of the residual stream.

    Attributes:
        attn_out: its output is what attention writes.
        mlp_out: its output is what the MLP writes.
        resid_mid: `("input" | "output", name)` of the module that sees the stream between the two.
        normalised: module that the sum goes through, None where the stream is the plain sum (pre-LN):
            `resid_mid = norm(resid_pre + attn_out)`, and the second name likewise for `resid_post`.
    """

    attn_out: str
    mlp_out: str
    resid_mid: tuple[str, str]
    normalised: tuple[str, str] | None = None

    def gaps(self, layer: nn.Module, points: dict[str, Tensor]) -> dict[str, float]:
        """Largest relative difference between each point and the sum that it should be.

        Args:
            layer: the layer whose points these are.
            points: `resid_pre attn_out resid_mid mlp_out resid_post`, each `[batch position d_model]`.
        """
        middle, end = points["resid_pre"] + points["attn_out"], points["resid_mid"] + points["mlp_out"]
        if self.normalised is not None:
            norm_middle, norm_end = (layer.get_submodule(name) for name in self.normalised)
            middle, end = norm_middle(middle), norm_end(end)
        return {
            "resid_mid": _relative_gap(middle, points["resid_mid"]),
            "resid_post": _relative_gap(end, points["resid_post"]),
        }


_BERT = Wiring(
    attn_out="attention.output.dense",
    mlp_out="output.dense",
    resid_mid=("output", "attention.output.LayerNorm"),
    normalised=("attention.output.LayerNorm", "output.LayerNorm"),
)
_GPT2 = Wiring(attn_out="attn", mlp_out="mlp", resid_mid=("input", "ln_2"))
_LLAMA = Wiring(attn_out="self_attn", mlp_out="mlp", resid_mid=("input", "post_attention_layernorm"))

_WIRINGS = {
    "bert": _BERT,
    "roberta": _BERT,
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
}


def wiring_of(model: PreTrainedModel) -> Wiring | None:
    """The wiring of the model's family, or None where none is known; the self-check proves it before it is used."""
    return _WIRINGS.get(model.config.model_type)


def attention_layers(model: PreTrainedModel) -> Sequence[nn.Module]:
    """The model's layers: the outermost module list whose elements hold a module with "attention" in its class name.

    Raises:
        UnsupportedModelError: there is no such list, or more than one (an encoder and a decoder).
    """
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        inside_another = any(name.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and len(module) and not inside_another and _attends(module[0]):
            found.append((name, module))
    if len(found) == 1:
        return list(found[0][1])
    kind = type(model).__name__
    if not found:
        raise UnsupportedModelError(f"{kind} has no layers with attention that attnlens can find.")
    names = ", ".join(name for name, _ in found)
    raise UnsupportedModelError(
        f"{kind} has {len(found)} stacks of layers ({names}); this version opens models of one stack."
    )


def _attends(layer: nn.Module) -> bool:
    return any("attention" in type(module).__name__.lower() for module in layer.modules())


def position_scheme(model: PreTrainedModel) -> str:
    """How positions enter: `rope` (a rotary embedding), `learned` (an embedding table), else `unknown`."""
    rules: tuple[tuple[str, Callable[[str, nn.Module], bool]], ...] = (
        ("rope", lambda _, module: "RotaryEmbedding" in type(module).__name__),
        (
            "learned",
            lambda name, module: isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES,
        ),
    )
    for scheme, holds in rules:
        if any(holds(name, module) for name, module in model.named_modules()):
            return scheme
    return "unknown"


def vocabulary_size(model: PreTrainedModel) -> int:
    """Rows of the token embedding; ids beyond it cannot be run."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[0])


def longest_text(model: PreTrainedModel) -> int | None:
    """Tokens that the position scheme takes; None where nothing limits it.

    RoBERTa-like tables begin behind the padding index, so that many of their rows are never a position.
    """
    limit: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES:
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return limit


_POSITION_TABLES = {"position_embeddings", "wpe", "embed_positions"}


def _relative_gap(one: Tensor, other: Tensor) -> float:
    scale = other.abs().max().clamp_min(torch.finfo(other.dtype).tiny)
    return float(((one - other).abs().max() / scale).double())
