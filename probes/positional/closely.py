"""What positional labels need beside sums over the corpus, on a bounded sample: P3 and P6.

P3 (Toeplitz share): how well one weight per offset, fitted on SELECT, reproduces the patterns of CONFIRM. P6 (no-op):
whether the vectors that a head takes up where it rests are small, so that it adds next to nothing there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.measures.norms import moved_by_heads
from attnlens.models.readouts import head_projection
from probes.corpora.data import Corpus
from probes.family import Pointer, Rule, Wording
from probes.questions import OptionTrials, RowTrials
from probes.sample import Sample
from probes.scoring.ledger import Ledger
from probes.split import Split
from probes.tally import Key
from probes.texts import Kind, Text, texts_of
from probes.view import LayerView, Sums
from probes.words import Reading

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens
    from probes.positions import PatternFacts
    from probes.seeing import Eyes

__all__ = ["SMALL", "Kernels", "determined", "pattern_facts", "resting_norms", "sampled"]

PER_HALF = 128
LONGEST = 60  # words
MIDDLE = 1024  # tokens; offsets are counted from here, and longer texts are not read
NORMS_OF = 32  # texts whose values are looked at
UNIFORM = 1e-9  # squared distance below which a head counts as uniform
RESTING = 0.3  # weight on one set of places, from which on a head rests there
SMALL = 0.5  # length of what it takes up there, over that of the text's other tokens (ours)


def pattern_facts(eyes: Eyes, corpus: Corpus, split: Split, seed: int) -> PatternFacts:
    """P3 and P6 of every head, for the labels that ask for them."""
    from probes.positions import PatternFacts

    select, confirm = sampled(corpus, split, eyes, seed)
    shares = determined(eyes, select, confirm)
    norms = resting_norms(eyes.lens, confirm, eyes.layers)
    return PatternFacts(shares if len(shares) else None, None if norms is None else norms.no_op)


def sampled(corpus: Corpus, split: Split, eyes: Eyes, seed: int) -> tuple[list[Text], list[Text]]:
    """Texts of SELECT and of CONFIRM, by hash of their names: the same ones however the corpus was cut."""
    halves = [Sample[Text](PER_HALF, seed=seed, question=f"patterns {half}") for half in ("select", "confirm")]
    for text in texts_of(corpus.documents(), split, "sentence", lambda _: True, lambda _: None):
        half = halves[text.confirm]
        if len(text.spans) <= LONGEST and half.wants(text.key) and eyes.fits(text.sentences):
            half.offer(text.key, text)
    select, confirm = (sorted(half, key=lambda text: (len(text.spans), text.key)) for half in halves)
    return select, confirm


def determined(eyes: Eyes, select: Sequence[Text], confirm: Sequence[Text]) -> Float64[np.ndarray, " head"]:
    """P3 of every head: 1 where offsets alone give the pattern, 0 or less where they do no better than nothing.

    `1 - sum (A - K)^2 / sum (A - U)^2` over the rows of ordinary tokens of CONFIRM: K is the mean weight at each offset
    on SELECT, made to sum to 1 over what a row sees, U is uniform. NaN without texts, or for a uniform head.
    """
    fit = Kernels()
    _pass(eyes, select, fit)
    scored = Kernels(fit.means())
    _pass(eyes, confirm, scored)
    return scored.shares()


def _pass(eyes: Eyes, texts: Sequence[Text], kernels: Kernels) -> None:
    seen = [each for each in eyes.read(texts) if each is not None]
    eyes.score(seen, [kernels], Ledger({kernels.name: ()}, len(eyes.heads)))


class Kernels:
    """Passed by every batch of weights, layer after layer; fits kernels, or holds weights against given ones.

    Batches come in any order, from several threads, so what each text gives is kept by its name and summed in the end.
    """

    name: str = "kernels"
    reads: tuple[Kind, ...] = ("sentence",)
    rules: tuple[Rule, ...] = ()
    contrast: bool = False
    controlled: bool = False

    def __init__(self, given: Mapping[int, Float64[Tensor, "head offset"]] | None = None) -> None:
        """`given`: per layer, weight by head and offset; None to fit them."""
        self.given = given
        self._fitted: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        self._missed: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        self._seen: dict[str, int] = {}

    def measure(self, view: LayerView) -> Iterator[Sums]:
        """Add one layer of a batch; the layers of a batch come in their order."""
        for row, reading in enumerate(view.readings):
            n = len(reading.labels)
            layer = self._seen[reading.key] = self._seen.get(reading.key, -1) + 1
            asking = torch.from_numpy(~reading.special)
            if bool(asking.any()) and n <= MIDDLE:
                self.add(layer, reading.key, view.tokens[row, :, :n, :n].double(), view.visible[row, :n, :n], asking)
        yield from ()

    def add(
        self,
        layer: int,
        key: str,
        weights: Float64[Tensor, "head query key"],
        visible: Bool[Tensor, "query key"],
        asking: Bool[Tensor, " query"],
    ) -> None:
        """One text's weights in one layer; `key` is the text's name."""
        n = weights.shape[-1]
        offset = torch.arange(n) - torch.arange(n)[:, None]
        seen = visible & asking[:, None]
        if self.given is None:
            places = offset[seen] + n - 1
            weight = torch.zeros(len(weights), 2 * n - 1, dtype=torch.float64)
            self._fitted[layer, key] = (
                weight.index_add_(1, places, weights[:, seen]),
                torch.bincount(places, minlength=2 * n - 1).double(),
            )
            return
        kernel = self.given[layer][:, offset + MIDDLE] * visible
        kernel = kernel / kernel.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        uniform = visible / visible.sum(-1, keepdim=True).clamp_min(1)
        self._missed[layer, key] = (
            (weights - kernel)[:, seen].square().sum(-1),
            (weights - uniform)[:, seen].square().sum(-1),
        )

    def means(self) -> dict[int, Float64[Tensor, "head offset"]]:
        """The kernel of every head of every layer; an offset stands at `MIDDLE` plus itself."""
        weight: dict[int, Tensor] = {}
        rows: dict[int, Tensor] = {}
        for (layer, _), (sums, counts) in sorted(self._fitted.items()):
            if layer not in weight:
                weight[layer] = torch.zeros(len(sums), 2 * MIDDLE, dtype=torch.float64)
                rows[layer] = torch.zeros(2 * MIDDLE, dtype=torch.float64)
            n = (len(counts) + 1) // 2
            span = slice(MIDDLE - n + 1, MIDDLE + n)
            weight[layer][:, span] += sums
            rows[layer][span] += counts
        return {layer: weight[layer] / rows[layer].clamp_min(1) for layer in weight}

    def shares(self) -> Float64[np.ndarray, " head"]:
        """P3, heads in the order of layers."""
        sums: dict[int, list[Tensor]] = {}
        for (layer, _), (missed, spread) in sorted(self._missed.items()):
            sums[layer] = [missed, spread] if layer not in sums else [sums[layer][0] + missed, sums[layer][1] + spread]
        found = [
            torch.where(spread > UNIFORM, 1 - missed / spread, torch.nan)
            for _, (missed, spread) in sorted(sums.items())
        ]
        return np.asarray(torch.cat(found).numpy() if found else np.zeros(0))

    def ask(self, reading: Reading) -> tuple[RowTrials | OptionTrials, ...]:
        """Nothing."""
        return ()

    def refusal(self, corpus: Corpus) -> str | None:
        """None."""
        return None

    def asks(self, sentences: Sequence[object]) -> set[Key]:
        """Nothing."""
        return set()

    def wording(self, key: Key) -> Wording | None:
        """None."""
        return None

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """None."""
        return None


@dataclass(frozen=True)
class RestingNorms:
    """P6, means over texts; NaN where a head rests nowhere.

    Attributes:
        length: of what a head takes up where it rests, `|f(x_s)|`, over the mean of that at the text's other tokens.
        share: `|sum A f(x_s)| / |sum A f(x)|`, the part of what it writes that comes from there.
    """

    length: Float64[np.ndarray, " head"]
    share: Float64[np.ndarray, " head"]

    @property
    def no_op(self) -> Bool[np.ndarray, " head"]:
        """What the head takes up there is short."""
        return np.asarray(np.nan_to_num(self.length, nan=np.inf) <= SMALL)


def resting_norms(lens: Lens, texts: Sequence[Text], layers: Sequence[int] | None = None) -> RestingNorms | None:
    """P6 of every head, from the vectors that it moves; None where the model's value vectors cannot be had.

    A head rests at the set of places (first token, separators, full stops and commas) that has most of its weight, and
    at least 0.3 of it. Source: Kobayashi et al. 2020 (arXiv:2004.10102), section 3; `f(x) = (x W_V + b_V) W_O`.

    Args:
        lens: the model.
        texts: the first of these are read.
        layers: the layers whose heads are meant; None for all.
    """
    found = []
    read = tuple(range(lens.anatomy.n_layers)) if layers is None else tuple(layers)
    try:
        for run in lens.captures([text.text for text in texts[:NORMS_OF]], layers=layers, points=("v",), bos=True):
            found.append(_of_run(lens, run, read))
    except (CaptureError, UnsupportedModelError):
        return None
    if not found:
        return None
    lengths, shares = (np.stack([each[part] for each in found]) for part in (0, 1))
    return RestingNorms(_mean(lengths), _mean(shares))


def _of_run(
    lens: Lens, run: Capture, layers: Sequence[int]
) -> tuple[Float64[np.ndarray, " head"], Float64[np.ndarray, " head"]]:
    special = torch.tensor([token.special for token in run.tokens])
    first = torch.arange(len(special)) == 0
    marks = torch.tensor([token.label in (".", ",") for token in run.tokens]) & ~special
    sets = torch.stack([first, special & ~first, marks])
    lengths, shares = [], []
    for layer in layers:
        projection, _ = head_projection(lens.opened, lens.anatomy.main_stack, layer)
        values = run.residual("v", layer).float()
        values = values.repeat_interleave(len(projection) // len(values), dim=0)
        moved = moved_by_heads(values, projection.float()).double()
        pattern = run.attention(layer)[:, ~special].double()
        weight = (pattern[:, :, None] * sets).sum(-1).mean(1)  # [head set]
        rests = sets[weight.argmax(-1)]
        norms = moved.norm(dim=-1)
        here, elsewhere = (_over(norms, where) for where in (rests, ~rests & ~special))
        taken = (pattern * rests[:, None]) @ moved
        part = (taken.norm(dim=-1) / (pattern @ moved).norm(dim=-1).clamp_min(1e-30)).mean(-1)
        resting = weight.amax(-1) >= RESTING
        lengths.append(torch.where(resting, here / elsewhere, torch.nan))
        shares.append(torch.where(resting, part, torch.nan))
    return torch.cat(lengths).numpy(), torch.cat(shares).numpy()


def _over(norms: Float64[Tensor, "head key"], where: Bool[Tensor, "head key"]) -> Float64[Tensor, " head"]:
    n = where.sum(-1)
    return torch.where(n > 0, (norms * where).sum(-1) / n.clamp_min(1), torch.nan)


def _mean(values: Float64[np.ndarray, "text head"]) -> Float64[np.ndarray, " head"]:
    n = (~np.isnan(values)).sum(0)
    return np.asarray(np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan))
