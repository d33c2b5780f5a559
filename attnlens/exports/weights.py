"""Weights as tables, arrays and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.capture.run import Capture
from attnlens.errors import UsageError
from attnlens.exports.registry import Export, Wanted, heads_wanted
from attnlens.exports.writing import write_arrays, write_csv, write_json, write_parquet
from attnlens.report.maps import maps_of, tokens_of
from attnlens.report.tables import cell_text

if TYPE_CHECKING:
    import pandas as pd

    from attnlens.capture.tokens import Token

__all__ = ["CSV", "JSON", "NPZ", "PARQUET", "SCHEMA", "run_document", "weights_frame"]

SCHEMA = "attnlens.run/1"
# Rows of a table, and numbers of a JSON file, beyond which other programs have no joy of it.
MOST_ROWS = 5_000_000
DECIMALS = 7  # of a weight in JSON: float32 has no more


def weights_frame(wanted: Wanted) -> pd.DataFrame:
    """One row per weight that the mask does not hide: head, layer, index, query, key, their labels, and the weight.

    Raises:
        UsageError: more rows than fit, or no such head.
    """
    import pandas as pd

    run = wanted.runs[0]
    parts: list[pd.DataFrame] = []
    for letter in _letters(run):
        queries, keys = tokens_of(run, letter)
        heads = heads_wanted(wanted, run, letter)
        _check_size(sum(len(part) for part in parts) + len(heads) * len(queries) * len(keys))
        labels = [np.array([str(cell_text(token.label)) for token in side], dtype=object) for side in (queries, keys)]
        for head in heads:
            weights = maps_of(run, [head]).weights[0]
            rows, columns = np.nonzero(~np.isnan(weights))
            shown = {
                "head": str(head),
                "layer": np.int32(head.layer),
                "index": np.int32(head.head),
                "query": rows.astype(np.int32),
                "key": columns.astype(np.int32),
                "from": labels[0][rows],
                "to": labels[1][columns],
                "weight": weights[rows, columns],
            }
            parts.append(pd.DataFrame(shown))
    if not parts:
        raise UsageError("no head to export: the run holds none of those that were asked for.")
    return pd.concat(parts, ignore_index=True)


def run_document(wanted: Wanted) -> dict[str, Any]:
    """A run as JSON values, see `schema/run-1.json`; a key that the mask hides is null.

    Raises:
        UsageError: more numbers than fit, or no such head.
    """
    run = wanted.runs[0]
    by_stack = {letter: heads_wanted(wanted, run, letter) for letter in _letters(run)}
    sizes = {letter: [len(side) for side in tokens_of(run, letter)] for letter in by_stack}
    _check_size(sum(len(heads) * sizes[letter][0] * sizes[letter][1] for letter, heads in by_stack.items()))
    return {
        "schema": SCHEMA,
        "model": run.anatomy.model,
        "text": run.text,
        "tokens": [_token(token) for token in run.tokens],
        "source": None if run.source is None else [_token(token) for token in run.source.tokens],
        "heads": [
            {
                "head": str(head),
                "layer": head.layer,
                "index": head.head,
                "stack": head.stack,
                "weights": _listed(maps_of(run, [head]).weights[0]),
            }
            for heads in by_stack.values()
            for head in heads
        ],
        "versions": dict(run.versions),
    }


def _letters(run: Capture) -> list[str]:
    """Stacks with attention that the run holds."""
    letters = [stack.letter for stack in run.anatomy.stacks] or [""]
    return [
        letter for letter in letters if any(pattern is not None for pattern in run.patterns_of(stack=letter or None))
    ]


def _token(token: Token) -> dict[str, Any]:
    return {"id": token.id, "label": token.label, "special": token.special}


def _listed(weights: np.ndarray) -> list[list[float | None]]:
    rows = np.round(weights.astype(np.float64), DECIMALS).tolist()
    return [[None if weight != weight else weight for weight in row] for row in rows]


def _check_size(n: int) -> None:
    if n > MOST_ROWS:
        raise UsageError(f"{n:,} weights are too many for a table (at most {MOST_ROWS:,}); name --heads, or take npz.")


def _write_csv(wanted: Wanted, path: Path) -> str:
    write_csv(weights_frame(wanted), path)
    return ""


def _write_parquet(wanted: Wanted, path: Path) -> str:
    write_parquet(weights_frame(wanted), path)
    return ""


def _write_json(wanted: Wanted, path: Path) -> str:
    write_json(run_document(wanted), path)
    return ""


def _write_npz(wanted: Wanted, path: Path) -> str:
    """Arrays by name; of an encoder-decoder with the stack's letter behind it."""
    run = wanted.runs[0]
    arrays: dict[str, Any] = {}
    for letter in _letters(run):
        heads = heads_wanted(wanted, run, letter)
        if not heads:
            continue
        end = f"_{letter}" if letter else ""
        weights = [maps_of(run, [head]).weights[0] for head in heads]
        arrays[f"attention{end}"] = np.nan_to_num(np.stack(weights)).astype(np.float32)
        arrays[f"visible{end}"] = ~np.isnan(np.stack(weights))
        arrays[f"heads{end}"] = np.array([str(head) for head in heads])
        arrays[f"queries{end}"], arrays[f"keys{end}"] = (
            np.array([token.label for token in side]) for side in tokens_of(run, letter)
        )
    if not arrays:
        raise UsageError("no head to export: the run holds none of those that were asked for.")
    write_arrays(arrays, path)
    return ""


CSV = Export(
    description="One row per visible weight: head, query, key, their labels, weight.",
    endings=(".csv",),
    write=_write_csv,
)
PARQUET = Export(
    description="The same table with types, for pandas, polars, DuckDB, R.",
    endings=(".parquet",),
    write=_write_parquet,
)
JSON = Export(
    description=f"Tokens, and each head's weights as rows (schema {SCHEMA}).",
    endings=(".json",),
    write=_write_json,
)
NPZ = Export(
    description="numpy arrays: attention [head query key], visible, heads, queries, keys.",
    endings=(".npz",),
    write=_write_npz,
)
