"""`/compare`: the shown run beside another text, another model, or another checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from attnlens.capture.tokens import printable
from attnlens.compare import HeadMatch, RunComparison, compare_runs
from attnlens.errors import ModelNotFoundError, UsageError
from attnlens.heads import Head
from attnlens.report import comparison_view, figures
from dashboards import ids
from dashboards.changes import STACKS
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, data_table, folded, note, picture, refusal, with_loading
from dashboards.request import RunRequest
from dashboards.state import ViewState

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = ["PAGE", "Pair", "clicked_head", "layout", "open_second", "register", "second_models", "with_what"]

SAME_MODEL = "(same)"
T = TypeVar("T")

_MOST_LISTED = 24  # words that only one text has
_HINT = "Point at a cell: it is shown in all three. Click holds it; then the arrow keys move, and Escape lets it go."


def layout(desk: Desk, view: ViewState) -> html.Div:
    """What to compare with, how far every head is from its counterpart, and one head in both runs."""
    return html.Div(
        [
            dcc.Store(id=ids.HELD_CELL, data=view.cell),
            _form(desk, view),
            card(
                "How far apart the heads are",
                with_loading(html.Div(id=ids.APART, className="apart")),
                kind="apart-card",
            ),
            card("One head in both", with_loading(html.Div(id=ids.PAIR)), kind="pair-card"),
        ],
        className="compare",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""

    @app.callback(
        Output(ids.APART, "children"),
        Output(ids.PAIR, "children"),
        Input(ids.RUN, "data"),
        Input(ids.AGAINST_MODEL, "value"),
        Input(ids.AGAINST_TEXT, "value"),
        Input(ids.HEAD, "value"),
        Input(ids.THEME, "data"),
    )
    def on_runs(run: Run, model: str, text: str | None, head: str, theme: str) -> Any:
        need(run, head, theme)
        against = with_what(model, text)
        if not any(against.values()):
            return _nothing_yet(), note("The head's maps in both runs, and their difference, appear here.")
        pair = Pair.of(desk, run, against, head)
        return pair.heads(head, theme), pair.head(head, theme)

    @app.callback(
        Output(ids.HEAD, "value", allow_duplicate=True),
        Input(ids.APART_MAP, "clickData"),
        State(ids.HEAD, "value"),
        prevent_initial_call=True,
    )
    def on_click(click: dict[str, Any] | None, head: str | None) -> str:
        if not click or ctx.triggered_id != ids.APART_MAP:
            raise PreventUpdate
        return clicked_head(click["points"][0]["customdata"], head)

    @app.callback(
        Output(ids.AGAINST_MODEL, "data"),
        Output(ids.AGAINST_MODEL, "value", allow_duplicate=True),
        Output(ids.NOTICE, "hide", allow_duplicate=True),
        Input(ids.AGAINST_OPEN, "n_clicks"),
        State(ids.AGAINST_OTHER, "value"),
        prevent_initial_call=True,
        running=[(Output(ids.AGAINST_OPEN, "loading"), True, False)],
    )
    def on_open(clicks: int | None, name: str | None) -> Any:
        need(clicks)
        return *open_second(desk, name), True

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("compare", "askName"),
        Output(f"{ids.AGAINST_OTHER}-frame", "className"),
        Input(ids.AGAINST_MODEL, "value"),
    )
    browser(
        ClientsideFunction("compare", "showHeld"),
        Output(ids.PAIR, "title"),
        Input(ids.HELD_CELL, "data"),
        Input(ids.PAIR, "children"),
    )


def with_what(model: str | None, text: str | None) -> dict[str, str]:
    """What the fields say to compare with; empty where they leave it as it is."""
    return {"model": "" if model in (None, SAME_MODEL, ids.OTHER) else str(model), "text": (text or "").strip()}


def clicked_head(cell: str, shown: str | None) -> str:
    """The head of a cell of the map, which is of the shown head's stack."""
    return str(replace(Head.parse(cell), stack=Head.parse(shown).stack if shown else ""))


def second_models(desk: Desk, chosen: str = "") -> list[dict[str, str]]:
    """The models to compare with: the same one, the listed ones, the chosen one, and a field for any other."""
    names = [choice.name for choice in desk.choices.listed]
    names += [chosen] if chosen and chosen not in names else []
    return [
        {"value": SAME_MODEL, "label": "the same model"},
        *({"value": name, "label": name} for name in names),
        {"value": ids.OTHER, "label": "a folder or hub id …"},
    ]


def open_second(desk: Desk, name: str | None) -> tuple[list[dict[str, str]], str]:
    """Open a model that a visitor has typed, to compare with; the choices and the chosen one then.

    Raises:
        AttnlensError: it may not or cannot be opened.
    """
    found = (name or "").strip()
    desk.runs.lens(found)
    return second_models(desk, found), found


@dataclass(frozen=True)
class Pair:
    """Two runs, aligned by words, with what takes a while kept on the desk."""

    desk: Desk
    requests: tuple[RunRequest, RunRequest]
    comparison: RunComparison

    @classmethod
    def of(cls, desk: Desk, run: Run, against: dict[str, str], head: str = "") -> Pair:
        """The shown run beside the one that the fields ask for: what they leave out is as in the first.

        Of models with several stacks that of `head` is compared, where both have it.

        Raises:
            UsageError: the second run is the first.
            ModelNotFoundError: the second model is neither listed nor open: an address alone opens no new one.
            AttnlensError: a run cannot be made, or they have nothing in common.
        """
        first = RunRequest.from_json(run)
        model, text = against["model"] or first.model, against["text"] or first.text
        second = replace(first, run="", model=model, text=text)
        if second == first:
            raise UsageError("both sides are the same text in the same model; change one of them.")
        if not desk.may_open(second):
            raise ModelNotFoundError(
                f"{second.model[:200]!r} is not open here; open it by “a folder or hub id …” under Second model."
            )
        runs = desk.runs.open(first), desk.runs.open(second)
        letter = Head.parse(head).stack if head else ""
        stacks = [_stack_in(each, letter) for each in runs]
        return cls(desk, (first, second), compare_runs(*runs, stack=(stacks[0], stacks[1])))

    def heads(self, head: str, theme: str) -> list[Any]:
        """The map of divergences where both have the same heads; else the table of best matches."""
        if not self.comparison.same_heads:
            table = comparison_view.matched_table(self._matches())
            return [
                note(f"{table.caption} {comparison_view.DIVERGENCE.description}"),
                data_table(table),
                *self._stack(),
                *self._alone(),
            ]
        view = self._kept("divergence", lambda: comparison_view.divergence_view(self.comparison))
        figure = figures.head_map(view, theme=theme, selected=Head.parse(head))
        return [
            picture(figure, "Divergence of every head between the two runs", id=ids.APART_MAP),
            note(view.caption),
            *self._stack(),
            *self._alone(),
            folded("The numbers as a table", data_table(view.table())),
        ]

    def head(self, address: str, theme: str) -> list[Any]:
        """One head's maps in both runs and their difference, with the largest differences as a table."""
        head = replace(Head.parse(address), stack=self.comparison.stacks[0])
        try:
            other = head if self.comparison.same_heads else comparison_view.counterpart(self._matches(), head)
        except UsageError as error:
            return [refusal(error)]
        view = comparison_view.difference_view(self.comparison, head, other)
        pictures = [
            ("First", figures.side_heatmap(view, 0, theme=theme)),
            ("Second", figures.side_heatmap(view, 1, theme=theme)),
            ("Second minus first", figures.difference_heatmap(view, theme=theme)),
        ]
        return [
            note(view.caption),
            html.Div(
                [
                    html.Figure([html.Figcaption(name), picture(figure, f"{view.title}: {name}")], className="side")
                    for name, figure in pictures
                ],
                id=ids.PAIR_PICTURES,
                className="side-by-side",
                tabIndex=0,
                role="group",
                **aria(label="One cell in all pictures. Arrow keys move it, Escape lets it go."),
            ),
            _cell_line(),
            folded("The largest differences as a table", data_table(view.table())),
        ]

    def _matches(self) -> tuple[HeadMatch, ...]:
        return self._kept("matches", self.comparison.matched)

    def _kept(self, what: str, make: Callable[[], T]) -> T:
        stamps = tuple(self.desk.stamp(request.to_json()) for request in self.requests)
        return self.desk.memo.get((what, *self.comparison.stacks, *stamps), make)

    def _stack(self) -> list[Any]:
        """Which stack is compared, of a model with several."""
        letter = self.comparison.stacks[0]
        return [note(f"Heads of {STACKS[letter]}; pick a head of another stack to compare that.")] if letter else []

    def _alone(self) -> list[Any]:
        """The words that only one text has, which the maps leave out."""
        sides = (("first", self.comparison.rows.only_first), ("second", self.comparison.rows.only_second))
        said = [f"only in the {side}: {_listed(labels)}" for side, labels in sides if labels]
        return [note(f"Left out, {'; '.join(said)}.")] if said else []


def _stack_in(run: Capture, letter: str) -> str:
    """The stack with this letter; the main one where the model has none such."""
    return letter if letter in {stack.letter for stack in run.anatomy.stacks} else run.anatomy.main_stack


def _listed(labels: Sequence[str]) -> str:
    return " ".join([*map(printable, labels[:_MOST_LISTED]), *(["…"] if len(labels) > _MOST_LISTED else [])])


def _cell_line() -> html.P:
    """Where the browser writes the weights of the cell that is pointed at or held."""
    hint: dict[str, Any] = {"data-hint": _HINT}
    return html.P(_HINT, id=ids.PAIR_CELL, className="note pair-cell", role="status", **hint)


def _nothing_yet() -> html.Div:
    return html.Div(
        [
            html.P("Nothing is compared yet.", className="empty-title"),
            html.P("Type another text above, or pick another model.", className="note"),
        ]
    )


def _second_model(view: ViewState) -> str:
    return view.against_model or SAME_MODEL


def _form(desk: Desk, view: ViewState) -> html.Section:
    model = dmc.Select(
        id=ids.AGAINST_MODEL,
        label="Second model",
        data=second_models(desk, view.against_model),
        value=_second_model(view),
        allowDeselect=False,
        searchable=True,
        comboboxProps={"shadow": "md"},
    )
    text = dmc.Textarea(
        id=ids.AGAINST_TEXT,
        label="Second text",
        description="Empty is the same text. Compared when you leave the field.",
        debounce=True,
        value=view.against_text,
        autosize=True,
        minRows=1,
        maxRows=6,
        spellCheck=False,
    )
    other = dmc.TextInput(
        id=ids.AGAINST_OTHER,
        label="Folder or hub id of the second model",
        placeholder="models/checkpoint-2000 or org/name",
        spellCheck=False,
    )
    button = dmc.Button("Open it", id=ids.AGAINST_OPEN, variant="default")
    opening = html.Div([other, button], id=f"{ids.AGAINST_OTHER}-frame", className="is-hidden")
    return card("Compare the run with", html.Div([model, text], className="against"), opening, kind="against-card")


PAGE = Page(
    path="/compare",
    name="Compare",
    layout=layout,
    register=register,
    controls=(
        Control("against_model", ids.AGAINST_MODEL, spelled={SAME_MODEL: "", ids.OTHER: ""}, shown=_second_model),
        Control("against_text", ids.AGAINST_TEXT),
        Control("cell", ids.HELD_CELL, "data"),
    ),
)
