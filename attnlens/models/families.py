"""Adapters: what attnlens cannot find out about a model by looking at it, in a few lines that anyone can register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from attnlens.errors import PluginError, UnsupportedModelError
from attnlens.plugins import installed, load_plugin

__all__ = ["Family", "family_of", "refuse_by_name"]

GROUP = "attnlens.families"

# Families with attention that is no map from queries to keys -> why, in words that follow "its attention".
_REFUSED = {
    "longformer": "is banded: weights are [head query window], not [head query key]",
    "led": "is banded: weights are [head query window], not [head query key]",
    "big_bird": "is blocked and partly random: no weights [head query key] are ever built",
    "bigbird_pegasus": "is blocked and partly random: no weights [head query key] are ever built",
    "reformer": "goes through hash buckets: no weights [head query key] are ever built",
    "nystromformer": "is approximated by landmarks: no weights [head query key] are ever built",
    "yoso": "is sampled: no weights [head query key] are ever built",
    "fnet": "does not exist: it mixes tokens by a Fourier transform",
    "mamba": "does not exist: it is a state-space model",
    "mamba2": "does not exist: it is a state-space model",
    "falcon_mamba": "does not exist: it is a state-space model",
    "rwkv": "does not exist: it is a recurrent model",
    "xlstm": "does not exist: it is a recurrent model",
}


@dataclass(frozen=True)
class Family:
    """What attnlens should know about a model of yours; only `claims` is needed, the rest is found where it can be.

    Register an instance under the entry point `attnlens.families`, or pass it as `load(model=..., family=...)`.

    Attributes:
        name: shown as `anatomy.family`.
        claims: whether a model is one of these.
        layers: path of the `nn.ModuleList` that holds the blocks ("decoder.blocks").
        attention: path, within a block, of the module that attends ("mixer").
        example: what to call the model with while it is checked: a mapping of arguments or a lone positional one, for
            two rows of at least eight positions.
    """

    name: str
    claims: Callable[[nn.Module], bool]
    layers: str = ""
    attention: str = ""
    example: Callable[[nn.Module], Any] | None = None

    def blocks(self, model: nn.Module) -> tuple[nn.Module, ...] | None:
        """The blocks that `layers` names; None where it names none.

        Raises:
            UnsupportedModelError: there is no such list.
        """
        if not self.layers:
            return None
        try:
            found = model.get_submodule(self.layers)
        except AttributeError as error:
            raise UnsupportedModelError(
                f"{type(model).__name__} has no {self.layers!r}, which the family {self.name!r} names as its layers."
            ) from error
        return tuple(found.children())

    def attention_modules(self, model: nn.Module) -> tuple[nn.Module, ...] | None:
        """The modules that `attention` names, one per block; None where it names none.

        Raises:
            UnsupportedModelError: a block has no such module.
        """
        blocks = self.blocks(model)
        if not self.attention or blocks is None:
            return None
        try:
            return tuple(block.get_submodule(self.attention) for block in blocks)
        except AttributeError as error:
            raise UnsupportedModelError(
                f"a block of {type(model).__name__} has no {self.attention!r}, which the family {self.name!r} names as "
                "its attention."
            ) from error


def family_of(model: nn.Module) -> Family | None:
    """The installed adapter that claims `model`; None where none does.

    Raises:
        PluginError: an entry point that is no `Family`.
    """
    for name in installed(GROUP):
        family = load_plugin(GROUP, name)
        if not isinstance(family, Family):
            raise PluginError(f"the family {name!r} is {type(family).__name__}; expected attnlens.Family.")
        if family.claims(model):
            return family
    return None


def refuse_by_name(model: nn.Module) -> None:
    """Refuse families whose attention cannot be a map from queries to keys.

    Raises:
        UnsupportedModelError: with the reason.
    """
    config = getattr(model, "config", None)
    kind = str(getattr(config, "model_type", ""))
    if kind in _REFUSED:
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be captured: its attention {_REFUSED[kind]}. "
            "Choose a model whose heads attend from every token to every token that they see."
        )
