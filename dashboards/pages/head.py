"""`/head/L3H1`: everything that is known about one head, on one page that can be linked."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

from dash import ClientsideFunction, Dash, Input, Output, State, html

from attnlens.capture.tokens import printable
from attnlens.report import figures, views
from attnlens.report.arc_figure import arcs_svg
from attnlens.report.evidence_view import EvidenceView, Sentence, evidence_view
from attnlens.report.results import HeadResults
from attnlens.report.similar_view import SimilarView, same_label_view, similar_view
from attnlens.report.tables import number
from attnlens.report.token_view import tokens_view
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.evidence import badges, evidence
from dashboards.pages.page import Page
from dashboards.pages.parts import aria, card, data_table, folded, graph, note, room_for, with_loading
from dashboards.request import RunRequest
from dashboards.state import ViewState

__all__ = ["PAGE", "draw_findings", "draw_links", "draw_sentences", "draw_similar", "draw_tokens", "layout", "register"]

_WEAKEST_LINK = 0.1


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The findings and their sentences beside what the head does on the shown text."""
    found = html.Div(id=ids.HEAD_FINDINGS)
    links = with_loading(graph(ids.HEAD_LINKS, "Links from each token on the left to the tokens it attends to"))
    cards = [
        card("What it was found to do", with_loading(found), kind="findings-card"),
        card("On the shown text", links, note(id=ids.HEAD_LINKS_CAPTION), kind="pattern-card"),
        card("Sentences behind the labels", html.Div(id=ids.SENTENCES), kind="sentences-card"),
        card("Similar heads", with_loading(html.Div(id=ids.SIMILAR)), kind="similar-card"),
        card("What it looks for and writes", with_loading(html.Div(id=ids.HEAD_TOKENS)), kind="tokens-card"),
    ]
    return html.Div(cards, className="head-page")


def register(app: Dash, desk: Desk) -> None:
    """Connect the page, and the link to it that stands beside the picker of heads."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("heads", "linkHead"),
        Output(ids.HEAD_PAGE, "href"),
        Output(ids.HEAD_PAGE, "data-head"),
        Output(ids.HEAD_PAGE, "className"),
        Input(ids.HEAD, "value"),
        Input(ids.PAGE_VIEW, "data"),
        State(ids.SITE, "data"),
    )
    run, head, results, theme = (
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.THEME, "data"),
    )

    @app.callback(Output(ids.HEAD_FINDINGS, "children"), Output(ids.SENTENCES, "children"), run, head, results, theme)
    def on_findings(run: Run, head: str, results: str | None, theme: str) -> Any:
        need(run, head, theme)
        known, _ = desk.results_for(desk.run(run), results)
        return draw_findings(known, head, theme), draw_sentences(known, head, theme)

    @app.callback(
        Output(ids.HEAD_LINKS, "figure"),
        Output(ids.HEAD_LINKS, "style"),
        Output(ids.HEAD_LINKS_CAPTION, "children"),
        run,
        head,
        theme,
    )
    def on_links(run: Run, head: str, theme: str) -> Any:
        need(run, head, theme)
        return draw_links(desk, run, head, theme)

    @app.callback(Output(ids.SIMILAR, "children"), run, head, results)
    def on_similar(run: Run, head: str, results: str | None) -> Any:
        need(run, head)
        return draw_similar(desk, run, head, results)

    @app.callback(Output(ids.HEAD_TOKENS, "children"), run, head)
    def on_tokens(run: Run, head: str) -> Any:
        need(run, head)
        return draw_tokens(desk, run, head)


def draw_findings(results: HeadResults | None, head: str, theme: str) -> list[Any]:
    """The head's name, its labels with their evidence, and whether the label was put to the test."""
    unclassified = [] if results is None or results.of(head).labels else badges(results, head)
    return [
        html.Header([html.H2(head, className="head-title"), *unclassified]),
        *evidence(results, head, theme, sentences=False),
    ]


def draw_sentences(results: HeadResults | None, head: str, theme: str) -> list[Any]:
    """For each label the sentences with the most attention on its target, and those with the least."""
    labels = () if results is None else results.of(head).labels
    shown = [view for label in labels if (view := evidence_view(label)).best or view.worst]
    if not shown:
        return [note("No label of this head has sentences. They are written by attnlens probe beside each label.")]
    first, *others = shown
    parts = _label_sentences(first, theme)
    return [*parts, *(folded(printable(view.name), *_label_sentences(view, theme)) for view in others)]


def draw_links(desk: Desk, run: Run, head: str, theme: str) -> tuple[Any, dict[str, str], str]:
    """The head's links on the shown text, their room on the page, and a caption."""
    view = views.pattern_view(desk.run(run), head)
    figure = figures.token_links(view, theme=theme, threshold=_WEAKEST_LINK)
    return figure, room_for(figure), view.caption


def draw_similar(desk: Desk, run: Run, head: str, name: str | None) -> list[Any]:
    """Heads with similar maps on the shown text, and heads that carry the same label."""
    capture = desk.run(run)
    results, _ = desk.results_for(capture, name)
    parts = [html.H3("Maps like this one"), *_similar(similar_view(capture, head, results), run, name)]
    if results is not None and results.of(head).labels:
        parts += [html.H3("The same label"), *_similar(same_label_view(results, head), run, name)]
    return parts


def draw_tokens(desk: Desk, run: Run, head: str) -> list[Any]:
    """The circuits' tables, or why there are none."""
    if run.get("run"):
        return [note("These tables are made of the model's weights, which an uploaded run does not hold.")]
    lens = desk.lens(run)
    view = desk.memo.get(("tokens", desk.stamp(run), head), lambda: tokens_view(lens, desk.run(run), head))
    table = view.table()
    shown = [data_table(table), note(view.caption)] if table.rows else []
    return [*shown, *(note(printable(text)) for text in view.absent)]


def head_link(run: Run, head: str, results: str | None) -> html.A:
    """A link to the page of another head; the browser follows it without loading everything anew."""
    query = urlencode(RunRequest.from_json(run).to_json() | ({"results": results} if results else {}))
    named: dict[str, Any] = {"data-head": head}
    return html.A(head, href=f"{head}?{query}", className="head-link", **named)


def _label_sentences(view: EvidenceView, theme: str) -> list[Any]:
    sides = (("Most attention on the target", view.best), ("Least attention on the target", view.worst))
    drawn = [
        html.Div([html.H3(title), html.Ul([_sentence(each, view.category, theme) for each in sentences])])
        for title, sentences in sides
        if sentences
    ]
    label = html.P(html.Span(printable(view.name), className=f"badge cat-{view.category}"), className="sentences-of")
    table = folded("The sentences as a table", data_table(view.table()))
    return [label, html.Div(drawn, className="arcs"), note(view.caption), table]


def _sentence(sentence: Sentence, category: str, theme: str) -> html.Li:
    svg = b64encode(arcs_svg(sentence, category, theme=theme).encode()).decode()
    caption = printable(sentence.caption)
    picture = html.Img(src=f"data:image/svg+xml;base64,{svg}", alt=printable(" ".join(sentence.tokens)))
    frame = html.Div(picture, className="arc-frame", tabIndex=0, role="group", **aria(label="Sentence"))
    return html.Li([frame, html.P(caption, className="note")])


def _similar(view: SimilarView, run: Run, name: str | None) -> list[Any]:
    items = [
        html.Li(
            [
                head_link(run, str(each.head), name),
                html.Span(number(each.value), className="number"),
                html.Span(printable(", ".join(each.labels)), className="labels-of"),
            ]
        )
        for each in view.heads
    ]
    return [*([html.Ul(items, className="similar")] if items else []), note(view.caption)]


PAGE = Page(path="/head/{head}", name="", layout=layout, register=register, under="/heads")
