"""`attnlens show`: one sentence in the terminal; which heads stand out, and one head's map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    HeadOption,
    JsonOption,
    ModelOption,
    TargetOption,
    TextArgument,
    TrustRemoteCode,
    load_lens,
    read_text,
    text_or_pair,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnlens.capture.run import Capture
    from attnlens.capture.tokens import Token
    from attnlens.heads import Head
    from attnlens.models.lens import Lens

__all__ = ["show"]

_OTHERS = {"E": "heads of the encoder", "X": "heads that look from the target to the source"}


def show(
    text: TextArgument,
    model: ModelOption,
    target: TargetOption = None,
    head: HeadOption = None,
    words: Annotated[bool, typer.Option("--words", help="With --head: whole words instead of tokens.")] = False,
    steps: Annotated[
        bool, typer.Option("--steps", help="With --head: every step from one token's query to what the head writes.")
    ] = False,
    query: Annotated[
        str | None,
        typer.Option(
            "--query", metavar="TOKEN", help="With --steps: the token, by position or text (default: the last)."
        ),
    ] = None,
    as_json: JsonOption = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Show a sentence: the heads that stand out, or one head's map.

    Of an encoder-decoder the heads of the decoder; --head EL0H1 names one of the encoder, XL0H1 one that looks from
    the target to the source.
    """
    from attnlens.heads import Head

    sentence = read_text(text)
    address = None if head is None else Head.parse(head)
    _check_steps(steps, query, address, words)
    lens = load_lens(model, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    points = ("final",) if steps and "final" in lens.anatomy.residual_points else ()
    run = lens.capture(**text_or_pair(lens, sentence, target), points=points)
    if steps and address is not None:
        _show_steps(lens, run, address, query, as_json)
    elif as_json:
        console.json(_document(run, address, words))
    elif address is None:
        _print_run(run)
    else:
        _print_head(run, address, words)


def _check_steps(steps: bool, query: str | None, head: Head | None, words: bool) -> None:
    from attnlens.errors import UsageError

    if steps and head is None:
        raise UsageError("--steps shows one head; say which, such as --head L0H0.")
    if query is not None and not steps:
        raise UsageError("--query is for --steps; add it, or leave --query out.")
    if steps and words:
        raise UsageError("--steps shows tokens, as the model reads them; leave --words out.")


def _show_steps(lens: Lens, run: Capture, head: Head, query: str | None, as_json: bool) -> None:
    from attnlens.cli.steps import draw_steps, head_view_of

    view = head_view_of(lens, run, head, query)
    if as_json:
        document = _document_of(run) | {"head": str(head), "steps": view.to_json()}
        console.json(document)
        return
    _print_title(run)
    console.out("", *draw_steps(view, console.stdout_width()))


def _print_run(run: Capture) -> None:
    from attnlens.cli.heads_table import HabitTable, draw_habits

    _print_title(run)
    for part in draw_habits(HabitTable.of(run), console.stdout_width()):
        console.out("", part)
    if run.anatomy.is_encoder_decoder:
        console.out("")
    for stack in run.anatomy.stacks:
        if stack.letter != run.anatomy.main_stack:
            heads = stack.heads()
            console.out(f"{heads[0]} to {heads[-1]}: {_OTHERS[stack.letter]}, for --head")


def _print_head(run: Capture, head: Head, words: bool) -> None:
    from rich.text import Text

    from attnlens.cli.heads_table import draw_links
    from attnlens.cli.maps import token_matrix
    from attnlens.report.views import pattern_view, strongest

    view = pattern_view(run, head, words=words)
    width = console.stdout_width()
    drawn = token_matrix(view.weights, view.visible, view.row_labels, view.column_labels, width=width)
    _print_title(run)
    console.out("", Text(view.caption))
    if drawn is None:
        console.out("", f"({len(view.row_labels)} {view.level} are too many for a map in {width} columns)")
    else:
        console.out("", drawn)
    console.out("", draw_links(strongest(view)))


def _print_title(run: Capture) -> None:
    from rich.text import Text

    from attnlens.capture.tokens import printable

    anatomy = run.anatomy
    tokens = f"{len(run.tokens)} tokens"
    if run.source is not None:
        tokens = f"{len(run.source.tokens)} tokens to {tokens}"
    size = f"{anatomy.family}, {run.n_layers} layers x {run.n_heads} heads, {tokens}"
    verdict = "self-check passed" if anatomy.self_check.passed else "self-check FAILED"
    console.out(Text(printable(anatomy.model), style="bold").append(f"  {size}, {verdict}", style="not bold"))


def _document(run: Capture, head: Head | None, words: bool) -> dict[str, Any]:
    """What `--json` prints; a number that is not defined, or a key that is not visible, is null."""
    from attnlens.cli.heads_table import HabitTable

    document = _document_of(run)
    if head is None:
        return document | {"heads": HabitTable.of(run).to_json()}
    return document | {"head": _head_document(run, head, words)}


def _document_of(run: Capture) -> dict[str, Any]:
    document: dict[str, Any] = {
        "model": run.anatomy.to_json(),
        "text": run.text,
        "tokens": _tokens(run.tokens),
        "versions": dict(run.versions),
    }
    if run.source is not None:
        document |= {"source": run.source.text, "source_tokens": _tokens(run.source.tokens)}
    return document


def _tokens(tokens: Sequence[Token]) -> list[dict[str, Any]]:
    return [
        {"id": token.id, "label": token.label, "span": token.span, "word": token.word, "special": token.special}
        for token in tokens
    ]


def _head_document(run: Capture, head: Head, words: bool) -> dict[str, Any]:
    from attnlens.report.views import pattern_view, strongest

    view = pattern_view(run, head, words=words)
    attention = [
        [float(weight) if seen else None for weight, seen in zip(row, mask, strict=True)]
        for row, mask in zip(view.weights, view.visible, strict=True)
    ]
    links = [
        {"query": link.query, "key": link.key, "from": link.source, "to": link.target, "weight": link.weight}
        for link in strongest(view)
    ]
    return {
        "head": str(view.head),
        "layer": view.head.layer,
        "index": view.head.head,
        "level": view.level,
        "labels": list(view.row_labels),
        "key_labels": list(view.column_labels),
        "attention": attention,
        "strongest": links,
    }
