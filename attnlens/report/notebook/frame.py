"""A page inside an attribute: the frame that every output of a notebook is."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from attnlens.report.embed import json_for_script
from attnlens.report.page import content_security_policy
from attnlens.report.palette import css

__all__ = ["frame"]

# Our canvas scripts, in the order in which they need each other; the last one puts the pictures into the page.
_SCRIPTS = ("packed.js", "surface.js", "links.js", "token_links.js", "matrix.js", "head_grid.js")
_OWN = "heads.js"


def frame(title: str, data: dict[str, Any], height: int, fallback: str) -> str:
    """HTML for a notebook.

    Args:
        title: named for screen readers; plain text.
        data: what the script reads, JSON values.
        height: of the frame, in pixels.
        fallback: HTML, escaped already, for where scripts do not run.
    """
    script = _script()
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{content_security_policy([script])}">'
        f"<title>{escape(title)}</title><style>{css()}{_file(__package__, 'heads.css')}</style></head><body>"
        f'<noscript>{fallback}</noscript><div id="al-view"></div>'
        f'<script type="application/json" id="al-data">{json_for_script(data)}</script>'
        f"<script>{script}</script></body></html>"
    )
    return (
        f'<iframe title="{escape(title, quote=True)}" sandbox="allow-scripts" loading="lazy" '
        f'style="width:100%;height:{height}px;border:1px solid #8884;border-radius:8px;background:#fff" '
        f'srcdoc="{escape(page, quote=True)}"></iframe>'
    )


@cache
def _script() -> str:
    """All scripts as one, so that one hash in the policy allows it."""
    own = _file(__package__, _OWN)
    return "\n".join([*(_file("attnlens.report", f"scripts/{name}") for name in _SCRIPTS), own])


def _file(package: str, path: str) -> str:
    return files(package).joinpath(*path.split("/")).read_text(encoding="utf-8")
