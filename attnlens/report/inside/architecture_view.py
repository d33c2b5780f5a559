"""What a reader sees of a whole model: how it is built, what its tokens can see, and which of three kinds it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.models.anatomy import Anatomy
from attnlens.report.inside.architecture_diagram import architecture_diagram, mask_grid
from attnlens.report.inside.diagram import Box, Diagram
from attnlens.report.tables import Table

__all__ = ["ArchitectureView", "Kind", "Sight", "architecture_view"]


@dataclass(frozen=True)
class Sight:
    """What each token can see in one kind of attention.

    Attributes:
        letter: of the stack: "", "E", "D" or "X".
        title, sentence: plain text.
        rows, columns: labels of the tokens that look, and of those that can be seen.
        seen: for each row the columns that it sees, as ranges `(start, stop)`.
    """

    letter: str
    title: str
    sentence: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    seen: tuple[tuple[tuple[int, int], ...], ...]

    def count(self, row: int) -> int:
        """How many tokens a row sees."""
        return sum(stop - start for start, stop in self.seen[row])

    def table(self) -> Table:
        """One row per token."""
        rows = tuple(
            (place, label, self.count(place), ", ".join(_range(*part) for part in self.seen[place]))
            for place, label in enumerate(self.rows)
        )
        return Table(f"{self.title}: what each token can see.", ("position", "token", "sees", "positions"), rows)


@dataclass(frozen=True)
class Kind:
    """One of the three architectures.

    Attributes:
        name, sentence: plain text.
        models: well-known ones.
        masks: who sees whom in it, as a small drawing.
        opened: whether the model is one of them.
    """

    name: str
    sentence: str
    models: str
    masks: Diagram
    opened: bool


@dataclass(frozen=True)
class ArchitectureView:
    """A model on one text.

    Attributes:
        title, sentence: plain text.
        diagram: the model.
        sights: what tokens can see, per kind of attention, in the order in which it runs.
        kinds: encoder, decoder, encoder-decoder.
        shapes: the tensors in the drawing, as a table.
    """

    title: str
    sentence: str
    diagram: Diagram
    sights: tuple[Sight, ...]
    kinds: tuple[Kind, ...]
    shapes: Table


_KINDS = {
    "encoder": (
        "Encoder",
        "Every token sees every token, before and behind it. Each gets a vector that knows the whole text.",
        "BERT, RoBERTa, ModernBERT",
    ),
    "decoder": (
        "Decoder",
        "Each token sees itself and those before it, so the next token can be predicted at every place, and written.",
        "GPT-2, LLaMA, Mistral",
    ),
    "encoder-decoder": (
        "Encoder-decoder",
        "An encoder reads the source; a decoder writes the target, and each of its layers also looks at the source.",
        "the first Transformer, T5, BART",
    ),
}
_SIGHTS = {
    "": "Self-attention",
    "E": "Encoder: source to source",
    "D": "Decoder: target to target",
    "X": "Cross-attention: target to source",
}


def architecture_view(run: Capture) -> ArchitectureView:
    """How the model of a run is built, with the shapes that its text gives, and what its tokens can see.

    Args:
        run: of any text; with the point `embed`, the width of an encoder of its own is known.
    """
    anatomy = run.anatomy
    kind = "encoder-decoder" if anatomy.is_encoder_decoder else "decoder" if anatomy.causal else "encoder"
    n_source = 0 if run.source is None else len(run.source.tokens)
    width = int(run.stream["E.embed"].shape[-1]) if "E.embed" in run.stream else None
    name, sentence, _ = _KINDS[kind]
    return ArchitectureView(
        title=f"{name}: {anatomy.architecture}",
        sentence=sentence,
        diagram=architecture_diagram(anatomy, len(run.tokens), n_source, width, predicts=run.logits is not None),
        sights=tuple(_sight(run, stack.letter) for stack in anatomy.stacks),
        kinds=tuple(_kind(key, key == kind) for key in _KINDS),
        shapes=_shapes(anatomy, run, n_source, width),
    )


def _sight(run: Capture, letter: str) -> Sight:
    own = tuple(token.label for token in run.tokens)
    source = () if run.source is None else tuple(token.label for token in run.source.tokens)
    rows, columns = source if letter == "E" else own, source if letter in ("E", "X") else own
    layers = run.anatomy.stack(letter).attention_layers
    masks = [run.visible(layer, stack=letter or None) for layer in layers]
    first = masks[0]
    same = all(bool((mask == first).all()) for mask in masks)
    return Sight(
        letter=letter,
        title=_SIGHTS[letter],
        sentence=_sentence(first, letter) + ("" if same else _widths(masks)),
        rows=rows,
        columns=columns,
        seen=tuple(_ranges(row) for row in first.tolist()),
    )


def _sentence(seen: Bool[Tensor, "query key"], letter: str) -> str:
    if bool(seen.all()):
        return "Every token of the target sees the whole source." if letter == "X" else "Every token sees every token."
    n_queries, n_keys = seen.shape
    lower = seen.new_ones(n_queries, n_keys).tril()
    if n_queries == n_keys and bool((seen == lower).all()):
        return "Each token sees itself and those before it: the mask is causal."
    if n_queries == n_keys and not bool((seen & ~lower).any()):
        return f"Each token sees itself and at most {int(seen.sum(-1).max()) - 1} before it: a causal window."
    return f"Each token sees at most {int(seen.sum(-1).max())} of {n_keys} tokens."


def _widths(masks: list[Tensor]) -> str:
    least, most = (count(int(mask.sum(-1).max()) for mask in masks) for count in (min, max))
    return f" Shown is the first layer; layers differ, and see at most {least} to {most} tokens."


def _ranges(row: list[bool]) -> tuple[tuple[int, int], ...]:
    """Runs of True as `(start, stop)`."""
    edges = [place for place, (one, other) in enumerate(zip([False, *row], [*row, False], strict=True)) if one != other]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def _range(start: int, stop: int) -> str:
    return str(start) if stop == start + 1 else f"{start} to {stop - 1}"


def _kind(key: str, opened: bool) -> Kind:
    name, sentence, models = _KINDS[key]
    return Kind(name, sentence, models, _masks(key), opened)


def _masks(key: str) -> Diagram:
    """Who sees whom, for a text of five tokens (and a source of four)."""
    grids = {
        "encoder": [("text to text", 5, 5, True)],
        "decoder": [("text to text", 5, 5, False)],
        "encoder-decoder": [("source", 4, 4, True), ("target", 5, 5, False), ("target to source", 5, 4, True)],
    }[key]
    boxes: list[Box] = []
    x = height = 0.0
    for name, rows, columns, whole in grids:
        grid, width = mask_grid(name, rows, columns, _whole if whole else _causal)
        room = max(width, 7.0 * len(name) + 8)
        boxes += [replace(box, x=box.x + x + (room - width) / 2) for box in grid]
        x += room
        height = max(height, max(box.y + box.height / 2 for box in grid))
    return Diagram(x, height + 4, tuple(boxes), (), f"{_KINDS[key][0]}: who sees whom")


def _whole(row: int, column: int) -> bool:
    return True


def _causal(row: int, column: int) -> bool:
    return column <= row


def _shapes(anatomy: Anatomy, run: Capture, n_source: int, source_width: int | None) -> Table:
    """The tensors of one text, by stack."""
    rows: list[tuple[str, str, str]] = []
    for stack in anatomy.stacks:
        n_queries = n_source if stack.letter == "E" else len(run.tokens)
        n_keys = n_source if stack.letter in ("E", "X") else len(run.tokens)
        width = source_width if stack.letter == "E" else anatomy.d_model
        where = f"{_SIGHTS[stack.letter]}, each of {stack.n_layers} layers"
        rows.append((where, "stream", f"{n_queries} × {width or '?'}"))
        rows.append((where, "queries", f"{stack.n_heads} heads × {n_queries} × {stack.d_head}"))
        rows.append((where, "keys and values", f"{stack.n_kv_heads} heads × {n_keys} × {stack.d_head}"))
        rows.append((where, "attention weights", f"{stack.n_heads} heads × {n_queries} × {n_keys}"))
    if run.logits is not None:
        rows.append(("Prediction head", "logits", " × ".join(map(str, run.logits.shape))))
    return Table("Shapes of the tensors for this text.", ("part", "tensor", "shape"), tuple(rows))
