"""BertViz' own page of a head at an address of its own, so that it gets a stricter policy than the dashboard's."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

from attnlens.errors import AttnlensError
from dashboards.desk import Desk
from dashboards.security import content_hash

if TYPE_CHECKING:
    from flask import Response
    from flask.sansio.scaffold import Scaffold

__all__ = ["inline_scripts", "register"]


def register(server: Scaffold, desk: Desk) -> None:
    """Serve `/classic?model=...&text=...&head=...`, to be shown in a frame with `sandbox="allow-scripts"`."""

    @server.get("/classic")
    def classic_view() -> Response:
        from flask import Response, request

        try:
            page = classic_view_of(desk, dict(request.args))
        except AttnlensError as error:
            return Response(f"{error}\n", status=400, mimetype="text/plain")
        response = Response(page, mimetype="text/html")
        response.headers["Content-Security-Policy"] = _policy(page)
        return response


def classic_view_of(desk: Desk, given: dict[str, str]) -> str:
    """The page for the run and head that a request names.

    An address alone opens no new model: the page asks for a run that it already shows.

    Raises:
        AttnlensError: see `Desk.linked`; or the run has no such head.
    """
    from attnlens.report.classic import classic_page

    run = desk.linked(given)
    view, head = given.get("view", "head"), given.get("head") or None
    return classic_page(run, view, head=None if view == "model" else head, theme=given.get("theme", "light"))


def inline_scripts(page: str) -> list[str]:
    """The scripts that stand in an HTML page itself, in order."""
    parser = _Scripts()
    parser.feed(page)
    parser.close()
    return parser.found


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._parts: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._parts = []

    def handle_data(self, data: str) -> None:
        if self._parts is not None:
            self._parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._parts is not None:
            self.found.append("".join(self._parts))
            self._parts = None


def _policy(page: str) -> str:
    """Exactly the scripts that attnlens put there may run; no request may leave, not even to this server."""
    hashes = " ".join(sorted({content_hash(script) for script in inline_scripts(page)}))
    return (
        f"sandbox allow-scripts; default-src 'none'; script-src {hashes or chr(39) + 'none' + chr(39)}; "
        "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )
