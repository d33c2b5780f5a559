"""Texts, pairs, sources with targets, and tensors of the user's own, as one batch that a model can be called with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attnlens.capture.recorders import Extents
from attnlens.capture.tokens import EncodedText, Token, label_tokens, printable
from attnlens.errors import TextError, UnsupportedModelError, UsageError
from attnlens.models.encode import encode

__all__ = ["Batch", "batch_of_inputs", "batch_of_pairs", "batch_of_texts", "encode_target", "numbered"]


@dataclass(frozen=True)
class Batch:
    """What a model is called with, and what its rows are.

    Attributes:
        arguments: of the call; the key "" holds a lone positional argument.
        extents: where the real positions of each row stand.
        texts: per row, what stands there; None where only the run tells how many positions there are.
        sources: per row, what an encoder-decoder reads; likewise.
    """

    arguments: Mapping[str, Any]
    extents: Extents
    texts: tuple[EncodedText | None, ...]
    sources: tuple[EncodedText | None, ...] = ()

    def call(self, model: nn.Module, **options: Any) -> Any:
        """The model's output."""
        positional = [self.arguments[""]] if "" in self.arguments else []
        return model(*positional, **{name: value for name, value in self.arguments.items() if name}, **options)


def batch_of_texts(model: PreTrainedModel, texts: Sequence[EncodedText], pad_id: int) -> Batch:
    """Texts padded on the right, so that learned positions need no correction."""
    arguments = _padded([text.ids for text in texts], pad_id, model)
    if "token_type_ids" in _parameters(model) and getattr(model.config, "type_vocab_size", 0) > 1:
        arguments["token_type_ids"] = _rows([text.segments for text in texts], 0, model)
    return Batch(arguments, Extents.of_lengths([len(text.tokens) for text in texts]), tuple(texts))


def batch_of_pairs(
    model: PreTrainedModel, sources: Sequence[EncodedText], targets: Sequence[EncodedText], pad_id: int
) -> Batch:
    """Sources and targets of an encoder-decoder, both padded on the right."""
    arguments = _padded([text.ids for text in sources], pad_id, model)
    arguments["decoder_input_ids"] = _rows([text.ids for text in targets], pad_id, model)
    own, source = (tuple(slice(0, len(text.tokens)) for text in texts) for texts in (targets, sources))
    return Batch(arguments, Extents(own, source), tuple(targets), tuple(sources))


def encode_target(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> EncodedText:
    """`text` as a decoder reads it while it is trained: its start token in front, the end token not yet there.

    Raises:
        UnsupportedModelError: nothing says which token a target starts with.
    """
    start = next(
        (
            token
            for token in (
                getattr(model.generation_config, "decoder_start_token_id", None),
                getattr(model.config, "decoder_start_token_id", None),
                tokenizer.bos_token_id,
            )
            if isinstance(token, int)
        ),
        None,
    )
    if start is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} does not say which token a target starts with; set "
            "model.generation_config.decoder_start_token_id."
        )
    encoded = encode(tokenizer, text, target=True)
    kept = encoded.tokens
    if kept and kept[-1].id == tokenizer.eos_token_id and kept[-1].special:
        kept = kept[:-1]
    if (kept and kept[0].id != start) or not kept:
        label = printable(str(tokenizer.convert_ids_to_tokens(start)))
        kept = (Token(start, label, None, None, True), *kept)
    return EncodedText(encoded.text, kept, encoded.words, (0,) * len(kept), False)


def batch_of_inputs(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None,
    inputs: Any,
    target: EncodedText | None = None,
    batch_axis: int = 0,
) -> Batch:
    """The user's own tensors, as they are: only positions that left padding would shift are added.

    Args:
        model: the model.
        tokenizer: for labels, where the tensors are ids.
        inputs: a mapping of arguments (what a tokenizer or a processor returns), or a lone positional argument.
        target: what an encoder-decoder writes, where the inputs do not say.
        batch_axis: which axis of the tensors counts the texts.

    Raises:
        TextError: a row of the attention mask has no real position.
        UsageError: no tensors; not what the model takes; ids or masks that are no `[batch position]`.
    """
    arguments = _named(model, inputs)
    place = _device(model)
    arguments = {name: value.to(place) if isinstance(value, Tensor) else value for name, value in arguments.items()}
    if not isinstance(model, PreTrainedModel):
        return _batch_of_plain(tokenizer, arguments, batch_axis)
    two_stacks = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
    if two_stacks and target is not None and "decoder_input_ids" not in arguments:
        rows = _n_rows(arguments)
        arguments["decoder_input_ids"] = torch.tensor([list(target.ids)] * rows, device=place)
    source = _extents(arguments, "input_ids", "attention_mask")
    own = _extents(arguments, "decoder_input_ids", "decoder_attention_mask") if two_stacks else source
    if any(part.start for part in own) and not two_stacks:
        _number_positions(model, arguments)
    texts = _texts(tokenizer, arguments, "decoder_input_ids" if two_stacks else "input_ids", own)
    if target is not None:
        texts = tuple(target for _ in texts)
    if not two_stacks:
        return Batch(arguments, Extents(own), texts)
    return Batch(arguments, Extents(own, source), texts, _texts(tokenizer, arguments, "input_ids", source))


def _named(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """The arguments by name; a lone tensor is the model's main one, "" where that has no name.

    Raises:
        UsageError: no tensor, an empty one, or none that the model reads.
    """
    main = str(model.main_input_name) if isinstance(model, PreTrainedModel) else ""
    arguments = dict(inputs) if isinstance(inputs, Mapping) else {main: inputs}
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    if not tensors:
        kind = f"holds {', '.join(map(str, arguments)) or 'nothing'}" if isinstance(inputs, Mapping) else "is no tensor"
        raise UsageError(
            f"inputs {kind} ({type(inputs).__name__}); expected a tensor, or a mapping of names to tensors."
        )
    for name, value in tensors.items():
        if not value.numel():
            raise UsageError(f"{name or 'inputs'} has shape {list(value.shape)}, so there is nothing to attend to.")
    if main and main not in tensors and "inputs_embeds" not in tensors:
        raise UsageError(f"{type(model).__name__} reads {main}; inputs holds {', '.join(tensors)}.")
    return arguments


def _batch_of_plain(tokenizer: PreTrainedTokenizerBase | None, arguments: Mapping[str, Any], batch_axis: int) -> Batch:
    """Tensors for a module of the user's own, of whose arguments nothing is known but the axis that counts texts."""
    sizes = [value.shape for value in arguments.values() if isinstance(value, Tensor) and value.ndim > 1]
    n_rows = sizes[0][batch_axis] if sizes else 1
    texts: tuple[EncodedText | None, ...] = (None,) * n_rows
    ids = arguments.get("", arguments.get("input_ids"))
    if isinstance(ids, Tensor) and ids.ndim == 2 and not ids.is_floating_point() and not ids.is_complex():
        texts = tuple(_labelled(tokenizer, row.tolist()) for row in (ids.T if batch_axis else ids).cpu())
    return Batch(arguments, Extents.everything(n_rows), texts, (None,) * n_rows)


def numbered(n_positions: int) -> EncodedText:
    """Positions that stand for no text (patches of a picture, frames of a sound), labelled by their number."""
    tokens = tuple(Token(0, str(position), None, None, False) for position in range(n_positions))
    return EncodedText("", tokens, (), (0,) * n_positions, False)


def _texts(
    tokenizer: PreTrainedTokenizerBase | None, arguments: Mapping[str, Any], name: str, extents: Sequence[slice]
) -> tuple[EncodedText | None, ...]:
    ids = arguments.get(name)
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        return (None,) * len(extents)
    return tuple(_labelled(tokenizer, row[part].tolist()) for row, part in zip(ids.cpu(), extents, strict=True))


def _labelled(tokenizer: PreTrainedTokenizerBase | None, ids: Sequence[int]) -> EncodedText:
    """Ids as tokens; they have no characters of their own, so the vocabulary's spelling labels them."""
    if tokenizer is None:
        tokens = tuple(Token(token, str(token), None, None, False) for token in ids)
        return EncodedText("", tokens, (), (0,) * len(ids), False)
    special = set(tokenizer.all_special_ids)
    pieces = [
        str(piece) if piece is not None else f"#{i}" for i, piece in zip(ids, _pieces(tokenizer, ids), strict=True)
    ]
    marks = [token in special for token in ids]
    tokens = label_tokens("", ids, [None] * len(ids), marks, pieces, (), tokenizer.unk_token_id)
    return EncodedText("", tokens, (), (0,) * len(ids), False)


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str | None]:
    known = len(tokenizer)
    if ids and min(ids) >= 0 and max(ids) < known:
        return list(tokenizer.convert_ids_to_tokens(list(ids)))
    return [str(tokenizer.convert_ids_to_tokens(token)) if 0 <= token < known else None for token in ids]


def _extents(arguments: Mapping[str, Any], ids: str, mask: str) -> tuple[slice, ...]:
    """Where the real positions of each row stand: from its first to its last, by the mask."""
    for name in (ids, mask):
        value = arguments.get(name)
        if isinstance(value, Tensor) and value.ndim not in ((2, 4) if name == mask else (2,)):
            raise UsageError(f"{name} has shape {list(value.shape)}; expected [batch position].")
    known, keep = arguments.get(ids), arguments.get(mask)
    if isinstance(known, Tensor) and (known.is_floating_point() or known.dtype == torch.bool):
        raise UsageError(
            f"{ids} holds {str(known.dtype).removeprefix('torch.')}; expected whole numbers (ids of tokens)."
        )
    if isinstance(known, Tensor) and isinstance(keep, Tensor) and keep.ndim == 2 and keep.shape != known.shape:
        raise UsageError(f"{mask} has shape {list(keep.shape)}, {ids} has {list(known.shape)}; expected the same.")
    if not isinstance(keep, Tensor) or keep.ndim != 2:
        length = arguments[ids].shape[1] if isinstance(arguments.get(ids), Tensor) else None
        return (slice(0, length) if length is not None else slice(None),) * _n_rows(arguments)
    spans = []
    for row, real in enumerate(keep.bool().cpu()):
        places = real.nonzero().flatten()
        if not len(places):
            raise TextError(f"row {row} of {mask} is all zeros, so there is no token to attend; leave the row out.")
        spans.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(spans)


def _n_rows(arguments: Mapping[str, Any]) -> int:
    return next((len(value) for value in arguments.values() if isinstance(value, Tensor) and value.ndim > 1), 1)


def _number_positions(model: nn.Module, arguments: dict[str, Any]) -> None:
    """Learned positions count from the first real token; a forward pass does not take that from the mask by itself."""
    if "position_ids" in _parameters(model) and "position_ids" not in arguments:
        keep = arguments["attention_mask"]
        arguments["position_ids"] = (keep.long().cumsum(-1) - 1).clamp_min(0)


def _padded(rows: Sequence[Sequence[int]], pad_id: int, model: PreTrainedModel) -> dict[str, Tensor]:
    mask = _rows([[1] * len(row) for row in rows], 0, model)
    return {"input_ids": _rows(rows, pad_id, model), "attention_mask": mask}


def _rows(rows: Sequence[Sequence[int]], fill: int, model: PreTrainedModel) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], device=_device(model))


def _device(model: nn.Module) -> torch.device:
    """Where inputs go: to the embedding, since accelerate may have spread the rest over several devices."""
    if isinstance(model, PreTrainedModel):
        table = model.get_input_embeddings()
        weight = getattr(table, "weight", None)
        return weight.device if isinstance(weight, Tensor) and weight.device.type != "meta" else model.device
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters
