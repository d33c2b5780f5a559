"""The left rail: which model, which text, which probe result."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.parts import aria, note
from dashboards.request import CHAT, MAX_NEW_TOKENS, NEW_TOKENS, PAIR, TARGET, TEXT, WRITE
from dashboards.security import is_loopback
from dashboards.sentences import EMBEDDED

__all__ = ["KIND_NAMES", "PLAIN_NOTE", "example_buttons", "layout", "model_options", "result_options"]

KIND_NAMES = {
    TEXT: "a text",
    PAIR: "a pair of texts",
    TARGET: "a text to read and one to write",
    WRITE: "a text, and it writes on",
    CHAT: "a turn in its chat template",
}
PLAIN_NOTE = "attnlens probe writes it; each head then carries its labels and their evidence."


def layout(desk: Desk, prefix: str = "/") -> html.Aside:
    """The rail, on a server with this prefix. Files dropped anywhere on it are taken."""
    return html.Aside(
        [_form(desk), _results(desk), _files(desk, prefix), _recent()], className="rail", **aria(label="Model and text")
    )


def model_options(desk: Desk) -> list[dict[str, Any]]:
    """The picker's entries: the listed models, and one that opens a field for any other."""
    listed = [{"value": choice.name, "label": choice.name} for choice in desk.choices.listed]
    return [
        {"group": "Listed", "items": listed},
        {"group": "Other", "items": [{"value": ids.OTHER, "label": "a folder or hub id …"}]},
    ]


def result_options(desk: Desk, chosen: str | None = None) -> list[dict[str, str]]:
    """The results that can be put on the heads, the chosen one (an upload) among them; the empty value is none."""
    names = dict.fromkeys([*desk.shelf.names, *([chosen] if chosen else [])])
    return [{"value": "", "label": "none"}, *({"value": name, "label": name} for name in names)]


def example_buttons(desk: Desk, model: str) -> list[html.Button]:
    """One button per example text of a model."""
    return [
        html.Button(
            text, id={"type": ids.EXAMPLE, "index": index}, className="example", type="button", title="Run this text"
        )
        for index, text in enumerate(desk.choices.describe(model).examples)
    ]


def _form(desk: Desk) -> html.Section:
    config = desk.config
    return html.Section(
        [
            dmc.Select(
                id=ids.MODEL,
                label="Model",
                data=model_options(desk),
                value=config.model,
                allowDeselect=False,
                searchable=True,
                maxDropdownHeight=360,
                nothingFoundMessage="not listed: choose “a folder or hub id …”",
                comboboxProps={"shadow": "md"},
            ),
            note(desk.choices.describe(config.model).description, id=ids.MODEL_NOTE),
            dmc.TextInput(
                id=ids.OTHER_MODEL,
                label="Folder or hub id",
                placeholder="models/my-bert or org/name",
                debounce=False,
                display="none",
            ),
            dmc.Select(
                id=ids.KIND,
                label="What it gets",
                data=[{"value": TEXT, "label": KIND_NAMES[TEXT]}],
                value=TEXT,
                allowDeselect=False,
                comboboxProps={"shadow": "md"},
                display="none",
            ),
            dmc.Textarea(
                id=ids.TEXT,
                label="Text",
                autosize=True,
                minRows=3,
                maxRows=9,
                placeholder="Type a sentence.",
                spellCheck=False,
            ),
            dmc.Textarea(
                id=ids.SECOND,
                label="Second text",
                autosize=True,
                minRows=2,
                maxRows=6,
                placeholder="Type a sentence.",
                spellCheck=False,
                display="none",
            ),
            dmc.NumberInput(
                id=ids.NEW_TOKENS,
                label="Tokens to write, at most",
                value=NEW_TOKENS,
                min=0,
                max=MAX_NEW_TOKENS,
                allowDecimal=False,
                display="none",
            ),
            html.Div(
                [
                    dmc.Button("Run", id=ids.RUN_BUTTON, className="run", **aria(keyshortcuts="Control+Enter")),
                    html.Span([dmc.Kbd("Ctrl", size="xs"), " + ", dmc.Kbd("Enter", size="xs")], className="shortcut"),
                ],
                className="run-row",
            ),
            html.Div(
                [html.H2("Examples", className="rail-title"), html.Div(id=ids.EXAMPLES, className="examples")],
                className="example-box",
            ),
        ],
        className="rail-part",
    )


def _results(desk: Desk) -> html.Section:
    return html.Section(
        [
            dmc.Select(
                id=ids.RESULTS,
                label="Labels from a probe result",
                data=result_options(desk),
                value="",
                allowDeselect=False,
                comboboxProps={"shadow": "md"},
            ),
            note(PLAIN_NOTE, id=ids.RESULTS_NOTE),
        ],
        className="rail-part",
    )


def _files(desk: Desk, prefix: str) -> html.Section:
    """A button for files, and the sentences of the last file that had some; both work in the browser."""
    place: dict[str, Any] = {"data-limit": str(desk.config.max_upload_bytes), "data-prefix": prefix}
    return html.Section(
        [
            html.Button("Open a file …", id=ids.UPLOAD_BUTTON, type="button", className="plain-button"),
            html.Div(id=ids.UPLOAD, className="upload", **place),
            note(
                "Or drop it here: a run (.attn), a probe result (heads.json), sentences (.txt, one per line), a corpus "
                "(.conllu)."
            ),
            html.Div(id=ids.BATCH, className="batch", hidden=True),
            _corpus(desk),
            dcc.Store(id=ids.UPLOADED),
        ],
        className="rail-part",
    )


def _corpus(desk: Desk) -> html.Details:
    """The sentences of a corpus; the browser asks for them page by page when this is opened."""
    told: dict[str, Any] = {"data-embedded": EMBEDDED, "data-local": str(is_loopback(desk.config.host)).lower()}
    return html.Details(
        [html.Summary("Sentences of a corpus"), html.Div(className="folded", id=ids.CORPUS, **told)], className="corpus"
    )


def _recent() -> html.Section:
    """What this browser ran before; nothing of it leaves the browser."""
    recent = html.Details(
        [html.Summary("Recent runs"), html.Div(id=ids.RECENT_LIST, className="examples folded")], className="recent"
    )
    return html.Section(recent, id=ids.RECENT, className="rail-part", hidden=True)
