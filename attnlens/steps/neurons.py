"""The strongest neurons of a feed-forward layer at one token, and the tokens that they speak for."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.models.circuits import token_unembedding
from attnlens.models.lens import Lens
from attnlens.models.targets import token_spelling
from attnlens.steps.block import BlockSteps

__all__ = ["Neuron", "Promoted", "Strongest", "strongest_neurons"]

LARGEST = 2**28  # numbers of a table of tokens that is still read, 1 GiB of float32


@dataclass(frozen=True)
class Promoted:
    """A token, and what a neuron adds to its logit before the last norm's division."""

    token: str
    effect: float


@dataclass(frozen=True)
class Neuron:
    """One neuron at one token.

    Attributes:
        number: its place in the layer.
        reads: what goes into the activation.
        value: what it writes its row with: the activation, times the gate's partner where there is one.
        length: of what it writes, `|value| * |row|`.
        promotes: the tokens whose logits that raises most; empty where the model does not tell.
    """

    number: int
    reads: float
    value: float
    length: float
    promotes: tuple[Promoted, ...] = ()


@dataclass(frozen=True)
class Strongest:
    """The neurons that write most at one token.

    Attributes:
        neurons: the longest write first.
        n_neurons: of the layer.
        n_silent: those whose value is nothing (0, as ReLU gives).
        absent: why no tokens are named; empty where they are.
    """

    neurons: tuple[Neuron, ...]
    n_neurons: int
    n_silent: int
    absent: str = ""


def strongest_neurons(
    lens: Lens, run: Capture, steps: BlockSteps, position: int, *, count: int = 10, top: int = 5
) -> Strongest:
    """The neurons whose writes are longest, each with the tokens that its row speaks for.

    A row is read by the unembedding with the last norm's scale and without its division, as if nothing came behind the
    layer: the further from the end a layer is, the less that says. A norm on what the layer writes is held fixed.
    Source: Geva et al. 2021 (arXiv:2012.14913) and 2022, "Transformer Feed-Forward Layers Build Predictions by
    Promoting Concepts in the Vocabulary Space" (arXiv:2203.14680).

    Args:
        lens: the model.
        run: of which `steps` are; with the points `resid_post` and `final` and its logits, or no tokens are named.
        steps: of a layer with a dense feed-forward layer.
        position: of the token.
        count: how many neurons.
        top: how many tokens for each.

    Raises:
        UnsupportedModelError: the layer has no dense feed-forward layer.
    """
    dense = steps.feed_forward
    if dense is None:
        raise UnsupportedModelError(steps.feed_forward_absent)
    values = dense.neurons[position]
    lengths = values.abs() * dense.weight.double().norm(dim=-1).cpu()
    chosen = lengths.topk(min(count, len(values))).indices
    rows = values[chosen, None] * dense.weight[chosen.to(dense.weight.device)].double().cpu()
    promoted, absent = _promoted(lens, run, steps, rows.float(), position, top)
    neurons = tuple(
        Neuron(
            number=number,
            reads=float(dense.gate.values[position, number]),
            value=float(values[number]),
            length=float(lengths[number]),
            promotes=promoted[place] if promoted else (),
        )
        for place, number in enumerate(chosen.tolist())
    )
    return Strongest(neurons, len(values), int((values == 0).sum()), absent)


def _promoted(
    lens: Lens, run: Capture, steps: BlockSteps, rows: Float[Tensor, "neuron d_model"], position: int, top: int
) -> tuple[tuple[tuple[Promoted, ...], ...], str]:
    """For each row the tokens whose logits it raises; or why there are none."""
    if steps.letter == "E":
        return (), "what an encoder writes reaches no prediction head directly"
    try:
        table = token_unembedding(lens.opened, run)
    except (CaptureError, UnsupportedModelError) as error:
        return (), str(error)
    if table.numel() > LARGEST:
        return (), f"its table of {len(table):,} tokens is too large to be multiplied out"
    part = steps.sublayer("feed-forward")
    if part is not None and part.norm_on_write is not None:
        norm = part.norm_on_write
        root = (norm.spread[position] + norm.epsilon).sqrt()
        rows = (rows.double() * norm.scale / root).float()
    effects, ids = (rows @ table.mT).topk(min(top, len(table)), dim=-1)
    return tuple(
        tuple(Promoted(token_spelling(lens.tokenizer, token), effect) for token, effect in zip(*pair, strict=True))
        for pair in zip(ids.tolist(), effects.tolist(), strict=True)
    ), ""
