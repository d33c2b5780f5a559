"""The dashboard for WSGI servers with several worker processes: `gunicorn "dashboards.wsgi:create()"`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dashboards.settings import config_from, prefix_from

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create"]


def create() -> Flask:
    """The WSGI application, with settings from environment variables (see `dashboards.settings.config_from`).

    Raises:
        AttnlensError: a setting that cannot be, or results that cannot be read.
    """
    from dashboards.app import create_app, warm_up

    app = create_app(config_from(os.environ), prefix=prefix_from(os.environ))
    warm_up(app)
    server: Flask = app.server
    return server
