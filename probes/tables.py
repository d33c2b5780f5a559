"""A result in the terminal: the labelled heads, then per relation the best head beside the best rule without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any

from attnlens.capture.tokens import printable
from attnlens.heads import Head, in_words
from attnlens.report.tables import count, number, share
from probes.head_map import head_map, n_resting

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["draw", "plain_table"]

DIRECTIONS = {"d2h": "d→h", "h2d": "h→d", None: ""}
VERDICTS = {
    "positional-equivalent": "as position",
    "baseline-equivalent": "as a rule",
    "below baseline": "below a rule",
    "above baseline": "above rules",
    "explained-by-position": "by position",
    "explained-by-POS": "by POS",
    "syntactic-strong": "strong",
}
VERDICT_WORDS = (
    "as position, as a rule: no better than a rule without a model; by position, by POS: one simple rule of the head's "
    "own gives most of its hits; strong: above nearness by part of speech, too."
)
BASELINE_WORDS = (
    "b0 chance; b1 the best offset or other rule; b2 nearest word of a part of speech; b3 the best head of models with "
    "random weights."
)
EXPLAINED = {"explained-by-position": "explained by position", "explained-by-POS": "explained by POS"}
LEGEND = "d→h: the dependent attends to its head; h→d: the head attends to its dependent."
RULES = ("b0", "b1", "b2", "b3")
SHOWN_WEAK = 12
UNPROVEN = "°"


def draw(document: Mapping[str, Any], width: int = 80) -> Iterator[str | RenderableType]:
    """What the terminal shows of a `heads.json`: plain strings and rich tables, in order."""
    yield from _title(document)
    labelled = [head for head in document["heads"] if head["labels"]]
    if labelled:
        yield ""
        yield from head_map(document, width)
        yield ""
        yield _labels(labelled, width)
        yield from _proven(document, width)
    yield from _weak(document, width)
    asked = [row for row in document["relations"] if row["direction"] in DIRECTIONS]
    relations = [row for row in asked if row["verdict"] != "insufficient data"]
    if relations:
        yield ""
        yield _relations(relations, width)
        yield ""
        yield from fill(BASELINE_WORDS, min(width, 100)).splitlines()
        yield from fill(VERDICT_WORDS, min(width, 100)).splitlines()
        yield from (LEGEND,) if any(row["direction"] for row in relations) else ()
    if few := len(asked) - len(relations):
        fewest = int(document["scope"]["thresholds"]["fewest"])
        yield f"{count(few, 'question')} with fewer than {fewest} cases in a half: insufficient data, see heads.json."
    if others := len(document["relations"]) - len(asked):
        yield f"{count(others, 'question')} in other directions, reported only: see heads.json."
    yield ""
    yield from _scope(document)


def _proven(document: Mapping[str, Any], width: int) -> Iterator[str]:
    """What the mark beside labels means, and what no label says."""
    caveats = dict.fromkeys(label["caveat"] for label in _all_labels(document) if label.get("caveat"))
    for caveat in caveats:
        yield from fill(f"{UNPROVEN} {caveat}. {document['scope']['caveat']}", min(width, 100)).splitlines()


def _all_labels(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (label for head in document["heads"] for label in head["labels"])


def _weak(document: Mapping[str, Any], width: int) -> Iterator[str]:
    """Heads that nearly have a label, with what they miss."""
    weak = [(head["head"], label) for head in document["heads"] for label in head["weak"]]
    if not weak:
        return
    yield ""
    yield f"{count(len(weak), 'near miss', 'near misses')}:"
    for head, label in weak[:SHOWN_WEAK]:
        line = f"{head} {_label_name(label)}: {printable(label['failed'])}"
        yield from wrap(line, max(min(width, 100), 40), initial_indent="  ", subsequent_indent="    ")
    if len(weak) > SHOWN_WEAK:
        yield f"  and {len(weak) - SHOWN_WEAK} more, see heads.json"


def _title(document: Mapping[str, Any]) -> Iterator[str]:
    model, corpus, scope = document["model"], document["corpus"], document["scope"]
    yield (
        f"{printable(model['model'])} ({model['n_layers']} layers x {model['n_heads']} heads) on "
        f"{printable(corpus['name'])} ({count(corpus['n_sentences'], 'sentence')}, "
        f"{count(corpus['n_documents'], 'document')})"
    )
    resting = n_resting(document)
    yield (
        f"{scope['n_labelled']} of {count(scope['n_heads'], 'head')} labelled"
        f"{f' ({resting} only rest on a sink or a delimiter, or spread)' if resting else ''}; "
        f"{share(scope['unclassified_share'])} unclassified"
    )


def _labels(heads: list[Mapping[str, Any]], width: int) -> Table:
    table = plain_table(width)
    table.add_column("head", no_wrap=True)
    table.add_column("label", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("rule without a model", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for head in heads:
        for index, label in enumerate(head["labels"]):
            table.add_row(
                head["head"] if index == 0 else "",
                _label_name(label),
                number(label["score"]),
                _interval(label["ci"]),
                _rule(label["baseline"], label["baseline_name"]),
                f"{label['n']:,}",
            )
    return table


def _relations(rows: list[Mapping[str, Any]], width: int) -> Table:
    table = plain_table(width)
    table.add_column("question", overflow="fold", min_width=12)
    table.add_column("", no_wrap=True)
    table.add_column("best", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("95 %", no_wrap=True)
    for rule in RULES:
        table.add_column(rule, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=12)
    for row in rows:
        table.add_row(
            _named(row["relation"], None, row.get("at")),
            DIRECTIONS.get(row["direction"], row["direction"]),
            row["best_head"] or "–",
            number(row["score"]),
            _interval(row["ci"]),
            *_rules(row),
            VERDICTS.get(row["verdict"], printable(row["verdict"])),
        )
    return table


def plain_table(width: int) -> Table:
    """A table without frames, at most 100 columns wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), width=min(width, 100))


def _named(name: str, direction: str | None, at: str | None = None) -> str:
    place = "" if at in (None, "word") else f"@{at}"
    return " ".join(filter(None, (printable(name), DIRECTIONS.get(direction, direction), place)))


def _label_name(label: Mapping[str, Any]) -> str:
    """A label with direction and place; of one that a simple rule explains, the relation with what explains it."""
    explained = EXPLAINED.get(label["label"])
    name = label["relation"] if explained else label["label"]
    named = _named(name, label["direction"], label.get("at"))
    marks = [*([explained] if explained else []), *label.get("modifiers", ())]
    if label.get("causal"):
        marks.append(f"causal: {_verdict(label['causal'])}")
    whole = f"{named} ({', '.join(marks)})" if marks else named
    return f"{whole} {UNPROVEN}" if label.get("caveat") else whole


def _verdict(causal: Mapping[str, Any]) -> str:
    """The verdict; of heads that stand in for each other, with whom."""
    others = causal.get("together_with")
    if not others:
        return printable(causal["verdict"])
    return f"{printable(causal['verdict'])} with {in_words(map(Head.parse, others))}, not alone"


def _rules(row: Mapping[str, Any]) -> Iterator[str]:
    """The best of each sort of baseline; a dash where it was not measured."""
    known: dict[str, float] = {}
    for baseline in row.get("baselines", ()):
        if baseline["score"] is not None:
            known[baseline["id"]] = max(baseline["score"], known.get(baseline["id"], 0.0))
    yield from (number(known.get(rule)) for rule in RULES)


def _interval(ci: list[float | None] | None) -> str:
    return "–" if ci is None else f"{number(ci[0])}–{number(ci[1])}"


def _rule(score: float | None, name: str | None) -> str:
    return "–" if score is None or name is None else f"{number(score)} {printable(name)}"


def _scope(document: Mapping[str, Any]) -> Iterator[str]:
    corpus, scope = document["corpus"], document["scope"]
    split = scope["split"]
    yield (
        f"Scores are of {count(split['confirm'], scope['unit'])} that were not used to choose heads or rules "
        f"({split['select']:,} were)."
    )
    yield (
        f"{scope['n_cells']:,} cells looked at, {scope['n_tested']:,} tested; false discovery rate "
        f"{share(scope['thresholds']['q'])}."
    )
    if "relations" in scope:
        yield f"Of the relations only these were tested: {printable(', '.join(scope['relations']))}."
    if "layers" in scope:
        yield f"Of the layers only these were scored: {', '.join(map(str, scope['layers']))}."
    if left := corpus["n_skipped_sentences"]:
        yield f"{count(left, 'sentence')} did not fit the model and {'was' if left == 1 else 'were'} skipped."
    if left := corpus["n_dropped_words"]:
        yield f"The tokenizer made no token of {count(left, 'word')}; nothing was scored there."
    if not any(label.get("caveat") for label in _all_labels(document)):
        yield scope["caveat"]
