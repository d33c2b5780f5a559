"""The view in the page's address: opening a link restores it, and every change is written back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, no_update, set_props
from dash.exceptions import PreventUpdate

from attnlens.capture.tokens import printable
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.stage import LABELS
from dashboards.state import ViewState

__all__ = ["address_of", "completed", "register", "restored"]


def register(app: Dash, desk: Desk) -> None:
    """Connect the address; pushing it into the browser's history happens in `assets/attnlens.js`."""
    browser: Any = app.clientside_callback
    browser(ClientsideFunction("attnlens", "readAddress"), Output(ids.ADDRESS, "data"), Input(ids.ADDRESS, "id"))
    browser(
        ClientsideFunction("attnlens", "writeAddress"),
        Output(ids.ADDRESS_SENT, "data"),
        Input(ids.ADDRESS_OUT, "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(ids.REQUEST, "data"),
        Output(ids.MODEL, "value"),
        Output(ids.OTHER_MODEL, "value"),
        Output(ids.TEXT, "value"),
        Output(ids.HEAD, "value"),
        Output(ids.METRIC, "value"),
        Output(ids.WORDS, "value"),
        Output(ids.HIDE_SPECIAL, "checked"),
        Output(ids.THRESHOLD, "value"),
        Output(ids.QUERY, "data"),
        Output(ids.TAB, "value"),
        Output(ids.RESULTS, "value"),
        Input(ids.ADDRESS, "data"),
        State(ids.REQUEST, "data"),
        prevent_initial_call=True,
    )
    def on_address(address: dict[str, Any] | None, request: dict[str, str] | None) -> Any:
        if address is None:
            raise PreventUpdate
        return restored(desk, ViewState.read(address["search"]), request)

    @app.callback(
        Output(ids.ADDRESS_OUT, "data"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.METRIC, "value"),
        Input(ids.WORDS, "value"),
        Input(ids.HIDE_SPECIAL, "checked"),
        Input(ids.THRESHOLD, "value"),
        Input(ids.QUERY, "data"),
        Input(ids.TAB, "value"),
        Input(ids.RESULTS, "value"),
        prevent_initial_call=True,
    )
    def on_change(run: dict[str, Any] | None, *controls: Any) -> str:
        if run is None:
            raise PreventUpdate
        return address_of(run, *controls)


def completed(desk: Desk, view: ViewState) -> ViewState:
    """The view with the server's model, text and results where the address names none.

    Results given at start are put on the heads of a plain visit; an address that names a model says itself whether it
    wants labels.
    """
    if not view.model and not view.results and (results := desk.shelf.name_for(desk.config.model)):
        view = replace(view, results=results, metric=LABELS if view.metric == ViewState.metric else view.metric)
    view = replace(view, model=view.model or desk.config.model)
    if view.text:
        return view
    if view.model == desk.config.model and desk.config.text is not None:
        return replace(view, text=desk.config.text)
    return replace(view, text=next(iter(desk.choices.describe(view.model).examples), ""))


def restored(desk: Desk, view: ViewState, shown: dict[str, str] | None) -> tuple[Any, ...]:
    """Values of all controls for a view, in the order of the callback's outputs.

    A link runs listed models at once. Any other is only filled in, and runs when the visitor presses Run: else a link
    on another site could make this machine fetch a model.
    """
    view = completed(desk, view)
    listed = desk.choices.is_listed(view.model)
    request: Any = {"model": view.model, "text": view.text}
    if not view.text.strip() or request == shown:
        request = no_update
    elif not listed and view.model not in desk.runs.models:
        set_props(
            ids.NOTICE,
            {"children": f"The link asks for {printable(view.model)[:200]}; press Run to open it.", "hide": False},
        )
        request = no_update
    return (
        request,
        view.model if listed else ids.OTHER,
        "" if listed else view.model,
        view.text,
        view.head,
        view.metric,
        "words" if view.words else "pieces",
        view.hide_special,
        view.threshold,
        None if view.query is None else {"position": view.query, "of": [view.words, view.hide_special]},
        view.tab,
        view.results,
    )


def address_of(
    run: dict[str, Any],
    head: str | None,
    metric: str,
    words: str,
    hide_special: bool,
    threshold: float,
    query: dict[str, Any] | None,
    tab: str,
    results: str | None,
) -> str:
    """The address of what is shown; the inverse of `restored`."""
    view = ViewState(
        model=run["model"],
        text=run["text"],
        head=head or "",
        metric=metric,
        words=words == "words",
        hide_special=bool(hide_special),
        threshold=threshold,
        query=query["position"] if query and query["of"] == [words == "words", bool(hide_special)] else None,
        tab=tab,
        results=results or "",
    )
    return view.query_string()
