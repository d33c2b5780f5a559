"""Put what the registry says of every measure into docs/measures.md, between markers; a test holds the page to it."""

from __future__ import annotations

import re
from pathlib import Path

from attnlens.measures.registry import GROUP, STACK, Measure, Option, measures
from attnlens.plugins import installed

__all__ = ["PAGE", "renewed"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "measures.md"
BEGIN, END = "<!-- measures: begin -->", "<!-- measures: end -->"
COLUMNS = ("measure", "what it says", "per", "unit", "range", "more means", "source")
# Headings by module, in the order of the page; modules of later packages follow under their own names.
HEADINGS = {
    "pattern_measures": "Patterns",
    "likeness_measures": "Likeness of heads",
    "mixing_measures": "Mixing",
    "stream_measures": "Residual stream and logits",
    "circuit_measures": "Circuits",
    "position_measures": "Positions",
    "attribution_measures": "Attribution",
}


def renewed(page: str) -> str:
    """`page` with the tables as the registry has them today.

    Raises:
        SystemExit: the page has no markers.
    """
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{PAGE.name} has no place for the tables: {BEGIN} ... {END}")
    return marked.sub(lambda _: f"{BEGIN}\n\n{_tables()}\n\n{END}", page)


def _tables() -> str:
    homes = {name: entry.value.partition(":")[0].rpartition(".")[2] for name, entry in installed(GROUP).items()}
    ranks = {module: rank for rank, module in enumerate(HEADINGS)}
    modules = sorted(set(homes.values()), key=lambda module: (ranks.get(module, len(ranks)), module))
    known = measures()
    parts = []
    for module in modules:
        own = [measure for name, measure in known.items() if homes[name] == module]
        parts.append(f"### {HEADINGS.get(module, module.replace('_', ' '))}\n\n{_table(own)}")
    return "\n\n".join(parts)


def _table(own: list[Measure]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_row, own)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(measure: Measure) -> tuple[str, ...]:
    extras = [_option(option) for option in measure.options if option is not STACK]
    if measure.aliases:
        extras.append(f"also `{'`, `'.join(measure.aliases)}`")
    description = " ".join([measure.description, *(f"<br>{extra}" for extra in extras)])
    needs = " (needs the model)" if measure.needs.model or measure.needs.gradient else ""
    return (
        f"`{measure.name}`",
        _cell(description) + needs,
        " ".join(measure.axes),
        measure.unit or ("class" if measure.classes else "share"),
        _range(measure),
        _cell(", ".join(f"{place} {name}" for place, name in enumerate(measure.classes)) or measure.more),
        _cell(measure.source),
    )


def _option(option: Option) -> str:
    return f"`{option.name}={option.default}`: {option.description}."


def _range(measure: Measure) -> str:
    ends = [
        f"{end:.3g}" if end is not None and abs(end) != float("inf") else "…" for end in (measure.low, measure.high)
    ]
    return " to ".join(ends)


def _cell(text: str) -> str:
    """Text in a cell; `<s>` is no tag, `<br>` is."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("&lt;br>", "<br>")


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
