"""Is a label causal: do minimal pairs that need it fail without the head, more than without others, and only they?

The decision: the drop in accuracy has an interval above 0, is beyond that of 95 % of control heads, and is larger than
the drop on unrelated pairs, its interval included. Accuracy without ablation must be 0.75 or the test is void.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attnlens.capture.sites import Site
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.interventions.edits import resolve_heads
from attnlens.interventions.pairs import Pair, PairItem, log_probabilities, pair_items
from attnlens.interventions.sources import HOW, Source, head_outputs
from attnlens.interventions.sweeps import Progress
from attnlens.interventions.verdicts import NOT_SUPPORTED, SUPPORTED, VOID, percentile_95

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["CausalReport", "CausalTest", "UnrelatedDrop", "is_label_causal"]

_LEAST_ACCURACY = 0.75
_LEAST_PAIRS = 20
_CONTROLS = 20
_REPLICATES = 2000
_SOURCE_TEXTS = 64

Interval = tuple[float, float]


@dataclass(frozen=True)
class UnrelatedDrop:
    """The drop on pairs that the label has nothing to do with."""

    n_pairs: int
    baseline: float
    drop: float
    interval: Interval


@dataclass(frozen=True)
class CausalTest:
    """Whether some heads, ablated together, are causal for a kind of minimal pairs, with the numbers.

    Attributes:
        heads: what was ablated.
        how, draws, seed: how, how often, from which seed.
        n_pairs: pairs that the model could be asked.
        baseline, accuracy: share of pairs in which the right text is likelier, without and with the ablation (mean over
            draws), 0 to 1.
        drop: baseline minus accuracy, with its 95 % bootstrap interval over pairs.
        interval: likewise.
        margin_drop: how much the difference in log-probability falls, in nats, mean over pairs and draws.
        margin_interval: 95 % of it.
        loss_rise: how much less likely the right text becomes by itself, in nats, mean over pairs and draws.
        loss_interval: 95 % of it.
        controls: what else was ablated (as many heads) -> drop in accuracy.
        threshold: 95th percentile of the controls' drops.
        unrelated: name -> the drop on unrelated pairs.
        specific_interval: 95 % interval of the drop minus the largest unrelated drop; None without unrelated pairs.
        verdict: "supported", "not supported" or "void".
        reasons: the conditions that failed, or made it void; empty where it is supported.
    """

    heads: tuple[str, ...]
    how: str
    draws: int
    seed: int
    n_pairs: int
    baseline: float
    accuracy: float
    drop: float
    interval: Interval
    margin_drop: float
    margin_interval: Interval
    loss_rise: float
    loss_interval: Interval
    controls: Mapping[str, float]
    threshold: float | None
    unrelated: Mapping[str, UnrelatedDrop]
    specific_interval: Interval | None
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CausalReport:
    """The test of each head of a label by itself, and of all of them together (one can take over from another).

    Attributes:
        label, task: what was claimed, and the pairs that need it.
        each: one test per head.
        together: all heads at once; None for a single head.
    """

    label: str
    task: str
    each: tuple[CausalTest, ...]
    together: CausalTest | None

    @property
    def verdict(self) -> str:
        """The badge of the label: void if the tests are, supported if any is, of one head or of all together."""
        tests = [*self.each, *([] if self.together is None else [self.together])]
        verdicts = {test.verdict for test in tests}
        return SUPPORTED if SUPPORTED in verdicts else VOID if verdicts == {VOID} else NOT_SUPPORTED

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        return asdict(self) | {"verdict": self.verdict}


def is_label_causal(
    lens: Lens,
    heads: Sequence[object],
    pairs: Sequence[Pair | PairItem],
    unrelated: Mapping[str, Sequence[Pair | PairItem]],
    *,
    label: str = "",
    task: str = "",
    how: str = "resample",
    draws: int = 5,
    seed: int = 0,
    labelled: Sequence[object] = (),
    source: Source | None = None,
    progress: Progress | None = None,
) -> CausalReport:
    """Ablate the heads of a label, each and together, on minimal pairs; and control heads; and on unrelated pairs.

    Args:
        lens: a model that predicts next tokens or fills in masks.
        heads: the heads that carry the label.
        pairs: minimal pairs that need what the label says, as texts or as questions.
        unrelated: name -> pairs that do not need it; sets in which the model is below 0.75 by itself are left out.
        label: for the record.
        task: likewise.
        how: "resample" (values from other texts among the pairs, the default), "mean" or "zero".
        draws: how often to resample.
        seed: of draws, controls and bootstrap.
        labelled: further heads of the same label, which are no controls.
        source: where values from elsewhere are taken; the right texts of the pairs where None (questions have none).
        progress: called with (tests done, tests in all).

    Raises:
        UsageError: no pairs that the model can be asked; a model that cannot be asked; no such way to ablate.
        HeadAddressError: no such head.
    """
    if how not in HOW:
        raise UsageError(f"how={how!r} does not exist; expected one of {', '.join(HOW)}.")
    chosen = resolve_heads(lens.anatomy, heads)
    known = set(chosen) | (set(resolve_heads(lens.anatomy, labelled)) if labelled else set())
    bench = _Bench.of(lens, pairs, unrelated, how, draws if how == "resample" else 1, seed, source)
    groups = [(head,) for head in chosen] + ([chosen] if len(chosen) > 1 else [])
    others = [head for head in lens.anatomy.heads() if head not in known]
    tests = []
    for done, group in enumerate(groups):
        tests.append(bench.test(group, _controls(group, others, seed)))
        if progress is not None:
            progress(done + 1, len(groups))
    return CausalReport(label, task, tuple(tests[: len(chosen)]), tests[-1] if len(chosen) > 1 else None)


def _controls(group: Sequence[Head], others: Sequence[Head], seed: int) -> list[tuple[Head, ...]]:
    """For one head: 20 others, those of its layer first. For several: 20 random groups of as many."""
    generator = np.random.default_rng(seed)
    if len(group) == 1:
        shuffled = [others[i] for i in generator.permutation(len(others))]
        near = sorted(shuffled, key=lambda head: abs(head.layer - group[0].layer))
        return [(head,) for head in near[:_CONTROLS]]
    if len(others) < len(group):
        return []
    drawn = {tuple(sorted(generator.permutation(len(others))[: len(group)].tolist())) for _ in range(_CONTROLS)}
    return [tuple(others[i] for i in places) for places in sorted(drawn)]


@dataclass(frozen=True, eq=False)
class _Bench:
    """Pairs that were asked once without any ablation, and what ablated heads get in place of their own."""

    lens: Lens
    items: tuple[PairItem, ...]
    unrelated: Mapping[str, tuple[PairItem, ...]]
    plain: Any
    plain_unrelated: Mapping[str, Any]
    how: str
    draws: int
    seed: int
    values: Any

    @classmethod
    def of(
        cls,
        lens: Lens,
        pairs: Sequence[Pair | PairItem],
        unrelated: Mapping[str, Sequence[Pair | PairItem]],
        how: str,
        draws: int,
        seed: int,
        source: Source | None,
    ) -> _Bench:
        items = pair_items(lens, pairs)
        if not items:
            raise UsageError("none of the pairs can be asked: they are too long, or do not differ in a token.")
        others = {name: found for name, part in unrelated.items() if (found := pair_items(lens, part))}
        plain = log_probabilities(lens, items).numpy()
        plain_others = {name: log_probabilities(lens, part).numpy() for name, part in others.items()}
        if source is None:
            room = lens.anatomy.max_length
            texts = [pair.good for pair in pairs if isinstance(pair, Pair)]
            source = [text for text in texts if room is None or lens.n_tokens(text) <= room][:_SOURCE_TEXTS]
        values = _values(lens, how, source)
        return cls(lens, items, others, plain, plain_others, how, draws, seed, values)

    def ablated(self, heads: Sequence[Head], items: Sequence[PairItem]) -> Any:
        """Log-probabilities of the right and the wrong words with the heads ablated, `[draw pair 2]`."""
        return np.stack(
            [
                log_probabilities(self.lens, items, heads, self.values, seed=1_000_003 * (self.seed + draw)).numpy()
                for draw in range(self.draws)
            ]
        )

    def test(self, heads: Sequence[Head], controls: Sequence[tuple[Head, ...]]) -> CausalTest:
        """The whole test of some heads together."""
        baseline = float(_right(self.plain).mean())
        after = self.ablated(heads, self.items)
        flips = _right(self.plain) - _right(after).mean(0)
        lost = self.plain - after.mean(0)
        margins, losses = lost[:, 0] - lost[:, 1], lost[:, 0]
        drop = float(flips.mean())
        control_drops = {
            "+".join(map(str, group)): baseline - float(_right(self.ablated(group, self.items)).mean())
            for group in controls
        }
        unrelated, flips_of = {}, {}
        for name, items in self.unrelated.items():
            plain = _right(self.plain_unrelated[name])
            if plain.mean() >= _LEAST_ACCURACY:
                flips_of[name] = plain - _right(self.ablated(heads, items)).mean(0)
                mean = float(flips_of[name].mean())
                unrelated[name] = UnrelatedDrop(
                    len(items), float(plain.mean()), mean, _bootstrap(flips_of[name], self.seed)
                )
        specific = None
        if unrelated:
            largest = max(unrelated, key=lambda name: unrelated[name].drop)
            specific = _bootstrap_difference(flips, flips_of[largest], self.seed)
        threshold = percentile_95(list(control_drops.values())) if control_drops else None
        interval = _bootstrap(flips, self.seed)
        verdict, reasons = _decision(baseline, len(self.items), drop, interval, threshold, specific)
        return CausalTest(
            tuple(map(str, heads)), self.how, self.draws, self.seed, len(self.items), baseline, baseline - drop, drop,
            interval, float(margins.mean()), _bootstrap(margins, self.seed), float(losses.mean()),
            _bootstrap(losses, self.seed), control_drops, threshold, unrelated, specific, verdict, reasons,
        )  # fmt: skip


def _right(log_probabilities: Any) -> Any:
    """1 where the right words are likelier than the wrong ones, 0 elsewhere."""
    return (log_probabilities[..., 0] > log_probabilities[..., 1]).astype(np.float64)


def _values(lens: Lens, how: str, source: Source) -> Any:
    """(pairs, positions, seed) -> what ablated heads get: nothing, their mean, or what they had elsewhere."""
    sites = [
        Site(lens.anatomy.main_stack, layer) for layer in lens.anatomy.stack(lens.anatomy.main_stack).attention_layers
    ]
    if how == "zero":
        return lambda n_pairs, n_positions, seed: {site: torch.zeros(1, 1, 1, 1) for site in sites}
    bank = head_outputs(lens, source, sites)
    if how == "mean":
        means = {site: z.mean(0)[None, None] for site, z in bank.items()}
        return lambda n_pairs, n_positions, seed: means
    size = len(bank[sites[0]])

    def drawn(n_pairs: int, n_positions: int, seed: int) -> dict[Site, torch.Tensor]:
        draws = torch.randint(size, (n_pairs, n_positions), generator=torch.Generator().manual_seed(seed))
        return {site: z[draws] for site, z in bank.items()}

    return drawn


def _bootstrap(values: Any, seed: int) -> Interval:
    """95 % percentile interval of a mean over pairs, 2000 replicates."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(_REPLICATES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


def _bootstrap_difference(values: Any, others: Any, seed: int) -> Interval:
    """Likewise of the difference of two means over different pairs."""
    generator = np.random.default_rng(seed)
    means = [part[generator.integers(len(part), size=(_REPLICATES, len(part)))].mean(1) for part in (values, others)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def _decision(
    baseline: float,
    n_pairs: int,
    drop: float,
    interval: Interval,
    threshold: float | None,
    specific: Interval | None,
) -> tuple[str, tuple[str, ...]]:
    void = []
    if n_pairs < _LEAST_PAIRS:
        void.append(f"only {n_pairs} pairs; at least {_LEAST_PAIRS} are needed")
    if baseline < _LEAST_ACCURACY:
        void.append(f"accuracy without ablation is {baseline:.3f}, below {_LEAST_ACCURACY}")
    if threshold is None:
        void.append("there are no control heads")
    if specific is None:
        void.append("there are no unrelated pairs that the model gets right by itself")
    if void:
        return VOID, tuple(void)
    assert threshold is not None
    assert specific is not None
    failed = []
    if interval[0] <= 0:
        failed.append(f"the drop may be none (95 % interval from {interval[0]:.3f})")
    if drop <= threshold:
        failed.append(f"the drop {drop:.3f} is not beyond that of control heads (95th percentile {threshold:.3f})")
    if specific[0] <= 0:
        failed.append(f"unrelated pairs drop as well (difference from {specific[0]:.3f})")
    return (NOT_SUPPORTED if failed else SUPPORTED), tuple(failed)
