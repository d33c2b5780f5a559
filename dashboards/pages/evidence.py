"""What is known about a head, and about the model: labels with their evidence, anatomy, self-check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dash import dcc, html

from attnlens.capture.tokens import printable
from attnlens.report import figures
from attnlens.report.causal_words import causal_sentence
from attnlens.report.scope import weights_name
from attnlens.report.tables import number, share
from dashboards.pages.parts import GRAPH_CONFIG, aria, folded, room_for

if TYPE_CHECKING:
    from attnlens.models.anatomy import Anatomy, Check
    from attnlens.report.results import Example, HeadResults, Label

__all__ = ["badges", "evidence", "model_card"]


def badges(results: HeadResults | None, head: str) -> list[html.Span]:
    """The head's labels beside its name."""
    if results is None:
        return []
    labels = results.of(head).labels
    if not labels:
        return [html.Span("unclassified", className="badge is-plain")]
    return [html.Span(printable(label.name), className=f"badge cat-{label.category}") for label in labels]


def evidence(results: HeadResults | None, head: str, theme: str, *, sentences: bool = True) -> list[Any]:
    """Every label with its score, interval and baseline; what was nearly one; what the figures are measured on.

    `sentences`: with some examples of each label; a page that shows them all leaves them out here.
    """
    if results is None:
        return [
            html.P("No probe result is loaded, so nothing has been tested on this head.", className="empty-title"),
            html.P(
                ["Run ", html.Code("attnlens probe all -m MODEL -o DIR"), " and load the heads.json that it writes."]
            ),
        ]
    found = results.of(head)
    parts: list[Any] = []
    if found.labels:
        parts.append(html.Ul([_label(label, sentences) for label in found.labels], className="labels"))
    else:
        parts.append(
            html.P("Unclassified: no label passed its tests. That is a normal answer.", className="empty-title")
        )
    if found.labels or found.weak:
        forest = figures.forest(results, head, theme=theme)
        picture = dcc.Graph(figure=forest, config=GRAPH_CONFIG, className="forest", style=room_for(forest))
        parts.append(
            html.Div(
                picture,
                role="figure",
                className="forest-frame",
                **aria(label=f"Scores of {head} beside their baselines"),
            )
        )
    if found.weak:
        parts.append(
            folded(f"Nearly: {len(found.weak)}", html.Ul([_weak(label) for label in found.weak], className="labels"))
        )
    return [*parts, _scope(results)]


def model_card(anatomy: Anatomy) -> list[Any]:
    """Sizes and wiring, and the figures that prove the capture."""
    facts = [
        ("Name", printable(anatomy.model)),
        ("Architecture", f"{anatomy.architecture} ({anatomy.family})"),
        ("Heads", f"{anatomy.n_layers} layers × {anatomy.n_heads} heads, {anatomy.n_kv_heads} key heads"),
        ("Sizes", f"residual stream {anatomy.d_model}, head {anatomy.d_head}, vocabulary {anatomy.vocab_size:,}"),
        ("Parameters", f"{anatomy.n_parameters:,} in {anatomy.dtype}"),
        ("Sees", "earlier tokens only" if anatomy.causal else "all tokens"),
        ("Positions", f"{anatomy.position}, up to {anatomy.max_length:,}" if anatomy.max_length else anatomy.position),
        ("Weights", weights_name(anatomy, digits=16)),
    ]
    pairs = [part for name, value in facts for part in (html.Dt(name), html.Dd(value))]
    checks = [
        html.H3("Self-check"),
        html.Ul([_check(check) for check in anatomy.self_check.checks], className="checks"),
    ]
    return [html.Div([html.Dl(pairs, className="facts"), html.Div(checks)], className="model-grid")]


def _label(label: Label, sentences: bool) -> html.Li:
    head = html.Div(
        [html.Span(printable(label.name), className=f"badge cat-{label.category}"), html.Strong(_score(label))]
    )
    examples = [folded("Examples", html.Ul([_example(example) for example in label.examples], className="sentences"))]
    return html.Li(
        [
            head,
            html.P(printable(label.text)),
            html.P(_against(label), className="note"),
            *([html.P(printable(causal_sentence(label.causal)), className="note causal")] if label.causal else []),
            *(examples if label.examples and sentences else []),
        ]
    )


def _weak(label: Label) -> html.Li:
    return html.Li(
        [html.Strong(printable(label.name)), f" {_score(label)}: {printable(label.failed or 'not confirmed')}"]
    )


def _score(label: Label) -> str:
    interval = f" [{number(label.ci[0])}, {number(label.ci[1])}]" if label.ci else ""
    return f"{number(label.score)}{interval}"


def _against(label: Label) -> str:
    parts = [f"n = {label.n:,}"]
    if label.baseline is not None:
        parts.insert(0, f"baseline {printable(label.baseline_name or '')} {number(label.baseline)}".replace("  ", " "))
    if label.q is not None:
        parts.append(f"q = {number(label.q, 4)}")
    if label.selectivity is not None:
        parts.append(f"selectivity {number(label.selectivity)}")
    if label.confidence is not None:
        parts.append(f"confidence {number(label.confidence)}" + (f" ({label.grade})" if label.grade else ""))
    return " · ".join(parts)


def _example(example: Example) -> html.Li:
    words: list[Any] = []
    for index, token in enumerate(example.tokens):
        kind = "from" if index == example.query else "to" if index == example.target else ""
        words += [html.Span(printable(token), className=f"word {kind}".strip()), " "]
    return html.Li(
        [*words, html.Span(f"{number(example.weight)} {'hit' if example.hit else 'miss'}", className="note")]
    )


def _scope(results: HeadResults) -> html.P:
    corpus, scope = results.corpus, results.scope
    said = [f"Measured on {printable(str(corpus.get('name', 'an unnamed corpus')))}"]
    if (n_sentences := corpus.get("n_sentences")) is not None:
        said.append(f"{n_sentences:,} sentences")
    if (unclassified := scope.get("unclassified_share")) is not None:
        said.append(f"{share(unclassified)} of the heads stay unclassified")
    return html.P(f"{', '.join(said)}. {scope.get('caveat', '')}", className="note")


def _check(check: Check) -> html.Li:
    mark = html.Span("passed" if check.passed else "FAILED", className="passed" if check.passed else "failed")
    figures_ = f"{check.value:.3g} (limit {check.limit:.3g})"
    return html.Li([mark, html.Code(figures_), html.Span(check.meaning)])
