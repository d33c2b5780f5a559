"""What a head passes on elsewhere: at other positions, in other texts, in the embedded corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.capture.run import Capture, Patterns
from attnlens.capture.sites import ENCODER, Site
from attnlens.errors import UsageError
from attnlens.heads import Head

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = [
    "CORPUS",
    "HOW",
    "Source",
    "Values",
    "ablated_values",
    "corpus_runs",
    "drawn_outputs",
    "head_outputs",
    "mean_outputs",
]

CORPUS = "corpus"
HOW = ("zero", "mean", "resample")
_CORPUS_TEXTS = 64
_LONGEST = 4096

# "corpus", texts (pairs for an encoder-decoder), or runs that hold the point `z`.
Source = str | Sequence[Any]
# Site -> what is put in the place of its heads' outputs, `[row position head d_head]`, axes of size 1 for all.
Values = Mapping[Site, Tensor]


def ablated_values(lens: Lens, heads: Sequence[Head], how: str, source: Source) -> Callable[[int], Values]:
    """Seed -> what is put in the place of heads' outputs; the source runs once, whatever the number of draws.

    Raises:
        UsageError: no such way to ablate.
    """
    if how not in HOW:
        raise UsageError(f"how={how!r} does not exist; expected one of {', '.join(HOW)}.")
    sites = sorted({Site(head.stack, head.layer) for head in heads})
    if how == "zero":
        nothing = {site: torch.zeros(1, 1, 1, 1) for site in sites}
        return lambda _seed: nothing
    bank = head_outputs(lens, source, sites)
    if how == "mean":
        mean = mean_outputs(bank)
        return lambda _seed: mean
    longest = max(lens.anatomy.stack(site.stack).max_length or _LONGEST for site in sites)
    return lambda seed: drawn_outputs(bank, min(longest, _LONGEST), seed)


def head_outputs(lens: Lens, source: Source, sites: Iterable[Site]) -> dict[Site, Float[Tensor, "sample head d_head"]]:
    """What heads pass on (z) at the ordinary tokens of other texts, in the model without any intervention.

    Args:
        lens: the model.
        source: `"corpus"` (sentences of the embedded corpus), texts, or runs captured with `points=("z",)`.
        sites: where.

    Raises:
        UsageError: no position is left to take z from.
    """
    wanted = sorted(set(sites))
    # A fresh context has no interventions in it, whatever holds outside.
    runs: list[Capture] = Context().run(_runs, lens, source, sorted({site.layer for site in wanted}))
    gathered: dict[Site, list[Tensor]] = {site: [] for site in wanted}
    for run in runs:
        for site in wanted:
            z = run.residual("z", site.layer, stack=site.stack or None).transpose(0, 1)
            gathered[site].append(z[_ordinary(run, site, len(z))])
    found = {site: torch.cat(parts) if parts else torch.empty(0) for site, parts in gathered.items()}
    if any(not len(part) for part in found.values()):
        raise UsageError("the source has no position that is not a special token; give longer texts.")
    return found


def corpus_runs(lens: Lens) -> list[Capture]:
    """Runs of the embedded corpus that hold what heads pass on and nothing else, for several ablations to share.

    Raises:
        UsageError: the model reads no text.
    """
    runs: list[Capture] = Context().run(lambda: list(lens.captures(_source_texts(lens), points=("z",))))
    return [
        replace(run, patterns=_none(run.patterns), encoder=_none(run.encoder), cross=_none(run.cross)) for run in runs
    ]


def _none(patterns: Patterns) -> Patterns:
    return (None,) * len(patterns)


def _source_texts(lens: Lens, n: int = _CORPUS_TEXTS) -> list[Any]:
    """The first sentences of the embedded corpus that the model has room for; pairs for an encoder-decoder.

    Raises:
        UsageError: the model reads no text.
    """
    if lens.tokenizer is None:
        raise UsageError(
            f"{lens.anatomy.model} reads no text, so there is no corpus to take other values from; give "
            "source=[run, ...], captured with points=('z',)."
        )
    texts = _embedded_texts()
    limits = [stack.max_length for stack in lens.anatomy.stacks if stack.max_length is not None]
    room = min(limits, default=None)
    fitting = [text for text in texts if room is None or lens.n_tokens(text) < room][: n + 1]
    if lens.anatomy.is_encoder_decoder:
        return list(pairwise(fitting))
    return fitting[:n]


def _embedded_texts() -> list[str]:
    from attnlens.zoo.registry import embedded_corpus

    lines = embedded_corpus().read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]


def _runs(lens: Lens, source: Source, layers: Sequence[int]) -> list[Capture]:
    if isinstance(source, str):
        if source != CORPUS:
            raise UsageError(f"source {source!r} does not exist; give 'corpus', a list of texts, or a list of runs.")
        source = _source_texts(lens)
    given = list(source)
    if not given:
        raise UsageError("source is empty; give at least one text or run.")
    if all(isinstance(part, Capture) for part in given):
        return given
    return list(lens.captures(given, layers=layers, points=("z",)))


def _ordinary(run: Capture, site: Site, n_positions: int) -> Tensor:
    """True at positions of tokens that stand for text; everywhere where nothing says so."""
    text = run.source if site.stack == ENCODER and run.source is not None else run
    if len(text.tokens) != n_positions:
        return torch.ones(n_positions, dtype=torch.bool)
    special = torch.tensor([token.special for token in text.tokens], dtype=torch.bool)
    return torch.ones_like(special) if bool(special.all()) else ~special


def mean_outputs(
    bank: Mapping[Site, Float[Tensor, "sample head d_head"]],
) -> dict[Site, Float[Tensor, "1 1 head d_head"]]:
    """The mean of each head's z over the samples."""
    return {site: z.mean(0)[None, None] for site, z in bank.items()}


def drawn_outputs(
    bank: Mapping[Site, Float[Tensor, "sample head d_head"]], n_positions: int, seed: int, n_rows: int = 1
) -> dict[Site, Float[Tensor, "row position head d_head"]]:
    """What heads passed on at one random sample per position: the same sample in all of them, as a text brings it."""
    size = min(len(z) for z in bank.values())
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(size, (n_rows, n_positions), generator=generator)
    return {site: z[draws] for site, z in bank.items()}
