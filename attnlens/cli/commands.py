"""The commands that are installed, loaded one at a time when asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import typer
from typer.main import get_command

from attnlens.errors import PluginError
from attnlens.plugins import installed, load_plugin

__all__ = ["GROUP", "Commands"]

GROUP = "attnlens.commands"

# The order in which one gets to know the tool; what others install follows, by name.
_ORDER = (
    "models",
    "show",
    "capture",
    "measure",
    "measures",
    "ablate",
    "patch",
    "probe",
    "compare",
    "merge",
    "calibrate",
    "report",
    "open",
    "figure",
    "export",
    "serve",
    "size",
    "doctor",
)


class Commands(MutableMapping[str, Any]):
    """Command name -> command, as a mapping that imports a command's module when the command is looked up.

    A command that cannot be loaded still stands in the list, which says so, and is an error only when it is run: a
    broken plug-in must not take the other commands with it.
    """

    def __init__(self) -> None:
        """List what is installed; nothing is loaded yet."""
        self._names = {name.replace("_", "-"): name for name in sorted(installed(GROUP), key=_rank)}
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._names[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._names[name] = name
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._names[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _rank(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _load(name: str, entry: str) -> Any:
    try:
        return _command(name, load_plugin(GROUP, entry))
    except PluginError as error:
        return _broken(name, error)


def _command(name: str, function: Callable[..., Any]) -> Any:
    """A function with typer annotations as a command; its docstring, up to its first section, is the help."""
    sub = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    text = inspect.getdoc(function) or ""
    sub.command(name, help=text.split("\n\nArgs:")[0].split("\n\nRaises:")[0])(function)
    return get_command(sub)


def _broken(name: str, error: PluginError) -> Any:
    def refuse() -> None:
        raise error

    sub = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    sub.command(name, help=f"({error})", context_settings=anything)(refuse)
    return get_command(sub)
