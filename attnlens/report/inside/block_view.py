"""What a reader sees of a block at one token: its steps in order, each with a sentence, a formula and its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.errors import UsageError
from attnlens.report.inside.block_diagram import block_diagram, step_keys
from attnlens.report.inside.diagram import Diagram
from attnlens.report.inside.feed_forward_view import ExpertsView, FeedForwardView, experts_view, feed_forward_view
from attnlens.report.inside.words import gap_words, written
from attnlens.report.tables import Table
from attnlens.steps.block import BlockSteps, SubLayer
from attnlens.steps.neurons import Strongest
from attnlens.steps.norms import NormStep
from attnlens.steps.watching import relative_gap

__all__ = ["BlockView", "HeadsView", "StepView", "Strips", "block_view"]

NAMES = {"attention": "Self-attention", "cross": "Cross-attention", "feed-forward": "Feed-forward layer"}
WITHIN = {"attention": "self-attention", "cross": "cross-attention", "feed-forward": "the feed-forward layer"}
LAYOUTS = {
    "pre-LN": "Pre-norm: each sub-layer reads the stream through a norm, and what it writes is added as it is.",
    "post-LN": "Post-norm: what a sub-layer writes is added first, and the sum goes through a norm.",
    "parallel": "Parallel: attention and the feed-forward layer read the same stream, and both are added at once.",
    "post-norm": "Sandwich norm: a norm in front of each sub-layer, and another on what it writes before it is added.",
}


@dataclass(frozen=True)
class Strips:
    """Vectors of one token, one per row, under each other.

    Attributes:
        names: of the rows.
        values: one column per dimension of the stream.
        title: what they are.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "row d_model"]
    title: str

    def table(self) -> Table:
        """What can be said of each vector in a few numbers."""
        rows = tuple(
            (name, float(v.mean()), float(v.std()), float(np.linalg.norm(v)), float(v.min()), float(v.max()))
            for name, v in zip(self.names, self.values, strict=True)
        )
        columns = ("vector", "mean", "standard deviation", "length", "smallest", "largest")
        return Table(f"{self.title}, in numbers.", columns, rows)


@dataclass(frozen=True)
class HeadsView:
    """How long a vector each head writes at one token.

    Attributes:
        lengths: one per head.
        front: of the heads' names, as in "L3H".
        shared: how long their sum is, with the bias of W_O.
    """

    lengths: tuple[float, ...]
    front: str
    shared: float

    def table(self) -> Table:
        """One row per head."""
        rows = tuple((f"{self.front}{head}", length) for head, length in enumerate(self.lengths))
        return Table("Length of what each head writes.", ("head", "length"), rows)


@dataclass(frozen=True)
class StepView:
    """One step.

    Attributes:
        key: by which the drawing and the address name it.
        title: its name.
        sentence: what happens, in one or two plain sentences.
        formula: the same as a formula; empty where there is none.
        facts: named numbers of the chosen token.
        gap: what the recomputation differs by, in words; empty where nothing is recomputed.
        strips: vectors before and after; None where there are none.
        inside: what is inside of it.
    """

    key: str
    title: str
    sentence: str
    formula: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    gap: str = ""
    strips: Strips | None = None
    inside: HeadsView | FeedForwardView | ExpertsView | None = None


@dataclass(frozen=True)
class BlockView:
    """A block at one token.

    Attributes:
        title: which layer and token.
        layout: how it is wired, in one sentence.
        total: how far the steps multiplied out are from what the model gave, in words.
        exact: whether that is within what the model's precision allows.
        token: the token's label.
        steps: in the order in which they are computed.
        strips: the token's vector at every step that leaves one.
        diagram: the wiring.
    """

    title: str
    layout: str
    total: str
    exact: bool
    token: str
    steps: tuple[StepView, ...]
    strips: Strips
    diagram: Diagram


def block_view(
    steps: BlockSteps, labels: Sequence[str], position: int, strongest: Strongest | None = None
) -> BlockView:
    """The steps of a block at one token.

    Args:
        steps: of the layer.
        labels: printable text of each position's token.
        position: the token.
        strongest: its strongest neurons, where the layer has a dense feed-forward layer.

    Raises:
        UsageError: no such position, or labels of another text.
    """
    if len(labels) != len(steps.before):
        raise UsageError(f"the block is of {len(steps.before)} tokens, and {len(labels)} labels were given.")
    if not 0 <= position < len(labels):
        raise UsageError(f"position {position} does not exist: the text has tokens 0 to {len(labels) - 1}.")
    found = tuple(_steps(steps, labels, position, strongest))
    return BlockView(
        title=f"Layer {steps.letter}L{steps.layer}, at {position} {labels[position]}",
        layout=LAYOUTS[steps.layout],
        total=gap_words(steps.gap, steps.limit, steps.dtype),
        exact=steps.gap <= steps.limit,
        token=labels[position],
        steps=found,
        strips=_whole(steps, position),
        diagram=block_diagram(steps),
    )


def _steps(steps: BlockSteps, labels: Sequence[str], position: int, strongest: Strongest | None) -> Iterator[StepView]:
    yield StepView(
        "in",
        "The stream comes in",
        "Each token has one vector that runs through all layers, the residual stream. This is what the layers before "
        "this one have left in it." if steps.layer else
        "Each token has one vector that runs through all layers, the residual stream. Here it is the embedding.",
        facts=_size(steps.before[position]),
    )  # fmt: skip
    parallel = steps.layout == "parallel"
    for part in steps.sublayers:
        keys = step_keys(part)
        read = WITHIN[part.kind]
        if part.norm_before is not None:
            yield _norm(steps, part.norm_before, keys["before"], f"Norm in front of {read}", position)
        yield _sublayer(steps, part, labels, position, strongest)
        if part.norm_on_write is not None:
            yield _norm(steps, part.norm_on_write, keys["write"], f"Norm on what {read} writes", position)
        if not parallel:
            yield _sum(steps, part, keys["add"], position)
        if part.norm_after is not None:
            yield _norm(steps, part.norm_after, keys["after"], f"Norm behind {read}", position)
    if parallel:
        yield _sum_of_both(steps, position)
    yield StepView(
        "out",
        "The stream goes on",
        "This is what the next layer reads, or after the last layer the prediction head.",
        facts=_size(steps.after[position]),
    )


def _norm(steps: BlockSteps, norm: NormStep, key: str, title: str, position: int) -> StepView:
    given, divided = norm.given[position], norm.divided(norm.given)[position]
    scaled, gives = divided * norm.scale, norm.gives[position]
    names, values = ["given", "divided", "× scale"], [given, divided, scaled]
    if norm.shift is not None:
        names, values = [*names, "+ shift"], [*values, gives]
    spread, root = float(norm.spread[position]), float((norm.spread[position] + norm.epsilon).sqrt())
    if norm.mean is not None:
        sentence = (
            "LayerNorm takes the mean of the token's numbers away, divides by their standard deviation, and multiplies "
            "and shifts each dimension by weights of its own."
        )
        formula = "y = scale · (x − mean) / √(variance + ε)" + ("" if norm.shift is None else " + shift")
        facts = [("mean", written(float(norm.mean[position]))), ("variance", written(spread))]
    else:
        sentence = (
            "RMSNorm divides the token's numbers by the root of their mean square, and multiplies each dimension by a "
            "weight of its own. No mean is taken away."
        )
        formula = "y = scale · x / √(mean of x² + ε)" + ("" if norm.shift is None else " + shift")
        facts = [("mean square", written(spread))]
    after = [("ε", written(norm.epsilon)), ("divided by", written(root))]
    after += [("mean afterwards", written(float(gives.mean()))), ("length afterwards", written(float(gives.norm())))]
    return StepView(
        key,
        title,
        sentence,
        formula,
        facts=tuple(facts + after),
        gap=gap_words(norm.gap, steps.limit, steps.dtype),
        strips=Strips(tuple(names), _rows(values), f"{title}: the token's numbers"),
    )


def _sublayer(
    steps: BlockSteps, part: SubLayer, labels: Sequence[str], position: int, strongest: Strongest | None
) -> StepView:
    if part.kind != "feed-forward":
        return _attention(steps, part, position)
    facts = _size(part.write[position], "what it adds")
    if steps.experts is not None:
        view = experts_view(steps.experts, labels, position)
        gap = gap_words(max(steps.experts.gap, steps.experts.router_gap), steps.limit, steps.dtype)
        if view.rest is not None:
            facts += (("length of the shared expert's part", written(view.rest)),)
        return StepView(part.kind, "Mixed experts", view.sentence, view.formula, facts, gap, inside=view)
    if steps.feed_forward is not None:
        dense = feed_forward_view(steps.feed_forward, position, strongest)
        gap = gap_words(steps.feed_forward.gap, steps.limit, steps.dtype)
        return StepView(part.kind, NAMES[part.kind], dense.sentence, dense.formula, facts, gap, inside=dense)
    reason = f"It is not written out here: {steps.feed_forward_absent}."
    return StepView(part.kind, NAMES[part.kind], f"Each token goes through it by itself. {reason}", facts=facts)


def _attention(steps: BlockSteps, part: SubLayer, position: int) -> StepView:
    what = "the source" if part.kind == "cross" else "the text"
    sentence = f"The only step in which tokens read from each other: each head gathers values from tokens of {what}."
    facts = _size(part.write[position], "what it adds")
    if part.heads is None:
        return StepView(
            part.kind, NAMES[part.kind], f"{sentence} W_O was not found, so heads are not told apart.", facts=facts
        )
    raw = part.heads.sum(0)
    raw = raw if part.bias is None else raw + part.bias
    expected = part.write if part.norm_on_write is None else part.norm_on_write.given
    gap = relative_gap(raw, expected)
    front = f"{'X' if part.kind == 'cross' else steps.letter}L{steps.layer}H"
    heads = HeadsView(tuple(part.heads[:, position].norm(dim=-1).tolist()), front, float(raw[position].norm()))
    bias = "" if part.bias is None else " + bias"
    return StepView(
        part.kind,
        NAMES[part.kind],
        f"{sentence} W_O turns each head's result into a vector of the stream; their sum is what attention writes.",
        f"write = z₀ W₀ + z₁ W₁ + … + z{_subscript(len(part.heads) - 1)} W{_subscript(len(part.heads) - 1)}{bias}",
        facts,
        gap_words(gap, steps.limit, steps.dtype),
        inside=heads,
    )


def _sum(steps: BlockSteps, part: SubLayer, key: str, position: int) -> StepView:
    total = (part.before + part.write)[position]
    before, write = part.before[position], part.write[position]
    angle = float(before @ write / (before.norm() * write.norm()).clamp_min(1e-300))
    return StepView(
        key,
        "Added to the stream",
        f"What {WITHIN[part.kind]} wrote is added to the vector that was there, number by number.",
        "stream ← stream + write",
        facts=(
            ("length before", written(float(before.norm()))),
            ("length of the write", written(float(write.norm()))),
            ("length of the sum", written(float(total.norm()))),
            ("cosine of the two", written(angle)),
        ),
        gap="" if part.gap is None else gap_words(part.gap, steps.limit, steps.dtype),
    )


def _sum_of_both(steps: BlockSteps, position: int) -> StepView:
    both = torch.stack([part.write for part in steps.sublayers]).sum(0)
    gap = relative_gap(steps.before + both, steps.after)
    last = replace(steps.sublayers[-1], write=both, gap=gap)
    return replace(
        _sum(steps, last, step_keys(last)["add"], position),
        sentence="What attention and the feed-forward layer wrote is added to the vector that was there, at once.",
        formula="stream ← stream + attention + feed-forward",
    )


def _whole(steps: BlockSteps, position: int) -> Strips:
    """The token's vector wherever the block leaves one."""
    names, values = ["stream in"], [steps.before[position]]
    for part in steps.sublayers:
        name = NAMES[part.kind].removesuffix(" layer").lower()
        if part.norm_before is not None:
            names, values = [*names, f"{name} reads"], [*values, part.given[position]]
        names, values = [*names, f"{name} adds"], [*values, part.write[position]]
        if steps.layout != "parallel" and part is not steps.sublayers[-1]:
            names, values = [*names, f"stream after {name}"], [*values, part.after[position]]
    return Strips(
        (*names, "stream out"), _rows([*values, steps.after[position]]), "The token's vector through the block"
    )


def _size(vector: Tensor, of: str = "") -> tuple[tuple[str, str], ...]:
    named = f" of {of}" if of else ""
    return (("dimensions", f"{len(vector):,}"), (f"length{named}", written(float(vector.norm()))))


def _rows(vectors: Sequence[Tensor]) -> Float[np.ndarray, "row d_model"]:
    return np.stack([vector.numpy() for vector in vectors])


def _subscript(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))
