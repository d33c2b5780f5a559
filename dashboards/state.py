"""What the visitor looks at, as a value and as the query part of the page's address."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

from dashboards.request import KINDS, TEXT, RunRequest, count_of

__all__ = ["BERTVIZ", "BETWEEN", "COMBINE", "HOW", "METHODS", "SHOWN", "TABS", "ViewState"]

TABS = ("links", "matrix", "classic")
SHOWN = ("all", "labelled", "nearly", "unclassified")
HOW = ("zero", "mean", "resample", "other")
METHODS = ("gradients", "ablation", "shapley")
RUN_FIELDS = ("model", "text", "kind", "second", "new_tokens", "run")
BETWEEN = ("", "AA", "AB", "BA", "BB")
COMBINE = ("overlay", "mean", "max")
BERTVIZ = ("head", "model", "neuron")
_MOST_TOP = 99

Reader = Callable[[str, Any], Any]  # what an address says, and the field's default -> the field


@dataclass(frozen=True, kw_only=True)
class ViewState:
    """What a visitor looks at; `read` and `query_string` are inverse to each other. A page uses the fields it needs.

    Attributes:
        model: name of the model.
        text: the sentence.
        kind: what the model is given, one of `dashboards.request.KINDS`.
        second: the second text of a pair; what an encoder-decoder writes.
        new_tokens: how many tokens the model writes at most; 0 takes the usual number.
        run: content key of an uploaded run that is shown; empty for one that is made here.
        head: printed address of the selected head, `L3H1`; empty takes the first.
        metric: key of the number that colours the head map.
        words: words instead of the model's pieces.
        hide_special: leave `[CLS]`, `[SEP]`, `<s>` and their like out.
        hide_sinks: leave tokens out that take much of the weight of all heads, whatever stands there.
        whole_rows: divide what is left of each row by its sum.
        between: of a pair of texts, which one attends and which is attended to, one of `BETWEEN`.
        threshold: weakest link that is drawn, a weight from 0 to 1.
        top: links drawn of each token, the strongest; 0 for all.
        window: the part of a long text that is shown: queries and keys, `0-64,0-64`; empty for the beginning.
        also: heads drawn with the selected one, `L0H1,L2H3`.
        combine: how several heads are shown, one of `COMBINE`.
        measure: measure of mixing that is drawn instead of attention weights; empty for weights.
        bertviz: which of BertViz' views, one of `BERTVIZ`.
        query: the token (or word) whose links alone are drawn, by position; None draws all.
        key: with `query`, the key of the selected link, by position; None where no link is selected.
        details: whether the drawer with what is selected is open.
        tab: the way the head is shown, one of `TABS`.
        results: name of the probe result in use; empty for none.
        against_model: the model of the run that this one is compared with; empty for the same.
        against_text: its text; empty for the same.
        cell: of the compared maps, the cell that is held: row and column, `3-5`; empty for none.
        show: which heads are listed, one of `SHOWN`.
        find: what the list of heads is searched for.
        at: position of the token whose prediction is looked at; None takes the masked or the last one.
        target: the predicted token that is explained, by its spelling; empty takes the model's first choice.
        stream: name of the measure of the residual stream that is shown.
        method: how logits are attributed to tokens, one of `METHODS`.
        off: the heads that are switched off, `L0H1,L2H3`.
        how: what they pass on instead, one of `HOW`.
        cut: the edges that are cut, `5-2@L0H1,4-0`: query, key, and the head (every head where none is named).
        other: the second text, whose values are patched in.
        patch: the layer behind which the stream has the values of the second text; None for none.
        preset: the published model that sizes are compared with.
        took: numbers of the tokens that were written after the text, `12,5`.
        temp, topk, topp: temperature, top k (0 for all) and top p of the next token.
        reach: tokens of the text that training memory is told for.
        patch_at: at which position; None for all.
        block: the layer that is taken apart, `3` or `E3`; empty for that of the selected head.
        part: the step of it that is marked, by its key; empty for none.
        step: of one head's steps the one that is shown, by its key; empty for all at once.
        along: by how many places query and key are moved together.
        apart: by how many places they are pulled apart.
        order: the words that change places; empty takes three usual ones.
        beside: the text that shares a batch with the shown one; empty takes the beginning of that.
    """

    model: str = ""
    text: str = ""
    kind: str = TEXT
    second: str = ""
    new_tokens: int = 0
    run: str = ""
    head: str = ""
    metric: str = "entropy"
    words: bool = False
    hide_special: bool = False
    hide_sinks: bool = False
    whole_rows: bool = False
    between: str = ""
    threshold: float = 0.1
    top: int = 0
    window: str = ""
    also: str = ""
    combine: str = "overlay"
    measure: str = ""
    bertviz: str = "head"
    query: int | None = None
    key: int | None = None
    details: bool = False
    tab: str = "links"
    results: str = ""
    against_model: str = ""
    against_text: str = ""
    cell: str = ""
    show: str = "all"
    find: str = ""
    at: int | None = None
    target: str = ""
    stream: str = "stream-norm"
    method: str = "gradients"
    off: str = ""
    how: str = "zero"
    cut: str = ""
    other: str = ""
    patch: int | None = None
    patch_at: int | None = None
    preset: str = "gpt2"
    reach: str = "2048"
    took: str = ""
    temp: str = "1"
    topk: str = "0"
    topp: str = "1"
    block: str = ""
    part: str = ""
    step: str = ""
    along: int = 0
    apart: int = 0
    order: str = ""
    beside: str = ""

    @property
    def request(self) -> RunRequest:
        """The run that is looked at."""
        return RunRequest.from_json({field: getattr(self, field) for field in RUN_FIELDS})

    @classmethod
    def defaults(cls) -> dict[str, str]:
        """How the address would spell each field of a plain view, which it leaves out."""
        plain = cls()
        return {field.name: _spelled(getattr(plain, field.name)) for field in fields(cls)}

    def query_string(self) -> str:
        """`?model=...&text=...`: every field that differs from a plain view, in a fixed order."""
        pairs = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                pairs.append((field.name, _spelled(value)))
        return "?" + urlencode(pairs) if pairs else ""

    @classmethod
    def read(cls, search: str) -> ViewState:
        """The view that an address asks for; what cannot be read (a stale link) falls back to the default."""
        given = dict(parse_qsl(search.removeprefix("?"), keep_blank_values=True))
        return cls(
            **{
                field.name: _READERS.get(field.name, _reader_of(field.default))(given[field.name], field.default)
                for field in fields(cls)
                if field.name in given
            }
        )


def _spelled(value: object) -> str:
    if value is None or value is False:
        return ""
    return "1" if value is True else str(value)


def _reader_of(default: object) -> Reader:
    """How a field of this default is read, where it has no reader of its own: a flag, a position, or a text."""
    if default is False:
        return lambda text, _: text == "1"
    if default is None:
        return lambda text, _: _position(text)
    return lambda text, _: text


def _share(text: str, default: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return default
    return value if math.isfinite(value) and 0 <= value <= 1 else default


def _count(text: str, default: int) -> int:
    value = _position(text)
    return default if value is None or value > _MOST_TOP else value


def _one_of(*known: str) -> Reader:
    return lambda text, default: text if text in known else default


def _position(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


_READERS: Mapping[str, Reader] = {
    "new_tokens": lambda text, _: count_of(text),
    "threshold": _share,
    "top": _count,
    "along": _count,
    "apart": _count,
    "kind": _one_of(*KINDS),
    "between": _one_of(*BETWEEN),
    "combine": _one_of(*COMBINE),
    "bertviz": _one_of(*BERTVIZ),
    "tab": _one_of(*TABS),
    "show": _one_of(*SHOWN),
    "method": _one_of(*METHODS),
    "how": _one_of(*HOW),
}
