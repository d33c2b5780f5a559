"""What stands in a tree of Dash components."""

from __future__ import annotations

from typing import Any


def texts_in(component: Any) -> str:
    """Every piece of text in a tree of components, joined by blanks."""
    if component is None or isinstance(component, str | int | float):
        return str(component or "")
    if isinstance(component, list | tuple):
        return " ".join(texts_in(child) for child in component)
    return texts_in(getattr(component, "children", None))


def graphs_in(component: Any) -> list[Any]:
    """Every figure in a tree of components."""
    if isinstance(component, list | tuple):
        return [found for child in component for found in graphs_in(child)]
    figure, children = (getattr(component, name, None) for name in ("figure", "children"))
    return [*([] if figure is None else [figure]), *([] if children is None else graphs_in(children))]


def found_values(component: Any) -> dict[tuple[str, str], Any]:
    """(id, property) -> value, of every component in a tree."""
    if isinstance(component, list | tuple):
        return {key: value for child in component for key, value in found_values(child).items()}
    own: dict[tuple[str, str], Any] = {}
    if isinstance(name := getattr(component, "id", None), str):
        own = {(name, prop): getattr(component, prop, None) for prop in ("value", "data", "checked")}
    children = getattr(component, "children", None)
    return own if children is None else own | found_values(children)
