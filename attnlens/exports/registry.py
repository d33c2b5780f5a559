"""Which forms there are, and what one of them is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.errors import PluginError, UsageError
from attnlens.heads import Head, in_words
from attnlens.plugins import installed, load_plugin
from attnlens.report.maps import held_heads

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = ["GROUP", "KINDS", "Export", "Wanted", "chosen", "export", "exports_of", "heads_wanted"]

GROUP = "attnlens.exports"
KINDS = ("run", "results")
_NAMES = {"run": "runs", "results": "results"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is exported.

    Attributes:
        runs: of a form of runs; one, or several where the form takes several.
        results: the folder of a form of results.
        labels: a folder of results whose labels go along, for forms that have a place for them.
        heads: the only heads that are exported; None for all that a run holds.
    """

    runs: tuple[Capture, ...] = ()
    results: Path | None = None
    labels: Path | None = None
    heads: tuple[Head, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Export:
    """A form that an entry point names.

    Attributes:
        description: what is written, and for which tool; one sentence.
        endings: of the file's name, the usual one first; none for a folder.
        write: writes to the path; it may say on what it left out.
        several: whether it takes several runs.
    """

    description: str
    endings: tuple[str, ...]
    write: Callable[[Wanted, Path], str]
    several: bool = False


def exports_of(kind: str) -> Mapping[str, Export]:
    """Name -> form, of "run" or "results".

    Raises:
        PluginError: one cannot be loaded, or is no `Export`.
    """
    front = f"{kind}."
    return {name.removeprefix(front): _loaded(name) for name in installed(GROUP) if name.startswith(front)}


def export(wanted: Wanted, path: Path | str, to: str | None = None) -> str:
    """Write runs or results in another form.

    Args:
        wanted: what.
        path: where to; a file or, for some forms, a folder.
        to: name of the form; None takes the one whose usual ending the path has.

    Returns:
        What was left out, and why, in a sentence; empty where nothing was.

    Raises:
        UsageError: no such form of this kind, a name that ends otherwise, or several runs where one is taken.
        OutputError: it cannot be written there.
        AttnlensError: what the form raises where it cannot hold what was asked for.
    """
    path = Path(path)
    kind = "run" if wanted.runs else "results"
    form = exports_of(kind)[chosen(kind, path, to)]
    if len(wanted.runs) > 1 and not form.several:
        raise UsageError(f"{len(wanted.runs)} runs, and one file holds one; export them one by one.")
    return form.write(wanted, path)


def chosen(kind: str, path: Path, to: str | None) -> str:
    """The name of the form that is meant, of "run" or "results".

    Raises:
        UsageError: none is, or the path ends otherwise.
    """
    known = exports_of(kind)
    if to is not None and to not in known:
        raise UsageError(f"{to[:40]!r} is no form of {_NAMES[kind]}; choose one of {', '.join(known)}.")
    ending = path.suffix.lower()
    if to is None:
        usual = {form.endings[0]: name for name, form in known.items() if form.endings}
        to = ending[1:] if ending[1:] in known else usual.get(ending)
    if to is None:
        raise UsageError(f"{path.name[:60]!r} does not say in which form; add --to and one of {', '.join(known)}.")
    endings = known[to].endings
    if endings and ending not in endings:
        raise UsageError(f"{path.name[:60]!r}: a file of this form ends in {' or '.join(endings)}; name it so.")
    return to


def heads_wanted(wanted: Wanted, run: Capture, letter: str) -> tuple[Head, ...]:
    """The heads of one stack of a run that are exported, layer by layer.

    Raises:
        HeadAddressError: the model has no such head.
        UsageError: the run does not hold it.
    """
    from attnlens.report.views import head_of

    held = held_heads(run, letter)
    if wanted.heads is None:
        return held
    asked = {head_of(run, head) for head in wanted.heads}
    missing = [head for head in asked if head.stack == letter and head not in held]
    if missing:
        raise UsageError(f"this run does not hold {in_words(missing)}; capture it with these heads.")
    return tuple(head for head in held if head in asked)


def _loaded(name: str) -> Export:
    found = load_plugin(GROUP, name)
    if not isinstance(found, Export):
        raise PluginError(f"{installed(GROUP)[name].value} is no Export; reinstall the package that brings it.")
    return found
