"""What can be told about a model before it is loaded: where it lies, whether it changed, how much memory it takes."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attnlens.errors import AttnlensError, UnsupportedModelError
from attnlens.zoo.registry import find_embedded

__all__ = ["check_room", "folder_of", "stamp_of"]

_LIBRARIES = ("torch", "transformers", "attnlens")


def folder_of(name: str) -> Path | None:
    """The folder of an embedded model, a local one, or one in the hub's local cache; None where there is none here."""
    try:
        if (embedded := find_embedded(name)) is not None:
            return embedded
        local = Path(name).expanduser()
        if local.is_dir():
            return local
    except (AttnlensError, OSError, ValueError, RuntimeError):
        return None
    return _in_hub_cache(name)


def stamp_of(name: str) -> str:
    """A string that changes when the model's files or the libraries do, so that a run of other weights is never shown.

    Read from names, sizes and times of the files; no file is opened and the network is not asked.
    """
    folder = folder_of(name)
    files = [] if folder is None else sorted(_facts(folder))
    return hashlib.sha256(json.dumps([str(folder), files, _versions()]).encode()).hexdigest()


def check_room(name: str) -> None:
    """Refuse a model whose weights alone are larger than the memory that is free.

    Raises:
        UnsupportedModelError: it is.
    """
    from attnlens.models.memory import available_bytes, shown_bytes

    folder, free = folder_of(name), available_bytes()
    if folder is None or free is None:
        return
    needed = sum(size for file, size, _ in _facts(folder) if file.endswith(".safetensors"))
    if needed > free:
        raise UnsupportedModelError(
            f"{name[:200]} needs {shown_bytes(needed)} of memory and {shown_bytes(free)} are free; "
            "open a smaller model, or start the server on a larger machine."
        )


def _facts(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    try:
        for path in folder.iterdir():
            if path.is_file():
                status = path.stat()
                found.append((path.name, status.st_size, status.st_mtime_ns))
    except OSError:
        return found
    return found


def _in_hub_cache(name: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "config.json")
    except (ValueError, OSError):  # no name that the hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None


@cache
def _versions() -> tuple[str, ...]:
    found = []
    for library in _LIBRARIES:
        try:
            found.append(version(library))
        except PackageNotFoundError:
            found.append("")
    return tuple(found)
