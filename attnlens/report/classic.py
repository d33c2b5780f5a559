"""BertViz' own head, model and neuron view: its scripts, run offline, with the data escaped and embedded once.

BertViz (Vig 2019, arXiv:1906.05714; Apache-2.0) loads require.js, d3 and jQuery from a CDN and writes tokens into a
script element as they are. Here its two scripts are read from the installed `bertviz` package and run unchanged on
d3 (from `mpld3`) and jQuery (from `XStatic-jQuery`), behind two lines that stand in for require.js. Arguments are
named as in BertViz; a run can be given in place of attention and tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from jaxtyping import Float
from torch import Tensor

from attnlens.capture.incoming import incoming
from attnlens.capture.patterns import LazyPattern
from attnlens.capture.run import Capture
from attnlens.capture.sites import DECODER, ONLY
from attnlens.capture.tokens import printable
from attnlens.errors import CaptureError, UsageError
from attnlens.heads import Head
from attnlens.report.embed import json_for_script
from attnlens.report.page import content_security_policy
from attnlens.report.palette import FONT_SANS, theme_of

__all__ = ["HtmlView", "classic_page", "head_view", "model_view", "neuron_view"]

# One SVG line per weight: the head view draws one layer at a time, the model view all. Both hold all as numbers.
MAX_LINES = 1_000_000
MAX_WEIGHTS = 5_000_000
# Weights are written with this many decimals: both scripts use them for opacity only.
DECIMALS = 4

_NEURON_MARKER = "const params = window.bertviz_params"

# BertViz' scripts ask require.js for jQuery and d3; they get the two that the page holds.
_SHIM = (
    "var require=function(names,start){return start(ATTN.jQuery,ATTN.d3)},requirejs=require;"
    "require.config=function(){};var console={log:function(){}};"
)
# The newest element of the view's id gets a number of its own.
_OWN_ROOT = (
    "var place=Array.from(document.querySelectorAll('[id=\"ROOT\"]')).pop(),n=0;"
    "while(document.getElementById('ROOT-'+n))n++;place.id=ATTN.root='ROOT-'+n;"
)
_MARKER = "const params = PYTHON_PARAMS;"


class HtmlView(str):
    """HTML that a notebook shows; as a string it is the HTML itself."""

    __slots__ = ()

    @property
    def data(self) -> str:
        """The HTML, under the name that IPython's `HTML` objects have."""
        return str(self)

    def _repr_html_(self) -> str:
        return str(self)


def head_view(
    attention: Any,
    tokens: Sequence[str] | None = None,
    *,
    layer: int | None = None,
    heads: Sequence[int] | None = None,
    include_layers: Sequence[int] | None = None,
    html_action: str = "view",
) -> HtmlView | None:
    """BertViz' head view: one layer's heads as lines between tokens.

    Args:
        attention: a run, an output of transformers (of an encoder-decoder the decoder is shown), or one tensor
            `[1 head query key]` (or `[head query key]`) per layer.
        tokens: their labels; only with tensors.
        layer: shown first.
        heads: selected first; all by default.
        include_layers: layers to choose from; all by default.
        html_action: "view" shows it in the notebook, "return" gives it back.

    Raises:
        UsageError: an argument that does not fit the others.
        CaptureError: so many weights that a browser could not draw them.
    """
    source = _source(attention, tokens)
    layers = _chosen(include_layers, source.n_layers, "layer")
    if layer is not None and layer not in layers:
        raise UsageError(f"layer {layer} is not among the layers {layers}.")
    chosen = None if heads is None else _chosen(heads, source.n_heads, "head")
    _check_size(source, 1, len(layers), source.n_heads)
    params = _params(source, layers, range(source.n_heads))
    params |= {"layer": layer, "heads": chosen, "include_layers": layers}
    return _deliver(_fragment("head_view", params), html_action)


def model_view(
    attention: Any,
    tokens: Sequence[str] | None = None,
    *,
    display_mode: str = "light",
    include_layers: Sequence[int] | None = None,
    include_heads: Sequence[int] | None = None,
    html_action: str = "view",
) -> HtmlView | None:
    """BertViz' model view: every head of every layer in small; a click enlarges one.

    Args and errors as for `head_view`; `display_mode` is "light" or "dark", `include_heads` chooses heads.
    """
    source = _source(attention, tokens)
    if display_mode not in ("light", "dark"):
        raise UsageError(f"display_mode={display_mode!r}: expected 'light' or 'dark'.")
    layers = _chosen(include_layers, source.n_layers, "layer")
    heads = _chosen(include_heads, source.n_heads, "head")
    _check_size(source, len(layers), len(layers), len(heads))
    params = _params(source, layers, heads) | {
        "display_mode": display_mode,
        "include_layers": layers,
        "include_heads": heads,
        "total_heads": source.n_heads,
    }
    return _deliver(_fragment("model_view", params), html_action)


def neuron_view(
    run: Capture,
    *,
    layer: int = 0,
    head: int = 0,
    display_mode: str = "light",
    html_action: str = "view",
) -> HtmlView | None:
    """BertViz' neuron view: how the query and the key of a head make its weights, from the run's own queries and keys.

    BertViz divides products by the square root of a head's size; queries are scaled so that its scores are the model's.
    A bias of positions, or a softcap, comes on top of them: the weights shown are the model's in any case.

    Args:
        run: a run with queries and keys, as capturing keeps them unless it is asked for weights.
        layer: shown first.
        head: likewise.
        display_mode: "light" or "dark".
        html_action: as in `head_view`.

    Raises:
        UsageError: another mode.
        HeadAddressError: no such head.
        CaptureError: a layer without queries and keys, or so many numbers that a browser could not hold them.
    """
    if display_mode not in ("light", "dark"):
        raise UsageError(f"display_mode={display_mode!r}: expected 'light' or 'dark'.")
    source = _source(run, None)
    Head(layer, head).within(source.n_layers, source.n_heads)
    _check_size(source, 1, source.n_layers, source.n_heads)
    vectors = [_queries_and_keys(run, at) for at in range(source.n_layers)]
    attention = _params(source, range(source.n_layers), range(source.n_heads))["attention"][0]
    shown = attention | {"queries": [one[0] for one in vectors], "keys": [one[1] for one in vectors]}
    params = {
        "attention": {"all": shown},
        "default_filter": "all",
        "bidirectional": not run.anatomy.causal,
        "display_mode": display_mode,
        "layer": layer,
        "head": head,
    }
    return _deliver(_fragment("neuron_view", params), html_action)


def _queries_and_keys(run: Capture, layer: int) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    """`[head position d_head]` of both, keys repeated for each head that shares them."""
    pattern = run.patterns_of()[layer]
    if not isinstance(pattern, LazyPattern):
        raise CaptureError(
            f"layer {layer} of this run holds no queries and keys; the neuron view shows how weights come from them. "
            "Capture without weights, or take the head view."
        )
    scores = pattern.scores
    query, key = scores.query[0].float(), scores.key[0].float()
    key = key.repeat_interleave(len(query) // len(key), dim=0)
    return _rounded(query * (scores.scaling * query.shape[-1] ** 0.5)), _rounded(key)


def classic_page(
    run: Capture,
    view: str = "head",
    layer: int | None = None,
    head: Head | str | int | None = None,
    *,
    theme: str = "light",
) -> str:
    """A whole page with one of the two views, for a sandboxed frame: no network, its own Content-Security-Policy.

    Args:
        run: the run.
        view: "head", "model" or "neuron".
        layer: shown first (head and neuron view), or the only one (model view).
        head: selected first (head view), or the only one (model view): an address, or an index.
        theme: "light" or "dark".

    Raises:
        UsageError: no such view.
        HeadAddressError: no such head.
        CaptureError: so many weights that a browser could not draw them.
    """
    if view not in _HINTS:
        raise UsageError(f"{view!r} is no classic view; choose one of {', '.join(_HINTS)}.")
    if isinstance(head, int):
        head = Head(layer or 0, head)
    address = None if head is None else Head.parse(head).within(run.n_layers, run.n_heads)
    layer = address.layer if address is not None else layer
    heads = None if address is None else [address.head]
    only = None if layer is None else [layer]
    mode = "dark" if theme == "dark" else "light"
    if view == "neuron":
        fragment = neuron_view(
            run, layer=layer or 0, head=heads[0] if heads else 0, display_mode=mode, html_action="return"
        )
    elif view == "model":
        fragment = model_view(run, include_layers=only, include_heads=heads, display_mode=mode, html_action="return")
    else:
        too_many = run.n_layers * run.n_heads * len(run.tokens) ** 2 > MAX_WEIGHTS
        layers = (only or [0]) if too_many else None
        fragment = head_view(run, layer=layer, heads=heads, include_layers=layers, html_action="return")
    assert fragment is not None
    return _page(fragment, view, theme)


_HINTS = {
    "head": "Point at a token to see its lines. Click a coloured square to switch a head, double-click for it alone.",
    "neuron": "Point at a token and press the plus sign: query, key, their product and what softmax makes of it.",
    "model": "One small picture per head. Click one to enlarge it, then point at its tokens.",
}


def _page(fragment: HtmlView, view: str, theme: str) -> str:
    script = fragment.partition("<script>")[2].rpartition("</script>")[0]
    colours = theme_of(theme)
    # BertViz writes in black on white; in dark the style sheet outranks the attributes that it sets.
    dark = "svg>text,svg g>g>text{fill:#d5d8de}rect.background{fill:#3a404a}" if theme == "dark" else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{content_security_policy([script])}">\n'
        f"<title>BertViz {view} view</title>\n"
        f"<style>:root{{color-scheme:{colours.name}}}body{{margin:12px;background:{colours.surface};"
        f"color:{colours.ink};font:14px {FONT_SANS}}}p{{color:{colours.muted};margin:0 0 12px}}{dark}</style></head>\n"
        f"<body><p>{_HINTS[view]}</p>{fragment}</body></html>\n"
    )


def _fragment(name: str, params: dict[str, Any]) -> HtmlView:
    """A div and one script: libraries, stand-in for require.js, BertViz' script with its parameters in place.

    Everything runs inside one function, so that views of one notebook, and other libraries on the page, keep apart.
    The id is made from the content, so that the same view gives the same bytes; the script then numbers it, so that
    the same view can be shown twice.
    """
    marker = _NEURON_MARKER if name == "neuron_view" else _MARKER
    head, _, tail = _package_file("bertviz", f"{name}.js").partition(marker)
    if not tail:
        raise CaptureError(f"this version of bertviz has no {marker!r} in {name}.js; install bertviz 1.4.1.")
    text = json_for_script(params)
    root = "bertviz-" + hashlib.sha256((name + text).encode()).hexdigest()[:16]
    code = f"{head}const params = Object.assign({text},{{root_div_id:ATTN.root}});{tail}"
    script = f"(function(){{{_libraries()}{_SHIM}{_OWN_ROOT.replace('ROOT', root)}{code}\n}})();"
    font = "font-family:'Helvetica Neue',Helvetica,Arial,sans-serif"
    layers = '<label>Layer: <select id="layer"></select></label>' if name != "model_view" else ""
    layers += ' <label>Head: <select id="att_head"></select></label>' if name == "neuron_view" else ""
    return HtmlView(
        f'<div id="{root}" style="{font}"><span style="user-select:none">{layers}</span>'
        f'<div id="vis"></div></div>\n<script>{script}</script>'
    )


@cache
def _libraries() -> str:
    """d3 and jQuery, kept in a local object: nothing of them becomes a global of the page."""
    d3 = _script_safe(_package_file("mpld3", "js/d3.v5.min.js"))
    jquery = _script_safe(_package_file("xstatic.pkg.jquery", "data/jquery.min.js"))
    return (
        "var ATTN={};"
        f"(function(exports,module,define){{{d3}\n}}).call(ATTN,ATTN.d3={{}},{{}},undefined);"
        f"(function(module,exports,define){{{jquery}\nATTN.jQuery=module.exports;}}).call(window,{{exports:{{}}}},{{}});"
    )


@cache
def _package_file(package: str, path: str) -> str:
    try:
        return files(import_module(package)).joinpath(path).read_text(encoding="utf-8")
    except (ImportError, OSError) as error:
        raise CaptureError(f"the classic views need {path} of {package} ({error}); reinstall attnlens.") from error


def _script_safe(script: str) -> str:
    """A library's text inside a script element: it must not end the element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@dataclass(frozen=True)
class _Source:
    """Attention that is computed when a layer is asked for, and its labels."""

    n_layers: int
    n_heads: int
    labels: list[str]
    layer: Callable[[int], Float[Tensor, "head query key"]]


def _source(attention: Any, tokens: Sequence[str] | None) -> _Source:
    if isinstance(attention, Capture):
        if tokens is not None:
            raise UsageError("a run brings its own tokens; leave `tokens` out.")
        labels = [token.label for token in attention.tokens]
        return _Source(attention.n_layers, attention.n_heads, labels, attention.attention)
    if tokens is None:
        raise UsageError("tensors need `tokens`: one label for each position.")
    given = incoming(attention).layers
    layers = [part for part in given.get(ONLY, given.get(DECODER, ())) if part is not None]
    n = len(tokens)
    for part in layers:
        if part.ndim != 3 or tuple(part.shape[1:]) != (n, n):
            found = list(part.shape)
            raise UsageError(f"expected [1, heads, {n}, {n}] per layer for {n} tokens, found {found}.")
    labels = [printable(token) for token in tokens]
    return _Source(len(layers), len(layers[0]), labels, lambda layer: layers[layer].float())


def _chosen(wanted: Sequence[int] | None, n: int, what: str) -> list[int]:
    if wanted is None:
        return list(range(n))
    if not wanted or any(not 0 <= index < n for index in wanted):
        raise UsageError(f"{what}s {list(wanted)}: expected numbers from 0 to {n - 1}.")
    return list(wanted)


def _params(source: _Source, layers: Sequence[int], heads: Sequence[int]) -> dict[str, Any]:
    weights = [_rounded(source.layer(layer)[list(heads)]) for layer in layers]
    return {
        "attention": [{"name": None, "attn": weights, "left_text": source.labels, "right_text": source.labels}],
        "default_filter": "0",
    }


def _rounded(layer: Float[Tensor, "head query key"]) -> list[list[list[float]]]:
    return [[[round(weight, DECIMALS) for weight in row] for row in head] for head in layer.tolist()]


def _check_size(source: _Source, n_drawn_layers: int, n_layers: int, n_heads: int) -> None:
    per_layer = n_heads * len(source.labels) ** 2
    for n, limit, what in (
        (n_drawn_layers * per_layer, MAX_LINES, "draw {:,} lines"),
        (n_layers * per_layer, MAX_WEIGHTS, "hold {:,} weights"),
    ):
        if n > limit:
            raise CaptureError(
                f"BertViz' view would {what.format(n)}, a browser takes about {limit:,}; "
                "use the token view, or fewer layers, heads or tokens."
            )


def _deliver(fragment: HtmlView, html_action: str) -> HtmlView | None:
    if html_action == "return":
        return fragment
    if html_action != "view":
        raise UsageError(f"html_action={html_action!r}: expected 'view' or 'return'.")
    try:
        from IPython.display import HTML, display
    except ImportError as error:
        raise UsageError("html_action='view' needs IPython; pass html_action='return'.") from error
    display(HTML(str(fragment)))  # type: ignore[no-untyped-call]
    return None
