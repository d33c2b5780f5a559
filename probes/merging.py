"""Several results of one model on different corpora as one result, from the counts that the runs have kept.

Clusters stand side by side, each in the half where its run had put it, so a merged score is the sum of the hits over
the sum of the trials; intervals, tests and labels are made anew. Of the copies with random weights the best of all runs
counts, and a pattern is determined by offsets, or a head at rest, only where it is in every run: both make labels
harder to earn, never easier. Sentences beside labels, trees and ensembles need the model, and are left out.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from attnlens.errors import UsageError
from attnlens.models.anatomy import Anatomy
from probes.baselines import RandomBest
from probes.choosing import chosen_questions
from probes.counts import Counts
from probes.engine import layers_of
from probes.families import load_family, separate
from probes.findings import Question, Settings, find
from probes.positions import PatternFacts
from probes.random_models import RandomPass
from probes.report import HeadReport, heads_of, make_report
from probes.split import Split
from probes.tally import Tally

__all__ = ["merge_reports"]

NOTE = "merged from the counts of {n} runs: no sentences beside labels, no trees, ensembles or probes of the stream"
MODEL = ("model", "weights_sha256", "revision", "n_layers", "n_heads")
SCOPE = (
    "families",
    "unit",
    "seed",
    "bootstrap",
    "permutations",
    "aggregation",
    "bos",
    "relations",
    "layers",
    "tokenizer",
)


def merge_reports(reports: Sequence[HeadReport]) -> HeadReport:
    """One result from several, whatever their order; all at once, since a merged result keeps no counts.

    Args:
        reports: of one model with the same families and settings, on different corpora, each run with `keep_counts`.

    Raises:
        UsageError: fewer than two, one without counts, of another model or other settings than the first, or two of
            the same corpus.
    """
    if len(reports) < 2:
        raise UsageError("merging takes at least two results.")
    ordered = sorted(reports, key=lambda report: str(report.document["corpus"]["sha256"]))
    documents = [report.to_json() for report in ordered]
    for one, other in itertools.pairwise(documents):
        _check(one, other)
    counts = [_counts(report) for report in ordered]
    for one_counts, other_counts in itertools.pairwise(counts):
        _same("the runs", one_counts.settings, other_counts.settings)
    scope = documents[0]["scope"]
    loaded = [load_family(name, scope["seed"]) for name in scope["families"]]
    probes, stream = separate(loaded)
    split = _split(documents, counts)
    tallies = {probe.name: _side_by_side([each.tallies[probe.name] for each in counts]) for probe in probes}
    settings = Settings(scope["seed"], scope["bootstrap"], scope["permutations"])
    anatomy = Anatomy.from_json(documents[0]["model"])
    scored = scope.get("layers")
    heads = heads_of(anatomy, scored)
    random = _random(documents, counts)
    relations = scope.get("relations")
    findings = find(
        probes,
        tallies,
        split,
        settings,
        random=random.best,
        layers=layers_of(heads),
        facts=_facts([each.facts for each in counts]),
        heads=[str(head) for head in heads],
        chosen=None if relations is None else chosen_questions(probes, tallies, relations),
    )
    left_out = {probe.name: "probes of the stream are trained on one corpus, and not merged" for probe in stream}
    return make_report(
        anatomy=anatomy,
        corpus=_corpus([document["corpus"] for document in documents]),
        probes=probes,
        left_out=reduce(lambda known, each: known | each["scope"]["left_out"], documents, left_out),
        split=split,
        findings=findings,
        settings=settings,
        aggregation=scope["aggregation"]["from"],
        bos=scope["bos"],
        tokenizer=scope.get("tokenizer"),
        random=random,
        relations=relations,
        scored=scored,
    )


def _counts(report: HeadReport) -> Counts:
    if report.counts is None:
        raise UsageError(
            f"the result on {report.document['corpus']['name']} holds no counts to merge; probe again with "
            "--keep-counts."
        )
    return report.counts


def _check(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse what cannot be added up."""
    if one["corpus"]["sha256"] == other["corpus"]["sha256"]:
        raise UsageError(
            f"{one['corpus']['name']} and {other['corpus']['name']} are the same corpus, and nothing may count twice; "
            "merge results of different corpora."
        )
    _same("the models", {name: one["model"].get(name) for name in MODEL}, {n: other["model"].get(n) for n in MODEL})
    _same("the runs", {name: one["scope"].get(name) for name in SCOPE}, {n: other["scope"].get(n) for n in SCOPE})
    _same("the versions", *({"attnlens": each["versions"]["attnlens"]} for each in (one, other)))
    _same("the thresholds", one["scope"]["thresholds"], other["scope"]["thresholds"])


def _same(what: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if names:
        said = ", ".join(f"{name}: {one.get(name)!r} and {other.get(name)!r}" for name in names[:3])
        raise UsageError(f"{what} differ ({said}); merge results of one model with the same families and settings.")


def _side_by_side(tallies: Sequence[Tally]) -> Tally:
    """Each tally's clusters after those of the one before."""
    starts = np.cumsum([0, *(tally.n_clusters for tally in tallies)])
    merged = Tally(int(starts[-1]), tallies[0].n_heads, tallies[0].rules)
    for tally, start in zip(tallies, starts, strict=False):
        merged.absorb(tally, np.arange(start, start + tally.n_clusters))
    merged.cells = {key: merged.cells[key] for key in merged}
    return merged


def _split(documents: Sequence[Mapping[str, Any]], counts: Sequence[Counts]) -> Split:
    parts = [document["scope"]["split"] for document in documents]
    return Split(
        unit=documents[0]["scope"]["unit"],
        confirm=np.concatenate([each.confirm for each in counts]),
        n_select=sum(part["select"] for part in parts),
        n_confirm=sum(part["confirm"] for part in parts),
        sha256=_digest(part["sha256"] for part in parts),
        clusters={},
    )


def _digest(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def _corpus(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part of the document that says what was read: numbers are added up."""
    added = {name: sum(part[name] for part in parts) for name in parts[0] if name.startswith("n_")}
    limits = [part["limit"] for part in parts]
    return {
        "name": " + ".join(sorted(part["name"] for part in parts)),
        "sha256": _digest(part["sha256"] for part in parts),
        **added,
        "limit": None if None in limits else sum(limits),
        "faults": [fault for part in parts for fault in part["faults"]][:10],
        "notes": [NOTE.format(n=len(parts)), *dict.fromkeys(note for part in parts for note in part["notes"])],
    }


def _random(documents: Sequence[Mapping[str, Any]], counts: Sequence[Counts]) -> RandomPass:
    """The best of all runs' copies, question by question."""
    passes = [document["scope"]["random_models"] for document in documents]
    best: dict[Question, RandomBest] = {}
    for each in counts:
        for question, found in each.random.items():
            known = best.get(question, RandomBest(found.hits, found.mass, 0))
            best[question] = RandomBest(max(known.hits, found.hits), max(known.mass, found.mass), known.n + found.n)
    return RandomPass(
        seeds=tuple(sorted({seed for each in passes for seed in each["seeds"]})),
        n_sentences=sum(each["n_sentences"] for each in passes),
        best=best,
        reason=next((each["reason"] for each in passes if each["reason"]), None),
    )


def _facts(facts: Sequence[PatternFacts | None]) -> PatternFacts | None:
    """The least that is true in every run."""
    known = [each for each in facts if each is not None]
    if len(known) < len(facts):
        return None
    determined = [each.determined for each in known if each.determined is not None]
    no_op = [each.no_op for each in known if each.no_op is not None]
    return PatternFacts(
        determined=np.minimum.reduce(determined) if len(determined) == len(known) else None,
        no_op=np.logical_and.reduce(no_op) if len(no_op) == len(known) else None,
    )
