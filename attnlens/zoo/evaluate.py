"""What the embedded models can do: minimal pairs of the grammar, and copying of repeated random tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from attnlens.heads import Head
from attnlens.zoo.pairs import KINDS, MinimalPair

__all__ = ["Induction", "PairScore", "induction", "minimal_pair_accuracy"]

_BATCH = 64


@dataclass(frozen=True)
class PairScore:
    """Share of minimal pairs in which the right form is likelier than the wrong one (0 to 1, chance 0.5).

    `accuracy` is None when no pair could be scored.
    """

    n: int
    hits: int

    @property
    def accuracy(self) -> float | None:
        """Hits over n."""
        return self.hits / self.n if self.n else None


@dataclass(frozen=True)
class Induction:
    """Copying of random tokens: accuracy from the second copy on, and the head that best matches prefixes."""

    second_copy_accuracy: float
    best_head: str
    prefix_matching: float
    n_sequences: int


@dataclass(frozen=True)
class _Item:
    """A pair as token ids: `ids[position]` is the right form's only token, `bad` the wrong form's."""

    kind: str
    ids: tuple[int, ...]
    position: int
    bad: int


def minimal_pair_accuracy(model: Any, tokenizer: Any, pairs: Iterable[MinimalPair]) -> dict[str, PairScore]:
    """Kind of pair -> score, over the pairs whose two texts differ in exactly one token.

    A causal model chooses after the text before the word; a masked one has the word masked and sees both sides.
    """
    items = [item for pair in pairs if (item := _item(tokenizer, pair)) is not None]
    items.sort(key=lambda item: len(item.ids))
    counts = {kind: [0, 0] for kind in KINDS}
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        for item, better in zip(batch, _prefers_right(model, tokenizer, batch), strict=True):
            counts[item.kind][0] += 1
            counts[item.kind][1] += better
    return {kind: PairScore(n, hits) for kind, (n, hits) in counts.items()}


def _item(tokenizer: Any, pair: MinimalPair) -> _Item | None:
    good = tokenizer(pair.before + pair.good + pair.after)["input_ids"]
    bad = tokenizer(pair.before + pair.bad + pair.after)["input_ids"]
    if len(good) != len(bad) or len(good) > tokenizer.model_max_length:
        return None
    different = [place for place, (a, b) in enumerate(zip(good, bad, strict=True)) if a != b]
    if len(different) != 1:
        return None
    return _Item(pair.kind, tuple(good), different[0], bad[different[0]])


@torch.no_grad()
def _prefers_right(model: Any, tokenizer: Any, items: Sequence[_Item]) -> list[bool]:
    longest = max(len(item.ids) for item in items)
    ids = torch.tensor([[*item.ids, *[tokenizer.pad_token_id] * (longest - len(item.ids))] for item in items])
    keep = torch.arange(longest) < torch.tensor([len(item.ids) for item in items])[:, None]
    rows = torch.arange(len(items))
    positions = torch.tensor([item.position for item in items])
    right, wrong = ids[rows, positions], torch.tensor([item.bad for item in items])
    if tokenizer.mask_token_id is not None:
        ids[rows, positions] = tokenizer.mask_token_id
    else:
        positions = positions - 1
    logits = model(input_ids=ids, attention_mask=keep.long()).logits[rows, positions]
    better: list[bool] = (logits[rows, right] > logits[rows, wrong]).tolist()
    return better


@torch.no_grad()
def induction(
    model: Any, tokenizer: Any, *, sequences: int = 20, block: int = 25, copies: int = 4, seed: int = 0
) -> Induction:
    """Run a causal model on `copies` copies of a block of distinct random tokens after the start token.

    Prefix matching of a head: attention from a token with an earlier copy to the tokens that followed those copies,
    mean over such tokens (0 to 1). Source: Olsson et al. 2022 (arXiv:2209.11895), "prefix matching score".
    """
    generator = torch.Generator().manual_seed(seed)
    ordinary = torch.tensor([token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids])
    blocks = torch.stack(
        [ordinary[torch.randperm(len(ordinary), generator=generator)[:block]] for _ in range(sequences)]
    )
    start = torch.full((sequences, 1), tokenizer.bos_token_id)
    ids = torch.cat([start, blocks.repeat(1, copies)], dim=1)
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        out = model(input_ids=ids, output_attentions=True)
    finally:
        model.set_attn_implementation(usual)
    later = slice(block + 1, -1)  # tokens of the later copies; the next token is a copy too
    accuracy = (out.logits[:, later].argmax(-1) == ids[:, block + 2 :]).double().mean().item()
    scores = prefix_matching(torch.stack(out.attentions), ids)
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    return Induction(accuracy, str(Head(layer, head)), scores.max().item(), sequences)


def prefix_matching(
    pattern: Float[Tensor, "layer batch head query key"], ids: Int64[Tensor, "batch query"]
) -> Float[Tensor, "layer head"]:
    """Mean over queries with an earlier copy of the attention to the tokens after those copies, position 0 aside."""
    n = ids.shape[1]
    same = ids[:, :, None] == ids[:, None, :]
    earlier = torch.ones(n, n, dtype=torch.bool).tril(-1)
    earlier[:, 0] = False
    copies = same & earlier  # [batch query key]: key holds the same token, before the query
    targets = torch.zeros_like(copies)
    targets[:, :, 1:] = copies[:, :, :-1]
    targets &= earlier
    queries = copies.any(-1)
    mass = (pattern.double() * targets[None, :, None]).sum(-1)  # [layer batch head query]
    return (mass * queries[None, :, None]).sum((1, 3)) / queries.sum()
