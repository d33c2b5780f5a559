"""One model of a suite: its heads with what is known about each, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnlens.errors import ProbeDataError
from attnlens.zoo.planted import plant
from attnlens.zoo.planted_heads import PlantedHead, uniform
from attnlens.zoo.planted_weights import HEADS_PER_LAYER, LONGEST
from attnlens.zoo.planted_words import new_tokenizer
from probes.calibration.marks import Axes, Gold, Marks, give_types
from probes.calibration.material import Material
from probes.calibration.truth import Claim, Expected

__all__ = ["REORDERED", "Case", "Known", "plain_case", "planted_case"]

REORDERED = ", reordered"

_FAINT = 1e-5
_TYPES = 768
_EXAMPLE = 12  # tokens of a text that a model is checked on, at least

Known = tuple[PlantedHead, Expected]


@dataclass(frozen=True)
class Case:
    """A model to be measured.

    Attributes:
        name: of the model, unique.
        suite: that it belongs to.
        expected: about every head, in the order of layers.
        open: makes the model's lens, with its heads in the given order (indices into `expected`).
        order: which of the heads stands where.
        somewhere: labels that some head should get, where it is not known which.
    """

    name: str
    suite: str
    expected: tuple[Expected, ...]
    open: Callable[[Sequence[int]], Any]
    order: tuple[int, ...]
    somewhere: tuple[Claim, ...] = ()

    def reordered(self, order: Sequence[int]) -> Case:
        """The same model with its heads elsewhere."""
        expected = tuple(self.expected[index] for index in order)
        return replace(self, name=f"{self.name}{REORDERED}", expected=expected, order=tuple(order))

    def lens(self) -> Any:
        """The opened model."""
        return self.open(self.order)


def planted_case(
    name: str, suite: str, architecture: str, heads: Sequence[Known], material: Material, gold: Gold
) -> Case:
    """A model of up to twelve heads that read gold annotation; the first six are the first layer.

    Places without a head get a uniform one.
    """
    known = [*heads, *[_uniform()] * (2 * HEADS_PER_LAYER - len(heads))]
    faint = [head.writing("TOK", "OUT", _FAINT) for head, _ in known]  # so that the output depends on every head

    def opened(order: Sequence[int]) -> Any:
        import attnlens

        words = material.words(architecture)
        marks = Marks.of(material, gold, new_tokenizer(architecture, words, LONGEST))
        placed = [faint[index] for index in order]
        layers = [placed[:HEADS_PER_LAYER], placed[HEADS_PER_LAYER:]]
        planted = plant(architecture, layers, words=words, classed=False, annotations=_padded(marks.axes))
        give_types(planted.model, marks, len(words) if architecture == "gpt2" else 0)
        planted.model.config._name_or_path = name
        return attnlens.load(model=planted.model, tokenizer=planted.tokenizer, example=_example(marks))

    return Case(name, suite, tuple(expected for _, expected in known), opened, tuple(range(len(known))))


def _padded(axes: Sequence[Axes]) -> list[Axes]:
    """Types up to the next multiple, so that most models share a config, and so their copies with random weights."""
    return [*axes, *[axes[0]] * (-len(axes) % _TYPES)]


def plain_case(
    name: str, suite: str, architecture: str, first: Sequence[Known], second: Sequence[Known], material: Material
) -> Case:
    """A model without gold annotation, of two layers whose heads stay where they are; the rest is uniform."""
    layers = [[*own, *[_uniform()] * (HEADS_PER_LAYER - len(own))] for own in (first, second)]

    def opened(_order: Sequence[int]) -> Any:
        import attnlens

        heads = [[head for head, _ in own] for own in layers]
        planted = plant(architecture, heads, words=material.words(architecture))
        planted.model.config._name_or_path = name
        return attnlens.load(model=planted.model, tokenizer=planted.tokenizer)

    expected = tuple(each for own in layers for _, each in own)
    return Case(name, suite, expected, opened, tuple(range(len(expected))))


def _example(marks: Marks) -> dict[str, Any]:
    """Two texts of the corpus of the same length: random tokens have no gold targets, and would show nothing."""
    import torch

    lengths: dict[int, tuple[int, ...]] = {}
    for ids in marks.of_text:
        if len(ids) >= _EXAMPLE and len(ids) in lengths:
            rows = torch.tensor([lengths[len(ids)], ids])
            return {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
        lengths[len(ids)] = ids
    raise ProbeDataError("the corpus is too small to plant models from: no two texts have the same length.")


def _uniform() -> Known:
    return uniform(), Expected("uniform", "positional", required=(Claim("positional", ("breadth",)),))
