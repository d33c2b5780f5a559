"""Settings of a dashboard from environment variables, for servers that call a factory without arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnlens.errors import ServerError, UsageError
from dashboards.config import DashboardConfig
from dashboards.jobs.store import default_folder as default_jobs
from dashboards.security import is_loopback, token_for
from dashboards.store import default_folder

__all__ = ["config_from", "prefix_from"]

_TEXTS = {
    "ATTNLENS_MODEL": "model",
    "ATTNLENS_TEXT": "text",
    "ATTNLENS_HOST": "host",
    "ATTNLENS_TOKEN": "token",
    "CELERY_BROKER_URL": "broker",
}
_PATHS = {"ATTNLENS_RESULTS": "results", "ATTNLENS_ROOTS": "roots"}
_FOLDERS = {"ATTNLENS_CACHE": "cache", "ATTNLENS_JOBS": "jobs"}
_NUMBERS = {"ATTNLENS_MAX_TOKENS": "max_tokens", "ATTNLENS_MAX_WAITING": "max_waiting", "ATTNLENS_PORT": "port"}
_SIZES = {
    "ATTNLENS_CACHE_SIZE": "max_cache_bytes",
    "ATTNLENS_MAX_MODELS": "max_models_bytes",
    "ATTNLENS_MAX_UPLOAD": "max_upload_bytes",
}


def config_from(environment: Mapping[str, str]) -> DashboardConfig:
    """The settings that `ATTNLENS_...` variables name; all else as `attnlens serve` has it.

    Several paths stand in one variable as in `PATH`, several host names with commas between.

    Raises:
        UsageError: a variable that cannot be read.
        ServerError: others can reach the server, and there is no token, or too short a one.
    """
    from attnlens.models.memory import parse_bytes

    given: dict[str, Any] = {"cache": default_folder(), "jobs": default_jobs()}
    for name, value in environment.items():
        if not value:
            continue
        if name in _TEXTS:
            given[_TEXTS[name]] = value
        elif name in _PATHS:
            given[_PATHS[name]] = tuple(Path(part) for part in value.split(os.pathsep) if part)
        elif name in _FOLDERS:
            given[_FOLDERS[name]] = Path(value)
        elif name == "ATTNLENS_ALLOW_HOSTS":
            given["allowed_hosts"] = tuple(part.strip() for part in value.split(",") if part.strip())
        elif name in _NUMBERS:
            given[_NUMBERS[name]] = _number(name, value)
        elif name in _SIZES:
            given[_SIZES[name]] = parse_bytes(value)
    config = DashboardConfig(**given)
    if config.token is None and not is_loopback(config.host):
        raise ServerError(
            f"ATTNLENS_HOST={config.host} lets others reach the server: set ATTNLENS_TOKEN to a secret that every "
            "worker process asks for."
        )
    token_for(config.host, config.token)  # refuses one that is too short
    return config


def prefix_from(environment: Mapping[str, str]) -> str:
    """The path below which the dashboard stands, with a slash at both ends."""
    inner = environment.get("ATTNLENS_PREFIX", "").strip("/")
    return f"/{inner}/" if inner else "/"


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < len(value) < 10):
        raise UsageError(f"{name}={value[:40]!r} is no number; expected digits, as in {name}=8.")
    return int(value)
