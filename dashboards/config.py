"""What the dashboard is started with: a model, a text, results, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DEFAULT_MODEL", "DashboardConfig"]

DEFAULT_MODEL = "attnlens/tiny-bert"


@dataclass(frozen=True, kw_only=True)
class DashboardConfig:
    """Settings of one dashboard; they do not change while it runs.

    Attributes:
        model: the model shown when the address names none.
        text: the text shown when the address names none; None takes the model's first example.
        results: folders (or `heads.json` files) with probe results that the page offers.
        roots: folders below which a model folder may be opened from the page.
        host: the address the server is bound to; it decides whether models and folders beyond the listed ones are open.
        allowed_hosts: further host names under which the page may be asked for (a reverse proxy, a machine's name).
        token: the secret that a visitor has to bring; None asks for none (loopback only).
        port: the port the server is bound to; part of the cookie's name.
        frame_ancestors: pages that may show the dashboard in a frame, as sources of a Content-Security-Policy; none.
        max_characters: longest text that is looked at.
        max_tokens: longest text, in tokens of the model, that is run.
        max_runs_bytes: memory that captured runs may take before the oldest are dropped.
        max_models_bytes: memory that weights may take before the models used least recently are dropped.
        max_body_bytes: largest request body, other than an uploaded file.
        max_upload_bytes: largest file that the page takes.
        cache: folder in which runs and uploads are kept for all processes of a server; None keeps them in memory.
        max_cache_bytes: bound on that folder; what was not used for longest goes first.
        jobs: folder in which probes that the page starts leave their results; None starts none.
        broker: address of the broker of Celery that has them run; None runs them on this machine.
        max_jobs: probes that wait or run at a time.
        max_waiting: requests that wait for a run at a time; keep it below the threads of a process.
    """

    model: str = DEFAULT_MODEL
    text: str | None = None
    results: tuple[Path, ...] = ()
    roots: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    token: str | None = None
    port: int = 8050
    frame_ancestors: tuple[str, ...] = ()
    max_characters: int = 20_000
    max_tokens: int = 4096
    max_runs_bytes: int = 256 * 2**20
    max_models_bytes: int = 4 * 2**30
    max_body_bytes: int = 64 * 2**20
    max_upload_bytes: int = 256 * 2**20
    cache: Path | None = None
    max_cache_bytes: int = 2 * 2**30
    max_waiting: int = 8
    jobs: Path | None = None
    broker: str | None = None
    max_jobs: int = 2
