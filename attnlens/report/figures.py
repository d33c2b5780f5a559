"""View -> plotly figure. Reports and pages call the same functions; the numbers in a figure are the view's.

Tokens and names are escaped; ticks are numbers with aliases, since tokens repeat. `CONFIG` belongs to every
place that shows a figure: it switches off plotly's upload button.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnlens.report.comparison_figure import difference_heatmap, side_heatmap
from attnlens.report.forest_figure import forest
from attnlens.report.head_figure import head_map
from attnlens.report.link_figure import links_note, token_links
from attnlens.report.outcome_figure import ablation_map, change_bars, state_bars
from attnlens.report.pattern_figure import pattern_heatmap
from attnlens.report.shares_figure import shares_bars, shares_waterfall, token_bars
from attnlens.report.stream_figure import LENS_WIDTH, lens_grid, stream_grid

__all__ = [
    "CONFIG",
    "LENS_WIDTH",
    "ablation_map",
    "change_bars",
    "difference_heatmap",
    "forest",
    "head_map",
    "lens_grid",
    "links_note",
    "pattern_heatmap",
    "shares_bars",
    "shares_waterfall",
    "side_heatmap",
    "state_bars",
    "stream_grid",
    "token_bars",
    "token_links",
]

# For dcc.Graph(config=...) and to_html(config=...). Plotly 7 shows a button that uploads the chart unless told not to.
CONFIG: Mapping[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    "toImageButtonOptions": {"format": "png", "scale": 3},
}
