"""One forward pass over a batch, and the runs that it is cut into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.capture.edits import edit_labels
from attnlens.capture.patterns import Pattern
from attnlens.capture.recorders import EVERYTHING, PatternRecorder, ReduceRecorder, Wanted
from attnlens.capture.run import HEAD_POINTS, ONCE, POINTS, Capture, Patterns
from attnlens.capture.sites import CROSS, DECODER, ENCODER, Site
from attnlens.capture.stream import Stream
from attnlens.capture.tap import recording
from attnlens.capture.tokens import EncodedText
from attnlens.errors import CaptureError, TextError, UnsupportedModelError, UsageError
from attnlens.measures.running import Reducer
from attnlens.models.anatomy import Anatomy
from attnlens.models.hooks import first_tensor
from attnlens.models.inputs import Batch, numbered
from attnlens.models.made_up import described, without_cache
from attnlens.models.opening import Opened
from attnlens.models.points import recording_points
from attnlens.models.projections import head_writes
from attnlens.models.wiring import ROUTER_POINTS

__all__ = ["Plan", "check_batch", "check_points", "reduce_batch", "run_batch"]


@dataclass(frozen=True)
class Plan:
    """What a run keeps.

    Attributes:
        mode: "lazy", "exact", or "dense" (every weight is built while the model runs).
        wanted: which layers and heads.
        layers: layers that were asked for; None for all.
        points: points of the stream and of the heads.
        logits: whether the head of the model runs, and its logits are kept.
    """

    mode: str
    wanted: Wanted = EVERYTHING
    layers: tuple[int, ...] | None = None
    points: tuple[str, ...] = ()
    logits: bool = True

    def keeps(self, layer: int) -> bool:
        """Whether a layer was asked for."""
        return self.layers is None or layer in self.layers


def run_batch(opened: Opened, batch: Batch, plan: Plan, versions: Mapping[str, str]) -> Iterator[Capture]:
    """Run `batch` once, and yield one run per row.

    Raises:
        CaptureError: some layers never reached the capture.
    """
    model = opened.tap.model
    asked = {*plan.points, *(("z",) if "write" in plan.points else ())}
    vectors = tuple(point for point in ("q", "k", "v", "z") if point in asked)
    recorder = opened.recorders[plan.mode](batch.extents, plan.wanted, vectors)
    runs_head = plan.logits and has_head(model)
    entry = model if runs_head or not isinstance(model, PreTrainedModel) else model.base_model
    with torch.no_grad(), ExitStack() as stack:
        kept = {
            letter: stack.enter_context(recording_points(layers, opened.wirings[letter], _hooked(opened, plan, letter)))
            for letter, layers in opened.stacks.items()
        }
        stack.enter_context(recording(opened.tap, recorder))
        output = _call(model, entry, batch)
    _check_run(opened, recorder, batch)
    whole = _Whole(opened, batch, plan, recorder, kept, _logits(output) if runs_head else None)
    for row in range(len(batch.texts)):
        yield whole.run(row, versions)


def reduce_batch(opened: Opened, batch: Batch, reducers: Sequence[Reducer], wanted: Wanted) -> None:
    """Run `batch` once and let each site's weights pass by `reducers`; the language-model head is not run."""
    model = opened.tap.model
    recorder = ReduceRecorder(batch.extents, wanted, reducers)
    entry = model.base_model if isinstance(model, PreTrainedModel) else model
    with torch.no_grad(), recording(opened.tap, recorder):
        _call(model, entry, batch)
    _check_run(opened, recorder, batch)


def _call(model: nn.Module, entry: nn.Module, batch: Batch) -> Any:
    """The output of `model`, or of the part of it at `entry`.

    Raises:
        UsageError: the arguments are none that the model takes; the message holds the model's own.
    """
    if isinstance(model, PreTrainedModel) and model.config.is_encoder_decoder:
        targets = ("decoder_input_ids", "decoder_inputs_embeds")
        if not any(isinstance(batch.arguments.get(name), Tensor) for name in targets):
            raise UsageError(
                f"{type(model).__name__} writes as well as it reads; give decoder_input_ids, or target=...."
            )
    try:
        return batch.call(entry, **without_cache(model))
    except (IndexError, TypeError, ValueError) as error:
        raise UsageError(
            f"{type(model).__name__} cannot be run on {described(batch.arguments)} ({type(error).__name__}: {error})."
        ) from error


def _check_run(opened: Opened, recorder: PatternRecorder, batch: Batch) -> None:
    """Refuse a run in which not every attention was heard, or not once per text (one text without a batch axis)."""
    if len(recorder.calls) != len(opened.tap.sites):
        raise CaptureError(
            f"{len(recorder.calls)} of {len(opened.tap.sites)} attentions reached the capture; open the model again "
            "if it was changed since."
        )
    if recorder.rows - {len(batch.texts)}:
        raise CaptureError(
            f"the inputs hold {len(batch.texts)} texts by their shape, and the model attended to "
            f"{', '.join(map(str, sorted(recorder.rows)))}; give tensors with a batch axis."
        )


def has_head(model: nn.Module) -> bool:
    """Whether the model has a language-model head (or is a module of its own, whose output is all there is)."""
    if not isinstance(model, PreTrainedModel):
        return True
    return model.get_output_embeddings() is not None  # type: ignore[no-untyped-call]


def check_points(anatomy: Anatomy, points: Sequence[str]) -> None:
    """Refuse points that do not exist, or that this model does not give.

    Raises:
        UsageError, CaptureError: which, and why.
    """
    for point in points:
        if point not in POINTS:
            raise UsageError(f"{point!r} is no point of the residual stream; expected some of {', '.join(POINTS)}.")
        if any(point in stack.residual_points for stack in anatomy.stacks):
            continue
        reasons = [stack.absent[point] for stack in anatomy.stacks if point in stack.absent]
        reason = reasons[-1] if reasons else "its layers have no such point"
        raise CaptureError(f"{point!r} is not available for {anatomy.model}: {reason}.")


def check_batch(anatomy: Anatomy, texts: Sequence[EncodedText | None], stack: str | None = None) -> None:
    """Refuse texts beyond the model's context, and tokens that the model does not know.

    Args:
        anatomy: of the model.
        texts: what it is to read.
        stack: the letter of the stack that reads it; None for the main one.

    Raises:
        TextError, UnsupportedModelError: which, and why.
    """
    limit = anatomy.max_length if stack is None else anatomy.stack(stack).max_length
    vocabulary = anatomy.vocab_size
    for text in texts:
        if text is None or not text.tokens:
            continue
        if limit is not None and len(text.tokens) > limit:
            raise TextError(
                f"the text has {len(text.tokens)} tokens, {anatomy.model} takes at most {limit}; "
                "shorten it or split it."
            )
        if beyond := [token for token in text.tokens if not 0 <= token.id < max(vocabulary, 1)]:
            raise UnsupportedModelError(
                f"the tokenizer does not fit the model: token {beyond[0].label!r} has id {beyond[0].id}, "
                f"the model knows 0 to {vocabulary - 1}; load them from the same folder."
            )


def _hooked(opened: Opened, plan: Plan, letter: str) -> tuple[str, ...]:
    """The points of a stack that hooks give; the rest comes from the attention calls themselves."""
    available = opened.wirings[letter].points
    by_recorder = set(HEAD_POINTS) if opened.anatomy.route != "softmax" else {"write"}
    asked = {*plan.points, *(("z",) if "write" in plan.points else ())}
    return tuple(point for point in available if point in asked and point not in by_recorder)


def _logits(output: Any) -> Tensor | None:
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else first_tensor(output)


@dataclass
class _Whole:
    """A batch that has run, from which rows are cut."""

    opened: Opened
    batch: Batch
    plan: Plan
    recorder: PatternRecorder
    kept: Mapping[str, Mapping[str, list[Tensor]]]
    logits: Tensor | None
    _stacked: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def run(self, row: int, versions: Mapping[str, str]) -> Capture:
        anatomy = self.opened.anatomy
        found = self.recorder.patterns(row)
        text = self._text(self.batch.texts[row], found, anatomy.main_stack, own=True)
        source = None
        if anatomy.is_encoder_decoder:
            source = self._text(self.batch.sources[row] if self.batch.sources else None, found, ENCODER, own=True)
        patterns = {stack.letter: self._patterns(found, stack.letter, stack.n_layers) for stack in anatomy.stacks}
        settings = {"mode": self.plan.mode, "bos_added": text.bos_added, "points": list(self.plan.points)}
        if changes := edit_labels(self.opened.tap.model):
            settings["interventions"] = list(changes)
        if self.plan.layers is not None:
            settings["layers"] = list(self.plan.layers)
        return Capture(
            text=text.text,
            tokens=text.tokens,
            words=text.words,
            anatomy=anatomy,
            mode="lazy" if self.plan.mode == "dense" else self.plan.mode,
            settings=settings,
            versions=versions,
            patterns=patterns[anatomy.main_stack],
            stream=Stream(self._stream(row)),
            logits=self._logits(row),
            source=source,
            encoder=patterns.get(ENCODER, ()),
            cross=patterns.get(CROSS, ()),
        )

    def _patterns(self, found: Mapping[Site, Pattern], letter: str, n_layers: int) -> Patterns:
        return tuple(found.get(Site(letter, layer)) for layer in range(n_layers))

    def _text(self, text: EncodedText | None, found: Mapping[Site, Pattern], letter: str, own: bool) -> EncodedText:
        """The row's tokens; where nothing but the run tells how many there are, as many as the pattern has rows."""
        if text is not None:
            return text
        own_rows = (pattern.shape[0] for site, pattern in found.items() if site.stack == letter)
        read_columns = (pattern.shape[1] for site, pattern in found.items() if site.stack == CROSS)
        return numbered(next(own_rows, next(read_columns, 0) if letter == ENCODER else 0))

    def _extent(self, letter: str, row: int) -> slice:
        return self.batch.extents.source[row] if letter == ENCODER else self.batch.extents.own[row]

    def _logits(self, row: int) -> Tensor | None:
        if self.logits is None or self.logits.ndim != 3:
            return None if self.logits is None else self.logits[row : row + 1].cpu()
        logits = self.logits.transpose(0, self.opened.batch_axis)
        return logits[row, self._extent(self.opened.anatomy.main_stack, row)].cpu()

    def _stream(self, row: int) -> dict[str, Tensor | list[Tensor]]:
        """Every kept point of the row, by its name (with the stack's letter in an encoder-decoder)."""
        values: dict[str, Tensor | list[Tensor]] = {}
        for letter, points in self.kept.items():
            front = f"{letter}." if letter else ""
            for point, tensors in points.items():
                if tensors and len(value := self._point(letter, point, tensors, row)):
                    values[front + point] = value
        for site_stack, point, tensors in self.recorder.vectors():
            front = f"{site_stack}." if site_stack else ""
            values[front + point] = self._vectors(site_stack, point, tensors, row)
        if "write" in self.plan.points:
            self._add_writes(values)
        wanted = {f"{letter}." if letter else "" for letter in (*self.kept, CROSS)}
        return {
            name: value for name, value in values.items()
            if any(name.removeprefix(front) in self.plan.points for front in wanted if name.startswith(front))
        }  # fmt: skip

    def _point(self, letter: str, point: str, tensors: list[Tensor], row: int) -> Tensor | list[Tensor]:
        extent = self._extent(letter, row)
        if point in ROUTER_POINTS:
            n_rows = len(self.batch.texts)
            own = [layer.view(n_rows, -1, layer.shape[-1])[row, extent] for layer in tensors]
        else:
            own = [layer[row, extent] for layer in tensors]
        if point in ONCE:
            return own[0].cpu()
        kept = [part.cpu() for layer, part in enumerate(own) if self.plan.keeps(layer)]
        if point == "z":
            n_heads = self.opened.anatomy.stack(letter).n_heads
            return [part.unflatten(-1, (n_heads, -1)).transpose(0, 1) for part in kept]  # type: ignore[no-untyped-call]
        return kept

    def _vectors(self, letter: str, point: str, tensors: list[Tensor], row: int) -> list[Tensor]:
        site = Site(letter, 0)
        extents = self.batch.extents
        extent = extents.keys(site, row) if point in ("k", "v") else extents.queries(site, row)
        return [layer[row, :, extent].cpu() for layer in tensors]

    def _add_writes(self, values: dict[str, Tensor | list[Tensor]]) -> None:
        for stack in self.opened.anatomy.stacks:
            front = f"{stack.letter}." if stack.letter else ""
            home = DECODER if stack.letter == CROSS else stack.letter
            wiring, layers = self.opened.wirings[home], self.opened.stacks[home].layers
            path = wiring.projections.get("cross" if stack.letter == CROSS else "self")
            if path is None or front + "z" not in values:
                continue
            kept = [layer for layer in stack.attention_layers if self.plan.keeps(layer)]
            writes = []
            for z, layer in zip(values[front + "z"], kept, strict=True):
                projection = layers[wiring.order[layer]].get_submodule(path)
                rows = z.transpose(0, 1).flatten(1)
                weight = next(projection.parameters())
                writes.append(head_writes(rows.to(weight.device), projection, stack.n_heads).cpu())
            values[front + "write"] = torch.stack(writes)
