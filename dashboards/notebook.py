"""The dashboard inside a notebook: a server thread on this machine, and a frame that shows it."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from attnlens.errors import UsageError
from dashboards.config import DEFAULT_MODEL, DashboardConfig
from dashboards.server import bind

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["Shown", "show"]

# Notebook servers on this machine, and those of editors that show a notebook themselves.
NOTEBOOKS = ("http://localhost:*", "http://127.0.0.1:*", "https://localhost:*", "vscode-webview:", "vscode-file:")


class Shown:
    """A dashboard that a notebook shows; the last value of a cell draws it.

    Attributes:
        address: what to open in a browser instead.
        height: of the frame, in pixels.
    """

    def __init__(self, address: str, height: int, server: Any) -> None:
        """`server` runs on a thread of its own."""
        self.address, self.height, self._server = address, height, server

    def __repr__(self) -> str:
        return f"Shown({self.address!r})"

    def _repr_html_(self) -> str:
        from html import escape

        frame = "width:100%;border:1px solid #8884;border-radius:8px"
        return f'<iframe src="{escape(self.address)}" height="{self.height}" style="{frame}" title="attnlens"></iframe>'

    def close(self) -> None:
        """Stop the server; the frame then stays as it is."""
        self._server.shutdown()
        self._server.server_close()


def show(model: Lens | str = DEFAULT_MODEL, text: str | None = None, *, height: int = 900, port: int = 0) -> Shown:
    """Show the dashboard below a notebook's cell.

    Args:
        model: an opened model (`attnlens.load`), or a name.
        text: the first text; None takes an example.
        height: of the frame, in pixels.
        port: of the server on this machine's loopback address; 0 takes a free one.

    Returns:
        What the notebook draws; its `close()` stops the server, which otherwise ends with the kernel.

    Raises:
        UsageError: neither an opened model nor a name.
        ServerError: the port is taken.
    """
    from dashboards.app import create_app, desk_of, warm_up

    name = model if isinstance(model, str) else getattr(getattr(model, "anatomy", None), "model", None)
    if not isinstance(name, str):
        raise UsageError(f"{type(model).__name__} is no model; give a name, or what attnlens.load returned.")
    bound = bind("127.0.0.1", port)
    number: int = bound.getsockname()[1]
    config = DashboardConfig(model=name, text=text, port=number, frame_ancestors=NOTEBOOKS)
    app = create_app(config)
    if not isinstance(model, str):
        desk_of(app).runs.adopt(name, model)
    warm_up(app)
    server = _quiet_server(app.server, bound)
    threading.Thread(target=server.serve_forever, name="attnlens-notebook", daemon=True).start()
    query = "?" + urlencode({"model": name, "text": text}) if text else ""
    return Shown(f"http://127.0.0.1:{number}/{query}", height, server)


def _quiet_server(application: Any, bound: socket.socket) -> Any:
    """A server that can be stopped from another thread, and writes no line per request into the notebook."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing."""

    with bound:  # the server keeps a copy of it
        host, number = bound.getsockname()[:2]
        return make_server(host, number, application, threaded=True, request_handler=Quiet, fd=bound.fileno())
