"""The result of a probe run: every head with its labels and their evidence, every relation with its best head."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import ResultsError
from attnlens.files import check_writable, whole_file
from attnlens.heads import Head
from attnlens.models.anatomy import Anatomy
from probes.counts import COUNTS, Counts, write_counts
from probes.document import baselines_scope, head_part, relation_part, resampled, scope_line
from probes.family import Probe
from probes.findings import Findings, Settings
from probes.random_models import UNMEASURED, RandomPass
from probes.split import RULE, Split
from probes.stream.result import LayerResults
from probes.stream.table import layers_frame
from probes.table import cells_frame

if TYPE_CHECKING:
    import pandas as pd

    from probes.comparing import ResultComparison

__all__ = ["CAVEAT", "FILES", "SCHEMA", "HeadReport", "check_folder", "heads_of", "make_report"]

SCHEMA = "attnlens.heads/1"
CAVEAT = "Attention is evidence of information movement, not explanation."
FILES = ("heads.json", "cells.parquet")
LAYERS = "layers.parquet"
SPECIALS = "special tokens are never queries and never win an argmax; their attention is not shared out"


@dataclass(frozen=True)
class HeadReport:
    """What a run found; `document` is `heads.json`, checked against its JSON Schema."""

    document: Mapping[str, Any] = field(repr=False)
    frame: pd.DataFrame = field(repr=False, compare=False)
    counts: Counts | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        scope, model = self.document["scope"], self.document["model"]
        return (
            f"HeadReport({model['model']!r} on {self.document['corpus']['name']!r}: "
            f"{scope['n_labelled']} of {scope['n_heads']} heads labelled)"
        )

    @classmethod
    def open(cls, folder: Path | str) -> HeadReport:
        """Read back what `save` wrote into `folder`; see `probes.opening`."""
        from probes.opening import open_report

        return open_report(folder)

    def compare(self, other: HeadReport) -> ResultComparison:
        """This result beside another one: `probes.comparing.compare_reports`."""
        from probes.comparing import compare_reports

        return compare_reports(self, other)

    def merge(self, *others: HeadReport) -> HeadReport:
        """This result and others on other corpora as one: `probes.merging.merge_reports`."""
        from probes.merging import merge_reports

        return merge_reports([self, *others])

    @cached_property
    def labels(self) -> dict[str, list[dict[str, Any]]]:
        """Head ("L3H1") -> its labels, the one it is coloured by first; an empty list is "unclassified"."""
        return {head["head"]: list(head["labels"]) for head in self.document["heads"]}

    @property
    def relations(self) -> list[dict[str, Any]]:
        """Every question that was compared with rules, with its best head."""
        return list(self.document["relations"])

    def to_frame(self) -> pd.DataFrame:
        """A table with one row per question and head: counts of both halves, scores, baselines, tests."""
        return self.frame.copy()

    def layers_frame(self) -> pd.DataFrame:
        """A table with one row per task, measure and layer of the probes of the stream; empty where none were run."""
        return layers_frame(self.document.get("layers", ()))

    def to_json(self) -> dict[str, Any]:
        """The document of `heads.json`."""
        return dict(self.document)

    def to_html(self) -> str:
        """One HTML file that opens without a network."""
        from attnlens.report.html import heads_report
        from attnlens.report.results import parse_results

        return str(heads_report(parse_results(self.to_json())))

    def _repr_html_(self) -> str:
        from attnlens.report.notebook.results import results_html
        from attnlens.report.results import parse_results

        return results_html(parse_results(self.to_json()))

    def save(self, folder: Path | str) -> tuple[Path, ...]:
        """Write `heads.json` and `cells.parquet` into `folder`, each whole or not at all; returns their paths.

        `layers.parquet` is written too where the stream was probed, and `counts.parquet` where the counts were kept;
        one of an earlier run is removed where they were not.

        Raises:
            OutputError: they cannot be written there.
        """
        check_folder(folder)
        results, cells, layers, counts = (Path(folder) / name for name in (*FILES, LAYERS, COUNTS))
        text = json.dumps(self.document, indent=1, ensure_ascii=False, allow_nan=False)
        with whole_file(cells) as cells_part, whole_file(results) as results_part:
            self.frame.to_parquet(cells_part, index=False)
            results_part.write_text(text + "\n", encoding="utf-8")
        written = [results, cells]
        if self.document.get("layers"):
            with whole_file(layers) as layers_part:
                self.layers_frame().to_parquet(layers_part, index=False)
            written.append(layers)
        else:
            layers.unlink(missing_ok=True)
        if self.counts is not None:
            write_counts(self.counts, counts)
            written.append(counts)
        else:
            counts.unlink(missing_ok=True)
        return tuple(written)


def check_folder(folder: Path | str) -> None:
    """Find out before a long run whether the results can be written into `folder`.

    Raises:
        OutputError: they cannot.
    """
    for name in (*FILES, LAYERS, COUNTS):
        check_writable(Path(folder) / name)


def make_report(
    *,
    anatomy: Anatomy,
    corpus: Mapping[str, Any],
    probes: Sequence[Probe],
    left_out: Mapping[str, str],
    split: Split,
    findings: Findings,
    settings: Settings,
    aggregation: str,
    bos: bool | None,
    tokenizer: Mapping[str, Any] | None = None,
    random: RandomPass = UNMEASURED,
    relations: Sequence[str] | None = None,
    scored: Sequence[int] | None = None,
    layers: Sequence[LayerResults] = (),
    counts: Counts | None = None,
) -> HeadReport:
    """Put the findings into the shape of `heads.json`.

    `corpus` and `tokenizer` are parts of it, see `probes.document`; `random` is the pass over models with random
    weights that `findings` were made with; `relations` and the `scored` layers are those that the caller has chosen,
    None for all; `layers` is what probes of the residual stream found; `counts` are kept beside the document.

    Raises:
        ResultsError: the document breaks its own schema (a bug, or a plug-in's label without a name).
    """
    names = heads_of(anatomy, scored)
    heads = [head_part(head, index, findings) for index, head in enumerate(names)]
    n_labelled = sum(bool(head["labels"]) for head in heads)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "model": anatomy.to_json(),
        "corpus": dict(corpus),
        "scope": {
            "families": [*(probe.name for probe in probes), *(each.family for each in layers)],
            "left_out": dict(left_out),
            "unit": split.unit,
            "resampled": resampled(split),
            "split": {"rule": RULE, "select": split.n_select, "confirm": split.n_confirm, "sha256": split.sha256},
            "specials": SPECIALS,
            "aggregation": {"from": aggregation, "to": "sum"},
            "bos": bos,
            "seed": settings.seed,
            "bootstrap": settings.bootstrap,
            "permutations": settings.permutations,
            "n_cells": findings.n_cells,
            "n_tested": findings.n_tested,
            "n_heads": len(heads),
            "n_labelled": n_labelled,
            "unclassified_share": 1 - n_labelled / len(heads),
            "thresholds": asdict(settings.thresholds),
            **baselines_scope(findings, random, scored),
            "tokenizer": None if tokenizer is None else dict(tokenizer),
            "caveat": CAVEAT,
        },
        "versions": _versions(),
        "heads": heads,
        "relations": [relation_part(best, names) for best in findings.best],
        **findings.own,
    }
    if relations is not None:
        document["scope"]["relations"] = list(relations)
    if scored is not None:
        document["scope"]["layers"] = list(scored)
    if layers:
        document["scope"] |= {"stream": {each.family: dict(each.about) for each in layers}}
        document["layers"] = [row for each in layers for row in each.to_json()]
    document["scope"]["line"] = scope_line(document)
    _validate(document)
    return HeadReport(document, cells_frame(names, findings), counts)


def heads_of(anatomy: Anatomy, layers: Sequence[int] | None) -> list[Head]:
    """The heads of some layers, in order; of all where None."""
    return [head for head in anatomy.heads() if layers is None or head.layer in layers]


def _versions() -> dict[str, str]:
    from attnlens.models.lens import library_versions

    return {**library_versions(), **{name: version(name) for name in ("numpy", "scipy", "conllu")}}


def _validate(document: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = json.loads(files("attnlens.report").joinpath("schema", "heads-1.json").read_text(encoding="utf-8"))
    error = best_match(Draft202012Validator(schema).iter_errors(document))
    if error is not None:
        raise ResultsError(f"the result breaks {SCHEMA} at {error.json_path}: {error.message}")
