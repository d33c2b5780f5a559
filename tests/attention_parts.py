"""What each layer's attention is made of, read off transformers' own modules by name: the truth for measures of mixing.

Nothing of attnlens runs here. Each family names where its values, its W_O and its norms are; vectors are made in plain
loops over heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from eager_truth import eager_attentions
from torch import Tensor, nn
from transformers import PreTrainedModel

FAMILIES_READ = ("bert", "gpt2", "llama", "t5")


@dataclass(frozen=True)
class Parts:
    """One layer's attention, in float64.

    Attributes:
        stack, layer: of the attention.
        pattern: `[head query key]`, by transformers' eager code.
        moved: `[head key d_model]`, each head's `(x W_V + b_V) W_O`.
        bias: of W_O, `[d_model]`.
        residual: `[query d_model]`, the stream that attention's output is added to.
        norm: the norm behind that sum; None where there is none.
    """

    stack: str
    layer: int
    pattern: Tensor
    moved: Tensor
    bias: Tensor
    residual: Tensor
    norm: nn.Module | None


def attention_parts(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> list[Parts]:
    """Every layer's attention of one text."""
    with torch.no_grad():
        outputs: Any = model(**inputs, output_hidden_states=True)
        attentions = eager_attentions(model, inputs)
        found = []
        for stack, layer, residual, read, value, projection, norm in _PLACES[model.config.model_type](model, outputs):
            pattern = attentions[stack][layer][0].double()
            found.append(_parts(stack, layer, pattern, residual, value(read), projection, norm))
    return found


def _parts(
    stack: str, layer: int, pattern: Tensor, residual: Tensor, values: Tensor, projection: nn.Module, norm: Any
) -> Parts:
    n_heads = len(pattern)
    weight: Any = projection.weight
    matrix = (weight if type(projection).__name__ == "Conv1D" else weight.T).double()
    bias = getattr(projection, "bias", None)
    d_head = len(matrix) // n_heads
    n_groups = values.shape[-1] // d_head
    moved = []
    for head in range(n_heads):
        group = head // (n_heads // n_groups)
        own = values[0, :, group * d_head : (group + 1) * d_head].double()
        moved.append(own @ matrix[head * d_head : (head + 1) * d_head])
    zero = torch.zeros(matrix.shape[1], dtype=torch.float64)
    return Parts(
        stack, layer, pattern, torch.stack(moved), zero if bias is None else bias.double(), residual[0].double(), norm
    )  # fmt: skip


Place = tuple[str, int, Tensor, Tensor, Callable[[Tensor], Tensor], nn.Module, nn.Module | None]


def _bert(model: Any, outputs: Any) -> Iterator[Place]:
    for index, layer in enumerate(model.bert.encoder.layer):
        x, own = outputs.hidden_states[index], layer.attention
        yield "", index, x, x, own.self.value, own.output.dense, own.output.LayerNorm


def _gpt2(model: Any, outputs: Any) -> Iterator[Place]:
    for index, layer in enumerate(model.transformer.h):
        x = outputs.hidden_states[index]
        width = x.shape[-1]

        def value(read: Tensor, layer: Any = layer, width: int = width) -> Tensor:
            return layer.attn.c_attn(read)[..., 2 * width :]

        yield "", index, x, layer.ln_1(x), value, layer.attn.c_proj, None


def _llama(model: Any, outputs: Any) -> Iterator[Place]:
    for index, layer in enumerate(model.model.layers):
        x = outputs.hidden_states[index]
        yield "", index, x, layer.input_layernorm(x), layer.self_attn.v_proj, layer.self_attn.o_proj, None


def _t5(model: Any, outputs: Any) -> Iterator[Place]:
    for index, block in enumerate(model.encoder.block):
        x, sub = outputs.encoder_hidden_states[index], block.layer[0]
        yield "E", index, x, sub.layer_norm(x), sub.SelfAttention.v, sub.SelfAttention.o, None
    for index, block in enumerate(model.decoder.block):
        x, sub = outputs.decoder_hidden_states[index], block.layer[0]
        yield "D", index, x, sub.layer_norm(x), sub.SelfAttention.v, sub.SelfAttention.o, None
    for index, block in enumerate(model.decoder.block):
        cross = block.layer[1].EncDecAttention
        source = outputs.encoder_last_hidden_state
        yield "X", index, outputs.decoder_hidden_states[index], source, cross.v, cross.o, None


_PLACES = {"bert": _bert, "gpt2": _gpt2, "llama": _llama, "t5": _t5}
