"""The parts of `heads.json`: plain mappings from findings, without a model and without a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from attnlens.heads import Head
from probes.baselines import KINDS
from probes.confidence import grade
from probes.corpora.data import Corpus
from probes.evidence import Example
from probes.findings import BestHead, Findings
from probes.head_map import n_resting
from probes.labels import Judgement, caveat, primary
from probes.positions import METRICS
from probes.random_models import RandomPass
from probes.scores import Scores
from probes.split import FEWEST_DOCUMENTS, Split

__all__ = [
    "baselines_scope",
    "corpus_part",
    "head_part",
    "number",
    "relation_part",
    "resampled",
    "scope_line",
    "tokenizer_part",
]

WHAT = {
    "chance": "chance",
    "offset": "the best fixed offset",
    "other": "the family's own rules",
    "pos": "the nearest word by part of speech",
    "random": "the best head of models with random weights",
    "layer 0": "the best head of the first layer",
    "shuffled": "gold shuffled within the sentence",
}


def corpus_part(corpus: Corpus, *, n_dropped: int, n_skipped: int) -> dict[str, Any]:
    """What was read, and what of it was left out."""
    return {
        "name": corpus.name,
        "sha256": corpus.sha256,
        "n_documents": corpus.n_documents,
        "n_sentences": corpus.n_sentences,
        "n_words": corpus.n_words,
        "n_dropped_words": n_dropped,
        "n_skipped_sentences": n_skipped,
        "limit": corpus.limit,
        "n_faults": corpus.n_skipped,
        "faults": list(corpus.skipped),
        "notes": list(corpus.notes),
    }


def head_part(head: Head, index: int, findings: Findings) -> dict[str, Any]:
    """One head: its labels with the one it is coloured by first, near misses and descriptive means."""
    own = [each for each in findings.judgements if each.head == index]
    earned = [each for each in own if each.failed is None]
    first = primary(earned)
    ordered = sorted(earned, key=lambda each: each is not first)
    return {
        "head": str(head),
        "layer": head.layer,
        "index": head.head,
        "primary": None if first is None else first.wording.label,
        "labels": [_label(each, findings) for each in ordered],
        "weak": [_label(each, findings) | {"failed": each.failed} for each in own if each.failed is not None],
        "metrics": _metrics(index, findings),
    }


def _label(judgement: Judgement, findings: Findings) -> dict[str, Any]:
    scores, head = judgement.scores, judgement.head
    examples = findings.examples.get((judgement.family, scores.key, head), [])
    explanation = judgement.explanation
    return {
        "label": judgement.wording.label,
        "family": judgement.family,
        "relation": scores.key.relation,
        "direction": scores.key.direction,
        "at": scores.key.at,
        "tier": judgement.tier,
        "text": judgement.wording.text,
        "score": number(judgement.score),
        "ci": _pair(judgement.ci),
        "selection_gap": number(float(scores.selection_gap[head])),
        "baseline": number(judgement.baseline),
        "baseline_name": judgement.baseline_name,
        "baselines": list(_baselines(scores, head)) if scores.conditions is not None else [],
        "not_measured": [WHAT[kind] for kind in judgement.missing],
        "n": scores.n_confirm,
        "q": number(judgement.q),
        "selectivity": number(judgement.selectivity),
        "target_mass": number(judgement.target_mass),
        "explained": None if explanation is None else asdict(explanation) | {"share": number(explanation.share)},
        "confidence": number(judgement.confidence),
        "grade": None if judgement.failed is not None else grade(judgement.confidence),
        "modifiers": list(judgement.modifiers),
        "causal": None if judgement.causal is None else dict(judgement.causal),
        "caveat": caveat(judgement),
        "reach": number(scores.reach),
        "examples": [_example(example) for example in examples],
    } | dict(findings.beside.get((judgement.family, head), {}))


def _baselines(scores: Scores, head: int) -> Iterator[dict[str, Any]]:
    """Everything that was measured beside a head's score, on both halves."""
    for kind, baseline in scores.baselines.items():
        yield {
            "id": KINDS.get(kind, "b1"),
            "name": baseline.name,
            "select": number(float(scores.score_of(kind, select=True)[head])),
            "score": number(float(scores.score_of(kind)[head])),
        } | ({"n": scores.random.n} if kind == "random" and scores.random is not None else {})


def _example(example: Example) -> dict[str, Any]:
    return asdict(example) | {"tokens": list(example.tokens), "weight": number(example.weight)}


def _metrics(index: int, findings: Findings) -> dict[str, float | None]:
    scores = {each.key: each for each in findings.scores if each.family == "positional"}
    found: dict[str, float | None] = {}
    for name, (key, value) in METRICS.items():
        each = scores.get(key)
        values = None if each is None else each.target_mass if value == "mass" else each.score
        found[name] = None if values is None else number(float(values[index]))
    return found


def relation_part(best: BestHead, heads: Sequence[Head]) -> dict[str, Any]:
    """One question with the head that is best on SELECT, of these."""
    scores, head = best.scores, best.head
    missing = head is None
    at = 0 if head is None else head
    headline = scores.headline(at)
    low, high = scores.ci[:, at]
    return {
        "family": scores.family,
        "relation": scores.key.relation,
        "direction": scores.key.direction,
        "at": scores.key.at,
        "best_head": None if head is None else str(heads[head]),
        "select_score": None if missing else number(scores.score_select[at]),
        "score": None if missing else number(scores.score[at]),
        "ci": None if missing else _pair((low, high)),
        "selection_gap": None if missing else number(scores.selection_gap[at]),
        "n": scores.n_confirm,
        "reach": number(scores.reach),
        "chance": number(scores.chance if scores.value == "hits" else scores.mass_chance),
        "baseline": number(float(scores.score_of(headline.kind)[at])),
        "baseline_name": headline.name,
        "baselines": list(_baselines(scores, at)),
        "selectivity": number(best.selectivity),
        "target_mass": None if missing else number(scores.target_mass[at]),
        "q": number(best.q),
        "verdict": best.verdict,
    }


def baselines_scope(findings: Findings, random: RandomPass, layers: Sequence[int] | None = None) -> dict[str, Any]:
    """Which baselines were applied somewhere, and why the others were not, in words and as data.

    Args:
        findings: of the run.
        random: its pass over models with random weights.
        layers: those that were chosen; None for all.
    """
    unscored = layers is not None and 0 not in layers
    judged = [each for each in findings.scores if each.conditions is not None or each.labelled]
    applied = [kind for kind in KINDS if any(kind in each.baselines for each in judged)]
    reasons = {
        "offset": "these families bring no rule by offset",
        "other": "these families bring none",
        "pos": "no label says more than 'consistent with': no rule by part of speech was asked",
        "random": random.reason or "too few trials in its share of the corpus",
        "layer 0": "the first layer was not scored" if unscored else "the layers of this model have no order",
        "shuffled": "these families shuffle nothing",
    }
    missing = {} if not judged else {kind: reason for kind, reason in reasons.items() if kind not in applied}
    said = [f"{KINDS[kind]} {WHAT[kind]}" for kind in applied]
    left = [f"{KINDS[kind]} {WHAT[kind]} ({reason})" for kind, reason in missing.items()]
    words = "; ".join([f"applied: {', '.join(said) or 'none'}", *([f"not applied: {', '.join(left)}"] if left else [])])
    return {
        "baselines": words,
        "baselines_applied": [KINDS[kind] for kind in applied],
        "baselines_missing": {f"{KINDS[kind]} {kind}": reason for kind, reason in missing.items()},
        "random_models": random.to_json(),
    }


def resampled(split: Split) -> str:
    """What the intervals are over, in a sentence."""
    if split.unit == "document":
        return "documents are resampled"
    return (
        f"sentences are resampled, since there are fewer than {FEWEST_DOCUMENTS} documents; intervals may be too narrow"
    )


def scope_line(document: Mapping[str, Any]) -> str:
    """Everything that a reader of one label has to know about the run, in one line."""
    model, corpus, scope = document["model"], document["corpus"], document["scope"]
    version_of = model.get("weights_sha256") or model.get("revision")
    split, tokenizer = scope["split"], scope["tokenizer"]
    resting = n_resting(document)
    parts = [
        f"model {model['model']}" + (f" ({version_of[:12]})" if version_of else ""),
        f"tokenizer {tokenizer['class']} ({tokenizer['sha256'][:12]})" if tokenizer else "no tokenizer",
        f"corpus {corpus['name']} ({corpus['sha256'][:12]}): {corpus['n_documents']} documents, "
        f"{corpus['n_sentences']} sentences, {corpus['n_words']} words",
        f"{split['select']} {scope['unit']}s select and {split['confirm']} confirm (split {split['sha256'][:12]})",
        scope["resampled"],
        scope["specials"],
        f"attention from a word: {scope['aggregation']['from']} of its pieces; to a word: {scope['aggregation']['to']}",
        f"seed {scope['seed']}, {scope['bootstrap']} bootstrap samples, {scope['permutations']} sign patterns",
        f"{scope['n_cells']} cells tried, {scope['n_tested']} tested",
        *([f"of the relations only {', '.join(scope['relations'])}"] if "relations" in scope else []),
        *([f"of the layers only {', '.join(map(str, scope['layers']))}"] if "layers" in scope else []),
        f"{scope['n_heads'] - scope['n_labelled']} of {scope['n_heads']} heads unclassified",
        *(
            [f"{resting} of the {scope['n_labelled']} labelled only rest on a sink or a delimiter, or spread"]
            if resting
            else []
        ),
        f"baselines {scope['baselines']}",
    ]
    return "; ".join(parts)


def tokenizer_part(tokenizer: Any) -> dict[str, Any] | None:
    """What tells two tokenizers apart: class, size, and a hash of every token with its number."""
    if tokenizer is None:
        return None
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    listed = json.dumps(sorted(vocabulary.items()), ensure_ascii=True)
    return {
        "class": type(tokenizer).__name__,
        "n_tokens": len(vocabulary),
        "sha256": hashlib.sha256(listed.encode()).hexdigest(),
    }


def number(value: float | None) -> float | None:
    """A JSON number with six digits, or null where nothing was measured."""
    return None if value is None or math.isnan(value) else float(f"{float(value):.6g}")


def _pair(values: Sequence[float]) -> list[float | None] | None:
    low, high = values
    return None if math.isnan(low) else [number(low), number(high)]
