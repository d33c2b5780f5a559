"""How a block is wired, drawn from what was found in it: the stream, what branches off, and where it is added."""

from __future__ import annotations

from dataclasses import dataclass, field

from attnlens.report.inside.diagram import Box, Diagram, Line
from attnlens.steps.block import BlockSteps, SubLayer

__all__ = ["block_diagram", "step_keys"]

STREAM, COLUMN, SECOND = 46.0, 178.0, 330.0  # where the stream and the columns of boxes stand
WIDE, TALL, GAP = 136.0, 40.0, 22.0
NAMES = {"attention": "Self-attention", "cross": "Cross-attention", "feed-forward": "Feed-forward"}


def step_keys(part: SubLayer) -> dict[str, str]:
    """Keys of a sub-layer's steps: of its norms by place ("before", "write", "after"), of itself and of the sum."""
    return {
        "before": f"norm-{part.kind}",
        "self": part.kind,
        "write": f"norm-{part.kind}-write",
        "add": f"add-{part.kind}",
        "after": f"norm-{part.kind}-after",
    }


@dataclass
class _Drawing:
    """Boxes and lines as they are put, from top to bottom."""

    y: float = 16.0
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def box(self, key: str, label: str, x: float, y: float, kind: str, detail: str = "") -> None:
        size = (24.0, 24.0) if kind == "add" else (WIDE, TALL) if kind != "text" else (84.0, 20.0)
        self.boxes.append(Box(key, label, x, y, *size, kind, detail))

    def line(self, *points: tuple[float, float], kind: str = "branch") -> None:
        self.lines.append(Line(points, kind))


def block_diagram(steps: BlockSteps) -> Diagram:
    """The wiring of a block from top to bottom; each box has the key of its step."""
    drawing = _Drawing()
    drawing.box("in", "stream in", STREAM, drawing.y, "text")
    start = drawing.y + 12
    if steps.layout == "parallel":
        end, width = _parallel(drawing, steps, start), SECOND + WIDE / 2 + 12
    else:
        end, width = start, COLUMN + WIDE / 2 + 12
        for part in steps.sublayers:
            end = _one_after_another(drawing, part, steps, end)
    drawing.line((STREAM, end), (STREAM, end + 34), kind="stream")
    drawing.box("out", "stream out", STREAM, end + 46, "text")
    how = ", ".join(NAMES[part.kind].lower() for part in steps.sublayers)
    title = f"Wiring of layer {steps.layer}: {steps.layout}, with {how}"
    return Diagram(width, end + 62, tuple(drawing.boxes), tuple(drawing.lines), title)


def _one_after_another(drawing: _Drawing, part: SubLayer, steps: BlockSteps, start: float) -> float:
    """A sub-layer that branches off the stream and comes back to it; gives where the stream goes on."""
    keys, fork = step_keys(part), start + 16
    y = _column(drawing, part, steps, COLUMN, fork)
    join = y + 8
    drawing.line((COLUMN, y - GAP), (COLUMN, join), (STREAM + 12, join))
    drawing.line((STREAM, start), (STREAM, join - 12), kind="stream")
    drawing.box(keys["add"], "+", STREAM, join, "add")
    end = join + 12
    if part.norm_after is not None:
        drawing.line((STREAM, end), (STREAM, end + 16), kind="stream")
        drawing.boxes.append(Box(keys["after"], part.norm_after.kind, STREAM + 26, end + 34, 96.0, 36.0, "norm"))
        end += 52
    return end


def _column(drawing: _Drawing, part: SubLayer, steps: BlockSteps, x: float, fork: float) -> float:
    """The boxes of a branch from its fork on; gives the y below the last one."""
    keys = step_keys(part)
    entries = [
        (keys["before"], part.norm_before and part.norm_before.kind, "norm", ""),
        (
            keys["self"],
            _name(part, steps),
            "attention" if part.kind != "feed-forward" else part.kind,
            _detail(part, steps),
        ),
        (keys["write"], part.norm_on_write and part.norm_on_write.kind, "norm", ""),
    ]
    entries = [entry for entry in entries if entry[1] is not None]
    drawing.line((STREAM, fork), (x, fork), (x, fork + GAP))
    y = fork + GAP
    for place, (key, label, kind, detail) in enumerate(entries):
        if place:
            drawing.line((x, y - GAP), (x, y))
        drawing.box(key, str(label), x, y + TALL / 2, kind, detail)
        y += TALL + GAP
    return y


def _parallel(drawing: _Drawing, steps: BlockSteps, start: float) -> float:
    """Two branches off the same point, added at once."""
    fork = start + 16
    ends = [_column(drawing, part, steps, x, fork) for part, x in zip(steps.sublayers, (COLUMN, SECOND), strict=False)]
    join = max(ends) + 8
    for x, y in zip((COLUMN, SECOND), ends, strict=False):
        drawing.line((x, y - GAP), (x, join), (STREAM + 12, join))
    drawing.line((STREAM, start), (STREAM, join - 12), kind="stream")
    drawing.box(step_keys(steps.sublayers[-1])["add"], "+", STREAM, join, "add")
    return join + 12


def _name(part: SubLayer, steps: BlockSteps) -> str:
    return "Experts" if part.kind == "feed-forward" and steps.experts is not None else NAMES[part.kind]


def _detail(part: SubLayer, steps: BlockSteps) -> str:
    if part.kind != "feed-forward":
        return "" if part.heads is None else f"{len(part.heads)} heads"
    if steps.experts is not None:
        return f"{steps.experts.chosen.shape[1]} of {steps.experts.logits.shape[1]}"
    return "" if steps.feed_forward is None else f"{steps.feed_forward.name}, {steps.feed_forward.neurons.shape[1]:,}"
