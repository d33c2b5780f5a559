"""One HTML file that needs nothing else: scripts and styles inline, no network, a Content-Security-Policy inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attnlens.errors import OutputError
from attnlens.report import palette
from attnlens.report.embed import json_for_script
from attnlens.report.tables import Cell, chance, count, number, share

__all__ = ["content_security_policy", "render", "script_hash"]

# The scripts of every page, and those that draw maps, in the order in which they run.
_SHARED = ("surface.js", "tables.js", "report_page.js")
_DRAWING = ("inside.js", "packed.js", "head_grid.js", "links.js", "token_links.js", "matrix.js", "overview.js")


def render(template: str, document: Mapping[str, Any], *, scripts: Sequence[str] = (), **context: Any) -> str:
    """A page from a template of this package.

    Args:
        template: its file name; it extends `base.html.j2`.
        document: the data inside, JSON values; the page's script reads them, and `attnlens open`.
        scripts: names of further scripts, for pages with maps of runs.
        context: what the template reads. Everything is escaped unless it is `Markup`.
    """
    names = (*_SHARED, *(_DRAWING if scripts else ()), *scripts, "report_start.js")
    script = "".join(_own("scripts", name) for name in names)
    styles = palette.css() + _own("templates", "report.css")
    data = json_for_script(document)
    return (
        _environment()
        .get_template(template)
        .render(
            csp=content_security_policy([script], [styles]),
            styles=Markup(styles),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704 - our own files
            data=Markup(data),  # noqa: S704 - escaped by json_for_script
            data_sha256=hashlib.sha256(data.encode()).hexdigest(),
            categories=palette.CATEGORIES,
            **context,
        )
    )


def content_security_policy(scripts: Sequence[str], styles: Sequence[str] | None = None) -> str:
    """The strictest policy under which a page works: these very scripts and style sheets, and nothing else.

    Without `styles`, a page that styles its elements one by one, and shows pictures made on the spot.
    """
    hashes = " ".join(f"'{script_hash(script)}'" for script in scripts)
    own = "'unsafe-inline'; img-src data: blob:" if styles is None else " ".join(f"'{script_hash(s)}'" for s in styles)
    return f"default-src 'none'; script-src {hashes}; style-src {own}; base-uri 'none'; form-action 'none'"


def script_hash(script: str) -> str:
    """`sha256-...` of an inline script or style sheet, as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


@cache
def _own(folder: str, name: str) -> str:
    text = files("attnlens.report").joinpath(folder, name).read_text(encoding="utf-8")
    if "</" + "script" in text.lower() or "<!--" in text:
        raise OutputError(f"{name} cannot stand inside a page; this attnlens is damaged, install it again.")
    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("attnlens.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share, "chance": chance, "cell": _cell}
    environment.globals["count"] = count
    return environment


def _cell(value: Cell) -> str:
    """A cell of a table as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 4)
    return f"{value:,}" if isinstance(value, int) else value
