"""A linear probe over all heads (measure S4): how much of the tree is in the attention of all of them together?

The head i of a word j is predicted from weights of the heads' attention in both directions:

    p(i | j) = softmax over i of  sum_k  w_k A_k[i, j] + u_k A_k[j, i],

where the root competes with the weights between j and the special tokens, and a constant. One number per head and
direction is learned, on SELECT; what it finds is counted on CONFIRM, over words without punctuation, each word's head
by itself (the answers need not be a tree). Source: Clark et al. 2019 (arXiv:1906.04341, section 5).

Beside it the same probe on other features: on the distance between words alone, and on the attention of a copy of the
model with random weights. The small penalty on large weights is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from probes.syntax.closely import CloseText

__all__ = ["PENALTY", "Arcs", "Fitted", "attention_arcs", "distance_arcs", "fit"]

PENALTY = 1e-3
ITERATIONS = 300
FURTHEST = 10


@dataclass(frozen=True)
class Arcs:
    """Possible arcs, those of one dependent together; the last one of each is the root.

    Attributes:
        features: of each arc.
        starts: where each dependent's arcs begin.
        gold: the right arc of each dependent.
        cluster: of each dependent.
    """

    features: Float32[np.ndarray, "arc feature"]
    starts: Int64[np.ndarray, " dependent"]
    gold: Int64[np.ndarray, " dependent"]
    cluster: Int64[np.ndarray, " dependent"]


@dataclass(frozen=True)
class Fitted:
    """Learned weights, and how far the fit came.

    Attributes:
        weights: per feature.
        loss: mean negative log-likelihood on the arcs that it was fitted on, in nats, with the penalty.
        converged: the optimiser stopped because nothing improved, not at its limit.
    """

    weights: Float64[np.ndarray, " feature"]
    loss: float
    converged: bool

    def found(self, arcs: Arcs) -> Float64[np.ndarray, " dependent"]:
        """1 for each dependent whose likeliest arc is the right one, and less where several are equally likely."""
        scores = arcs.features @ self.weights.astype(np.float32)
        best = scores == np.repeat(np.maximum.reduceat(scores, arcs.starts), _sizes(arcs))
        return np.asarray(best[arcs.gold] / np.add.reduceat(best.astype(np.float64), arcs.starts))


def attention_arcs(texts: Sequence[CloseText]) -> Arcs:
    """Features: every head's weight in both directions; for the root those on and of special tokens, and a constant."""
    return _arcs(texts, _attention)


def distance_arcs(texts: Sequence[CloseText]) -> Arcs:
    """Features: one per distance from -10 to 10, where the last ones stand for all that are farther, and the root."""
    return _arcs(texts, _distance)


def _attention(text: CloseText, nodes: Int64[np.ndarray, " node"], node: int) -> Float32[np.ndarray, "arc feature"]:
    word, n_heads = nodes[node], len(text.words)
    others = np.delete(nodes, node)
    features = np.zeros((len(nodes), 4 * n_heads + 1), dtype=np.float32)
    features[:-1, :n_heads] = text.words[:, others, word].T
    features[:-1, n_heads : 2 * n_heads] = text.words[:, word, others].T
    features[-1, 2 * n_heads : 3 * n_heads] = text.from_special[:, word]
    features[-1, 3 * n_heads : 4 * n_heads] = text.to_special[:, word]
    features[-1, -1] = 1
    return features


def _distance(text: CloseText, nodes: Int64[np.ndarray, " node"], node: int) -> Float32[np.ndarray, "arc feature"]:
    distance = np.clip(np.delete(np.arange(len(nodes)), node) - node, -FURTHEST, FURTHEST)
    features = np.zeros((len(nodes), 2 * FURTHEST + 2), dtype=np.float32)
    features[np.arange(len(distance)), distance + FURTHEST] = 1
    features[-1, -1] = 1
    return features


def _arcs(
    texts: Sequence[CloseText],
    features: Callable[[CloseText, Int64[np.ndarray, " node"], int], Float32[np.ndarray, "arc feature"]],
) -> Arcs:
    blocks, gold, cluster, starts, at = [], [], [], [], 0
    for text in texts:
        if text.tree is None:
            continue
        n = len(text.tree.words)
        for node, head in enumerate(text.tree.heads.tolist()):
            blocks.append(features(text, text.tree.words, node))
            starts.append(at)
            gold.append(at + (n - 1 if head < 0 else head - (head > node)))
            cluster.append(text.cluster)
            at += n
    return Arcs(np.concatenate(blocks), np.array(starts), np.array(gold), np.array(cluster))


def fit(arcs: Arcs, penalty: float = PENALTY) -> Fitted:
    """The weights of the largest likelihood less `penalty`/2 times their squared length: convex, so one is best."""
    from scipy.optimize import minimize

    n, sizes = len(arcs.starts), _sizes(arcs)

    def loss(weights: Float64[np.ndarray, " feature"]) -> tuple[float, Float64[np.ndarray, " feature"]]:
        scores = (arcs.features @ weights.astype(np.float32)).astype(np.float64)
        scores -= np.repeat(np.maximum.reduceat(scores, arcs.starts), sizes)
        mass = np.exp(scores)
        total = np.add.reduceat(mass, arcs.starts)
        missed = mass / np.repeat(total, sizes)
        missed[arcs.gold] -= 1
        value = (np.log(total) - scores[arcs.gold]).mean() + penalty / 2 * weights @ weights
        gradient = missed.astype(np.float32) @ arcs.features
        return float(value), np.asarray(gradient / n + penalty * weights)

    start = np.zeros(arcs.features.shape[1])
    done = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return Fitted(np.asarray(done.x), float(done.fun), bool(done.success))


def _sizes(arcs: Arcs) -> Int64[np.ndarray, " dependent"]:
    return np.diff(arcs.starts, append=len(arcs.features))
