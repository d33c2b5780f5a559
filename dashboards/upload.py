"""Files that a visitor brings: a run (`.attn`), a probe result (`heads.json`) or a corpus.

A corpus is known by the ending of its name, the others by their content.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError, BundleError, CorpusError, ResultsError
from attnlens.models.memory import shown_bytes
from dashboards.desk import Desk
from dashboards.sentences import ENDINGS

if TYPE_CHECKING:
    from flask.sansio.scaffold import Scaffold

__all__ = ["register", "take"]

_BLOCK = 1 << 20


@runtime_checkable
class Readable(Protocol):
    """A file, or what a web server has of one."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def register(server: Scaffold, desk: Desk) -> None:
    """Take a file at `/upload?name=...`, the body being the file; answer with what to show, or why it is nothing."""

    @server.post("/upload")
    def upload() -> dict[str, Any]:
        from flask import request

        limit = desk.config.max_upload_bytes
        request.max_content_length = None  # we read in blocks, and count
        name = request.args.get("name", "the file")[:200]
        try:
            if (request.content_length or 0) > limit:
                raise _too_large(name, limit)
            return take(desk, request.stream, name)
        except AttnlensError as error:
            return {"error": printable(str(error))}


def take(desk: Desk, stream: Readable, name: str) -> dict[str, Any]:
    """Keep an uploaded file for every process of the server.

    Args:
        desk: where it is kept.
        stream: the file.
        name: what the visitor calls it, for messages.

    Returns:
        `{"request": ...}`, the request that shows the run; `{"results": ...}`, the name of the probe result; or
        `{"corpus": ...}`, the name of a corpus.

    Raises:
        BundleError, ResultsError, CorpusError: too large, none of these, damaged, or of a later version.
    """
    with tempfile.TemporaryDirectory(prefix="attnlens-") as folder:
        path = Path(folder) / "upload.attn"
        digest, first = _received(stream, path, name, desk.config.max_upload_bytes)
        if not first:
            raise BundleError(f"{name} is empty; choose the file again.")
        try:
            if name.lower().endswith(ENDINGS):
                return {"corpus": desk.sentences.take(path, name)}
            if first.lstrip()[:1] in (b"{", b"["):
                return {"results": desk.shelf.take(path.read_bytes())}
            return {"request": desk.runs.take(path, digest).to_json()}
        except (BundleError, CorpusError, ResultsError) as error:
            said = str(error).replace(str(path), name).replace(path.name, name)
            raise type(error)(f"{name}: {said.removeprefix(name).strip()}") from error


def _received(stream: Readable, path: Path, name: str, limit: int) -> tuple[str, bytes]:
    """Write the stream to a file; its SHA-256 and its first bytes.

    Raises:
        BundleError: it is larger than the limit, or the disk is full.
    """
    digest, size, first = hashlib.sha256(), 0, b""
    try:
        with path.open("wb") as file:
            while block := stream.read(_BLOCK):
                size += len(block)
                if size > limit:
                    raise _too_large(name, limit)
                first = first or block[:64]
                digest.update(block)
                file.write(block)
    except OSError as error:
        raise BundleError(f"{name} cannot be kept: {error.strerror or error}; tell who runs this server.") from error
    return digest.hexdigest(), first


def _too_large(name: str, limit: int) -> BundleError:
    return BundleError(
        f"{name} is larger than {shown_bytes(limit)}, the most that this page takes; "
        "save a run with fewer layers or heads, or open it in Python with attnlens.open."
    )
