"""A model as a drawing: its stacks side by side, with the shapes that tensors have for one text; and masks as grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attnlens.models.anatomy import Anatomy, Stack
from attnlens.report.inside.diagram import Box, Diagram, Line

__all__ = ["SECTIONS", "architecture_diagram", "mask_grid"]

SECTIONS: Mapping[str, str] = {
    "head": "/inside/head",
    "heads": "/inside/heads",
    "positions": "/inside/positions",
    "masks": "/inside/masks",
    "block": "/inside/block",
    "generation": "/inside/generation",
}
"""Address of the page that a box opens."""

MAIN, SIDE, TALL, STEP = 160.0, 86.0, 42.0, 64.0
COLUMN = 380.0  # width of one stack with what stands beside it
_AT_EMBEDDING = ("learned", "sinusoidal")
_POSITIONS = {"rope": "RoPE", "alibi": "ALiBi", "relative bias": "relative bias"}
CELL = 13.0


@dataclass(frozen=True)
class _Place:
    """Where a stack's parts ended up."""

    cross: tuple[float, float] | None
    end: tuple[float, float]


@dataclass
class _Drawing:
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def box(
        self, label: str, x: float, y: float, kind: str, detail: str = "", to: str = "", width: float = MAIN
    ) -> None:
        self.boxes.append(Box("", label, x, y, width, TALL, kind, detail, SECTIONS.get(to, "")))

    def text(self, label: str, x: float, y: float) -> None:
        self.boxes.append(Box("", label, x, y, 100.0, 18.0, "text"))

    def down(self, x: float, start: float, end: float) -> None:
        self.lines.append(Line(((x, start), (x, end)), "stream"))


def architecture_diagram(
    anatomy: Anatomy, n_tokens: int, n_source: int = 0, source_width: int | None = None, *, predicts: bool = True
) -> Diagram:
    """The opened model, from its tokens to what it predicts.

    Args:
        anatomy: of the model.
        n_tokens: of the text; of the target, in an encoder-decoder.
        n_source: tokens of the source.
        source_width: d_model of the encoder, where it is known.
        predicts: whether it has a prediction head.
    """
    drawing = _Drawing()
    main = anatomy.stack(anatomy.main_stack)
    cross = next((stack for stack in anatomy.stacks if stack.letter == "X"), None)
    encoder = next((stack for stack in anatomy.stacks if stack.letter == "E"), None)
    x = COLUMN / 2
    source = None
    if encoder is not None:
        width = f"[{n_source} × {source_width}]" if source_width else ""
        source = _stack(drawing, encoder, "Encoder", x, ("Source", n_source), width)
        x += COLUMN
    name = "Encoder" if not main.causal else "Decoder"
    shape = f"[{n_tokens} × {anatomy.d_model}]"
    text = ("Target" if cross is not None else "Text", n_tokens)
    place = _stack(drawing, main, name, x, text, shape, cross)
    if source is not None and place.cross is not None:
        _join(drawing, source.end, place.cross, x)
    height = max(place.end[1], source.end[1] if source is not None else 0.0)
    if predicts:
        y = place.end[1]
        detail = f"[{n_tokens} × {anatomy.vocab_size:,}]"
        drawing.box("Prediction head", x, y + TALL / 2, "data", detail, "generation" if main.causal else "")
        height = max(height, y + TALL)
    what = " and ".join(
        f"{stack.n_layers} layers of {stack.n_heads} heads" for stack in anatomy.stacks if stack.letter != "X"
    )
    title = f"{anatomy.family or anatomy.architecture}: {what}"
    return Diagram(x + COLUMN / 2, height + 14, tuple(drawing.boxes), tuple(drawing.lines), title)


def _stack(
    drawing: _Drawing, stack: Stack, name: str, x: float, text: tuple[str, int], shape: str, cross: Stack | None = None
) -> _Place:
    """One stack from its tokens down; its layer once, in a frame that says how often."""
    what, count = text
    drawing.box(what, x, 14 + TALL / 2, "data", f"{count} tokens")
    drawing.down(x, 14 + TALL, 14 + STEP)
    y = 14 + STEP
    at_embedding = stack.position in _AT_EMBEDDING
    drawing.box("Embedding", x, y + TALL / 2, "data", shape)
    if at_embedding:
        _beside(drawing, x, y + TALL / 2, "Positions", stack.position, "positions", left=True)
    frame_top = y + STEP - 4
    drawing.down(x, y + TALL, frame_top + 34)
    y = frame_top + 34
    attention_y = y + TALL / 2
    grouped = "" if stack.n_kv_heads == stack.n_heads else f", {stack.n_kv_heads} key heads"
    drawing.box(
        "Self-attention", x, attention_y, "attention", f"{stack.n_heads} heads × {stack.d_head}{grouped}", "head"
    )
    _beside(drawing, x, attention_y, "Mask", "causal" if stack.causal else "none", "masks", left=False)
    if not at_embedding and stack.position not in ("none", "unknown"):
        named = _POSITIONS.get(stack.position, stack.position)
        _beside(drawing, x, attention_y, "Positions", named, "positions", left=True)
    y += STEP
    cross_at = None
    if cross is not None:
        drawing.down(x, y - STEP + TALL, y)
        drawing.box("Cross-attention", x, y + TALL / 2, "attention", f"{cross.n_heads} heads × {cross.d_head}", "head")
        cross_at = (x, y + TALL / 2)
        y += STEP
    drawing.down(x, y - STEP + TALL, y)
    drawing.box("Feed-forward", x, y + TALL / 2, "feed-forward", "each token by itself", "block")
    bottom = y + TALL + 40
    drawing.boxes.append(
        Box("", "one layer, step by step →", x, y + TALL + 20, 190.0, 20.0, "text", "", SECTIONS["block"])
    )
    middle, tall = (frame_top + bottom) / 2, bottom - frame_top
    frame = Box("", f"{name} × {stack.n_layers}", x, middle, COLUMN - 10, tall, "frame", stack.layout)
    drawing.boxes.insert(0, frame)
    drawing.text(f"stream {shape}".strip(), x + 80, bottom + 13)
    drawing.down(x, bottom, bottom + 26)
    return _Place(cross_at, (x, bottom + 26))


def _beside(drawing: _Drawing, x: float, y: float, label: str, detail: str, to: str, *, left: bool) -> None:
    """A box beside one of the column, with an arrow into it."""
    side = -1 if left else 1
    at = x + side * (MAIN / 2 + 14 + SIDE / 2)
    drawing.box(label, at, y, "side", detail, to, SIDE)
    edge = at - side * SIDE / 2
    drawing.lines.append(Line(((edge, y), (x + side * MAIN / 2, y))))


def _join(drawing: _Drawing, start: tuple[float, float], end: tuple[float, float], x: float) -> None:
    """From the encoder's end to the decoder's cross-attention."""
    between = x - COLUMN / 2
    drawing.box("Encoder's output", start[0], start[1] + TALL / 2, "data", "read by every layer")
    y = start[1] + TALL / 2
    points = ((start[0] + MAIN / 2, y), (between, y), (between, end[1]), (end[0] - MAIN / 2, end[1]))
    drawing.lines.append(Line(points, "cross"))


def mask_grid(name: str, rows: int, columns: int, seen: Callable[[int, int], bool]) -> tuple[tuple[Box, ...], float]:
    """A small picture of a mask, queries down and keys across, with its name below; and its width."""
    width = columns * CELL
    cells = [
        Box(
            "", "", 8 + (column + 0.5) * CELL, 8 + (row + 0.5) * CELL, CELL - 2, CELL - 2,
            "cell-on" if seen(row, column) else "cell",
        )
        for row in range(rows)
        for column in range(columns)
    ]  # fmt: skip
    label = Box("", name, 8 + width / 2, 8 + rows * CELL + 14, width, 16.0, "text")
    return (*cells, label), width + 16
