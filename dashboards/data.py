"""What the page's scripts ask for while one looks around: maps, small pictures and overviews as packed numbers.

A request names a run as the page's address does (`model=...&text=...`), so that any process can answer it, and gets
only what the page may show. The scripts themselves are those of `attnlens.report.scripts`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from attnlens.errors import AttnlensError, UsageError
from dashboards.desk import Desk

if TYPE_CHECKING:
    from flask import Blueprint
    from werkzeug.wrappers import Response as BaseResponse

    from attnlens.capture.run import Capture
    from attnlens.heads import Head
    from attnlens.report.maps import Choice, Maps, Window

__all__ = [
    "BUNDLE",
    "SCRIPTS",
    "kept_answer",
    "maps_for",
    "overview_for",
    "register",
    "script_addresses",
    "thumbnails_for",
]

# In the order in which they load.
SCRIPTS = (
    "packed.js",
    "surface.js",
    "head_grid.js",
    "links.js",
    "token_links.js",
    "matrix.js",
    "overview.js",
    "tables.js",
)
# Bytes up to which all heads of a stack are sent together.
BUNDLE = 5_000_000
# Cells along a side of an overview; tokens along a side of the first window of a long text, and of the largest one.
OVERVIEW, WINDOW, SCREEN = 256, 64, 192
_FOREVER = "private, max-age=31536000, immutable"  # an address that changes with what it holds
_WINDOW = re.compile(r"(\d{1,6})-(\d{1,6}),(\d{1,6})-(\d{1,6})", re.ASCII)

Given = Mapping[str, str]


def script_addresses(prefix: str) -> list[str]:
    """Where the page finds the scripts; an address changes with what it holds."""
    return [f"{prefix}scripts/{name}?{_tag(body)[:12]}" for name, body in _scripts().items()]


def register(routes: Blueprint, desk: Desk) -> None:
    """Serve `/data/...` and `/scripts/...`."""
    from flask import Response, request

    def on_script(name: str) -> BaseResponse:
        if (script := _scripts().get(name)) is None:
            return Response("There is no such script.\n", status=404, mimetype="text/plain")
        response = _answer(script, "text/javascript")
        if request.query_string.decode() == _tag(script)[:12]:
            response.headers["Cache-Control"] = _FOREVER
        return response

    routes.add_url_rule("/scripts/<name>", "scripts", on_script)
    for name, find in (("maps", maps_for), ("thumbnails", thumbnails_for), ("overview", overview_for)):
        routes.add_url_rule(f"/data/{name}", name, _answering(desk, name, find))


@cache
def _scripts() -> dict[str, bytes]:
    folder = files("attnlens.report").joinpath("scripts")
    return {name: folder.joinpath(name).read_bytes() for name in SCRIPTS}


def _answering(desk: Desk, what: str, find: Callable[[Desk, Given], bytes]) -> Callable[[], BaseResponse]:
    """A view function: the numbers, or one line that says what is wrong."""
    from flask import Response, request

    def answer() -> BaseResponse:
        try:
            return _answer(kept_answer(desk, what, find, dict(request.args)), "application/octet-stream")
        except AttnlensError as error:
            return Response(f"{error}\n", status=400, mimetype="text/plain")

    return answer


def _answer(body: bytes, kind: str) -> BaseResponse:
    """An answer that the browser keeps and asks about: it is sent again only if it has changed."""
    from flask import Response, request

    response = Response(body, mimetype=kind)
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(_tag(body))
    return response.make_conditional(request)


def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def kept_answer(desk: Desk, what: str, find: Callable[[Desk, Given], bytes], given: Given) -> bytes:
    """What `find` answers, made once for all visitors as long as there is room.

    Raises:
        AttnlensError: what is asked for does not exist, or may not be shown.
    """
    desk.allowed(given)
    made_of = json.dumps([what, *desk.stamp(given), *sorted(given.items())])
    return desk.answers.get(hashlib.sha256(made_of.encode()).digest(), lambda: find(desk, given))


def maps_for(desk: Desk, given: Given) -> bytes:
    """The map of `head`; with it those of all heads of its stack where they are small.

    With `measure`, the map that this measure of mixing gives for the head or its layer. With `combine`, the one map
    that it makes of `head` and the heads in `also`. Of a long text only a window is sent, with the heads of the same
    layer.

    Raises:
        AttnlensError: what is asked for does not exist.
    """
    from attnlens.report.maps import combined, maps_of
    from attnlens.report.packed import pack_maps
    from attnlens.report.views import head_of

    run = desk.linked(given)
    head = head_of(run, given.get("head", ""))
    if measure := given.get("measure"):
        return pack_maps(_mixing(desk, given, measure, run, head))
    choice, window = _choice(given), _window(run, head, given.get("window", ""))
    if how := given.get("combine"):
        others = [head_of(run, name) for name in given.get("also", "").split(",") if name]
        return pack_maps(combined(maps_of(run, list(dict.fromkeys([head, *others])), choice, window), how))
    return pack_maps(maps_of(run, _sent_with(run, head, window), choice, window))


def thumbnails_for(desk: Desk, given: Given) -> bytes:
    """Pictures of the heads of `stack` from layer `from` on.

    Raises:
        AttnlensError: what is asked for does not exist.
    """
    from attnlens.report.packed import pack_thumbnails
    from attnlens.report.thumbnails import thumbnails

    first = given.get("from", "0")
    if not (first.isascii() and first.isdigit() and len(first) < 6):
        raise UsageError(f"from={first[:20]!r} is no layer.")
    found, following = thumbnails(desk.linked(given), given.get("stack", ""), _choice(given), int(first))
    return pack_thumbnails(found, next=following)


def _mixing(desk: Desk, given: Given, measure: str, run: Capture, head: Head) -> Maps:
    """A measure of mixing; what it needs beside attention is captured now."""
    from attnlens.report.mixing_maps import MIXINGS, mixing_map, needs_points

    if measure in MIXINGS and needs_points(measure):
        run = desk.run(given, points=True)
    lens = None if given.get("run") else desk.lens(given)
    return mixing_map(measure, run, head, _choice(given), lens=lens)


def overview_for(desk: Desk, given: Given) -> bytes:
    """The whole map of `head`, pooled to a picture.

    Raises:
        AttnlensError: what is asked for does not exist.
    """
    from attnlens.report.packed import pack_thumbnails, thumbnail_codes
    from attnlens.report.views import head_of

    run = desk.linked(given)
    head = head_of(run, given.get("head", ""))
    over = run.overview(head=head, rows=OVERVIEW, columns=OVERVIEW)
    return pack_thumbnails({str(head): thumbnail_codes(over.weights.numpy())})


def _window(run: Capture, head: Head, asked: str) -> Window | None:
    """The window of a long text, cut to what a screen holds, or else its beginning; None for a short text."""
    from attnlens.report.maps import Window, tokens_of
    from attnlens.report.thumbnails import SHORT

    n_queries, n_keys = (len(tokens) for tokens in tokens_of(run, head.stack))
    if max(n_queries, n_keys) <= SHORT:
        return None
    plain = Window((0, min(WINDOW, n_queries)), (0, min(WINDOW, n_keys)))
    found = _WINDOW.fullmatch(asked)
    if found is None:
        return plain
    first, stop, left, right = map(int, found.groups())
    try:
        return Window((first, min(stop, first + SCREEN)), (left, min(right, left + SCREEN))).within(n_queries, n_keys)
    except UsageError:  # a window of another text
        return plain


def _sent_with(run: Capture, head: Head, window: Window | None) -> tuple[Head, ...]:
    """The heads whose maps go in one answer."""
    from attnlens.report.maps import held_heads, tokens_of

    heads = held_heads(run, head.stack)
    if window is not None:
        heads = tuple(other for other in heads if other.layer == head.layer)
        n_queries, n_keys = (stop - first for first, stop in (window.queries, window.keys))
    else:
        n_queries, n_keys = (len(tokens) for tokens in tokens_of(run, head.stack))
    fits = head in heads and 2 * len(heads) * n_queries * n_keys <= BUNDLE
    return heads if fits else (head,)


def _choice(given: Given) -> Choice:
    from attnlens.report.maps import BETWEEN, Choice

    flags = {name: given.get(name) == "1" for name in ("words", "hide_special", "hide_sinks", "whole_rows")}
    between = given.get("between", "")
    if between not in BETWEEN:
        raise UsageError(f"between={between[:20]!r}: expected one of {', '.join(BETWEEN[1:])}.")
    return Choice(**flags, between=between)
