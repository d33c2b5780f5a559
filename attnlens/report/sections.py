"""Sections that other packages add to reports: paragraphs and tables, which the report sets, escapes and names.

A package registers a `Section` under the entry point `attnlens.sections`. What it returns is text and numbers, never
HTML, so that no plug-in can break the page or its Content-Security-Policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from attnlens.errors import AttnlensError, PluginError
from attnlens.plugins import installed, load_plugin
from attnlens.report.tables import Table

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.report.results import HeadResults

__all__ = ["GROUP", "AddedSection", "Part", "Section", "sections_for"]

GROUP = "attnlens.sections"

Subject = TypeVar("Subject")

Part = str | Table
"""A paragraph, or a table with its caption."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section that a package adds to reports.

    Attributes:
        title: its heading, plain text.
        of_run: what it says of a run; None, or nothing returned, leaves it out of reports on a run.
        of_results: what it says of probe results; the same.
    """

    title: str
    of_run: Callable[[Capture], Sequence[Part]] | None = None
    of_results: Callable[[HeadResults], Sequence[Part]] | None = None


@dataclass(frozen=True)
class AddedSection:
    """A section as it stands in one report.

    Attributes:
        name: of the entry point; the report's anchor is `section-NAME`.
        title: its heading.
        parts: paragraphs and tables, in order.
    """

    name: str
    title: str
    parts: tuple[Part, ...]

    def items(self) -> tuple[tuple[str, Part], ...]:
        """Each part with what it is: "text" or "table"."""
        return tuple(("table" if isinstance(part, Table) else "text", part) for part in self.parts)


def sections_for(run: Capture | None = None, results: HeadResults | None = None) -> tuple[AddedSection, ...]:
    """What installed packages add to a report on this run, or on these results, by name.

    Raises:
        PluginError: an entry point is no `Section`, fails, or returns something else than text and tables.
    """
    added = []
    for name in installed(GROUP):
        section = load_plugin(GROUP, name)
        if not isinstance(section, Section):
            raise PluginError(
                f"the section {name!r} is {type(section).__name__}; expected a Section of attnlens.report.sections."
            )
        parts = (*_parts(name, section.of_run, run), *_parts(name, section.of_results, results))
        if parts:
            added.append(AddedSection(name, section.title, parts))
    return tuple(added)


def _parts(name: str, made: Callable[[Subject], Sequence[Part]] | None, subject: Subject | None) -> tuple[Part, ...]:
    if made is None or subject is None:
        return ()
    try:
        parts = tuple(made(subject))
    except AttnlensError:
        raise
    except Exception as error:
        raise PluginError(
            f"the section {name!r} cannot be written ({type(error).__name__}: {error}); tell whoever wrote it, or "
            "uninstall the package that brings it."
        ) from error
    for part in parts:
        if not isinstance(part, str | Table):
            raise PluginError(f"the section {name!r} returned {type(part).__name__}; expected text or a Table.")
    return parts
