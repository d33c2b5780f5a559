"""`attnlens ablate` and `attnlens patch`: what a prediction loses without a head, or follows of another text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    JsonOption,
    ModelOption,
    TextArgument,
    TrustRemoteCode,
    load_lens,
    read_layers,
    read_text,
    text_or_pair,
)
from attnlens.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from attnlens.interventions.metrics import Metric
    from attnlens.interventions.sweeps import HeadSweep, PatchSweep
    from attnlens.interventions.verdicts import TextVerdict
    from attnlens.models.encode import Text
    from attnlens.models.lens import Lens

__all__ = ["ablate", "patch"]

_STRONGEST = 10

WritesOption = Annotated[
    str | None,
    typer.Option("--writes", metavar="TEXT", help="What an encoder-decoder writes; it reads the other TEXT."),
]
TokenOption = Annotated[
    str | None, typer.Option("--target", metavar="WORD", help="The token whose probability or logit is watched.")
]
AgainstOption = Annotated[
    str | None, typer.Option("--against", metavar="WORD", help="With --target: watch the difference of their logits.")
]
PositionOption = Annotated[
    int | None,
    typer.Option("--position", metavar="N", help="Whose output is read (default: the mask token, else the last)."),
]


def ablate(
    text: TextArgument,
    model: ModelOption,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HEAD", help="One head, such as L3H1 (default: each in turn).")
    ] = None,
    how: Annotated[
        str, typer.Option("--how", metavar="WAY", help="zero, mean, or resample: values from the embedded corpus.")
    ] = "resample",
    draws: Annotated[int, typer.Option("--draws", metavar="N", min=1, help="How often to resample.")] = 10,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the draws.")] = 0,
    target: TokenOption = None,
    against: AgainstOption = None,
    position: PositionOption = None,
    writes: WritesOption = None,
    as_json: JsonOption = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Take a head away and see what the prediction loses, beside what every other head does to it.

    Without --target, how far the prediction moves (KL divergence in nats).
    """
    sentence = read_text(text)
    lens = load_lens(model, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    given = _given(lens, sentence, writes)
    metric = _metric(target, against, position)
    from attnlens.interventions.sweeps import ablate_each
    from attnlens.interventions.verdicts import is_head_causal

    with console.progress("ablating heads") as progress:
        if head is None:
            sweep = ablate_each(lens, given, metric, how=how, draws=draws, seed=seed, progress=progress)
        else:
            verdict = is_head_causal(lens, given, head, metric, how=how, draws=draws, seed=seed, progress=progress)
    if head is None:
        console.json({"model": lens.anatomy.model, "text": sentence} | sweep.to_json()) if as_json else _print_sweep(
            sweep
        )
    elif as_json:
        console.json({"model": lens.anatomy.model, "text": sentence} | verdict.to_json())
    else:
        _print_verdict(verdict)


def patch(
    text: TextArgument,
    model: ModelOption,
    other: Annotated[
        str, typer.Option("--from", metavar="TEXT", help="The text that values come from, of as many tokens.")
    ],
    point: Annotated[
        str, typer.Option("--point", metavar="POINT", help="resid_pre, attn_out, resid_mid, mlp_out, resid_post, ...")
    ] = "resid_post",
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="N,N", help="These layers only (default: all).")
    ] = None,
    target: TokenOption = None,
    against: AgainstOption = None,
    position: PositionOption = None,
    writes: WritesOption = None,
    as_json: JsonOption = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Put another text's states in, at one layer and token at a time, and see where the prediction follows them."""
    sentence, second = read_text(text), other
    lens = load_lens(model, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    given, source = _given(lens, sentence, writes), _given(lens, second, writes)
    from attnlens.interventions.sweeps import patch_each

    with console.progress("patching") as progress:
        sweep = patch_each(
            lens, given, source, _metric(target, against, position), point=point, layers=read_layers(layers),
            progress=progress,
        )  # fmt: skip
    labels = [token.label for token in lens.capture(given, points=(), logits=False).tokens]
    if as_json:
        document = {"model": lens.anatomy.model, "text": sentence, "from": second, "tokens": labels}
        console.json(document | sweep.to_json())
        return
    _print_patches(sweep, labels)


def _given(lens: Lens, text: str, writes: str | None) -> Text:
    if lens.anatomy.is_encoder_decoder and writes is None:
        raise UsageError(
            f"{lens.anatomy.model} is an encoder-decoder: TEXT is what it reads; say what it writes by --writes TEXT."
        )
    if not lens.anatomy.is_encoder_decoder and writes is not None:
        raise UsageError(f"{lens.anatomy.model} has one stack, so it writes nothing of its own; leave --writes out.")
    found = text_or_pair(lens, text, writes)
    return found["text"] if writes is None else (found["source"], found["target"])


def _metric(target: str | None, against: str | None, position: int | None) -> Metric:
    from attnlens.interventions.metrics import Divergence, LogitDifference, Probability

    if against is not None and target is None:
        raise UsageError("--against is compared with --target; give both.")
    if target is None:
        return Divergence(position)
    return Probability(target, position) if against is None else LogitDifference(target, against, position)


def _print_sweep(sweep: HeadSweep) -> None:
    console.out(f"{sweep.metric}: {sweep.before:.4g} {sweep.unit}")
    console.out("", f"With one head ablated ({sweep.how}), the {_STRONGEST} that change it most:")
    drawn = _table(("head", "left"), ("after", "right"), ("change", "right"))
    for head, change in sweep.strongest(_STRONGEST):
        drawn.add_row(str(head), f"{sweep.before + change:.4g}", f"{change:+.4g}")
    console.out("", drawn)


def _print_verdict(verdict: TextVerdict) -> None:
    from rich.text import Text

    console.out(f"{verdict.metric}: {verdict.before:.4g} {verdict.unit}")
    between = ""
    if verdict.interval is not None:
        between = f", 95 % interval {verdict.interval[0]:.4g} to {verdict.interval[1]:.4g}"
    console.out("", f"{verdict.subject}, {verdict.intervention}: worse by {verdict.harm:.4g}{between}")
    if verdict.threshold is not None:
        others = f"{len(verdict.controls)} other heads: 95th percentile {verdict.threshold:.4g}"
        console.out(f"{others}, largest {max(verdict.controls.values()):.4g}")
    console.out("", Text(f"causal for this text: {verdict.verdict}", style="bold"), verdict.reason)


def _print_patches(sweep: PatchSweep, labels: list[str]) -> None:
    from rich.text import Text

    watched = sweep.other != sweep.before
    shown = "how far it goes from this text (0 %) to the other (100 %)" if watched else f"{sweep.metric}, {sweep.unit}"
    console.out(
        f"{sweep.metric}: {sweep.before:.4g} {sweep.unit}, of the other text {sweep.other:.4g}",
        "",
        f"{sweep.point} patched at one layer and token: {shown}",
        "",
    )
    drawn = _table(("token", "left"), *((f"L{layer}", "right") for layer in sweep.layers))
    values = sweep.recovered if watched else sweep.after
    for column, position in enumerate(sweep.positions):
        cells = [f"{round(100 * float(v)) + 0}%" if watched else f"{float(v):.3g}" for v in values[:, column]]
        drawn.add_row(Text(f"{position:>3} {labels[position]}"), *cells)
    console.out(drawn)


def _table(*columns: tuple[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True)
    return table
