"""Who may ask for the page, and what the page may do: host names, token, headers, sizes."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from attnlens.errors import ServerError
from dashboards.config import DashboardConfig

if TYPE_CHECKING:
    from flask import Flask, Response

__all__ = ["MIN_TOKEN", "content_hash", "guard", "is_loopback", "new_token", "page_policy", "token_for"]

MIN_TOKEN = 16
_GO_ON = '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={}"><title>attnlens</title>'


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only: `localhost` or a loopback address.

    Any other name counts as reachable, whatever it resolves to at the moment.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A fresh secret of 256 random bits, safe in an address."""
    return secrets.token_urlsafe(32)


def token_for(host: str, given: str | None) -> str | None:
    """The secret that a server bound to `host` asks for: the given one, a new one where others can reach it, or none.

    Raises:
        ServerError: the given secret is too short to be one.
    """
    if given is not None and len(given) < MIN_TOKEN:
        raise ServerError(
            f"the token has {len(given)} characters, at least {MIN_TOKEN} are needed; leave it out to get one."
        )
    if given is not None or is_loopback(host):
        return given
    return new_token()


def content_hash(script: str) -> str:
    """The Content-Security-Policy source that allows exactly this inline script."""
    return f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def page_policy(script_hashes: Sequence[str], frame_ancestors: Sequence[str] = ()) -> str:
    """The Content-Security-Policy of the page: own files, Dash's own inline scripts by hash, no eval, no other host.

    Styles may be inline: Plotly and Mantine write them at run time.
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {' '.join(script_hashes)}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "frame-src 'self'",
            f"frame-ancestors {' '.join(frame_ancestors) or chr(39) + 'none' + chr(39)}",
            "form-action 'none'",
            "base-uri 'none'",
        ]
    )


def guard(
    server: Flask,
    config: DashboardConfig,
    policy: str,
    is_page: Callable[[str], bool] = lambda path: path == "/",
    *,
    prefix: str = "/",
) -> None:
    """Refuse foreign host names, foreign origins and visitors without the token; put safe headers on every answer.

    Args:
        server: what is guarded.
        config: host names and token.
        policy: the Content-Security-Policy of the pages.
        is_page: whether a path below the prefix is that of a page, which other sites may link to.
        prefix: only addresses below it are guarded; the rest of the server is somebody else's.
    """
    from flask import request

    checks: list[Callable[[], Any]] = [_size_limit(config), _host_check(config, is_page, prefix)]
    if config.token is not None:
        checks.append(_token_check(config.token, f"attnlens_{config.port}"))

    def is_ours() -> bool:
        return request.path.startswith(prefix) or request.path == prefix.rstrip("/")

    def check() -> Any:
        return next((refusal for one in checks if (refusal := one()) is not None), None) if is_ours() else None

    add = _headers(policy)
    server.before_request(check)
    server.after_request(lambda response: add(response) if is_ours() else response)


def _size_limit(config: DashboardConfig) -> Callable[[], None]:
    from flask import request

    def limit() -> None:
        request.max_content_length = config.max_body_bytes

    return limit


def _host_check(
    config: DashboardConfig, is_page: Callable[[str], bool], prefix: str
) -> Callable[[], tuple[str, int] | None]:
    from flask import request

    def check() -> tuple[str, int] | None:
        if not _known(_hostname(f"//{request.host}"), config):
            return "This host name is not known here; open the address that the server printed.\n", 403
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            return "Another site may not use this server.\n", 403
        if _sent_by_another_site(is_page, prefix, framed=bool(config.frame_ancestors)):
            return "Another site may only link to the page itself.\n", 403
        return None

    return check


def _sent_by_another_site(is_page: Callable[[str], bool], prefix: str, *, framed: bool) -> bool:
    """Whether a browser says that another site or port made this request, and it is no link that a person followed.

    Where pages may be framed, a frame is as good as a link: the policy's `frame-ancestors` says by whom.

    An image or a frame elsewhere sends no `Origin` with its GET; browsers name their kind in `Sec-Fetch-*`
    (W3C Fetch Metadata). Programs without these headers are no browser that a foreign page could steer.
    """
    from flask import request

    if request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return False
    kind = request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")
    kinds = [("navigate", "document"), *([("navigate", "iframe")] if framed else [])]
    return not is_page("/" + request.path.removeprefix(prefix)) or kind not in kinds


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _known(name: str, config: DashboardConfig) -> bool:
    """A page elsewhere can point its own name at this machine (DNS rebinding), but never an address."""
    if is_loopback(name) or name in {host.lower() for host in config.allowed_hosts}:
        return True
    if is_loopback(config.host):
        return False
    if name == config.host.lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _token_check(token: str, cookie: str) -> Callable[[], Response | None]:
    from flask import Response, request

    def same(given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), token.encode())

    def check() -> Response | None:
        if same(request.args.get("token")):
            return _welcome(cookie, token)
        if same(request.cookies.get(cookie)):
            return None
        return Response(
            "A token is needed: open the address that the server printed; it ends in token=...\n",
            status=401,
            mimetype="text/plain",
        )

    return check


def _welcome(cookie: str, token: str) -> Response:
    """Put the token into a cookie and go on to the same address without it.

    Not a redirect: a `SameSite=Strict` cookie would not be sent along one that began on another site.
    """
    from flask import Response, request

    rest = [(name, value) for name, value in parse_qsl(request.query_string.decode(), True) if name != "token"]
    target = "/" + request.path.lstrip("/\\") + ("?" + urlencode(rest) if rest else "")
    response = Response(_GO_ON.format(escape(target)), mimetype="text/html")
    response.set_cookie(cookie, token, httponly=True, samesite="Strict", secure=request.is_secure)
    return response


def _headers(policy: str) -> Callable[[Response], Response]:
    def add(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
        return response

    return add
