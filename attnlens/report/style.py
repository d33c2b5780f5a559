"""What all figures share: fonts, colours and quiet axes, without touching plotly's global template."""

from __future__ import annotations

from typing import Any

from attnlens.report.palette import FONT_SANS, Theme

__all__ = ["bar", "base_layout"]


def base_layout(colours: Theme) -> dict[str, Any]:
    """Layout of an empty figure in a theme.

    It brings a template of its own: plotly would fill an empty one with the default, its own or the user's.
    """
    axis = {
        "showgrid": False,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "gridcolor": colours.line,
        "tickfont": {"color": colours.muted, "size": 12},
        "title": {"font": {"color": colours.muted, "size": 12}, "standoff": 6},
        "automargin": False,
    }
    return {
        "template": {"layout": {"autotypenumbers": "strict"}},
        "font": {"family": FONT_SANS, "size": 13, "color": colours.ink},
        "paper_bgcolor": colours.surface,
        "plot_bgcolor": colours.surface,
        "hoverlabel": {
            "bgcolor": colours.ink,
            "bordercolor": colours.ink,
            "font": {"family": FONT_SANS, "size": 13, "color": colours.paper},
            "align": "left",
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": colours.faint, "activecolor": colours.ink},
        "legend": {"font": {"color": colours.muted, "size": 12}, "bgcolor": "rgba(0,0,0,0)"},
        "xaxis": axis,
        "yaxis": axis,
        "dragmode": "zoom",
    }


def bar(title: str, colours: Theme) -> dict[str, Any]:
    """A thin colour bar."""
    return {
        "title": {"text": title, "side": "right", "font": {"color": colours.muted, "size": 12}},
        "thickness": 10,
        "outlinewidth": 0,
        "tickfont": {"color": colours.muted, "size": 11},
        "len": 1.0,
        "x": 1.01,
        "xpad": 4,
        "nticks": 6,
    }
