"""From what a visitor filled in to a request for a job: only models and files that the page may open, within bounds."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path

from attnlens.errors import CorpusError, UsageError
from attnlens.plugins import installed
from dashboards.config import DashboardConfig
from dashboards.security import is_loopback

__all__ = ["allowed_corpus", "allowed_families", "families", "uploaded_corpus"]

_GROUP = "attnlens.probes"
_OF_THE_STREAM = "probes.stream."  # they say nothing about heads


def families() -> tuple[str, ...]:
    """The installed families of probes that look at heads; none is loaded."""
    return tuple(name for name, entry in installed(_GROUP).items() if not entry.value.startswith(_OF_THE_STREAM))


def allowed_families(asked: Sequence[str]) -> tuple[str, ...]:
    """The families asked for.

    Raises:
        UsageError: one of them is not offered.
    """
    if unknown := set(asked) - set(families()):
        raise UsageError(f"there is no family {min(unknown)[:60]!r}; choose among {', '.join(families())}.")
    return tuple(asked)


def allowed_corpus(config: DashboardConfig, name: str) -> str:
    """The path of a file on this machine that a visitor may have read, with links followed.

    Raises:
        CorpusError: others can reach this server, or no such file lies below the folders that the page may open.
    """
    if not is_loopback(config.host):
        raise CorpusError("a server that others can reach reads uploads and the embedded corpus only; upload the file.")
    if not name.strip():
        raise CorpusError("no file is named; type its path, or upload it.")
    try:
        path = Path(name.strip()).expanduser().resolve()
        inside = any(path.is_relative_to(root.resolve()) for root in config.roots)
        found = inside and path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, `~nobody`
        inside = found = False
    if not inside:
        raise CorpusError(
            f"{name[:200]!r} lies outside the folders that this page may open; start the server with --root DIR, or "
            "upload the file."
        )
    if not found:
        raise CorpusError(f"{name[:200]!r} is not a file; check its path.")
    return str(path)


def uploaded_corpus(contents: str | None, name: str | None, limit: int) -> tuple[str, bytes]:
    """A safe file name and the bytes of an uploaded corpus (a `data:` address, as browsers send it).

    Raises:
        CorpusError: nothing arrived, or more than `limit` bytes.
    """
    if not contents:
        raise CorpusError("no file was uploaded; choose a CoNLL-U file.")
    try:
        data = b64decode(contents.partition(",")[2], validate=True)
    except ValueError as error:
        raise CorpusError("the file did not arrive whole; choose it again.") from error
    if len(data) > limit:
        raise CorpusError(f"the file has {len(data):,} bytes, this page takes {limit:,}; run attnlens probe on it.")
    if not data:
        raise CorpusError("the file is empty; choose a CoNLL-U file.")
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", last, flags=re.ASCII).strip(".-")[-60:].lstrip(".-")
    reserved = safe.lower() in ("", "job.json", "state.json", "cancel", "results", "log.txt")
    return "corpus.conllu" if reserved else safe, data
