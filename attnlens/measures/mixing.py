"""How attention mixes tokens over several layers: rollout and flow, from patterns alone.

Both treat a layer as `(A + I) / 2`: half of a token's stream is what its heads bring, half is what was there before.
Patterns are `[layer query key]`, the mean over the heads, with rows that sum to 1; special tokens stay in. Maps to
words come after mixing, never before: the mean of a product is not the product of means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from attnlens.errors import MeasureError

__all__ = ["LONGEST_FLOW", "attention_flow", "cross_rollout", "head_rollout", "rollout"]

# Tokens beyond which the max-flows take minutes: n * n of them, on graphs of layers * n * n edges.
LONGEST_FLOW = 64
# Capacities as whole numbers: the sum of a row's must fit into 32 bits.
_UNITS = 1 << 30


def rollout(
    patterns: Float[Tensor, "layer query query"], residual: float = 0.5
) -> Float64[Tensor, "layer query query"]:
    """Share of each input token in each token after each layer, if layers only mixed: rows sum to 1; more is more.

    `R_l = ((1 - residual) A_l + residual I) R_(l-1)`, `R_(-1) = I`.

    Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers" (arXiv:2005.00928), section 3.

    Args:
        patterns: head-mean weights of each layer; causal or not.
        residual: share of the stream that goes around attention, 0 to 1; the paper takes one half.

    Returns:
        `[layer query key]`, 0 to 1: the key is an input token, the query a token after that layer.
    """
    n_layers, n_tokens, _ = patterns.shape
    identity = torch.eye(n_tokens, dtype=torch.float64, device=patterns.device)
    mixed = torch.empty(n_layers, n_tokens, n_tokens, dtype=torch.float64, device=patterns.device)
    below = identity
    for layer, pattern in enumerate(patterns):
        below = mixed[layer] = (1 - residual) * (pattern.double() @ below) + residual * below
    return mixed


def head_rollout(
    patterns: Float[Tensor, "layer head query query"], below: Float[Tensor, "layer query query"]
) -> Float64[Tensor, "layer head query query"]:
    """Share of each input token in what a head attends to: `A_(l,h) R_(l-1)`; rows sum to 1, more is more.

    Raw weights say at which position a head looks; this says which input tokens stand there by then, as rollout has it.

    Source: Abnar & Zuidema 2020 (arXiv:2005.00928), section 3, with one head in the last factor.

    Args:
        patterns: weights of every head.
        below: `rollout` of their means.
    """
    identity = torch.eye(below.shape[-1], dtype=torch.float64, device=below.device)
    read = torch.cat([identity[None], below[:-1].double()])
    return patterns.double() @ read[:, None]


def cross_rollout(
    own: Float[Tensor, "layer target target"],
    cross: Float[Tensor, "layer target source"],
    encoder: Float[Tensor, "source source"],
) -> tuple[Float64[Tensor, "layer target target"], Float64[Tensor, "layer target source"]]:
    """Rollout through an encoder and a decoder: shares of target tokens and of source tokens in each target token.

    A decoder's layer mixes twice. Self-attention: `(A + I) / 2` on both shares. Cross-attention: one half stays, one
    half comes from the source: `C R_E`, where `R_E` is the rollout of the whole encoder. For each layer and token the
    two shares together sum to 1.

    Source: Abnar & Zuidema 2020 (arXiv:2005.00928), section 3, carried over to two stacks as here described; the paper
        has encoders only.

    Args:
        own: head-mean self-attention of the decoder.
        cross: head-mean cross-attention.
        encoder: last layer of the encoder's `rollout`.

    Returns:
        Shares of the target tokens, and of the source tokens.
    """
    n_layers, n_target, n_source = cross.shape
    target = torch.eye(n_target, dtype=torch.float64, device=own.device)
    source = torch.zeros(n_target, n_source, dtype=torch.float64, device=own.device)
    targets, sources = [], []
    for layer in range(n_layers):
        pattern = own[layer].double()
        target, source = (pattern @ target + target) / 2, (pattern @ source + source) / 2
        target, source = target / 2, (source + cross[layer].double() @ encoder.double()) / 2
        targets.append(target)
        sources.append(source)
    return torch.stack(targets), torch.stack(sources)


def attention_flow(
    patterns: Float[Tensor, "layer query query"], longest: int = LONGEST_FLOW
) -> Float64[Tensor, "query query"]:
    """How much could flow from each input token to each token after the last layer: max-flow, 0 to 1; more is more.

    Nodes are tokens after each layer, edges have the capacity `(A + I) / 2`, and each pair of tokens is a problem of
    its own, so that rows need not sum to 1: flow is never less than rollout, and with one layer both are the same.

    Source: Abnar & Zuidema 2020 (arXiv:2005.00928), section 3. Solved by Dinic's method in scipy, on capacities in
        whole units of 2**-30.

    Args:
        patterns: head-mean weights of the layers to flow through.
        longest: tokens beyond which it is refused; time grows with layers * n**4.

    Returns:
        `[query key]`: the key is an input token, the query a token after the last layer.

    Raises:
        MeasureError: more than `longest` tokens.
    """
    from scipy.sparse.csgraph import maximum_flow

    n_layers, n_tokens, _ = patterns.shape
    if n_tokens > longest:
        raise MeasureError(
            f"attention flow solves a max-flow for each pair of tokens, which {n_tokens} tokens make too slow; "
            f"expected at most {longest}. Shorten the text, or take rollout, which has no limit."
        )
    capacities = (patterns.double().cpu().numpy() + np.eye(n_tokens)) / 2
    graph = _layered_graph(capacities)
    sinks = range(n_tokens)
    flows = [[maximum_flow(graph, n_layers * n_tokens + q, k).flow_value for k in sinks] for q in sinks]
    return torch.tensor(flows, dtype=torch.float64) / _UNITS


def _layered_graph(capacities: Float[np.ndarray, "layer query query"]) -> Any:
    """Edges from each token after a layer (node `(layer + 1) * n + token`) to those before it (`layer * n + token`)."""
    from scipy.sparse import csr_matrix

    n_layers, n_tokens, _ = capacities.shape
    layer, query, key = np.nonzero(capacities)
    amount = np.rint(capacities[layer, query, key] * _UNITS).astype(np.int32)
    n_nodes = (n_layers + 1) * n_tokens
    return csr_matrix((amount, ((layer + 1) * n_tokens + query, layer * n_tokens + key)), shape=(n_nodes, n_nodes))
