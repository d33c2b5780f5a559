"""`attnlens serve`: the dashboard on a port of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from attnlens.zoo.registry import find_embedded
from dashboards.config import DEFAULT_MODEL, DashboardConfig
from dashboards.security import is_loopback, token_for
from dashboards.server import bind, serve_app
from dashboards.store import default_folder

if TYPE_CHECKING:
    from dash import Dash

__all__ = ["serve"]

INTERRUPTED = 130


def serve(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The sentence shown first.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help=f"The model shown first: embedded, a folder or a hub id.  [default: {DEFAULT_MODEL}]",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; beyond this machine a token is asked for.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8050,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", metavar="DIR", help="What `attnlens probe` wrote; may be repeated."),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option("--root", metavar="DIR", help="Open model folders below DIR from the page (default: here)."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="ATTNLENS_TOKEN", metavar="TOKEN", help="Ask every visitor for this secret."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Also answer to this host name; may be repeated."),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, metavar="N", help="Longest text that the page runs.")
    ] = DashboardConfig.max_tokens,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            envvar="ATTNLENS_CACHE",
            metavar="DIR",
            help="Keep runs and uploads here for all servers of yours (default: the user's cache folder).",
        ),
    ] = None,
    cache_size: Annotated[
        str, typer.Option("--cache-size", metavar="SIZE", help="Bound on that folder (512M, 2G).")
    ] = "2G",
    jobs: Annotated[
        Path | None,
        typer.Option(
            "--jobs",
            envvar="ATTNLENS_JOBS",
            metavar="DIR",
            help="Where probes that the page starts leave their results (default: the user's data folder).",
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            "--broker", envvar="CELERY_BROKER_URL", metavar="URL", help="Have workers of Celery run these probes."
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
) -> int:
    """Serve the dashboard until Ctrl+C: type a sentence, see every head, click one."""
    from attnlens.cli import console

    token = token_for(host, token)
    if model is not None:
        find_embedded(model)  # an embedded name is checked at no cost; any other when the model is opened
    with bind(host, port) as bound:
        from attnlens.models.memory import parse_bytes  # loads torch: only once the port is ours
        from dashboards.jobs.store import default_folder as jobs_folder

        config = DashboardConfig(
            model=DEFAULT_MODEL if model is None else model,
            text=text,
            results=tuple(results or ()),
            roots=tuple(root or (Path.cwd(),)),
            host=host,
            allowed_hosts=tuple(allow_host or ()),
            token=token,
            port=bound.getsockname()[1],
            max_tokens=max_tokens,
            cache=cache or default_folder(),
            max_cache_bytes=parse_bytes(cache_size),
            jobs=jobs or jobs_folder(),
            broker=broker,
        )
        app = _app(config, opened=model is not None)
        address = _address(config)
        console.out(f"attnlens is at {address}  (Ctrl+C stops it)")
        if open_browser:
            import webbrowser

            webbrowser.open(address)
        serve_app(app, bound, config.max_upload_bytes)
    return INTERRUPTED


def _app(config: DashboardConfig, *, opened: bool) -> Dash:
    """The app, with the first run captured while the browser still opens the page.

    Args:
        config: what to serve.
        opened: open the model first, so that a mistake in its name is an error here and not in the browser.

    Raises:
        AttnlensError: the model cannot be opened, or a path in `config.results` holds no probe results.
    """
    from attnlens.cli import console

    with console.status("starting the dashboard"):
        from dashboards.app import create_app, desk_of, warm_up

        app = create_app(config)
    if opened:
        with console.status(f"opening {config.model}"):
            desk_of(app).runs.lens(config.model)
    warm_up(app)
    return app


def _address(config: DashboardConfig) -> str:
    """What to type into a browser. An address that stands for all of the machine's is printed as this machine's own."""
    host = config.host
    if not is_loopback(host) and host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        host = "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    query = "?" + urlencode({"token": config.token}) if config.token else ""
    return f"http://{host}:{config.port}/{query}"
