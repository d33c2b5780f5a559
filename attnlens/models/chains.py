"""The search, in what the submodules of one layer saw and gave, for the sums that make up its residual stream.

A chain leads from the layer's input to its output in steps: a submodule's output is added to the stream, and the sum is
seen again, as some module's input (pre-LN), or after a norm that it went into (post-LN), or as the layer's output.
Where no module sees the sum in between, the two sublayers may have been added together (parallel).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlens.models.layers import AttentionSite
from attnlens.models.snapshots import LayerCall, Reading, is_linear, is_norm, modules_of, same_numbers

__all__ = ["Chain", "Step", "find_chains", "keep_chain"]

WriteKind = Literal["self", "cross", "mlp"]

_START, _END = Reading("", "input"), Reading("", "output")


@dataclass(frozen=True)
class Step:
    """One write into the stream; every field lists modules that hold the same numbers, the preferred one first.

    Attributes:
        kind: what writes.
        writes: modules whose output is what is written.
        streams: readings of the stream after the write; empty for the last step and for parallel sublayers.
        norms: norms that the sum goes through before it is the stream; empty where the stream is the plain sum.
        linears: linear maps whose output is the write, or what the write is the norm of.
    """

    kind: WriteKind
    writes: tuple[str, ...]
    streams: tuple[Reading, ...] = ()
    norms: tuple[str, ...] = ()
    linears: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chain:
    """The steps of a layer. `joined`: no module sees the stream between two steps.

    `parallel`: joined, and the MLP was seen to read the layer's input, so that it cannot depend on the attention.
    """

    steps: tuple[Step, ...]
    joined: bool = False
    parallel: bool = False


def find_chains(layer: nn.Module, call: LayerCall, sites: Sequence[AttentionSite]) -> tuple[Chain, ...]:
    """Every chain that holds in this call, likelier ones first; empty where there is none."""
    search = _Search(layer, call, sites)
    return search.sequential() or search.joined() or search.attention_only()


def keep_chain(layer: nn.Module, chain: Chain, call: LayerCall) -> Chain | None:
    """What is left of a chain in another call: the modules for which it holds there too; None where it does not."""
    if chain.joined:
        return _keep_joined(chain, call)
    stream, steps = call.values[_START], []
    for index, step in enumerate(chain.steps):
        kept = _keep_step(step, call, stream, last=index == len(chain.steps) - 1)
        if kept is None:
            return None
        if kept.streams:
            stream = call.values[kept.streams[0]]
        steps.append(replace(kept, linears=_linears(layer, call, kept.writes, step.linears)))
    return replace(chain, steps=tuple(steps))


def _keep_step(step: Step, call: LayerCall, stream: Float[Tensor, "row width"], last: bool) -> Step | None:
    seen = [Reading(norm, "input") for norm in step.norms] or ([_END] if last else list(step.streams))
    for write in step.writes:
        hit = [reading for reading in seen if _adds_up(call, [stream, _output(call, write)], call.values.get(reading))]
        if not hit:
            continue
        writes = tuple(w for w in step.writes if same_numbers(_output(call, w), _output(call, write)))
        if not step.norms:
            return replace(step, writes=writes, streams=() if last else tuple(hit))
        norms = tuple(reading.path for reading in hit)
        target = call.values.get(_END) if last else _output(call, norms[0])
        norms = tuple(norm for norm in norms if same_numbers(_output(call, norm), target))
        if norms:
            return replace(step, writes=writes, norms=norms, streams=() if last else (Reading(norms[0], "output"),))
    return None


def _keep_joined(chain: Chain, call: LayerCall) -> Chain | None:
    one, other = chain.steps

    def holds(a: str, b: str) -> bool:
        parts = [call.values[_START], _output(call, a), _output(call, b)]
        return _adds_up(call, parts, call.values.get(_END))

    pair = next(((a, b) for a in one.writes for b in other.writes if holds(a, b)), None)
    if pair is None:
        return None
    first = replace(one, writes=tuple(a for a in one.writes if holds(a, pair[1])))
    second = replace(other, writes=tuple(b for b in other.writes if holds(pair[0], b)))
    return replace(chain, steps=(first, second))


class _Search:
    """The search in one call; modules of equal output are one candidate."""

    def __init__(self, layer: nn.Module, call: LayerCall, sites: Sequence[AttentionSite]) -> None:
        self._layer, self._call = layer, call
        self._modules = modules_of(layer)
        self._sites = sorted(
            (site for site in sites if site.path in call.ran), key=lambda site: call.times[Reading(site.path, "output")]
        )
        self._classes = _equal_classes(call)

    def sequential(self) -> tuple[Chain, ...]:
        return self._chains([*self._attention_kinds(), "mlp"])

    def attention_only(self) -> tuple[Chain, ...]:
        return self._chains(self._attention_kinds())

    def joined(self) -> tuple[Chain, ...]:
        """Attention and MLP added at once; parallel where the MLP reads what the attention cannot have changed."""
        if self._attention_kinds() != ["self"] or _END not in self._call.values:
            return ()
        chains = []
        for first, a in self._writes("self", after=-1):
            for second, b in self._writes("mlp", after=-1):
                if _adds_up(self._call, [self._call.values[_START], a, b], self._call.values[_END]):
                    steps = (self._step("self", first), self._step("mlp", second))
                    chains.append(Chain(steps, joined=True, parallel=any(map(self._reads_start, second))))
        return tuple(sorted(chains, key=lambda chain: not chain.parallel))

    def _attention_kinds(self) -> list[WriteKind]:
        return list(dict.fromkeys(site.kind for site in self._sites))

    def _chains(self, kinds: list[WriteKind]) -> tuple[Chain, ...]:
        complete = bool(self._sites) and _START in self._call.values and _END in self._call.values
        paths = self._paths(kinds, self._call.values[_START], after=-1) if complete else ()
        return tuple(Chain(steps) for steps in paths)

    def _paths(
        self, kinds: Sequence[WriteKind], stream: Float[Tensor, "row width"], after: int
    ) -> Iterator[tuple[Step, ...]]:
        kind, rest = kinds[0], kinds[1:]
        for writes, value in self._writes(kind, after):
            done = min(self._call.times[Reading(write, "output")] for write in writes)
            for step in self._arrivals(self._step(kind, writes), [stream, value], done, last=not rest):
                if not rest:
                    yield (step,)
                    continue
                next_stream = self._call.values[step.streams[0]]
                yield from ((step, *others) for others in self._paths(rest, next_stream, done))

    def _arrivals(self, step: Step, parts: list[Float[Tensor, "row width"]], done: int, last: bool) -> Iterator[Step]:
        """Where the sum of `parts` is seen after the write."""
        call = self._call
        seen = self._seen(parts, done)
        if last:
            if _adds_up(call, parts, call.values[_END]):
                yield step
        elif seen:
            yield replace(step, streams=tuple(seen))
        for norm in (reading.path for reading in seen if reading.side == "input"):
            output = _output(call, norm)
            if norm and is_norm(self._modules[norm]) and output is not None:
                if not last:
                    yield replace(step, norms=(norm,), streams=(Reading(norm, "output"),))
                elif same_numbers(output, call.values[_END]):
                    yield replace(step, norms=(norm,))

    def _seen(self, parts: list[Float[Tensor, "row width"]], done: int) -> list[Reading]:
        """Readings of a sum: norms' inputs first, then other inputs, then outputs; outer modules before inner ones."""
        for readings in self._classes:
            if _adds_up(self._call, parts, self._call.values[readings[0]]):
                later = [r for r in readings if self._call.times[r] > done and r.path]
                return sorted(
                    later,
                    key=lambda r: (
                        not (r.side == "input" and is_norm(self._modules[r.path])),
                        r.side,
                        r.path.count("."),
                        self._call.times[r],
                    ),
                )
        return []

    def _writes(self, kind: WriteKind, after: int) -> Iterator[tuple[tuple[str, ...], Float[Tensor, "row width"]]]:
        """Candidates for what `kind` writes: modules of equal output, the preferred one first, and the numbers."""
        for readings in self._classes:
            value = self._call.values[readings[0]]
            paths = [r.path for r in readings if r.side == "output" and r.path and self._call.times[r] > after]
            paths = [path for path in paths if self._may_write(kind, path)]
            if paths:
                yield tuple(sorted(paths, key=self._preference)), value

    def _preference(self, path: str) -> tuple[bool, int, int]:
        """A module with weights before dropout, an outer one before an inner one, an earlier one before a later one."""
        idle = next(self._modules[path].parameters(), None) is None
        return idle, path.count("."), self._call.times[Reading(path, "output")]

    def _may_write(self, kind: WriteKind, path: str) -> bool:
        """The MLP is outside every attention module; what attention writes comes from within it or after it."""
        if kind == "mlp":
            return not any(_related(path, site.path) for site in self._sites)
        started = self._call.times.get(Reading(path, "input"), 0)
        others = (site for site in self._sites if site.kind != kind)
        return not any(_related(path, site.path) for site in others) and any(
            _related(path, site.path) or started > self._call.times[Reading(site.path, "output")]
            for site in self._sites
            if site.kind == kind
        )

    def _step(self, kind: WriteKind, writes: tuple[str, ...]) -> Step:
        return Step(kind, writes, linears=_linears(self._layer, self._call, writes, self._modules))

    def _reads_start(self, path: str) -> bool:
        """The module reads the layer's input, or something made of it alone by a single module."""
        values = self._call.values
        given, start = values.get(Reading(path, "input")), values[_START]
        if given is None:
            return False
        made_of_start = (
            _output(self._call, reading.path)
            for reading, value in values.items()
            if reading.side == "input"
            and reading.path
            and same_numbers(value, start)
            and is_norm(self._modules[reading.path])
        )
        return any(same_numbers(given, source) for source in (start, *made_of_start))


def _linears(layer: nn.Module, call: LayerCall, writes: Sequence[str], among: Iterable[str]) -> tuple[str, ...]:
    """Linear maps whose output is the write; for a write that is a norm's output, those whose output it normalises."""
    modules = modules_of(layer)
    targets = [_output(call, writes[0])]
    targets += [call.values.get(Reading(write, "input")) for write in writes if is_norm(modules[write])]
    return tuple(
        path
        for path in among
        if path in modules
        and is_linear(modules[path])
        and any(same_numbers(_output(call, path), target) for target in targets)
    )


def _equal_classes(call: LayerCall) -> list[list[Reading]]:
    """Readings as wide as the stream, those of the same numbers together."""
    classes: list[list[Reading]] = []
    for reading, value in call.values.items():
        if value.shape[-1] != call.shape[-1]:
            continue
        for known in classes:
            if same_numbers(call.values[known[0]], value):
                known.append(reading)
                break
        else:
            classes.append([reading])
    return classes


def _output(call: LayerCall, path: str) -> Float[Tensor, "row width"] | None:
    return call.values.get(Reading(path, "output"))


def _adds_up(
    call: LayerCall, parts: Sequence[Float[Tensor, "row width"] | None], total: Float[Tensor, "row width"] | None
) -> bool:
    """True where `total` is the sum of `parts`, number by number, up to rounding in the model's own precision.

    Rounding is at most half a unit in the last place per addition, relative to the terms: hence no tolerance that
    grows with the largest number of the stream, under which a small write could be anything. Rows that are not finite
    (fully masked padding) say nothing, and some row must be.
    """
    known = [part for part in parts if part is not None]
    if total is None or len(known) < len(parts) or any(part.shape != total.shape for part in known):
        return False
    unit = 4 * torch.finfo(call.dtype).eps
    gap = total
    for rows in (slice(1), slice(None)):  # one row tells most candidates apart
        gap, size = -total[rows], total[rows].abs()
        for part in known:
            gap, size = gap + part[rows], size + part[rows].abs()
        if bool((gap.abs() > unit * size).any()):
            return False
    return bool(gap.isfinite().all(-1).any())


def _related(path: str, other: str) -> bool:
    """One contains the other, or they are the same."""
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.") or other == ""
