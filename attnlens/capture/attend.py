"""Attention that records its weights while it computes the output, in place of the model's fused kernel."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.scores import RowBlock, Scores, folded, write_keys
from attnlens.capture.tiles import Workspace
from attnlens.measures.running import Reducer, WeightTile

__all__ = ["attend_dense", "attend_reduced", "weights_memory"]


@torch.no_grad()
def attend_dense(
    scores: Scores,
    value: Float[Tensor, "batch kv_head key d_value"],
    out: Float[Tensor, "batch head query key"] | None = None,
    workspace: Workspace | None = None,
) -> tuple[Float[Tensor, "batch query head d_value"], Float[Tensor, "batch head query key"]]:
    """The attention's output and all its weights: what `Scores.weights` gives, computed once for both.

    Args:
        scores: of this attention.
        value: not repeated, like the keys.
        out: where to write the weights; made when None.
        workspace: memory to reuse from layer to layer.

    Returns:
        The output in the dtype of `value`, and the weights in `scores.dtype`; a row without a visible key is all 0 in
        both.
    """
    weights = weights_memory(scores) if out is None else out
    keys, workspace = range(scores.shape[-1]), workspace or Workspace()
    mixed, own = _output(scores, value), value.to(scores.dtype)
    for block in scores.blocks(workspace, into=weights):
        here = block.tile
        if not block.written:
            write_keys(weights[here.batch, here.heads, here.queries], block, keys)
        _mix(scores, block, own, mixed)
    return mixed, weights


@torch.no_grad()
def attend_reduced(
    scores: Scores,
    value: Float[Tensor, "batch kv_head key d_value"],
    reducers: Sequence[Reducer],
    site: Hashable,
    *,
    keep: Bool[Tensor, "batch query"] | None = None,
    text_starts: tuple[int, ...] = (),
    first_query: int | None = None,
    workspace: Workspace | None = None,
) -> Float[Tensor, "batch query head d_value"]:
    """The attention's output; its weights pass by the reducers tile by tile and are gone.

    Args:
        scores: of this attention.
        value: not repeated, like the keys.
        reducers: each sees every tile once.
        site: the label under which the reducers count.
        keep: True for the queries that count.
        text_starts: position of each text's first token; empty when all are 0.
        first_query: position of query row 0 on the key axis (the number of cached tokens); by default what causality
            says, and 0 without it.
        workspace: memory to reuse from layer to layer.
    """
    position = (scores.offset if scores.causal else 0) if first_query is None else first_query
    mixed, own = _output(scores, value), value.to(scores.dtype)
    reader = next((reducer for reducer in reducers if getattr(reducer, "logs", False)), None)
    for block in scores.blocks(workspace or Workspace(), logs=reader is not None):
        here = block.tile
        for reducer in reducers:
            reducer.add(
                WeightTile(
                    site=site,
                    batch=here.batch,
                    heads=here.heads,
                    queries=here.queries,
                    n_heads=scores.shape[1],
                    raw=block.raw,
                    totals=block.totals,
                    logs=block.logs if reducer is reader else None,
                    mass=block.mass,
                    mask=block.mask,
                    causal_offset=scores.offset if scores.causal else None,
                    keep=None if keep is None else keep[here.batch, here.queries],
                    first_query=position + here.queries.start,
                    first_key=block.keys.start,
                    text_starts=text_starts[here.batch],
                )
            )
        _mix(scores, block, own, mixed)
    return mixed


def weights_memory(scores: Scores) -> Float[Tensor, "batch head query key"]:
    """Uninitialised memory for all weights.

    On the CPU it comes from numpy, which asks the system for huge pages: the first touch of a fresh page otherwise
    costs as much as computing the weights that go there.
    """
    if scores.query.device.type == "cpu":
        return torch.from_numpy(np.empty(scores.shape, dtype=str(scores.dtype).removeprefix("torch.")))
    return torch.empty(scores.shape, dtype=scores.dtype, device=scores.query.device)


def _output(scores: Scores, value: Tensor) -> Float[Tensor, "batch query head d_value"]:
    batch, heads, queries, _ = scores.shape
    return torch.empty(batch, queries, heads, value.shape[-1], dtype=value.dtype, device=value.device)


def _mix(scores: Scores, block: RowBlock, value: Tensor, mixed: Tensor) -> None:
    """Weigh the values of a block's keys, and write the rows of the output."""
    here, raw = block.tile, block.raw
    kv, fold = folded(here.heads, scores.shape[1] // value.shape[1])
    n = raw.shape[0] * (kv.stop - kv.start)
    rows = raw.view(n, fold * raw.shape[2], raw.shape[3])
    product = torch.bmm(rows, value[here.batch, kv, block.keys].reshape(n, raw.shape[3], value.shape[-1]))
    product = product.view(*raw.shape[:3], -1)
    if block.totals is not None:
        product /= block.totals
    mixed[here.batch, here.queries, here.heads] = product.transpose(1, 2)
