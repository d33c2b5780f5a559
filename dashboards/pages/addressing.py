"""The view in the page's address: opening a link restores it, and every change is written back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, no_update, set_props
from dash.exceptions import PreventUpdate

from attnlens.capture.tokens import printable
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import rail
from dashboards.pages.drawing import LABELS
from dashboards.pages.listing import PAGES, find_page
from dashboards.pages.page import Page
from dashboards.request import CHAT, NEW_TOKENS, WRITE, RunRequest
from dashboards.state import ViewState

__all__ = ["completed", "register", "restored"]


def register(app: Dash, desk: Desk) -> None:
    """Connect the address. The browser writes it, in `assets/attnlens.js`, and asks nobody."""
    browser: Any = app.clientside_callback
    browser(ClientsideFunction("attnlens", "readAddress"), Output(ids.ADDRESS, "data"), Input(ids.ADDRESS, "id"))
    browser(
        ClientsideFunction("attnlens", "writeAddress"),
        Output(ids.ADDRESS_SENT, "data"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.PAGE_VIEW, "data"),
        State(ids.SITE, "data"),
        prevent_initial_call=True,
    )
    for kind in (ids.NAVIGATION, ids.SECTION):
        browser(
            ClientsideFunction("attnlens", "linkPages"),
            Output({"type": kind, "index": ALL}, "href"),
            Output({"type": kind, "index": ALL}, "className"),
            Input(ids.ADDRESS_SENT, "data"),
            Input(ids.PAGE_VIEW, "data"),
            State({"type": kind, "index": ALL}, "id"),
            State(ids.SITE, "data"),
            prevent_initial_call=True,
        )

    @app.callback(
        Output(ids.REQUEST, "data"),
        Output(ids.MODEL, "value"),
        Output(ids.OTHER_MODEL, "value"),
        Output(ids.TEXT, "value"),
        Output(ids.KIND, "value"),
        Output(ids.SECOND, "value"),
        Output(ids.NEW_TOKENS, "value"),
        Output(ids.HEAD, "value"),
        Output(ids.RESULTS, "value"),
        Output(ids.RESULTS, "data", allow_duplicate=True),
        Input(ids.ADDRESS, "data"),
        State(ids.REQUEST, "data"),
        prevent_initial_call=True,
    )
    def on_address(address: dict[str, Any] | None, request: dict[str, str] | None) -> Any:
        if address is None:
            raise PreventUpdate
        found = restored(desk, viewed(app, address), request)
        return *found, rail.result_options(desk, found[-1])

    for page in PAGES:
        if page.controls:
            _register_page(app, desk, page)


def viewed(app: Dash, address: dict[str, Any]) -> ViewState:
    """The view that an address asks for, the head in its path included."""
    view = ViewState.read(address["search"])
    found = find_page(f"/{(app.strip_relative_path(address['path']) or '').strip('/')}", view)
    return view if found is None else found[1]


def _register_page(app: Dash, desk: Desk, page: Page) -> None:
    """Keep the controls of a page in the address, and set them when the browser goes back to one."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "keepView"),
        Output(ids.PAGE_VIEW, "data", allow_duplicate=True),
        *[Input(control.id, control.prop) for control in page.controls],
        State(ids.PAGE_CONTROLS, "data"),
        prevent_initial_call="initial_duplicate",
    )

    @app.callback(
        *[Output(control.id, control.prop, allow_duplicate=True) for control in page.controls],
        Input(ids.ADDRESS, "data"),
        prevent_initial_call=True,
    )
    def on_address(address: dict[str, Any] | None) -> Any:
        if address is None:
            raise PreventUpdate
        view = completed(desk, viewed(app, address))
        values = [control.value(view) for control in page.controls]
        return values if len(values) > 1 else values[0]


def completed(desk: Desk, view: ViewState) -> ViewState:
    """The view with the server's model, text and results where the address names none.

    Results given at start are put on the heads of a plain visit; an address that names a model says itself whether it
    wants labels.
    """
    if not view.model and not view.results and (results := desk.shelf.name_for(desk.config.model)):
        view = replace(view, results=results, metric=LABELS if view.metric == ViewState.metric else view.metric)
    view = replace(view, model=view.model or desk.config.model)
    if not view.run and view.kind not in (kinds := desk.kinds(view.model)):
        view = replace(view, kind=kinds[0])
    if view.text or view.run:
        return view
    if view.model == desk.config.model and desk.config.text is not None:
        return replace(view, text=desk.config.text)
    return replace(view, text=next(iter(desk.choices.describe(view.model).examples), ""))


def restored(desk: Desk, view: ViewState, shown: dict[str, str] | None) -> tuple[Any, ...]:
    """Values of the frame's controls for a view, in the order of the callback's outputs.

    A link runs listed models at once. Any other is only filled in, and runs when the visitor presses Run: else a link
    on another site could make this machine fetch a model.
    """
    view = completed(desk, view)
    listed = desk.choices.is_listed(view.model)
    request: Any = view.request.to_json()
    present = None if shown is None else RunRequest.from_json(shown).to_json()
    if not (view.text.strip() or view.run) or request == present:
        request = no_update
    elif not view.run and not desk.may_open(view.request):
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
        view.kind,
        view.second,
        view.request.new_tokens if view.kind in (WRITE, CHAT) else NEW_TOKENS,
        view.head,
        view.results,
    )
