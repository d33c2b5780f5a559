"""Inputs that nobody has to bring: what a model is run on while it is opened and checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.capture.recorders import Extents
from attnlens.errors import UnsupportedModelError

__all__ = ["MadeUp", "described", "made_up", "output_of", "without_cache"]

# Two texts of different length, and targets as long as neither, so that the length of an axis tells which one it is.
_LENGTHS = (12, 8)
_TARGETS = (10, 10)
_TARGET_NAMES = ("tgt", "trg", "target", "decoder")


@dataclass(frozen=True)
class MadeUp:
    """Arguments for one forward pass, and where its real positions stand.

    Attributes:
        arguments: what the model is called with; the key "" holds a lone positional argument.
        extents: real positions of each row; a row's slice is open where nothing is padded.
    """

    arguments: Mapping[str, Any]
    extents: Extents

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the first argument that has more than one axis."""
        values = (value for value in self.arguments.values() if isinstance(value, Tensor) and value.ndim > 1)
        return next((tuple(value.shape) for value in values), ())

    def call(self, model: nn.Module) -> Any:
        """The model's output."""
        positional = [self.arguments[""]] if "" in self.arguments else []
        named = {name: value for name, value in self.arguments.items() if name}
        return model(*positional, **named, **without_cache(model))


def made_up(model: nn.Module, example: Any = None) -> MadeUp:
    """Two rows of random input for `model`.

    Args:
        model: the model to run.
        example: what to call it with instead: a mapping of arguments, or a lone positional one.

    Raises:
        UnsupportedModelError: what the model takes cannot be guessed.
    """
    if example is not None:
        given = dict(example) if isinstance(example, Mapping) else {"": example}
        return MadeUp(given, Extents.everything(_rows(given)))
    if isinstance(model, PreTrainedModel):
        return _for_transformers(model)
    return _for_plain_module(model)


def output_of(model: nn.Module, batch: MadeUp) -> Float[Tensor, "position width"]:
    """Logits (last hidden states where there is no head) of the real positions of a batch, one after another."""
    values = _first_tensor(batch.call(model))
    if values.ndim < 3:
        return values.reshape(-1, values.shape[-1])
    if len(batch.extents.own) != values.shape[0]:
        return values.flatten(0, -2)
    return torch.cat([values[row, own] for row, own in enumerate(batch.extents.own)]).flatten(0, -2)


def described(arguments: Mapping[str, Any]) -> str:
    """Names and shapes of what a model is called with, for a message."""
    shapes = {name or "one argument": value.shape for name, value in arguments.items() if isinstance(value, Tensor)}
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "no tensor"


def without_cache(model: nn.Module) -> dict[str, bool]:
    """The argument that keeps a decoder from building a key-value cache, where the family knows it."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return {"use_cache": False} if getattr(text, "use_cache", None) is not None else {}


def _first_tensor(output: Any) -> Tensor:
    """Logits, last hidden states, or the first tensor of whatever a plain module returns."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(value := getattr(output, name, None), Tensor):
            return value
    while not isinstance(output, Tensor):
        values = list(output.values()) if isinstance(output, Mapping) else list(output)
        output = values[0]
    return output


def _rows(arguments: Mapping[str, Any]) -> int:
    return next((len(value) for value in arguments.values() if isinstance(value, Tensor) and value.ndim > 1), 1)


def _for_transformers(model: PreTrainedModel) -> MadeUp:
    generator = torch.Generator().manual_seed(0)
    name = str(model.main_input_name)
    builders: dict[str, Callable[[], dict[str, Tensor]]] = {
        "input_ids": lambda: _ids(model, generator),
        "pixel_values": lambda: {"pixel_values": torch.randn(_image_shape(model), generator=generator)},
        "input_features": lambda: {"input_features": torch.randn(_sound_shape(model), generator=generator)},
    }
    if name not in builders:
        raise UnsupportedModelError(
            f"{type(model).__name__} takes {name!r}, for which attnlens has no made-up input; "
            "give one: attnlens.load(model=..., example={...})."
        )
    arguments = builders[name]()
    own = source = tuple(slice(0, length) for length in _LENGTHS) if name == "input_ids" else (slice(None),) * 2
    if model.config.is_encoder_decoder:
        vocabulary = model.config.get_text_config(decoder=True).vocab_size
        shape = (len(_TARGETS), max(_TARGETS))
        arguments["decoder_input_ids"] = torch.randint(vocabulary, shape, generator=generator)
        own = tuple(slice(0, length) for length in _TARGETS)
    placed = {key: _placed(value, model) for key, value in arguments.items()}
    return MadeUp(placed, Extents(own, source if model.config.is_encoder_decoder else ()))


def _ids(model: PreTrainedModel, generator: torch.Generator) -> dict[str, Tensor]:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    ids = torch.randint(weight.shape[0], (2, _LENGTHS[0]), generator=generator)
    keep: Bool[Tensor, "batch position"] = torch.arange(_LENGTHS[0])[None] < torch.tensor(_LENGTHS)[:, None]
    return {"input_ids": ids, "attention_mask": keep.long()}


def _image_shape(model: PreTrainedModel) -> tuple[int, int, int, int]:
    config = getattr(model.config, "vision_config", model.config)
    side = config.image_size
    height, width = (side, side) if isinstance(side, int) else side
    return 2, config.num_channels, height, width


def _sound_shape(model: PreTrainedModel) -> tuple[int, int, int]:
    return 2, model.config.num_mel_bins, 2 * model.config.max_source_positions


def _placed(value: Tensor, model: PreTrainedModel) -> Tensor:
    """On the model's device; numbers that are no ids in its precision."""
    return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)


def _for_plain_module(model: nn.Module) -> MadeUp:
    """Ids for a module that begins with an embedding, else random vectors of the width that its attention takes.

    A module that must be given two arguments reads a source and writes a target.
    """
    generator = torch.Generator().manual_seed(0)
    if next(iter(model.parameters()), None) is None:
        raise UnsupportedModelError(f"{type(model).__name__} has no weights, so there is nothing to open.")
    needed = _needed_arguments(model)
    if len(needed) > 2:
        raise UnsupportedModelError(
            f"{type(model).__name__} takes {', '.join(needed)}, for which attnlens has no made-up input; "
            "give one: attnlens.load(model=..., example={...})."
        )
    if len(needed) < 2:
        return MadeUp({"": _made_up_values(model, _LENGTHS[0], generator)}, Extents.everything(2))
    targets = [name for name in needed if any(mark in name.lower() for mark in _TARGET_NAMES)] or needed[1:]
    lengths = {name: max(_TARGETS) if name in targets[:1] else _LENGTHS[0] for name in needed}
    values = {name: _made_up_values(model, length, generator) for name, length in lengths.items()}
    return MadeUp(values, Extents.everything(2))


def _needed_arguments(model: nn.Module) -> list[str]:
    """Names of what `forward` cannot be called without."""
    parameters = inspect.signature(model.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [known.name for known in parameters if known.kind in kinds and known.default is inspect.Parameter.empty]


def _made_up_values(model: nn.Module, length: int, generator: torch.Generator) -> Tensor:
    """Two rows of ids or vectors; the axes the other way round where every attention of torch's own wants it so."""
    weight = next(iter(model.parameters()))
    table = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
    if table is not None:
        return torch.randint(table.num_embeddings, (2, length), generator=generator).to(weight.device)
    width = _input_width(model)
    if width is None:
        raise UnsupportedModelError(
            f"what {type(model).__name__} takes cannot be guessed; give it: attnlens.load(model=..., example=tensor)."
        )
    vectors = torch.randn(2, length, width, generator=generator).to(weight)
    own = [module.batch_first for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    return vectors.transpose(0, 1).contiguous() if own and not any(own) else vectors


def _input_width(model: nn.Module) -> int | None:
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            return int(module.embed_dim)
        if isinstance(module, nn.Linear):
            return int(module.in_features)
    return None
