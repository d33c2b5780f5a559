"""Scores by layer as a table: the rows of `layers` in `heads.json`, a column per control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["layers_frame"]


def layers_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per family, task, metric and depth; "random weights" is the column `control_random_weights`."""
    import pandas as pd

    names = dict.fromkeys(name for row in rows for name in row["controls"])
    flat = []
    for row in rows:
        low, high = row["ci"] or (None, None)
        controls = {f"control_{name.replace(' ', '_')}": row["controls"].get(name) for name in names}
        plain = {key: value for key, value in row.items() if key not in ("ci", "controls")}
        flat.append(plain | {"ci_low": low, "ci_high": high} | controls)
    frame = pd.DataFrame(flat)
    if not flat:
        return frame
    measured = ["score", "ci_low", "ci_high", "select_score", "selectivity"]
    measured += [name for name in map(str, frame.columns) if name.startswith("control_")]
    return frame.astype(dict.fromkeys(measured, "float64"))
