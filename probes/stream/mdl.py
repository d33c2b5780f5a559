"""How many bits a probe needs to send labels to someone who has the vectors: online code.

Source: Voita and Titov 2020, "Information-Theoretic Probing with Minimum Description Length" (arXiv:2003.12298).
The first portion of the words is sent with every label equally likely; each further portion with a probe that is
fitted on all portions before it. A label that is easy to read costs few bits, and few words suffice to learn how.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int64

from probes.stream.logistic import Labelling, fit_logistic

__all__ = ["PORTIONS", "online_bits", "portion_bounds"]

# Shares of the words after which a new probe is fitted.
PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)


def portion_bounds(starts: Int64[np.ndarray, " bound"]) -> list[int]:
    """Words after which portions end: at the first end of a sentence from each share on, so none is cut in two.

    Args:
        starts: where sentences begin, and where the last one ends.
    """
    ends = starts[1:]
    wanted = np.ceil(np.array(PORTIONS) * ends[-1]).astype(np.int64)
    return sorted({int(ends[np.searchsorted(ends, bound)]) for bound in wanted})


def online_bits(
    vectors: Float32[np.ndarray, "word d_model"],
    labellings: Sequence[Labelling],
    bounds: Sequence[int],
    *,
    penalty: float,
) -> list[Float64[np.ndarray, " word"]]:
    """Bits that each word's label costs, one array per labelling; 0 where a word has no label.

    Args:
        vectors: scaled, in the order in which labels are sent.
        labellings: of these words; every class that can occur is counted in `n_classes`.
        bounds: ends of the portions.
        penalty: of the probes.
    """
    bits = [np.where(each.labels >= 0, np.log2(each.n_classes), 0.0) for each in labellings]
    probes = None
    for known, end in pairwise(bounds):
        seen = [Labelling(each.labels[:known], each.n_classes) for each in labellings]
        probes = fit_logistic(vectors[:known], seen, penalty=penalty, start=probes)
        portion = slice(known, end)
        for each, own, logs in zip(labellings, bits, probes.log_probabilities(vectors[portion]), strict=True):
            labels = each.labels[portion]
            cost = -logs[np.arange(len(labels)), np.maximum(labels, 0)] / np.log(2)
            own[portion] = np.where(labels >= 0, cost, 0.0)
    return bits
