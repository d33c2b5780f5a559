"""Maps of heads as people look at them: pieces or words, some tokens left out, whole rows, a window of a long text.

Every picture of a pattern starts here, so that a page, a report and a table show the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, ENCODER
from attnlens.capture.tokens import Token, units_of
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.measures.rows import segments_of
from attnlens.report.tables import count, number, share

__all__ = [
    "BETWEEN",
    "COMBINED",
    "SINK",
    "Choice",
    "Lines",
    "Maps",
    "Window",
    "arranged",
    "combined",
    "held_heads",
    "map_caption",
    "maps_of",
    "sinks_of",
    "tokens_of",
]

# Segments of a pair that rows and columns are kept of; "" keeps all.
BETWEEN = ("", "AA", "AB", "BA", "BB")
COMBINED = ("mean", "max")
# A key whose weight, averaged over heads and the queries that see it, is above this is a sink (Gu et al. 2024).
SINK = 0.3
_LOOKING = 64  # queries, from the end, that say whether a key is a sink


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which rows and columns a map shows, and how.

    Attributes:
        words: sum over the pieces of the word attended to, mean over the pieces of the word that attends.
        hide_special: leave out rows and columns of special tokens.
        hide_sinks: leave out those of `sinks_of`.
        whole_rows: divide what is left of each row by its sum. Otherwise nothing is rescaled.
        between: of a pair of texts, keep the rows of the first letter and the columns of the second; one of `BETWEEN`.
    """

    words: bool = False
    hide_special: bool = False
    hide_sinks: bool = False
    whole_rows: bool = False
    between: str = ""


@dataclass(frozen=True)
class Window:
    """A rectangle of a map, in tokens: queries and keys `[start, stop)`."""

    queries: tuple[int, int]
    keys: tuple[int, int]

    def within(self, n_queries: int, n_keys: int) -> Window:
        """The part of it that lies on a map of this size.

        Raises:
            UsageError: none does.
        """
        (first, stop), (left, right) = self.queries, self.keys
        found = Window((max(0, first), min(stop, n_queries)), (max(0, left), min(right, n_keys)))
        if found.queries[0] >= found.queries[1] or found.keys[0] >= found.keys[1]:
            raise UsageError(f"queries {self.queries}, keys {self.keys}: no part of a map of {n_queries} x {n_keys}.")
        return found


@dataclass(frozen=True)
class Lines:
    """The rows, or the columns, of a map.

    Attributes:
        labels: printable text.
        places: which token (or word) of the whole text each is, counted from 0.
        members: the tokens that each stands for.
    """

    labels: tuple[str, ...]
    places: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]

    def span(self) -> slice:
        """The tokens from the first to the last member."""
        held = [token for members in self.members for token in members]
        return slice(min(held), max(held) + 1) if held else slice(0, 0)

    def membership(self) -> Float[Tensor, "line token"]:
        """1 where a token of `span` belongs to the line."""
        span = self.span()
        found = torch.zeros(len(self.members), span.stop - span.start)
        for line, members in enumerate(self.members):
            found[line, [token - span.start for token in members]] = 1
        return found


@dataclass(frozen=True)
class Maps:
    """Some maps of one run over the same rows and columns.

    Attributes:
        names: of each map: a head's address, or what was made of several.
        weights: `[map row column]`; NaN where the mask hides the key: "not visible", which is not 0.
        rows, columns: what they stand for.
        captions: one or two sentences about each map, plain text.
        level: "tokens" or "words".
        size: tokens of the whole map: queries, keys.
        window: the part shown, where it is a part.
        unit: of the weights; empty for a share from 0 to 1.
    """

    names: tuple[str, ...]
    weights: Float[np.ndarray, "map row column"]
    rows: Lines
    columns: Lines
    captions: tuple[str, ...]
    level: str
    size: tuple[int, int]
    window: Window | None = None
    unit: str = ""


def maps_of(run: Capture, heads: Sequence[Head], choice: Choice | None = None, window: Window | None = None) -> Maps:
    """The maps of some heads of one stack.

    Args:
        run: the run.
        heads: whose; with the letter of their stack.
        choice: which rows and columns, and how.
        window: a part of the map; nothing outside it is computed. Words at its edge are completed.

    Raises:
        UsageError: no head, heads of several stacks, a window outside the map.
        HeadAddressError, CaptureError: a head that the model or the run does not have.
    """
    choice = choice or Choice()
    if not heads or len({head.stack for head in heads}) != 1:
        raise UsageError("maps are of one or more heads of one stack.")
    letter = heads[0].stack
    rows, columns, hidden = _lines(run, letter, choice, window)
    found, captions = [], []
    for members, weights, visible in _weights(run, heads, rows, columns):
        shown = _shown(weights, visible, rows, columns, choice)
        found.append(shown)
        captions += [
            map_caption(f"Layer {head.layer}, head {head.head}", one, choice, hidden, window is None)
            for head, one in zip(members, shown, strict=True)
        ]
    size = tuple(len(tokens) for tokens in tokens_of(run, letter))
    return Maps(
        names=tuple(str(head) for head in heads),
        weights=np.concatenate(found),
        rows=rows,
        columns=columns,
        captions=tuple(captions),
        level="words" if choice.words else "tokens",
        size=(size[0], size[1]),
        window=window,
    )


def arranged(
    run: Capture,
    head: Head,
    values: Float[Tensor, "query key"],
    choice: Choice,
    *,
    name: str,
    caption: str,
    unit: str = "",
) -> Maps:
    """Any numbers between the tokens of a stack, shown as a map of its heads is.

    Args:
        run: the run.
        head: whose layer's mask says what is visible; a number above 0 is visible in any case.
        values: from every key to every query.
        choice: which rows and columns, and how.
        name: of the map.
        caption: what the numbers are.
        unit: of them; empty for a share from 0 to 1.
    """
    rows, columns, hidden = _lines(run, head.stack, choice, None)
    part = rows.span(), columns.span()
    visible = run.visible(head.layer, stack=head.stack or None) | (values > 0).cpu()
    shown = _shown(values.float().cpu()[part][None], visible[part], rows, columns, choice)
    left_out = f" {count(hidden, 'column')} left out." if hidden else ""
    size = tuple(len(tokens) for tokens in tokens_of(run, head.stack))
    return Maps(
        names=(name,),
        weights=shown,
        rows=rows,
        columns=columns,
        captions=(f"{caption}{left_out}",),
        level="words" if choice.words else "tokens",
        size=(size[0], size[1]),
        unit="" if choice.whole_rows else unit,
    )


def combined(maps: Maps, how: str) -> Maps:
    """One map of several: their mean, or in each cell the largest weight.

    Raises:
        UsageError: another way to combine.
    """
    if how not in COMBINED:
        raise UsageError(f"{how!r} combines no heads; choose one of {', '.join(COMBINED)}.")
    weights = maps.weights
    hidden = np.isnan(weights).all(0)
    plain = np.nan_to_num(weights).astype(np.float64)
    made = plain.mean(0) if how == "mean" else plain.max(0)
    named = {"mean": "mean", "max": "largest weight"}[how]
    names = ", ".join(maps.names)
    caption = f"The {named} of {count(len(maps.names), 'head')}: {names}. {_rest(maps.captions[0])}".strip()
    shown = np.where(hidden, np.nan, made).astype(weights.dtype)[None]
    return replace(maps, names=(f"{how} of {names}",), weights=shown, captions=(caption,))


def held_heads(run: Capture, letter: str) -> tuple[Head, ...]:
    """The heads of a stack that a run holds, layer by layer."""
    found = []
    for layer, pattern in enumerate(run.patterns_of(stack=letter or None)):
        if pattern is not None:
            kept = range(pattern.n_heads) if pattern.heads is None else pattern.heads
            found += [Head(layer, head, letter) for head in kept]
    return tuple(found)


def tokens_of(run: Capture, letter: str) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
    """The tokens that attend, and those that are attended to, in a stack's maps."""
    if run.source is None or letter not in (ENCODER, CROSS):
        return run.tokens, run.tokens
    return (run.source.tokens if letter == ENCODER else run.tokens), run.source.tokens


def sinks_of(run: Capture, letter: str = "") -> frozenset[int]:
    """Keys that take much of the weight of all heads, whatever stands there: most often the first token, or `[SEP]`.

    A key is one if its weight is above `SINK` on average over all heads and over those of the last 64 queries that see
    it, of which at least half must.

    Source: Gu et al. 2024, "When Attention Sink Emerges in Language Models" (arXiv:2410.10781), section 3: the mean
        weight that a key receives, with the bound 0.3. They count heads above it; here heads are averaged.
    """
    total: Tensor | None = None
    n_heads = 0
    queries = slice(max(0, len(tokens_of(run, letter)[0]) - _LOOKING), None)
    for layer, pattern in enumerate(run.patterns_of(stack=letter or None)):
        if pattern is None:
            continue
        weights = pattern.weights(queries=queries).double()
        seen = run.visible(layer, stack=letter or None)[queries].sum(0)
        mean = torch.where(2 * seen >= weights.shape[1], weights.sum(1) / seen.clamp_min(1), 0.0)
        total = mean.sum(0) if total is None else total + mean.sum(0)
        n_heads += pattern.n_heads
    if total is None:
        return frozenset()
    return frozenset(torch.nonzero(total / n_heads > SINK).flatten().tolist())


def map_caption(
    name: str, weights: Float[np.ndarray, "row column"], choice: Choice, hidden: int = 0, whole: bool = True
) -> str:
    """What one has to know to read a map: plain text.

    Args:
        name: of the map.
        weights: NaN where not visible.
        choice: what was asked for.
        hidden: how many columns were left out.
        whole: whether rows are complete apart from these.
    """
    parts = [f"{name}: each row attends to the columns."]
    if choice.words:
        parts.append("Pieces of a word are summed as targets and averaged as sources.")
    if weights.size and (unseen := np.isnan(weights).mean()) > 0:
        parts.append(f"{share(unseen)} of the cells are hidden by the mask: not visible, which is not 0.")
    if hidden:
        kind = "word" if choice.words and not choice.hide_special else "token"
        what = f"special {kind}" if choice.hide_special and not (choice.hide_sinks or choice.between) else kind
        rows = "rows are divided by what is left" if choice.whole_rows else "rows sum to less than 1"
        parts.append(f"{count(hidden, what)} left out, so {rows}.")
    elif choice.whole_rows:
        parts.append("Each row is divided by its sum.")
    elif whole and weights.size and (low := float(np.nansum(weights, axis=1).min())) < 0.999:
        parts.append(f"Rows sum to {number(low)} or more; the rest goes to no token (an attention sink).")
    return " ".join(parts)


def _rest(caption: str) -> str:
    """A caption without the name of its map."""
    return caption.partition("columns.")[2].strip()


def _lines(run: Capture, letter: str, choice: Choice, window: Window | None) -> tuple[Lines, Lines, int]:
    """Rows, columns, and how many columns were left out."""
    queries, keys = tokens_of(run, letter)
    window = (window or Window((0, len(queries)), (0, len(keys)))).within(len(queries), len(keys))
    sinks = sinks_of(run, letter) if choice.hide_sinks else frozenset()
    own_sinks = sinks if letter != CROSS else frozenset()
    source = run.source is not None and letter in (ENCODER, CROSS)
    text = choice.between or "  "
    rows, _ = _chosen_lines(run, queries, source and letter == ENCODER, choice, window.queries, own_sinks, text[0])
    columns, hidden = _chosen_lines(run, keys, source, choice, window.keys, sinks, text[1])
    return rows, columns, hidden


def _chosen_lines(
    run: Capture,
    tokens: tuple[Token, ...],
    of_source: bool,
    choice: Choice,
    window: tuple[int, int],
    sinks: frozenset[int],
    text: str,
) -> tuple[Lines, int]:
    words = run.source.words if of_source and run.source is not None else run.words
    if choice.words:
        units = [(unit.label, unit.tokens, unit.special) for unit in units_of(tokens, words)]
    else:
        units = [(token.label, (i,), token.special) for i, token in enumerate(tokens)]
    segments = segments_of(tokens) if text.strip() else ()
    here = [(at, *unit) for at, unit in enumerate(units) if any(window[0] <= i < window[1] for i in unit[1])]
    kept = [
        (label, at, members)
        for at, label, members, special in here
        if not (special and choice.hide_special)
        and not sinks.intersection(members)
        and not (segments and segments[members[0]] != "AB".index(text))
    ]
    labels, places, members = zip(*kept, strict=True) if kept else ((), (), ())
    return Lines(labels, places, members), len(here) - len(kept)


def _weights(
    run: Capture, heads: Sequence[Head], rows: Lines, columns: Lines
) -> Iterator[tuple[list[Head], Float[Tensor, "head query key"], Visibility]]:
    """The weights of each layer's heads on the tokens from the first to the last row and column."""
    queries, keys = rows.span(), columns.span()
    for layer, members in groupby(heads, key=lambda head: head.layer):
        asked = list(members)
        stack = asked[0].stack or None
        visible = run.visible(layer, stack=stack)[queries, keys]
        pattern = run.patterns_of(stack=stack)[layer]
        if pattern is not None and pattern.heads is None and len(asked) == pattern.n_heads:
            whole = run.attention(layer, queries=queries, keys=keys, stack=stack)
            yield asked, whole[[head.head for head in asked]], visible
        else:
            alone = [run.attention(head=head, queries=queries, keys=keys) for head in asked]
            yield asked, torch.stack(alone), visible


def _shown(
    weights: Float[Tensor, "head query key"], visible: Visibility, rows: Lines, columns: Lines, choice: Choice
) -> Float[np.ndarray, "head row column"]:
    """The rows and columns of `rows.span()` x `columns.span()` that a choice keeps, merged and rescaled as it says."""
    if not rows.members or not columns.members:
        return np.zeros((len(weights), len(rows.members), len(columns.members)), np.float32)
    if choice.words:
        across, down = rows.membership().to(weights.dtype), columns.membership().to(weights.dtype)
        merged = (across / across.sum(1, keepdim=True)) @ weights @ down.T
        seen: Bool[Tensor, "row column"] = across.float() @ visible.float() @ down.float().T > 0
    else:
        queries, keys = (
            torch.tensor([members[0] for members in lines.members]) - lines.span().start for lines in (rows, columns)
        )
        merged, seen = weights[:, queries][:, :, keys], visible[queries][:, keys]
    if choice.whole_rows:
        merged = torch.where(seen, merged, 0.0)
        merged = merged / merged.sum(-1, keepdim=True).clamp_min(torch.finfo(merged.dtype).tiny)
    shown: Float[np.ndarray, "head row column"] = torch.where(seen, merged, torch.nan).numpy()
    return shown
