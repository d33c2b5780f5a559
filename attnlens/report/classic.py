"""BertViz' own head, model and neuron view: its scripts, run offline, with the data escaped and embedded once.

BertViz (Vig 2019, arXiv:1906.05714; Apache-2.0) loads require.js, d3 and jQuery from a CDN and writes tokens into a
script element as they are. Here its two scripts are read from the installed `bertviz` package and run unchanged on
d3 (from `mpld3`) and jQuery (from `XStatic-jQuery`), behind two lines that stand in for require.js. Arguments are
named as in BertViz; a run can be given in place of attention and tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from attnlens.capture.patterns import LazyPattern
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, ENCODER
from attnlens.errors import CaptureError, UsageError
from attnlens.heads import Head
from attnlens.report.classic_parts import Given, Part, parts_of
from attnlens.report.embed import json_for_script
from attnlens.report.page import content_security_policy
from attnlens.report.palette import FONT_SANS, theme_of
from attnlens.report.views import head_of

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["HtmlView", "bertviz_parameters", "classic_page", "head_view", "model_view", "neuron_view"]

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
# The parts of a pair, in BertViz' order and words.
_PAIR = (
    "All",
    "Sentence A -> Sentence A",
    "Sentence B -> Sentence B",
    "Sentence A -> Sentence B",
    "Sentence B -> Sentence A",
)
_CUT = (
    "params.attention=[[0,0,0,0],[0,1,0,1],[1,2,1,2],[0,1,1,2],[1,2,0,1]].map(function(e,i){if(!i)return this;"
    "var all=this,b=[0,START,all.left_text.length],r=[b[e[0]],b[e[1]]],c=[b[e[2]],b[e[3]]],cut=function(x,s){return "
    "x.slice(s[0],s[1])};return{name:null,attn:all.attn.map(function(l){return l.map(function(h){return cut(h,r).map("
    "function(q){return cut(q,c)})})}),left_text:cut(all.left_text,r),right_text:cut(all.right_text,c)}},"
    "params.attention[0]);"
)


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
    attention: Any = None,
    tokens: Sequence[str] | None = None,
    sentence_b_start: int | None = None,
    prettify_tokens: bool = True,
    layer: int | None = None,
    heads: Sequence[int] | None = None,
    encoder_attention: Any = None,
    decoder_attention: Any = None,
    cross_attention: Any = None,
    encoder_tokens: Sequence[str] | None = None,
    decoder_tokens: Sequence[str] | None = None,
    include_layers: Sequence[int] | None = None,
    html_action: str = "view",
) -> HtmlView | None:
    """BertViz' head view: one layer's heads as lines between tokens.

    Args:
        attention: a run, an output of transformers, or one tensor `[1 head query key]` (or `[head query key]`) per
            layer. An encoder-decoder's stacks stand in a list to choose from, the decoder first.
        tokens: their labels; only with tensors and outputs.
        sentence_b_start: where the second text of a pair begins; the list then has each text's attention to each.
        prettify_tokens: whether marks of tokenizers (Ġ, ▁, </w>) are taken out of `tokens`; a run's are always.
        layer: shown first.
        heads: selected first; all by default.
        encoder_attention: of an encoder-decoder, in place of `attention`.
        decoder_attention: likewise.
        cross_attention: likewise.
        encoder_tokens: labels of what the encoder reads.
        decoder_tokens: labels of what the decoder writes.
        include_layers: layers to choose from; all that there are by default.
        html_action: "view" shows it in the notebook, "return" gives it back.

    Raises:
        UsageError: an argument that does not fit the others.
        CaptureError: so many weights that a browser could not draw them.
    """
    given = Given(
        attention=attention,
        tokens=tokens,
        sentence_b_start=sentence_b_start,
        prettify_tokens=prettify_tokens,
        encoder_attention=encoder_attention,
        decoder_attention=decoder_attention,
        cross_attention=cross_attention,
        encoder_tokens=encoder_tokens,
        decoder_tokens=decoder_tokens,
    )
    parts = parts_of(given)
    layers = _chosen(include_layers, parts[0].n_layers, "layer", parts[0].held)
    if layer is not None and layer not in layers:
        raise UsageError(f"layer {layer} is not among the layers {layers}.")
    n_heads = parts[0].n_heads
    chosen = None if heads is None else _chosen(heads, n_heads, "head")
    _check_size(parts, 1, len(layers), n_heads)
    params = _params(parts, layers, range(n_heads))
    params |= {"layer": layer, "heads": chosen, "include_layers": layers}
    return _deliver(_fragment("head_view", params, sentence_b_start), html_action)


def model_view(
    attention: Any = None,
    tokens: Sequence[str] | None = None,
    sentence_b_start: int | None = None,
    prettify_tokens: bool = True,
    display_mode: str = "light",
    encoder_attention: Any = None,
    decoder_attention: Any = None,
    cross_attention: Any = None,
    encoder_tokens: Sequence[str] | None = None,
    decoder_tokens: Sequence[str] | None = None,
    include_layers: Sequence[int] | None = None,
    include_heads: Sequence[int] | None = None,
    html_action: str = "view",
) -> HtmlView | None:
    """BertViz' model view: every head of every layer in small; a click enlarges one.

    Args and errors as for `head_view`; `display_mode` is "light" or "dark", `include_heads` chooses heads.
    """
    given = Given(
        attention=attention,
        tokens=tokens,
        sentence_b_start=sentence_b_start,
        prettify_tokens=prettify_tokens,
        encoder_attention=encoder_attention,
        decoder_attention=decoder_attention,
        cross_attention=cross_attention,
        encoder_tokens=encoder_tokens,
        decoder_tokens=decoder_tokens,
    )
    parts = parts_of(given)
    if display_mode not in ("light", "dark"):
        raise UsageError(f"display_mode={display_mode!r}: expected 'light' or 'dark'.")
    layers = _chosen(include_layers, parts[0].n_layers, "layer", parts[0].held)
    heads = _chosen(include_heads, parts[0].n_heads, "head")
    _check_size(parts, len(layers), len(layers), len(heads))
    params = _params(parts, layers, heads) | {
        "display_mode": display_mode,
        "include_layers": layers,
        "include_heads": heads,
        "total_heads": parts[0].n_heads,
    }
    return _deliver(_fragment("model_view", params, sentence_b_start), html_action)


def neuron_view(
    run: Capture | Lens,
    sentence_a: str | None = None,
    sentence_b: str | None = None,
    display_mode: str = "light",
    layer: int | None = None,
    head: int | None = None,
    html_action: str = "view",
) -> HtmlView | None:
    """BertViz' neuron view: how the query and the key of a head make its weights, from the run's own queries and keys.

    BertViz divides products by the square root of a head's size; queries are scaled so that its scores are the model's.
    A bias of positions, or a softcap, comes on top of them: the weights shown are the model's in any case.

    Args:
        run: a run with queries and keys, as capturing keeps them unless it is asked for weights; or an opened model
            (`attnlens.load`), which then runs `sentence_a`.
        sentence_a: the text; only with a model.
        sentence_b: a second one, for models of pairs.
        display_mode: "light" or "dark".
        layer: shown first; 0 by default.
        head: likewise.
        html_action: as in `head_view`.

    Raises:
        UsageError: another mode; weights in place of a run, which do not tell queries and keys; a text missing or
            one too many.
        HeadAddressError: no such head.
        CaptureError: a layer without queries and keys, or so many numbers that a browser could not hold them.
    """
    if display_mode not in ("light", "dark"):
        raise UsageError(f"display_mode={display_mode!r}: expected 'light' or 'dark'.")
    run = _run_of(run, sentence_a, sentence_b)
    layer, head = layer or 0, head or 0
    parts = parts_of(Given(attention=run))[:1]
    n_layers, n_heads = parts[0].n_layers, parts[0].n_heads
    Head(layer, head).within(n_layers, n_heads)
    _check_size(parts, 1, n_layers, n_heads)
    vectors = [_queries_and_keys(run, at) for at in range(n_layers)]
    attention = _params(parts, range(n_layers), range(n_heads))["attention"][0]
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


def _run_of(given: Any, sentence_a: str | None, sentence_b: str | None) -> Capture:
    """The run itself, or that of a model that was given in its place."""
    if isinstance(given, Capture):
        if sentence_a is not None or sentence_b is not None:
            raise UsageError("a run brings its own text; leave sentence_a and sentence_b out, or give the model.")
        return given
    if not hasattr(given, "capture"):
        raise UsageError(
            f"{type(given).__name__} holds no queries and keys, which the neuron view shows; give a run of "
            "attnlens.load(...).capture(text), or the opened model and a text."
        )
    if sentence_a is None:
        raise UsageError("a model needs a text to run: neuron_view(lens, 'The keys are here.').")
    captured: Capture = given.capture(sentence_a if sentence_b is None else (sentence_a, sentence_b), points=())
    return captured


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
        head: selected first (head view), or the only one (model view): an address, or an index. Of an encoder-decoder
            the views begin with the decoder, so that a head of another stack is not selected.
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
    address = None if head is None else head_of(run, head)
    if address is not None and address.stack in (ENCODER, CROSS):
        address = None
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
        each = sum(len(part.left) * len(part.right) for part in parts_of(Given(attention=run)))
        too_many = run.n_layers * run.n_heads * each > MAX_WEIGHTS
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


def _fragment(name: str, params: dict[str, Any], start: int | None = None) -> HtmlView:
    """A div and one script: libraries, stand-in for require.js, BertViz' script with its parameters in place.

    Everything runs inside one function, so that views of one notebook, and other libraries on the page, keep apart.
    The id is made from the content, so that the same view gives the same bytes; the script then numbers it, so that
    the same view can be shown twice. Where the second text of a pair has a `start`, the script cuts its four parts out
    of the whole, which is embedded once.
    """
    marker = _NEURON_MARKER if name == "neuron_view" else _MARKER
    head, _, tail = _package_file("bertviz", f"{name}.js").partition(marker)
    if not tail:
        raise CaptureError(f"this version of bertviz has no {marker!r} in {name}.js; install bertviz 1.4.1.")
    text = json_for_script(params)
    root = "bertviz-" + hashlib.sha256((name + text + str(start or "")).encode()).hexdigest()[:16]
    cut = "" if start is None else _CUT.replace("START", str(start))
    code = f"{head}const params = Object.assign({text},{{root_div_id:ATTN.root}});{cut}{tail}"
    script = f"(function(){{{_libraries()}{_SHIM}{_OWN_ROOT.replace('ROOT', root)}{code}\n}})();"
    font = "font-family:'Helvetica Neue',Helvetica,Arial,sans-serif"
    layers = '<label>Layer: <select id="layer"></select></label>' if name != "model_view" else ""
    layers += ' <label>Head: <select id="att_head"></select></label>' if name == "neuron_view" else ""
    names = [part["name"] for part in params["attention"]] if name != "neuron_view" else []
    names = names if start is None else list(_PAIR)
    if len(names) > 1:
        options = "".join(f'<option value="{at}">{escape(each)}</option>' for at, each in enumerate(names))
        layers += f' <label>Attention: <select id="filter">{options}</select></label>'
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


def _chosen(wanted: Sequence[int] | None, n: int, what: str, held: Sequence[int] | None = None) -> list[int]:
    if wanted is None:
        return list(range(n) if held is None else held)
    if not wanted or any(not 0 <= index < n for index in wanted):
        raise UsageError(f"{what}s {list(wanted)}: expected numbers from 0 to {n - 1}.")
    return list(wanted)


def bertviz_parameters(run: Capture) -> dict[str, Any]:
    """What BertViz' scripts are given for a run, as JSON values: weights with four decimals, and labels, by stack.

    Raises:
        UsageError: the run keeps no attention.
        CaptureError: so many weights that a browser could not hold them.
    """
    parts = parts_of(Given(attention=run))
    _check_size(parts, 1, len(parts[0].held), parts[0].n_heads)
    params = _params(parts, parts[0].held, range(parts[0].n_heads))
    return params | {"layer": None, "heads": None, "include_layers": list(parts[0].held)}


def _params(parts: Sequence[Part], layers: Sequence[int], heads: Sequence[int]) -> dict[str, Any]:
    attention = [
        {
            "name": part.name,
            "attn": [_rounded(part.layer(layer)[list(heads)]) for layer in layers],
            "left_text": part.left,
            "right_text": part.right,
        }
        for part in parts
    ]
    return {"attention": attention, "default_filter": "0"}


def _rounded(layer: Float[Tensor, "head query key"]) -> list[list[list[float]]]:
    return [[[round(weight, DECIMALS) for weight in row] for row in head] for head in layer.tolist()]


def _check_size(parts: Sequence[Part], n_drawn_layers: int, n_layers: int, n_heads: int) -> None:
    """One part is drawn at a time, and all are held."""
    per_layer = [n_heads * len(part.left) * len(part.right) for part in parts]
    for n, limit, what in (
        (n_drawn_layers * max(per_layer), MAX_LINES, "draw {:,} lines"),
        (n_layers * sum(per_layer), MAX_WEIGHTS, "hold {:,} weights"),
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
