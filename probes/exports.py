"""Probe results as tables and arrays, and runs as the tree of the HeadVis viewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from attnlens.capture.run import Capture
from attnlens.errors import UsageError
from attnlens.exports.registry import Export, Wanted, heads_wanted
from attnlens.exports.writing import as_json_text, write_arrays, write_csv, write_parquet
from attnlens.files import write_text
from attnlens.report.tables import cell_text
from probes.opening import open_report

if TYPE_CHECKING:
    import pandas as pd

    from probes.report import HeadReport

__all__ = ["CSV", "HEADVIS", "JSON", "NPZ", "PARQUET"]


def _report(wanted: Wanted) -> HeadReport:
    assert wanted.results is not None
    if wanted.labels is not None:
        raise UsageError("--labels go along with runs; results bring their own.")
    return open_report(_folder(wanted.results))


def _folder(results: Path) -> Path:
    """The folder of results, also where its `heads.json` was named."""
    return results.parent if results.name == "heads.json" else results


def _cells(wanted: Wanted) -> pd.DataFrame:
    """Every question and head, or those heads that were named."""
    frame = _report(wanted).to_frame()
    if wanted.heads is None:
        return frame
    names = {str(head) for head in wanted.heads}
    if absent := names - set(frame["head"]):
        raise UsageError(f"the results have no head {', '.join(sorted(absent))}.")
    return frame[frame["head"].isin(names)].reset_index(drop=True)


def _write_csv(wanted: Wanted, path: Path) -> str:
    frame = _cells(wanted)
    for column in frame.select_dtypes(["object", "string"]):
        frame[column] = [cell_text(value) if isinstance(value, str) else None for value in frame[column]]
    write_csv(frame, path)
    return ""


def _write_parquet(wanted: Wanted, path: Path) -> str:
    write_parquet(_cells(wanted), path)
    return ""


def _write_npz(wanted: Wanted, path: Path) -> str:
    """One array per column; text as text, missing text as an empty one."""
    frame = _cells(wanted)
    arrays: dict[str, Any] = {}
    for column in frame.columns:
        values = frame[column]
        texts = values.dtype == object or str(values.dtype).startswith(("string", "str"))
        arrays[column] = values.fillna("").astype(str).to_numpy(dtype=np.str_) if texts else values.to_numpy()
    write_arrays(arrays, path)
    return ""


def _write_json(wanted: Wanted, path: Path) -> str:
    assert wanted.results is not None
    if wanted.heads is not None:
        raise UsageError("heads.json is of all heads; leave --heads out, or take csv.")
    _report(wanted)  # refuses what is damaged
    write_text(path, (_folder(wanted.results) / "heads.json").read_text(encoding="utf-8"))
    return ""


@dataclass(frozen=True)
class _Sequence:
    """A run as HeadVis' writer reads one: all heads' weights, hidden ones as 0."""

    key: str
    labels: tuple[str, ...]
    attention: Float[np.ndarray, "head query key"]


def _write_headvis(wanted: Wanted, folder: Path) -> str:
    from probes.headvis import Sampling, headvis_files

    anatomy = wanted.runs[0].anatomy
    if anatomy.is_encoder_decoder:
        raise UsageError("HeadVis shows models of one stack; export an encoder-decoder as npz or bertviz.")
    if any(run.anatomy.model != anatomy.model for run in wanted.runs):
        raise UsageError("the runs are of different models; HeadVis shows one at a time.")
    if wanted.heads is not None:
        raise UsageError("HeadVis' tree is of all heads; leave --heads out.")
    labels = {} if wanted.labels is None else _labels(wanted.labels, wanted.runs[0])
    seen = [_sequence(number, run) for number, run in enumerate(wanted.runs)]
    # Each run was chosen by hand, so each is kept.
    sampling = Sampling(texts=len(seen), intervals=min(10, len(seen)), per_interval=len(seen))
    for name, content in headvis_files(anatomy, seen, sampling, labels, "runs"):
        write_text(folder / name, as_json_text(content))
    return ""


def _labels(folder: Path, run: Capture) -> dict[str, list[dict[str, Any]]]:
    from attnlens.report.results import load_results

    load_results(folder).check_same_model(run.anatomy)
    return open_report(_folder(folder)).labels


def _sequence(number: int, run: Capture) -> _Sequence:
    heads = heads_wanted(Wanted(runs=(run,)), run, "")
    if len(heads) != len(run.anatomy.heads()):
        raise UsageError(f"run {number + 1} holds {len(heads)} of {len(run.anatomy.heads())} heads; HeadVis needs all.")
    attention = run.attention().flatten(0, 1).float().numpy()
    return _Sequence(f"{number:06}", tuple(token.label for token in run.tokens), attention)


CSV = Export(
    description="One row per question and head, with counts, scores, baselines and tests.",
    endings=(".csv",),
    write=_write_csv,
)
PARQUET = Export(
    description="The same table with types, for pandas, polars, DuckDB, R.",
    endings=(".parquet",),
    write=_write_parquet,
)
JSON = Export(
    description="Heads with labels and evidence (schema attnlens.heads/1).",
    endings=(".json",),
    write=_write_json,
)
NPZ = Export(
    description="numpy arrays, one per column of that table.",
    endings=(".npz",),
    write=_write_npz,
)
HEADVIS = Export(
    description="The folder that the HeadVis viewer reads; takes several runs, and --labels.",
    endings=(),
    write=_write_headvis,
    several=True,
)
