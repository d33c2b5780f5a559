"""What an intervention is judged by: a logit difference, a probability, a loss, or how far the prediction moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from attnlens.errors import UsageError
from attnlens.measures.stream import cosine
from attnlens.models.inputs import Batch
from attnlens.models.running import has_head
from attnlens.models.targets import shown_token, single_token

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["Divergence", "LogitDifference", "Loss", "Metric", "Probability", "Readout", "Turn", "read_position"]


@dataclass(frozen=True)
class Readout:
    """A metric made ready for one text.

    Attributes:
        name: what it is, with tokens spelled out.
        unit: "logits", "share", "nats".
        larger_is_better: whether harm to the model's behaviour makes it smaller.
        positions: the rows of the logits that it reads; empty for a model with one output per text.
        read: logits `[row kept vocab]` and the unchanged model's `[kept vocab]` -> one number per row. Of a metric
            of states, these in place of logits.
    """

    name: str
    unit: str
    larger_is_better: bool
    positions: tuple[int, ...]
    read: Callable[[Tensor, Tensor], Tensor]


class Metric(ABC):
    """One number per forward pass.

    Attributes:
        of_states: it reads the last states of a model that predicts nothing, not logits.
    """

    of_states: ClassVar[bool] = False

    @abstractmethod
    def readout(self, lens: Lens, batch: Batch) -> Readout:
        """This metric for the one text of `batch`.

        Raises:
            UsageError: it means nothing for this model or text.
        """


@dataclass(frozen=True)
class LogitDifference(Metric):
    """Logit of `target` minus logit of `against`, in logits: above 0 the model prefers `target`.

    Attributes:
        target, against: tokens as they are spelled in running text, or numbers (classes).
        position: whose output is read; None takes the mask token, in a causal model the last position.
    """

    target: str | int
    against: str | int
    position: int | None = None

    def readout(self, lens: Lens, batch: Batch) -> Readout:
        """The difference at the position."""
        chosen, other = (_token(lens, part) for part in (self.target, self.against))
        positions, where = read_position(lens, batch, self.position)
        name = f"logit of {_shown(lens, chosen)} minus logit of {_shown(lens, other)}{where}"
        return Readout(name, "logits", True, positions, lambda rows, _: rows[:, 0, chosen] - rows[:, 0, other])


@dataclass(frozen=True)
class Probability(Metric):
    """Probability (0 to 1) of a next token or of a masked word; None takes the model's own first choice."""

    target: str | int | None = None
    position: int | None = None

    def readout(self, lens: Lens, batch: Batch) -> Readout:
        """The probability at the position."""
        positions, where = read_position(lens, batch, self.position)
        if self.target is None:
            name = f"probability of the first choice{where}"
            return Readout(
                name, "share", True, positions, lambda rows, plain: rows[:, 0].softmax(-1)[:, plain[0].argmax()]
            )
        chosen = _token(lens, self.target)
        name = f"probability of {_shown(lens, chosen)}{where}"
        return Readout(name, "share", True, positions, lambda rows, _: rows[:, 0].softmax(-1)[:, chosen])


@dataclass(frozen=True)
class Divergence(Metric):
    """How far the prediction moves: KL(unchanged || changed) of the predicted tokens, in nats, 0 or more."""

    position: int | None = None

    def readout(self, lens: Lens, batch: Batch) -> Readout:
        """The divergence at the position."""
        positions, where = read_position(lens, batch, self.position)

        def read(rows: Tensor, plain: Tensor) -> Tensor:
            before, after = plain[0].double().log_softmax(-1), rows[:, 0].double().log_softmax(-1)
            return (before.exp() * (before - after)).sum(-1)

        return Readout(f"divergence of the prediction{where}", "nats", False, positions, read)


@dataclass(frozen=True)
class Loss(Metric):
    """Mean negative log-probability of each token of the text after the first, nats per token; causal models."""

    def readout(self, lens: Lens, batch: Batch) -> Readout:
        """The mean over the text; of an encoder-decoder, over what it writes."""
        text, anatomy = batch.texts[0], lens.anatomy
        if text is None or not anatomy.stack(anatomy.main_stack).causal:
            raise UsageError(
                f"{anatomy.model} does not predict next tokens, so a text has no loss; mask a word and take its "
                "probability."
            )
        if len(text.tokens) < 2:
            raise UsageError("the loss needs a text of at least two tokens.")
        following = torch.tensor(text.ids[1:])

        def read(rows: Tensor, _plain: Tensor) -> Tensor:
            spread = rows.double().log_softmax(-1)
            return -spread.gather(-1, following.to(rows.device).expand(len(rows), -1)[..., None])[..., 0].mean(-1)

        return Readout("loss", "nats", False, tuple(range(len(text.tokens) - 1)), read)


@dataclass(frozen=True)
class Turn(Metric):
    """How far the last states turn: 1 - cosine of unchanged and changed, 0 (same way) to 2; for models without a head.

    Attributes:
        position: whose state is read, from the end if negative; None takes the mean over all that are no special token.
    """

    of_states: ClassVar[bool] = True
    position: int | None = None

    def readout(self, lens: Lens, batch: Batch) -> Readout:
        """The turn at the position, or the mean of the turns."""
        if has_head(lens.model):
            raise UsageError(f"{lens.anatomy.model} predicts something; measure how far its prediction moves instead.")
        if self.position is not None:
            positions, where = read_position(lens, batch, self.position)
        else:
            text = batch.texts[0]
            ordinary = [] if text is None else [i for i, token in enumerate(text.tokens) if not token.special]
            positions, where = tuple(ordinary), ", mean over the text" if ordinary else ""

        def read(rows: Tensor, plain: Tensor) -> Tensor:
            return (1 - cosine(rows, plain)).mean(-1)

        return Readout(f"turn (1 - cosine) of the last state{where}", "", False, positions, read)


def read_position(lens: Lens, batch: Batch, position: int | None) -> tuple[tuple[int, ...], str]:
    """Where the output is read, and the same in words.

    Raises:
        UsageError: outside the text, or it cannot be told which position is meant.
    """
    text = batch.texts[0]
    if text is None:
        return (), ""
    tokens, anatomy = text.tokens, lens.anatomy
    if position is None:
        mask = getattr(lens.tokenizer, "mask_token_id", None)
        masked = [i for i, token in enumerate(tokens) if mask is not None and token.id == mask]
        if len(masked) == 1:
            position = masked[0]
        elif anatomy.stack(anatomy.main_stack).causal:
            position = len(tokens) - 1
        else:
            raise UsageError(
                f"{anatomy.model} fills in masked words; write {lens.tokenizer.mask_token} once in the text, or say "
                "which position is read."
            )
    if not -len(tokens) <= position < len(tokens):
        raise UsageError(f"position {position} is outside the {len(tokens)} tokens of the text.")
    position %= len(tokens)
    return (position,), f" at {tokens[position].label!r}"


def _token(lens: Lens, target: str | int) -> int:
    if isinstance(target, str) and lens.tokenizer is None:
        raise UsageError(f"{lens.anatomy.model} has no tokenizer to read {target!r} with; give a number.")
    return single_token(lens.tokenizer, target) if isinstance(target, str) else int(target)


def _shown(lens: Lens, token: int) -> str:
    return shown_token(lens.tokenizer, token)
