"""What a page of the dashboard is: an address, a name, a layout, callbacks, and the controls that its address keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dashboards.state import ViewState

if TYPE_CHECKING:
    from dash import Dash
    from dash.development.base_component import Component

    from dashboards.desk import Desk

__all__ = ["Control", "Page"]


@dataclass(frozen=True)
class Control:
    """A field of the view, and the control on the page that holds it.

    The browser writes a control's value into the address as text: True as 1, None and False as nothing, a mapping by
    its "position", all else as it prints; `spelled` renames values before that.

    Attributes:
        field: name of a field of `ViewState`.
        id, prop: the control.
        spelled: what the address says for some values of the control.
        shown: the value of the control for a view; None takes the field as it is.
    """

    field: str
    id: str
    prop: str = "value"
    spelled: Mapping[str, str] | None = None
    shown: Callable[[ViewState], Any] | None = None

    def value(self, view: ViewState) -> Any:
        """The value that the control has in this view."""
        return getattr(view, self.field) if self.shown is None else self.shown(view)

    def to_json(self) -> dict[str, Any]:
        """What the browser needs to write it into the address."""
        return {"field": self.field, "spelled": dict(self.spelled or {})}


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page.

    Attributes:
        path: its address; `/head/{head}` has the selected head in its place.
        name: its entry in the navigation; empty leaves it out.
        under: address of the page whose entry is marked while this one is open; empty for its own.
        layout: what stands below the line that names the run, with the values of a view.
        register: connects its callbacks.
        controls: what its address keeps beside the model, the text, the head and the results.
    """

    path: str
    name: str
    layout: Callable[[Desk, ViewState], Component]
    register: Callable[[Dash, Desk], None]
    controls: tuple[Control, ...] = ()
    under: str = ""

    def match(self, path: str, view: ViewState) -> ViewState | None:
        """The view that an address means if it is one of this page, else None."""
        pattern = re.escape(self.path).replace(re.escape("{head}"), "(?P<head>[^/]+)")
        found = re.fullmatch(pattern, path)
        return None if found is None else replace(view, head=found.groupdict().get("head", view.head))

    def to_json(self) -> dict[str, Any]:
        """What the browser needs to write the page's address: an entry per control, by the control's id."""
        return {"path": self.path, "controls": {control.id: control.to_json() for control in self.controls}}
