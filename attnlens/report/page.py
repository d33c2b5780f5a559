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


def render(template: str, data: Mapping[str, Any], **context: Any) -> str:
    """A page from a template of this package.

    Args:
        template: its file name; it extends `base.html.j2`.
        data: what the page's script reads, JSON values.
        context: what the template reads. Everything is escaped unless it is `Markup`.
    """
    scripts = (plotly_js(), _own("report.js"))
    return (
        _environment()
        .get_template(template)
        .render(
            csp=content_security_policy(scripts),
            styles=Markup(palette.css() + _own("report.css")),  # noqa: S704 - our own files
            scripts=[Markup(script) for script in scripts],  # noqa: S704 - plotly's and our own
            data=Markup(json_for_script(data)),  # noqa: S704 - escaped by json_for_script
            categories=palette.CATEGORIES,
            **context,
        )
    )


def content_security_policy(scripts: Sequence[str]) -> str:
    """The strictest policy under which the page works: these very scripts, own styles, pictures made on the spot."""
    hashes = " ".join(f"'{script_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def script_hash(script: str) -> str:
    """`sha256-...` of an inline script, as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


@cache
def plotly_js() -> str:
    """plotly.js of the installed plotly package.

    Raises:
        OutputError: it could not stand inside a script element.
    """
    from plotly.offline import get_plotlyjs

    script = str(get_plotlyjs()).replace("\r\n", "\n")
    if "</script" in script.lower() or "<!--" in script:
        raise OutputError("this version of plotly.js cannot be inlined; install another plotly (>= 6).")
    return script


@cache
def _own(name: str) -> str:
    return files("attnlens.report").joinpath("templates", name).read_text(encoding="utf-8")


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
