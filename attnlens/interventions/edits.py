"""What users ask for (ablate a head, cut an edge, patch a point, steer a pattern), as edits of an opened model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.edits import Edge, EdgeCut, HeadEdit, PatternEdit, Replacement
from attnlens.capture.run import Capture
from attnlens.capture.sites import Site
from attnlens.errors import CaptureError, UsageError
from attnlens.heads import Head
from attnlens.interventions.blocks import Edit
from attnlens.interventions.sources import CORPUS, Source, ablated_values
from attnlens.models.anatomy import Anatomy
from attnlens.models.point_edits import PointEdit, stream_points

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = [
    "Positions",
    "ablation",
    "check_point",
    "chosen_layers",
    "knock_out",
    "masks_of",
    "patching",
    "resolve_heads",
    "steering",
]

# Position in the changed text -> position in the run that the value comes from.
Positions = int | Sequence[int] | Mapping[int, int]


def ablation(
    lens: Lens,
    heads: Sequence[object],
    *,
    how: str = "zero",
    source: Source = CORPUS,
    positions: int | Sequence[int] | None = None,
    seed: int = 0,
) -> Edit:
    """Take away what heads pass on.

    Source: Michel et al. 2019 (arXiv:1905.10650), zero; Wang et al. 2022 (arXiv:2211.00593), mean; Chan et al. 2022
    ("Causal Scrubbing"), resampling. Zero and mean change the norm that the next layer norm sees; resample does not.

    Args:
        lens: the model.
        heads: "L3H1", ...; of any stack.
        how: "zero"; "mean" over the positions of the source; "resample": at each position what the head passed on at
            a random position of the source.
        source: where mean and resample take values from: "corpus" (the embedded one), texts, or runs with `z`.
        positions: where to ablate; None for everywhere.
        seed: of the draws.

    Raises:
        HeadAddressError: no such head.
        UsageError: no such way, or no head at all.
    """
    chosen = resolve_heads(lens.anatomy, heads)
    values = ablated_values(lens, chosen, how, source)(seed)
    named = None if positions is None else _named(positions)
    where = masks_of(lens.anatomy, chosen, None if named is None else tuple(named))
    least = 0 if named is None else max(named) + 1
    replacements = {site: Replacement(mask, values[site], least) for site, mask in where.items()}
    label = f"ablate {', '.join(map(str, chosen))} ({how})" + ("" if named is None else f" at {_listed(named)}")
    return Edit(label, (HeadEdit(replacements),), by_position=how == "resample" or named is not None)


def knock_out(lens: Lens, edges: Iterable[tuple[int, int]], heads: Sequence[object] = ()) -> Edit:
    """Hide keys from queries: the weight of each edge becomes 0 and the others of its row grow to sum to 1 again.

    Args:
        lens: the model.
        edges: (query, key) positions, counted from 0.
        heads: whose edges; every head of the main stack where none is named.

    Raises:
        HeadAddressError: no such head.
        UsageError: no edge, a negative position, or a key after its query in a causal model.
    """
    pairs = [(int(query), int(key)) for query, key in edges]
    if not pairs:
        raise UsageError("knock_out needs at least one edge (query, key).")
    chosen = resolve_heads(lens.anatomy, heads) if heads else lens.anatomy.stack(lens.anatomy.main_stack).heads()
    for query, key in pairs:
        if query < 0 or key < 0:
            raise UsageError(f"edge ({query}, {key}) has a negative position; positions are counted from 0.")
        causal = all(lens.anatomy.stack(head.stack).causal for head in chosen)
        if causal and key > query:
            raise UsageError(
                f"edge ({query}, {key}) does not exist: in {lens.anatomy.model} no query sees a later key; write "
                "(query, key)."
            )
    cuts: dict[Site, list[Edge]] = {}
    for head in chosen:
        cuts.setdefault(Site(head.stack, head.layer), []).extend(Edge(q, k, head.head) for q, k in pairs)
    shown = ", ".join(map(str, chosen)) if heads else "every head"
    label = f"knock out {', '.join(f'{query}->{key}' for query, key in pairs)} in {shown}"
    return Edit(label, (EdgeCut(cuts),), by_position=True)


def patching(
    lens: Lens,
    run: Capture,
    *,
    point: str = "resid_post",
    layers: int | Iterable[int] | None = None,
    positions: Positions | None = None,
    heads: Sequence[object] = (),
    stack: str | None = None,
) -> Edit:
    """Put what another run had at a point in the place of the model's own.

    Source: Vig et al. 2020 (arXiv:2004.12265); Meng et al. 2022 (arXiv:2202.05262), causal tracing.

    Args:
        lens: the model.
        run: the other run; captured with `points=(point,)`, for heads with `points=("z",)`.
        point: of the stream: resid_pre, attn_out, resid_mid, mlp_act, mlp_out, resid_post, embed, final (with
            cross-attention cross_out, resid_cross too); "z" for what heads pass on.
        layers: the layers to patch; None for every one that the run holds.
        positions: where: a position, several, or a mapping from positions of the changed text to positions of `run`;
            None for all of them, in a text of the same length.
        heads: patch what these heads pass on ("z").
        stack: "E" for the encoder of an encoder-decoder.

    Raises:
        CaptureError: a point that the model does not give or the run does not hold.
        UsageError: a position outside the run.
    """
    if heads or point == "z":
        return _patched_heads(lens, run, heads, layers, positions, stack)
    letter = lens.anatomy.main_stack if stack is None else stack
    check_point(lens, point, letter)
    once = point in ("embed", "final")
    chosen = (0,) if once else chosen_layers(lens.anatomy, letter, layers)
    replacements = {}
    for layer in chosen:
        given = run.residual(point, None if once else layer, stack=stack)
        replacements[layer] = _from_run(given, positions, torch.ones(1, dtype=torch.bool))
    where = "" if positions is None else f" at {_listed(_named(positions))}"
    layered = "" if once else f" of layer {', '.join(map(str, chosen))}"
    label = f"patch {point}{layered}{where}"
    return Edit(label, points=(PointEdit(letter, point, replacements),), by_position=True)


def steering(lens: Lens, pattern: Float[Tensor, "query key"] | Capture, heads: Sequence[object] = ()) -> Edit:
    """Let heads attend as a given pattern says.

    Args:
        lens: the model.
        pattern: weights, 0 or more, of which no row sums to more than 1; or a run, whose patterns are taken.
        heads: whose pattern; all of the run's main stack where none is named.

    Raises:
        HeadAddressError: no such head.
        UsageError: no pattern at all.
    """
    if not isinstance(pattern, Capture) and not heads:
        raise UsageError("name the heads that are to attend as the pattern says.")
    chosen = resolve_heads(lens.anatomy, heads) if heads else lens.anatomy.stack(lens.anatomy.main_stack).heads()
    patterns: dict[Site, dict[int, Tensor]] = {}
    for head in chosen:
        weights = pattern.attention(head=head) if isinstance(pattern, Capture) else pattern
        _check_pattern(weights)
        patterns.setdefault(Site(head.stack, head.layer), {})[head.head] = weights
    shown = ", ".join(map(str, chosen)) if heads else "every head"
    return Edit(f"steer {shown}", (PatternEdit(patterns),), by_position=True)


def resolve_heads(anatomy: Anatomy, heads: Sequence[object]) -> tuple[Head, ...]:
    """Addresses as heads of the model, each once.

    Raises:
        HeadAddressError: no such head.
        UsageError: none at all.
    """
    if not heads:
        raise UsageError("name at least one head, such as 'L3H1'.")
    found = []
    for given in heads:
        head = Head.parse(given)
        stack = anatomy.stack(head.stack or anatomy.main_stack)
        head.within(stack.n_layers, stack.n_heads)
        if head.layer not in stack.attention_layers:
            raise UsageError(f"layer {head.layer} of {anatomy.model} has no attention; choose a head of another one.")
        found.append(Head(head.layer, head.head, stack.letter))
    return tuple(dict.fromkeys(found))


def masks_of(
    anatomy: Anatomy, heads: Sequence[Head], positions: tuple[int, ...] | None
) -> dict[Site, Bool[Tensor, "1 position head 1"]]:
    """True where a head is, and at the named positions; by site."""
    masks: dict[Site, Tensor] = {}
    least = 1 if positions is None else max(positions) + 1
    for head in heads:
        site = Site(head.stack, head.layer)
        if site not in masks:
            masks[site] = torch.zeros(1, least, anatomy.stack(head.stack).n_heads, 1, dtype=torch.bool)
        masks[site][0, slice(None) if positions is None else list(positions), head.head] = True
    return masks


def _named(positions: Positions) -> dict[int, int]:
    """Target position -> source position.

    Raises:
        UsageError: none, or a negative one.
    """
    if isinstance(positions, Mapping):
        named = {int(target): int(source) for target, source in positions.items()}
    else:
        listed = [positions] if isinstance(positions, int) else list(positions)
        named = {int(position): int(position) for position in listed}
    if not named or any(min(pair) < 0 for pair in named.items()):
        raise UsageError(f"positions={positions} names no position, or a negative one; they are counted from 0.")
    return named


def _listed(positions: Mapping[int, int]) -> str:
    many = "positions " if len(positions) > 1 else "position "
    return many + ", ".join(str(a) if a == b else f"{a} (from {b})" for a, b in positions.items())


def _from_run(given: Tensor, positions: Positions | None, which: Bool[Tensor, ...]) -> Replacement:
    """What a run had, `[position ...]`, where `which` (of the axes after the position) is True."""
    n_given = given.shape[0]
    shape = [1] * (given.ndim - which.ndim - 1) + list(which.shape)
    if positions is None:
        where = which.view(1, 1, *shape).expand(1, n_given, *shape)
        return Replacement(where, given[None], n_given, exact=True)
    named = _named(positions)
    if (beyond := max(named.values())) >= n_given:
        raise UsageError(f"position {beyond} is outside the run that is patched from: it has 0 to {n_given - 1}.")
    least = max(named) + 1
    where = torch.zeros(1, least, *shape, dtype=torch.bool)
    value = given.new_zeros(1, least, *given.shape[1:])
    for target, source in named.items():
        where[0, target] = which.view(shape)
        value[0, target] = given[source]
    return Replacement(where, value, least)


def _patched_heads(
    lens: Lens,
    run: Capture,
    heads: Sequence[object],
    layers: int | Iterable[int] | None,
    positions: Positions | None,
    stack: str | None,
) -> Edit:
    anatomy = lens.anatomy
    letter = anatomy.main_stack if stack is None else stack
    every = anatomy.stack(letter).heads()
    if heads:
        chosen = resolve_heads(anatomy, heads)
    else:
        kept = chosen_layers(anatomy, letter, layers)
        chosen = tuple(head for head in every if head.layer in kept)
    replacements = {}
    for site in sorted({Site(head.stack, head.layer) for head in chosen}):
        z = run.residual("z", site.layer, stack=site.stack or None).transpose(0, 1)
        which = torch.zeros(z.shape[1], 1, dtype=torch.bool)
        which[[head.head for head in chosen if Site(head.stack, head.layer) == site]] = True
        replacements[site] = _from_run(z, positions, which)
    where = "" if positions is None else f" at {_listed(_named(positions))}"
    label = f"patch z of {', '.join(map(str, chosen))}{where}"
    return Edit(label, (HeadEdit(replacements),), by_position=True)


def chosen_layers(anatomy: Anatomy, letter: str, layers: int | Iterable[int] | None) -> tuple[int, ...]:
    """The layers asked for, of those that a stack has.

    Raises:
        UsageError: another one, or none at all.
    """
    n_layers = anatomy.stack(letter).n_layers
    chosen = range(n_layers) if layers is None else (layers,) if isinstance(layers, int) else layers
    found = tuple(sorted({int(layer) for layer in chosen}))
    if not found or found[0] < 0 or found[-1] >= n_layers:
        raise UsageError(f"layers={list(found)} is not within the model's layers, 0 to {n_layers - 1}.")
    return found


def check_point(lens: Lens, point: str, letter: str) -> None:
    """Refuse points that cannot be changed.

    Raises:
        UsageError, CaptureError: which, and why.
    """
    wiring = lens.opened.wirings.get(letter)
    if wiring is None:
        listed = ", ".join(sorted(lens.opened.wirings)) or "none"
        raise UsageError(f"stack {letter!r} has no residual stream of its own; expected one of {listed}.")
    if point in stream_points(wiring):
        return
    reason = wiring.absent.get(point, "it can be read, but nothing behind it would change")
    expected = ", ".join((*stream_points(wiring), "z"))
    raise CaptureError(f"{point!r} of {lens.anatomy.model} cannot be patched ({reason}); expected one of {expected}.")


def _check_pattern(pattern: Float[Tensor, "query key"]) -> None:
    if pattern.ndim != 2 or not bool(pattern.isfinite().all()) or bool((pattern < 0).any()):
        raise UsageError("a pattern is [query key] of numbers from 0 on, none of them NaN or infinite.")
    if bool((pattern.sum(-1) > 1 + 1e-3).any()):
        raise UsageError("a row of the pattern sums to more than 1; weights of a query are shares of it.")
