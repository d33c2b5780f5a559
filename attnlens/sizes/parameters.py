"""The parameters of a model, divided by what they are for; every one is counted once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor, nn

__all__ = ["Parameters", "count_parameters"]

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_INTO_THE_STREAM = re.compile(r"embed|patch|conv|enc_to_dec", re.IGNORECASE)
_GATED = re.compile(r"gate_proj|gate_up|\.wi_0|\.Wi\.|\.w3\b|\.linear_v\b")
_BLOCK = re.compile(r"\.\d+\.")


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters by part; the parts add up to all of them.

    Attributes:
        embeddings: of tokens, positions, segments, patches or sound, and projections of these.
        attention: queries, keys, values and output of every attention, with relative biases and sinks.
        mlp: feed-forward layers that every token goes through.
        experts: feed-forward layers of which each token goes through some.
        router: what chooses these.
        norms: scales and shifts of every normalisation.
        head: what makes predictions of the last states, where it is not the embedding once more.
    """

    embeddings: int = 0
    attention: int = 0
    mlp: int = 0
    experts: int = 0
    router: int = 0
    norms: int = 0
    head: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(asdict(self).values())

    def to_json(self) -> dict[str, int]:
        """Part -> number, without the parts that the model does not have."""
        return {name: n for name, n in asdict(self).items() if n}


@dataclass(frozen=True)
class Counted:
    """What is counted of a model.

    Attributes:
        parts: every parameter by its part.
        active_experts: those of `parts.experts` that one token goes through.
        tied: the output layer is the token embedding once more, and is counted there.
        matrices: numbers that one token's vector is multiplied with: of projections into the stream,
            attention, feed-forward layers, router and output layer; a tied one, and layers that run several times,
            as often as they run.
        mlp_matrices: those of them in feed-forward layers.
        gated: feed-forward layers multiply two branches (GLU).
    """

    parts: Parameters
    active_experts: int
    tied: bool
    matrices: int
    mlp_matrices: int
    gated: bool

    @property
    def active(self) -> int:
        """Parameters that take part in the computation for one token."""
        return self.parts.total - self.parts.experts + self.active_experts


def count_parameters(model: nn.Module, config: Any) -> Counted:
    """Divide the parameters of a model by what they are for.

    Parts are told from the types of modules and their names, as transformers' families write them; what stands in a
    block and is neither attention nor a norm is its feed-forward layer.

    Args:
        model: its shapes are read, so it may be on the meta device.
        config: names the number of experts and how many of them each token takes.
    """
    parts = {field.name: 0 for field in fields(Parameters)}
    matrices = dict.fromkeys(parts, 0)
    names = []
    for name, owners, parameter in _unique(model):
        part = _part(name, owners)
        parts[part] += parameter.numel()
        names.append(name)
        if parameter.ndim > 1 and _multiplies(part, owners):
            matrices[part] += parameter.numel()
    share = _expert_share(config)
    tied = _is_tied(model)
    mlp = matrices["mlp"] + int(matrices["experts"] * share)
    blocks = _repeats(config) * (mlp + matrices["attention"] + matrices["router"])
    output = _output(model).numel() if tied else 0
    return Counted(
        parts=Parameters(**parts),
        active_experts=int(parts["experts"] * share),
        tied=tied,
        matrices=int(blocks) + matrices["embeddings"] + matrices["head"] + output,
        mlp_matrices=int(_repeats(config) * mlp),
        gated=any(_GATED.search(name) for name in names),
    )


def _unique(model: nn.Module) -> Iterator[tuple[str, list[nn.Module], Tensor]]:
    """Every parameter once, with the modules that hold it: an output layer may share its weight with an embedding."""
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    for name, parameter in model.named_parameters():
        yield name, owners[id(parameter)], parameter


def _part(name: str, owners: list[nn.Module]) -> str:
    if any("Norm" in type(owner).__name__ for owner in owners):
        return "norms"
    if _ATTENTION.search(name):
        return "attention"
    if _looks_up(owners):
        return "embeddings"
    steps = name.split(".")
    if "experts" in steps:
        return "experts"
    if "router" in steps or "gate" in steps:
        return "router"
    if _BLOCK.search(name):
        return "mlp"
    return "embeddings" if _INTO_THE_STREAM.search(name) else "head"


def _multiplies(part: str, owners: list[nn.Module]) -> bool:
    """Whether this table is a matrix that vectors are multiplied with, not one that rows are taken from."""
    if part == "embeddings":
        return any(isinstance(owner, nn.Linear) for owner in owners) and not _looks_up(owners)
    return not _looks_up(owners)


def _looks_up(owners: list[nn.Module]) -> bool:
    return any(isinstance(owner, nn.Embedding) for owner in owners)


def _expert_share(config: Any) -> float:
    """How much of its routed experts a token goes through."""
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    settings: Mapping[str, Any] = text.to_dict()
    chosen = next((settings[name] for name in ("num_experts_per_tok", "moe_topk", "top_k") if settings.get(name)), 0)
    every = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    total = next((settings[name] for name in every if settings.get(name)), 0)
    return chosen / total if chosen and total else 1.0


def _repeats(config: Any) -> float:
    """How often each block runs: more than once where layers share their weights (ALBERT)."""
    groups = getattr(config, "num_hidden_groups", 0)
    return config.num_hidden_layers / groups if groups else 1.0


def _is_tied(model: nn.Module) -> bool:
    output, embedding = _output(model), _embedding(model)
    return output is not None and output is embedding


def _output(model: Any) -> Any:
    found = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return getattr(found, "weight", None)


def _embedding(model: Any) -> Any:
    try:
        return getattr(model.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):
        return None
