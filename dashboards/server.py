"""The web server around the app: a socket bound early, several threads, one line when the port is taken."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from attnlens.errors import ServerError

if TYPE_CHECKING:
    from dash import Dash

__all__ = ["bind", "serve_app"]

N_THREADS = 16  # of them `DashboardConfig.max_waiting` may wait for runs
_FRAME_BYTES = 2**20  # so that a body that is a little too large is refused by us, with a reason
BACKLOG = 128


def bind(host: str, port: int) -> socket.socket:
    """A listening socket on `host:port`; port 0 takes a free one. Costs nothing, so it comes before models.

    Raises:
        ServerError: the port is taken, needs more rights, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServerError(f"{host}:{port} is not an address to listen on; try --host 127.0.0.1 --port 8050.") from error
    try:
        if os.name == "posix":  # elsewhere this would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)  # now, not later: until someone listens, a second server could bind the same port
    except OSError as error:
        bound.close()
        raise ServerError(_why(host, port, error)) from error
    return bound


def serve_app(app: Dash, bound: socket.socket, max_body_bytes: int) -> None:
    """Serve until interrupted (Ctrl+C returns)."""
    from waitress import create_server

    server = create_server(
        app.server,
        sockets=[bound],
        threads=N_THREADS,
        ident=None,
        max_request_body_size=max_body_bytes + _FRAME_BYTES,
        clear_untrusted_proxy_headers=True,
    )
    try:
        server.run()
    finally:
        server.close()


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; try --port {port + 1 if port < 65535 else 8050}."
    if error.errno == errno.EACCES:
        return f"port {port} of {host} needs more rights than you have; try --port 8050."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; try --host 127.0.0.1."
    return f"cannot listen on {host}:{port} ({error.strerror or error}); try another --host or --port."
