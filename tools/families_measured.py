"""What `make families` measures of one tiny model: is what attnlens shows of it what the model computes?

Every figure is held against something that attnlens did not make: transformers' eager attention, PyTorch's own weights,
a formula written out, the output of W_O, a model whose W_O was changed by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import attnlens
from attnlens.capture.replacements import GateRecorder
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, DECODER
from attnlens.capture.tap import needs_eager, recording
from attnlens.models.anatomy import Stack
from attnlens.models.families import Family
from attnlens.models.lens import Lens
from attnlens.models.made_up import without_cache
from attnlens.models.projections import projection_bias, projection_weight

__all__ = ["Measured", "Subject", "measure"]

Inputs = Mapping[str, Tensor]
# Stack -> layer -> [batch head query key].
Weights = Mapping[str, Sequence[Tensor]]
# Where in `Weights` each row of a batch has its real queries and keys.
Kept = Callable[[Inputs, str], list[tuple[slice, slice]]]


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: of the row.
        architecture: the class that users load.
        model: in evaluation mode.
        batches: what to call it with: one batch per way of padding, the first without any.
        truth: the weights of a batch, from another implementation.
        kept: which rows and columns of them are no padding.
        tokenizer: of the model, where it reads text.
        family: its adapter, where it needs one.
    """

    name: str
    architecture: str
    model: nn.Module
    batches: tuple[Inputs, ...]
    truth: Callable[[Inputs], Weights]
    kept: Kept
    tokenizer: Any = None
    family: Family | None = None


@dataclass(frozen=True)
class Measured:
    """What was found. Differences are the largest ones, in float32; None where there is nothing to measure.

    Attributes:
        route: how the attention is reached.
        stacks: what the model consists of.
        lazy, exact: weights of every head against the truth, over every way of padding.
        writes: what the heads write, summed, with W_O's bias, against W_O's output, relative to its largest number.
        ablation: output with one head gated to 0 against the output with that head's rows of W_O zeroed, relative to
            the largest number, over a head of every layer.
        generation: weights of a generated text against one forward over it.
    """

    route: str
    stacks: tuple[Stack, ...]
    lazy: float | None
    exact: float
    writes: float
    ablation: float
    generation: float | None


def measure(subject: Subject) -> Measured:
    """Open the model and take every figure."""
    lens = attnlens.load(model=subject.model, tokenizer=subject.tokenizer, family=subject.family)
    truths = [subject.truth(batch) for batch in subject.batches]
    is_lazy = lens.anatomy.route != "softmax"
    return Measured(
        route=lens.anatomy.route if subject.family is None else f"adapter, {lens.anatomy.route}",
        stacks=lens.anatomy.stacks,
        lazy=_gap_to_truth(lens, subject, truths, "lazy") if is_lazy else None,
        exact=_gap_to_truth(lens, subject, truths, "exact"),
        writes=_gap_of_writes(lens, subject.batches[0]),
        ablation=_gap_of_ablation(lens, subject.batches[0]),
        generation=_gap_of_generation(lens, subject),
    )


def largest_gap(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference; shapes must agree, and so must what is not a number."""
    assert one.shape == other.shape, (one.shape, other.shape)
    return float(torch.nan_to_num((one - other).abs(), nan=torch.inf).max())


def _gap_to_truth(lens: Lens, subject: Subject, truths: Sequence[Weights], mode: str) -> float:
    gaps = []
    for batch, truth in zip(subject.batches, truths, strict=True):
        runs = list(lens.captures(inputs=batch.get("", batch), mode=mode))
        for letter, layers in truth.items():
            for row, (queries, keys) in enumerate(subject.kept(batch, letter)):
                for layer, weights in enumerate(layers):
                    found = runs[row].attention(layer=layer, stack=letter or None)
                    gaps.append(largest_gap(found, weights[row][:, queries, keys]))
    return max(gaps)


def _gap_of_writes(lens: Lens, batch: Inputs) -> float:
    """Head writes, summed, against what W_O put out (or its attention module, where W_O itself is not called)."""
    has_cross = CROSS in {stack.letter for stack in lens.anatomy.stacks}
    points = ("write", "attn_out", *(("cross_out",) if has_cross else ()))
    with _projection_outputs(lens) as outputs:
        runs = list(lens.captures(inputs=batch.get("", batch), points=points))
    gaps = []
    for stack in lens.anatomy.stacks:
        for row, run in enumerate(runs):
            for layer, module in enumerate(_projections(lens, stack)):
                writes = run.residual("write", layer, stack=stack.letter or None).sum(0)
                bias = projection_bias(module)
                total = writes if bias is None else writes + bias
                if called := outputs[stack.letter]:
                    target = called[layer].reshape(len(runs), -1, total.shape[-1])[row]
                else:
                    target = _written(run, stack, layer)
                gaps.append(largest_gap(total, target) / float(target.abs().max()))
    return max(gaps)


def _written(run: Capture, stack: Stack, layer: int) -> Tensor:
    """What a layer's attention of this stack adds to the stream."""
    if stack.letter == CROSS:
        return run.residual("cross_out", layer, stack=DECODER)
    return run.residual("attn_out", layer, stack=stack.letter or None)


def _projections(lens: Lens, stack: Stack) -> list[nn.Module]:
    """W_O of each of the stack's layers, call by call."""
    opened = lens._opened
    home = DECODER if stack.letter == CROSS else stack.letter
    wiring, layers = opened.wirings[home], opened.stacks[home].layers
    path = wiring.projections["cross" if stack.letter == CROSS else "self"]
    return [layers[layer].get_submodule(path) for layer in wiring.order]


@contextmanager
def _projection_outputs(lens: Lens) -> Iterator[dict[str, list[Tensor]]]:
    """What every W_O puts out while the block runs, by stack, in the order of the calls."""
    outputs: dict[str, list[Tensor]] = {stack.letter: [] for stack in lens.anatomy.stacks}
    with ExitStack() as hooks:
        for stack in lens.anatomy.stacks:
            keep = outputs[stack.letter]
            for module in dict.fromkeys(_projections(lens, stack)):
                hook = module.register_forward_hook(lambda _module, _args, output, keep=keep: keep.append(output))
                hooks.callback(hook.remove)
        yield outputs


def _gap_of_ablation(lens: Lens, batch: Inputs) -> float:
    gaps = []
    with torch.no_grad():
        whole = _output(lens.model, batch)
        for stack in lens.anatomy.stacks:
            modules = _projections(lens, stack)
            for layer, module in enumerate(modules):
                head = layer % stack.n_heads
                gates = torch.ones(len(whole), len(modules), stack.n_heads)
                gates[:, [at for at, other in enumerate(modules) if other is module], head] = 0
                gate = GateRecorder(gates, needs_eager(lens.model), stack.letter)
                with recording(lens._opened.tap, gate):
                    gated = _output(lens.model, batch)
                with _head_without_rows(module, head, stack.n_heads):
                    zeroed = _output(lens.model, batch)
                assert largest_gap(zeroed, whole) > 1e-4, "the head does nothing, so that this says nothing"
                gaps.append(largest_gap(gated, zeroed) / float(zeroed.abs().max()))
    return max(gaps)


@contextmanager
def _head_without_rows(projection: nn.Module, head: int, n_heads: int) -> Iterator[None]:
    """Zero the rows of W_O that one head's output is multiplied with, while the block runs."""
    weight = projection_weight(projection)
    d_head = weight.shape[0] // n_heads
    rows = slice(head * d_head, (head + 1) * d_head)
    before = weight[rows].clone()
    weight[rows] = 0
    try:
        yield
    finally:
        weight[rows] = before


def _output(model: nn.Module, batch: Inputs) -> Tensor:
    """Logits, or whatever a plain module gives."""
    if "" in batch:
        return model(batch[""])
    output = model(**batch, **without_cache(model))
    return output if isinstance(output, Tensor) else output.logits


def _gap_of_generation(lens: Lens, subject: Subject) -> float | None:
    if not getattr(lens.model, "can_generate", bool)():
        return None
    first = {name: value[:1] for name, value in subject.batches[0].items() if name != "decoder_input_ids"}
    run = lens.generate(inputs=first, max_new_tokens=6)
    ids = torch.tensor([[token.id for token in run.tokens]])
    if lens.anatomy.is_encoder_decoder:
        whole = first | {"decoder_input_ids": ids}
    else:
        whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    gaps = []
    for letter, layers in subject.truth(whole).items():
        for layer, weights in enumerate(layers):
            found = run.attention(layer=layer, stack=letter or None)
            gaps.append(largest_gap(found, weights[0]))
    return max(gaps)
