"""The causal badge of labels: heads are taken away, alone and together, and held against other heads and tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attnlens.heads import Head
from attnlens.interventions.causal import CausalReport, CausalTest, is_label_causal
from attnlens.interventions.pairs import PairItem
from attnlens.interventions.verdicts import NOT_SUPPORTED, SUPPORTED
from probes.causal.edges import EdgeTest, hide_edges
from probes.causal.tasks import Task, Tasks, impossible, task_of

if TYPE_CHECKING:
    from attnlens.models.lens import Lens
    from probes.findings import Findings

__all__ = ["TOGETHER", "UNTESTED", "CausalSettings", "Claim", "badges", "with_badges"]

TOGETHER = "supported together"
UNTESTED = "not tested"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CausalSettings:
    """How labels are tested.

    Attributes:
        how: "resample" (what the head passed on elsewhere), "mean" or "zero".
        draws: how often to resample.
        seed: of draws, controls and bootstrap.
        most_heads: heads of one label that are tested, the surest first.
    """

    how: str = "resample"
    draws: int = 5
    seed: int = 0
    most_heads: int = 8


@dataclass(frozen=True)
class Claim:
    """A label that heads carry.

    Attributes:
        label: as it is printed.
        task: what its heads should matter to.
        heads: that carry it, the surest first.
    """

    label: str
    task: str
    heads: tuple[Head, ...]


def badges(
    lens: Lens,
    claims: Sequence[Claim],
    tasks: Tasks,
    settings: CausalSettings | None = None,
    progress: Progress | None = None,
) -> dict[tuple[str, Head], dict[str, Any]]:
    """What taking heads away showed, by label and head, as `causal` in `heads.json` has it.

    Every head of a label is ablated by itself and, where there are several, all of them together: where only that
    harms the task, the heads stand in for each other, and the verdict is "supported together" (`together_with` names
    the others). Where a task says which
    key is looked at, and ablation shows nothing that is not also lost elsewhere, that key alone is hidden. Heads with a
    label that has the same task are no controls. The other verdicts: "supported", "not supported", "void" (the model
    cannot do the task, or there is nothing to compare with), "not tested".

    Args:
        lens: a model that predicts words; see `impossible`.
        claims: what to test.
        tasks: of this model.
        settings: how.
        progress: called with (heads done, heads in all).
    """
    settings = settings or CausalSettings()
    total, done = sum(len(claim.heads[: settings.most_heads]) for claim in claims), 0
    found: dict[tuple[str, Head], dict[str, Any]] = {}
    for claim in claims:
        tested, task = claim.heads[: settings.most_heads], tasks.task(claim.task)
        same = tuple(head for other in claims if other.task == claim.task for head in other.heads)
        report = None if task is None else _report(lens, claim, same, task, tasks, settings)
        together = None if task is None or len(tested) < 2 else _edges(lens, tested, task, settings)
        for index, head in enumerate(claim.heads):
            if report is None or task is None:
                found[claim.label, head] = _untested(claim, "there is no such task for this model")
            elif head not in tested:
                found[claim.label, head] = _untested(claim, f"only {settings.most_heads} heads of a label are tested")
            else:
                found[claim.label, head] = _badge(task, report, report.each[index])
                if found[claim.label, head]["verdict"] == NOT_SUPPORTED:
                    alone = _edges(lens, (head,), task, settings)
                    found[claim.label, head] |= _by_edges(alone, together, len(tested))
                if found[claim.label, head]["verdict"] == TOGETHER:
                    found[claim.label, head]["together_with"] = [str(other) for other in tested if other != head]
        done += len(tested)
        if progress is not None:
            progress(done, total)
    return found


def with_badges(
    findings: Findings,
    lens: Lens,
    tasks: Tasks,
    settings: CausalSettings | None = None,
    progress: Progress | None = None,
    heads: Sequence[Head] | None = None,
) -> Findings:
    """The findings with the badge on each label for which there is a test; unchanged where the model has no words.

    Args:
        findings: of a run.
        lens: its model.
        tasks: of this model.
        settings: how.
        progress: called with (heads done, heads in all).
        heads: those of the findings, in their order; None for all of the model's.
    """
    if impossible(lens) is not None:
        return findings
    heads = lens.anatomy.heads() if heads is None else heads
    claims: dict[str, Claim] = {}
    for each in sorted(findings.labels(), key=lambda label: -label.confidence):
        task = task_of(each.family, each.scores.key.relation)
        if task is not None:
            name = _name(each)
            known = claims.get(name, Claim(name, task, ()))
            claims[name] = replace(known, heads=(*known.heads, heads[each.head]))
    shown = badges(lens, tuple(claims.values()), tasks, settings, progress)
    judgements = tuple(
        replace(each, causal=shown.get((_name(each), heads[each.head]))) if each.failed is None else each
        for each in findings.judgements
    )
    return replace(findings, judgements=judgements)


def _name(judgement: Any) -> str:
    return f"{judgement.family}: {judgement.scores.key}"


def _report(
    lens: Lens, claim: Claim, same: Sequence[Head], task: Task, tasks: Tasks, settings: CausalSettings
) -> CausalReport:
    return is_label_causal(
        lens,
        claim.heads[: settings.most_heads],
        task.pairs,
        tasks.unrelated(task.name),
        label=claim.label,
        task=task.name,
        how=settings.how,
        draws=settings.draws,
        seed=settings.seed,
        labelled=same,
        source=task.source,
    )


def _badge(task: Task, report: CausalReport, test: CausalTest) -> dict[str, Any]:
    verdict, reason = test.verdict, "; ".join(test.reasons)
    together = report.together
    if verdict == NOT_SUPPORTED and together is not None and together.verdict == SUPPORTED:
        verdict = TOGETHER
        reason = (
            f"alone: {reason}; all {len(together.heads)} heads of the label together: a drop of {together.drop:.3f}"
        )
    return {
        "verdict": verdict,
        "task": f"{task.name} ({task.of})" if task.of else task.name,
        "method": f"{test.how} ablation, {test.draws} draws" if test.how == "resample" else f"{test.how} ablation",
        "effect": test.drop,
        "ci": list(test.interval),
        "control": test.threshold,
        "reason": reason or "harms this task, more than 95 % of other heads and more than other tasks",
        "n": test.n_pairs,
        "accuracy": test.baseline,
        "loss_rise": test.loss_rise,
        "unrelated": {name: drop.drop for name, drop in test.unrelated.items()},
        "together": None if together is None else together.drop,
    }


def _edges(lens: Lens, heads: Sequence[Head], task: Task, settings: CausalSettings) -> EdgeTest | None:
    """The most specific test, for tasks that say which key is looked at."""
    if not task.edges:
        return None
    items = [pair for pair in task.pairs if isinstance(pair, PairItem)]
    return hide_edges(lens, heads, items, task.edges, settings.seed)


def _by_edges(alone: EdgeTest | None, together: EdgeTest | None, n_heads: int) -> dict[str, Any]:
    """What takes the place of a failed ablation where hiding the one key that is looked at harms the task."""
    for test, verdict, whose in (
        (alone, SUPPORTED, "the head"),
        (together, TOGETHER, f"all {n_heads} heads of the label"),
    ):
        if test is not None and test.supported:
            return {
                "verdict": verdict,
                "method": "edge knock-out",
                "effect": test.drop,
                "ci": list(test.interval),
                "control": test.control,
                "reason": f"the key that should be looked at is hidden from {whose}; keys near it are the controls",
                "loss_rise": test.loss_rise,
                "together": None if together is None else together.drop,
            }
    return {}


def _untested(claim: Claim, reason: str) -> dict[str, Any]:
    return {"verdict": UNTESTED, "task": claim.task, "effect": None, "ci": None, "control": None, "reason": reason}
