"""The Dash app: its pages, assets and callbacks, behind the guard of `security`."""

from __future__ import annotations

import logging
import threading
from urllib.parse import quote

from dash import Dash
from flask import Blueprint, Flask

from attnlens.errors import AttnlensError, UsageError
from attnlens.report import palette
from dashboards import classic, data, export, sentences, upload
from dashboards.config import DashboardConfig
from dashboards.desk import Desk
from dashboards.pages import frame
from dashboards.pages.addressing import completed
from dashboards.pages.listing import find_page
from dashboards.pages.running import report_error
from dashboards.security import guard, page_policy
from dashboards.state import ViewState

__all__ = ["DashboardConfig", "create_app", "desk_of", "warm_up"]

log = logging.getLogger(__name__)

_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
ICON
<style>PALETTE</style>
{%css%}
</head>
<body>
{%app_entry%}
<noscript>attnlens draws in the browser and needs JavaScript; attnlens show works without.</noscript>
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>"""


# In the page itself: a browser asks for an icon anew whenever the address changes.
_ICON = quote(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g stroke="#c2410c" stroke-width="4" '
    'stroke-linecap="round" fill="#c2410c"><path d="M7 7L25 16M7 25L25 16" /><circle cx="7" cy="7" r="2.5" />'
    '<circle cx="7" cy="25" r="2.5" /><circle cx="25" cy="16" r="3.5" /></g></svg>'
)


def create_app(config: DashboardConfig | None = None, *, server: Flask | None = None, prefix: str = "/") -> Dash:
    """The dashboard as a Dash app; `app.server` is its WSGI application. Loads no model yet.

    Args:
        config: settings; the defaults serve the embedded models to this machine.
        server: a Flask server of yours that has not answered a request yet; None makes one.
        prefix: where the dashboard stands in it, as in "/attn/"; only addresses below it are touched and guarded.

    Raises:
        ResultsError: a path in `config.results` holds no probe results.
        UsageError: a prefix that does not begin and end with a slash.
    """
    if not (prefix.startswith("/") and prefix.endswith("/")):
        raise UsageError(f"the prefix is {prefix!r}; expected a path between slashes, such as '/attn/'.")
    config = config or DashboardConfig()
    desk = Desk.of(config)
    routes = Blueprint(f"attnlens{prefix.replace('/', '-')}", __name__, url_prefix=prefix.rstrip("/"))
    for part in (classic, data, export, sentences, upload):
        part.register(routes, desk)
    app = Dash(
        __name__,
        server=server or Flask(__name__),  # type: ignore[arg-type]
        url_base_pathname=prefix,
        title="attnlens",
        update_title="",
        index_string=_INDEX.replace("PALETTE", palette.css()).replace(
            "ICON", f'<link rel="icon" href="data:image/svg+xml,{_ICON}">'
        ),
        use_pages=False,
        serve_locally=True,
        external_scripts=data.script_addresses(prefix),
        on_error=report_error,
        suppress_callback_exceptions=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = lambda: frame.layout(app, desk)  # made anew for each visit: results come up while it runs
    frame.register(app, desk)
    app.server.register_blueprint(routes)
    policy = page_policy(app.csp_hashes(), config.frame_ancestors)
    guard(app.server, config, policy, lambda path: find_page(path, ViewState()) is not None, prefix=prefix)
    app.server.extensions[f"attnlens{prefix}"] = desk
    return app


def desk_of(app: Dash) -> Desk:
    """The models, runs and results behind an app."""
    desk: Desk = app.server.extensions[f"attnlens{app.config.routes_pathname_prefix}"]
    return desk


def warm_up(app: Dash) -> threading.Thread:
    """Make the first run in the background, so that it is ready when the browser is.

    Before that, answer one request here: Dash sets itself up during the first one and answers others meanwhile, with
    scripts missing. A worker process is asked for many things at once, if another one has written the page. Routes of
    your own have to be there by now.
    """
    app.server.test_client().get(app.config.routes_pathname_prefix)
    desk = desk_of(app)
    view = completed(desk, ViewState())

    def first_run() -> None:
        try:
            desk.runs.open(view.request)
            desk.runs.lens(view.model)  # a run that was read from disk opened no model, and the next text needs it
        except AttnlensError:
            log.debug("the first run failed; the page will say so", exc_info=True)

    thread = threading.Thread(target=first_run, name="attnlens-warm-up", daemon=True)
    thread.start()
    return thread
