"""Commands, probe families and engines are found through entry points, the built-in ones like anyone's."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from attnlens.errors import PluginError

__all__ = ["Entry", "installed", "load_plugin"]


@runtime_checkable
class Entry(Protocol):
    """What is used of an entry point.

    Once the package importlib_metadata is imported, which Dash does, the standard library returns that package's class
    of entry points and no longer its own.
    """

    @property
    def name(self) -> str:
        """What a user types."""

    @property
    def value(self) -> str:
        """Where it lives, `module:attribute`."""

    def load(self) -> Any:
        """Import it."""


def installed(group: str) -> dict[str, Entry]:
    """Name -> entry point of everything registered in `group`, by name; nothing is loaded."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load_plugin(group: str, name: str) -> Any:
    """Load what is registered as `name` in `group`.

    Raises:
        PluginError: nothing by that name (the message lists what is installed), or it cannot be loaded.
    """
    available = installed(group)
    if name not in available:
        kind = group.removeprefix("attnlens.").removesuffix("s")
        listed = ", ".join(available) or "nothing"
        raise PluginError(f"no {kind} {name!r} is installed; there is {listed}.")
    try:
        return available[name].load()
    except Exception as error:
        raise PluginError(
            f"{available[name].value} ({group}) cannot be loaded ({type(error).__name__}: {error}); "
            "reinstall the package that brings it."
        ) from error
