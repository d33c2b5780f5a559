"""What heads attend to on random tokens that repeat (measures I1 to I4)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from attnlens.measures.induction import RULES, detector_scores
from probes.induction.keys import PARITY, RULE_OF
from probes.view import LayerView, Sums
from probes.words import Reading

__all__ = ["measure"]


def measure(view: LayerView) -> Iterator[Sums]:
    """Weight on the keys that each rule names, and TransformerLens' two scores of the same.

    Queries and targets are ordinary tokens. A query counts where the rule names a key for it; chance is what uniform
    attention gives, the number of targets over the number of tokens up to the query.
    """
    found = [_of_text(view, row, reading) for row, reading in enumerate(view.readings)]
    trials, mass, chance, parity = (torch.stack(part) for part in zip(*found, strict=True))
    yield Sums(tuple(RULE_OF), trials, mass, chance=chance)
    yield Sums(tuple(PARITY.values()), torch.ones(parity.shape[:2], dtype=torch.int64), parity)


def _of_text(
    view: LayerView, row: int, reading: Reading
) -> tuple[
    Int64[Tensor, " rule"], Float64[Tensor, "rule head"], Float64[Tensor, " rule"], Float64[Tensor, "score head"]
]:
    n = len(reading.ids)
    ids, ordinary = torch.tensor(reading.ids), torch.from_numpy(~reading.special)
    pattern = view.tokens[row, :, :n, :n]
    n_visible = view.visible[row, :n, :n].sum(-1).clamp_min(1).double()
    trials, mass, chance, parity = [], [], [], []
    for rule in RULE_OF.values():
        named = RULES[rule](ids)
        targets = named & ordinary[:, None] & ordinary[None, :]
        n_targets = targets.sum(-1)
        trials.append((n_targets > 0).sum())
        mass.append((pattern.double() * targets).sum((-2, -1)))
        chance.append((n_targets / n_visible).sum())
        scores = detector_scores(pattern, named)
        parity += [scores.mul.nan_to_num(0), scores.abs]
    return torch.stack(trials), torch.stack(mass), torch.stack(chance), torch.stack(parity)
