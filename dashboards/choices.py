"""Which models the page offers, and which it may open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from attnlens.errors import ModelNotFoundError
from dashboards.config import DashboardConfig
from dashboards.security import is_loopback

__all__ = ["Choice", "ModelChoices"]

_HUB_ID = re.compile(r"[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?", re.ASCII)
_EXAMPLES = ("The keys to the cabinet are on the table.",)


@dataclass(frozen=True)
class Choice:
    """A model that the page lists: its name, one line about it, and texts on which it shows something."""

    name: str
    description: str
    examples: tuple[str, ...] = ()


class ModelChoices:
    """The listed models, and the rule for any other name that a visitor types.

    Listed models may always be opened. A model folder below one of the configured roots, and a hub id, may be opened
    only while the server listens to this machine alone. Nothing is ever opened with remote code or from a pickle.
    """

    def __init__(self, config: DashboardConfig, listed: tuple[Choice, ...]) -> None:
        known = {choice.name for choice in listed}
        own = () if config.model in known else (Choice(config.model, "given at start", _EXAMPLES),)
        self.listed = own + listed
        self._names = {choice.name for choice in self.listed}
        self._roots = tuple(root.resolve() for root in config.roots)
        self._only_listed = not is_loopback(config.host)

    def is_listed(self, name: str) -> bool:
        """Whether a link may open this model without the visitor pressing Run."""
        return name in self._names

    def describe(self, name: str) -> Choice:
        """The listed choice of this name, or a plain one."""
        return next(
            (choice for choice in self.listed if choice.name == name), Choice(name, "folder or hub id", _EXAMPLES)
        )

    def check(self, name: str) -> None:
        """Return if this model may be opened.

        Raises:
            ModelNotFoundError: it may not; the message says why and what to do.
        """
        if self.is_listed(name):
            return
        if not name:
            raise ModelNotFoundError("no model is chosen; pick one from the list, or type a folder or a hub id.")
        if self._only_listed:
            raise ModelNotFoundError(
                f"{name[:200]!r} is not listed, and a server that others can reach opens listed models only; "
                "pick one from the list, or start the server with --model."
            )
        if _is_folder(name):
            self._check_folder(name)
        elif not _HUB_ID.fullmatch(name):
            raise ModelNotFoundError(
                f"{name[:200]!r} is neither a folder nor a hub id such as org/model; check its spelling."
            )

    def _check_folder(self, name: str) -> None:
        folder = Path(name).expanduser().resolve()
        if not any(folder.is_relative_to(root) for root in self._roots):
            raise ModelNotFoundError(
                f"{name[:200]!r} lies outside the folders that this page may open; "
                f"start the server with --root {folder.parent}."
            )


def _is_folder(name: str) -> bool:
    try:
        return Path(name).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, `~nobody`
        return False
