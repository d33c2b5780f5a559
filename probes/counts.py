"""What a run has counted, kept beside its result, so that results of several corpora can be merged later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from attnlens.errors import ResultsError
from attnlens.files import whole_file
from probes.baselines import RandomBest
from probes.checkpoints import from_table, to_table
from probes.findings import Question
from probes.positions import PatternFacts
from probes.shards import ShardResult
from probes.tally import Key, Tally

__all__ = ["COUNTS", "Counts", "read_counts", "write_counts"]

COUNTS = "counts.parquet"
FORMAT = "attnlens.counts/1"


@dataclass(frozen=True)
class Counts:
    """The sums of a whole run, with what else its statistics were made of.

    Attributes:
        tallies: by family.
        confirm: per cluster, True where it belongs to CONFIRM.
        random: the best heads of models with random weights, by family and question.
        facts: about whole patterns; None where not measured.
        settings: what has to be the same in two runs whose counts are to be added, by name.
    """

    tallies: Mapping[str, Tally]
    confirm: Bool[np.ndarray, " cluster"]
    random: Mapping[Question, RandomBest] = field(default_factory=dict)
    facts: PatternFacts | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_counts(counts: Counts, path: Path) -> None:
    """Write them as one parquet file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    import pyarrow.parquet as pq

    table = to_table(ShardResult(0, np.arange(len(counts.confirm)), counts.tallies))
    about = json.dumps(_about(counts), allow_nan=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), FORMAT: about})
    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_counts(path: Path) -> Counts:
    """What `write_counts` was given, to the integer.

    Raises:
        ResultsError: the file is not one that it wrote.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[FORMAT.encode()])
        return Counts(
            tallies=from_table(table).tallies,
            confirm=np.array(about["confirm"], dtype=bool),
            random={(family, Key(*key)): RandomBest(**best) for family, key, best in about["random"]},
            facts=_facts(about["facts"]),
            settings=about["settings"],
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path} holds no counts of a run ({error}); probe again with --keep-counts.") from error


def _about(counts: Counts) -> dict[str, Any]:
    facts = counts.facts
    return {
        "confirm": counts.confirm.tolist(),
        "random": [[family, list(key), asdict(best)] for (family, key), best in sorted(counts.random.items(), key=str)],
        "facts": None if facts is None else {"determined": _listed(facts.determined), "no_op": _listed(facts.no_op)},
        "settings": dict(counts.settings),
    }


def _listed(values: np.ndarray | None) -> list[Any] | None:
    """Values per head as JSON has them; null for NaN."""
    return None if values is None else [None if value != value else value for value in values.tolist()]


def _facts(about: Mapping[str, Any] | None) -> PatternFacts | None:
    if about is None:
        return None
    determined, no_op = about["determined"], about["no_op"]
    return PatternFacts(
        determined=None if determined is None else np.array(determined, dtype=np.float64),
        no_op=None if no_op is None else np.array(no_op, dtype=bool),
    )
