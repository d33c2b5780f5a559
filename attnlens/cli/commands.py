"""The commands that are installed, loaded one at a time when asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.main import get_command

from attnlens.errors import PluginError

__all__ = ["GROUP", "Commands"]

GROUP = "attnlens.commands"

# The order in which one gets to know the tool; what others install follows, by name.
_ORDER = ("models", "show", "capture", "probe", "report", "serve", "size", "doctor")


class Commands(MutableMapping[str, Any]):
    """Command name -> command, as a mapping that imports a command's module when the command is looked up."""

    def __init__(self) -> None:
        found = {_command_name(point): point for point in entry_points(group=GROUP)}
        self._points: dict[str, EntryPoint] = dict(sorted(found.items(), key=lambda item: _rank(item[0])))
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._points[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._points[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)


def _command_name(point: EntryPoint) -> str:
    return point.name.replace("_", "-")


def _rank(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _load(name: str, point: EntryPoint) -> Any:
    """The command behind an entry point.

    One that cannot be loaded still stands in the list, which says so, and is an error only when it is run: a
    broken plug-in must not take the other commands with it.
    """
    try:
        return _command(name, point.load())
    except Exception as error:
        return _broken(name, point, error)


def _command(name: str, function: Callable[..., Any]) -> Any:
    sub = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    summary = inspect.getdoc(function) or ""
    sub.command(name, help=summary.split("\n\nArgs:")[0].split("\n\nRaises:")[0])(function)
    return get_command(sub)


def _broken(name: str, point: EntryPoint, error: Exception) -> Any:
    reason = f"{type(error).__name__}: {error}"
    source = point.dist.name if point.dist is not None else "an unknown package"
    message = (
        f"the command {name!r} ({point.value}, from {source}) cannot be loaded: {reason}; reinstall or remove {source}."
    )

    def refuse(_context: typer.Context) -> None:
        raise PluginError(message) from error

    sub = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    sub.command(name, help=f"(cannot be loaded: {reason})", context_settings=anything)(refuse)
    return get_command(sub)
