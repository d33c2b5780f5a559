"""Every head of a model in the terminal at once: one cell per head with a short code of its first label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attnlens.capture.tokens import printable
from attnlens.report.palette import CATEGORIES, category_of

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["code_of", "head_map", "n_resting"]

NONE = "·"
EXPLAINED = "="
WIDEST = 6
CODES = {
    "previous-token": "prev",
    "next-token": "next",
    "leans-previous": "~prev",
    "leans-next": "~next",
    "self": "self",
    "leans to self": "~self",
    "first-token": "first",
    "delimiter": "delim",
    "coreference": "coref",
    "agreement": "agree",
    "induction": "induc",
    "duplicate": "dupl",
    "rare-word": "rare",
    "entity": "entity",
    "broad": "broad",
}
STYLES = {
    "position": "blue",
    "syntax": "green",
    "coreference": "magenta",
    "induction": "yellow",
    "other": "cyan",
    "sink": "bright_black",
    "broad": "bright_black",
}
"""The terminal's own colours, which fit its theme; the code says the same without them."""


def head_map(document: Mapping[str, Any], width: int = 80) -> Iterator[Text]:
    """Layers down, heads across, then the legend; narrower codes, then blocks of heads, where a terminal is narrow.

    Args:
        document: of `heads.json`.
        width: columns of the terminal.
    """
    from rich.text import Text

    grid = _grid(document)
    stub = max(len(name) for name in grid) + 1
    n_heads = max(len(row) for row in grid.values())
    room = max(3, (width - stub) // max(n_heads, 1))
    cell = min(room, WIDEST + 1)
    across = max(1, (width - stub) // cell)
    for start in range(0, n_heads, across):
        numbers = "".join(f"H{head}".ljust(cell) for head in range(start, min(start + across, n_heads)))
        yield Text(" " * stub + numbers.rstrip(), style="bold")
        for name, row in grid.items():
            line = Text(name.ljust(stub), style="bold")
            for label in row[start : start + across]:
                code = NONE if label is None else _code(label)[: cell - 1]
                line.append(code.ljust(cell), style="default" if label is None else _style(label))
            line.rstrip()
            yield line
    yield from _legend(document, cell - 1)


def code_of(label: str) -> str:
    """A few characters for a label: `prev`, `^VERB<` for the nearest verb on the left, else its first letters."""
    name = label.removesuffix("-strong")
    if name in CODES:
        return CODES[name]
    words = name.split()
    if words[0] in ("offset", "leans") and words[-1][:1] in "+-":
        return ("~" if words[0] == "leans" else "@") + words[-1]
    if name.startswith("nearest"):
        side = "<" if "left" in name else ">" if "right" in name else ""
        return "^" + name.removeprefix("nearest").strip(" -").split()[0][:4] + side
    return printable(name.replace("acl:relcl", "relcl").replace("compound:prt", "c:prt"))[:WIDEST]


def _code(label: Mapping[str, Any]) -> str:
    """The label's code; of one that a simple rule explains, its relation's, marked."""
    return EXPLAINED + code_of(label["relation"]) if label["label"].startswith("explained") else code_of(label["label"])


def n_resting(document: Mapping[str, Any]) -> int:
    """Heads whose labels only say where attention goes when a head does nothing: to a sink, a delimiter, everywhere."""
    labels = [head["labels"] for head in document["heads"] if head["labels"]]
    return sum(all(category_of(each["label"], each["family"]) in ("sink", "broad") for each in own) for own in labels)


def _grid(document: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any] | None]]:
    """Layer ("L0") -> the first label of each of its heads, None for a head without one."""
    grid: dict[str, list[Mapping[str, Any] | None]] = {}
    for head in document["heads"]:
        row = head["head"].partition("H")[0]
        grid.setdefault(row, []).append(head["labels"][0] if head["labels"] else None)
    return grid


def _style(label: Mapping[str, Any]) -> str:
    style = STYLES[category_of(label["label"], label["family"])]
    return f"bold {style}" if label["label"].endswith("-strong") else style


def _legend(document: Mapping[str, Any], cell: int) -> Iterator[Text]:
    """Which code means what, and of how many heads it is the first label."""
    from rich.text import Text

    first = [head["labels"][0] for head in document["heads"] if head["labels"]]
    counts = Counter((category_of(label["label"], label["family"]), _code(label), label["label"]) for label in first)
    if not first:
        return
    yield Text("")
    for category, title in CATEGORIES.items():
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        named = [(code, name, n) for (own, code, name), n in ordered if own == category]
        if named:
            line = Text(f"{title}: ", style=STYLES[category])
            line.append(", ".join(_coded(code[:cell], name, n) for code, name, n in named), style="default")
            yield line
    if any(code.startswith(EXPLAINED) for _, code, _ in counts):
        yield Text(f"{EXPLAINED}nsubj: scores on nsubj, but a simple rule of the head's own explains it")
    yield Text(f"{NONE} unclassified: {sum(not head['labels'] for head in document['heads'])}")


def _coded(code: str, name: str, n: int) -> str:
    """A code, the label where the code does not say it, and the number of heads."""
    known = code == printable(name) or code.startswith(EXPLAINED)
    return f"{code} {n}" if known else f"{code} = {printable(name)} {n}"
