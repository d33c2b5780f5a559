"""What is wrong in a corpus: raised at once, or, where the caller allows it, left out and counted; and what to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from attnlens.errors import CorpusError

__all__ = ["MOST_SHOWN", "Faults", "at"]

MOST_SHOWN = 10


def at(name: str, line: int, what: str) -> CorpusError:
    """An error that names the file and the line (from 1)."""
    return CorpusError(f"{name}, line {line}: {what}")


@dataclass
class Faults:
    """What one pass over a corpus met.

    Attributes:
        skip: leave a sentence or row with a fault out instead of raising.
        n_skipped: how many were left out.
        shown: the first ten of these faults.
        remarks: what was accepted all the same: a heading -> item -> where it was met first.
    """

    skip: bool = False
    n_skipped: int = 0
    shown: list[str] = field(default_factory=list)
    remarks: dict[str, dict[str, str]] = field(default_factory=dict)

    def leave_out(self, error: CorpusError) -> None:
        """Count a sentence or row that is left out.

        Raises:
            CorpusError: the error itself, unless faults are to be skipped.
        """
        if not self.skip:
            raise error
        self.n_skipped += 1
        if len(self.shown) < MOST_SHOWN:
            self.shown.append(str(error))

    def remark(self, heading: str, item: str, where: str) -> None:
        """Something accepted that the user should know of; an item is told once, with its first place."""
        self.remarks.setdefault(heading, {}).setdefault(item, where)

    def notes(self) -> tuple[str, ...]:
        """One line per heading, with its first ten items."""
        return tuple(_note(heading, items) for heading, items in self.remarks.items())


def _note(heading: str, items: dict[str, str]) -> str:
    told = ", ".join(f"{item[:60]} ({where})" for item, where in list(items.items())[:MOST_SHOWN])
    more = len(items) - MOST_SHOWN
    return f"{heading}: {told}{f' and {more} more' if more > 0 else ''}."
