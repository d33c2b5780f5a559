"""Circuits of an opened model: the maps of its heads as factored matrices, and its tables of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers import PreTrainedModel

from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS
from attnlens.errors import CaptureError
from attnlens.measures.circuits import FactoredMatrix, composition_scores, ov_circuit, qk_circuit
from attnlens.models.head_weights import HeadMap, InFront, LayerWeights, head_weights
from attnlens.models.opening import Opened
from attnlens.models.readouts import final_norm, unembedding

__all__ = [
    "Composition",
    "HeadCircuits",
    "circuits_of",
    "compositions",
    "known",
    "token_embedding",
    "token_unembedding",
]

Composition = Literal["query", "key", "value"]


@dataclass(frozen=True)
class HeadCircuits:
    """The circuits of one layer's heads, with the weight of the norm in front folded in, its division left out.

    Attributes:
        qk: `[head d_model d_model]`, before the scaling; without rotations by position and biases.
        ov: `[head d_model d_model]`, without biases.
        qk_absent, ov_absent: why there is none; empty where there is.
        rotated: attention rotates queries and keys by position, so that `qk` is what is scored at distance 0.
    """

    qk: FactoredMatrix | None
    ov: FactoredMatrix | None
    qk_absent: str = ""
    ov_absent: str = ""
    rotated: bool = False


def circuits_of(opened: Opened, letter: str = "", *, fold: bool = True) -> dict[int, HeadCircuits]:
    """The circuits of every head of a stack, by layer.

    Args:
        opened: the model.
        letter: of the stack.
        fold: multiply the weight of the norm in front into the maps (and take the mean away, for LayerNorm), so that
            they read the stream itself, up to a factor per token. Post-LN models have no norm in front: there it
            changes nothing, and the norms between layers stay outside.
    """
    found = head_weights(opened, letter)
    return {layer: _of_layer(weights, fold) for layer, weights in found.items()}


def compositions(opened: Opened, how: Composition, letter: str = "") -> Float64[Tensor, "layer head layer2 head2"]:
    """Composition scores of all pairs: rows are the heads that read, columns the earlier heads that write; 0 to 1.

    Args:
        opened: the model.
        how: whether the reader's queries, keys or values are made of what the writer wrote.
        letter: of the stack; cross-attention composes in its queries alone, with its own kind.

    Returns:
        NaN where the writer is not in an earlier layer, and for layers without attention.

    Raises:
        CaptureError: the circuits are absent, or the heads do not read what heads of their kind write.
    """
    if letter == CROSS and how != "query":
        raise CaptureError("keys and values of cross-attention are made of the encoder's output, not of the stream")
    stack, found = opened.anatomy.stack(letter), circuits_of(opened, letter)
    size = (stack.n_layers, stack.n_heads)
    scores = torch.full((*size, *size), torch.nan, dtype=torch.float64)
    for layer, reader in found.items():
        read = _read(reader, how)
        for earlier, writer in found.items():
            if earlier < layer:
                scores[layer, :, earlier] = composition_scores(known(writer.ov, writer.ov_absent), read)
    return scores


def token_embedding(opened: Opened) -> Float[Tensor, "vocab d_model"]:
    """W_E: the model's token embedding.

    Raises:
        CaptureError: tokens are looked up in a table of another width than the stream's, or in none.
    """
    model: Any = opened.tap.model
    table = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    weight = getattr(table, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not opened.anatomy.vocab_size:
        raise CaptureError(f"{opened.anatomy.model} has no table of token embeddings")
    if weight.shape[1] != opened.anatomy.d_model:
        raise CaptureError(
            f"tokens have {weight.shape[1]} numbers in the embedding of {opened.anatomy.model} and the stream has "
            f"{opened.anatomy.d_model}: a layer stands between"
        )
    return weight.detach().float().cpu()


def token_unembedding(opened: Opened, run: Capture) -> Float[Tensor, "vocab d_model"]:
    """W_U transposed, with the weight of the norm behind the last layer folded in, its division left out.

    Args:
        opened: the model that made `run`.
        run: with the points `resid_post` and `final`, and its logits.

    Raises:
        CaptureError: the model has no prediction head, or one that is more than a linear map.
    """
    read = unembedding(opened, run).weight.detach().float().cpu()
    if opened.wirings[opened.anatomy.main_stack].final_norm is None:
        return read
    norm = final_norm(opened, run)
    return InFront(norm.gain, norm.centred).folded(read.mT[None])[0].mT


def known(circuit: FactoredMatrix | None, reason: str) -> FactoredMatrix:
    """The circuit.

    Raises:
        CaptureError: it is absent; the reason.
    """
    if circuit is None:
        raise CaptureError(reason)
    return circuit


def _read(reader: HeadCircuits, how: Composition) -> FactoredMatrix:
    if how == "value":
        return known(reader.ov, reader.ov_absent)
    qk = known(reader.qk, reader.qk_absent)
    return qk if how == "query" else qk.T


def _of_layer(weights: LayerWeights, fold: bool) -> HeadCircuits:
    def matrix(one: HeadMap) -> Tensor:
        return one.folded if fold else one.weight

    absent = weights.absent
    qk = ov = None
    if weights.query is not None and weights.key is not None:
        qk = qk_circuit(matrix(weights.query), matrix(weights.key))
    if weights.value is not None and weights.output is not None:
        ov = ov_circuit(matrix(weights.value), weights.output)
    return HeadCircuits(
        qk=qk,
        ov=ov,
        qk_absent="" if qk is not None else _reason(absent, "query", "key"),
        ov_absent="" if ov is not None else _reason(absent, "value", "output"),
        rotated=weights.query is not None and weights.query.rotated,
    )


def _reason(absent: Any, *names: str) -> str:
    return "; ".join(f"its {name} map is absent: {absent[name]}" for name in names if name in absent)
