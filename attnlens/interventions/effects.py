"""What an intervention does to one text: a metric before and after, for one intervention or one per row of a batch."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError
from attnlens.interventions.blocks import Edit
from attnlens.interventions.metrics import Metric, Readout
from attnlens.models.encode import Text
from attnlens.models.inputs import Batch
from attnlens.models.made_up import without_cache
from attnlens.models.running import has_head

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["Effect", "Trial", "effect"]


@dataclass(frozen=True)
class Effect:
    """A metric without and with an intervention.

    Attributes:
        intervention: what was done.
        metric, unit: what was measured.
        before, after: its values.
    """

    intervention: str
    metric: str
    unit: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        return asdict(self) | {"change": self.change}

    def __str__(self) -> str:
        return f"{self.intervention}: {self.metric} {self.before:.4g} -> {self.after:.4g} {self.unit}"


def effect(lens: Lens, text: Text, edit: Edit, metric: Metric) -> Effect:
    """What `edit` does to `metric` on a text; "before" has whatever interventions hold around the call.

    Args:
        lens: the model.
        text: the text; a pair (source, target) for an encoder-decoder.
        edit: the intervention.
        metric: what is measured.

    Raises:
        CaptureError: the model has no head that predicts something.
        UsageError: the metric means nothing for this model or text.
    """
    trial = Trial.of(lens, text, metric)
    after = float(trial.rows(edit, 1)[0])
    return Effect(edit.label, trial.readout.name, trial.readout.unit, trial.before, after)


@dataclass(frozen=True, eq=False)
class Trial:
    """One text, one metric and the unchanged prediction.

    Attributes:
        lens: the model.
        batch: the text, as one row.
        readout: the metric.
        plain: the unchanged logits at the readout's positions, `[kept vocab]`.
        before: the metric's unchanged value.
    """

    lens: Lens
    batch: Batch
    readout: Readout
    plain: Float[Tensor, "kept vocab"]
    before: float

    @classmethod
    def of(cls, lens: Lens, text: Text | Capture, metric: Metric, *, inputs: Any = None) -> Trial:
        """Run the text once as it is.

        Raises:
            CaptureError: the model has no head that predicts something.
            As `Lens.capture` of a text.
        """
        if not has_head(lens.model) and not metric.of_states:
            raise CaptureError(
                f"{lens.anatomy.architecture} has no head that predicts something, so an intervention has no effect to "
                "measure; open a class ...ForMaskedLM, ...ForCausalLM or ...LMHeadModel, or take the metric Turn."
            )
        batch = one_text(lens, text) if inputs is None else lens.reader.tensors(inputs)
        readout = metric.readout(lens, batch)
        plain = logits_at(lens, batch, readout.positions)
        before = float(readout.read(plain, plain[0])[0])
        return cls(lens, batch, readout, plain[0], before)

    def rows(self, edit: Edit | None, n_rows: int) -> Float[Tensor, " row"]:
        """The metric in each of `n_rows` copies of the text, run as one batch under `edit`; float64 on the CPU."""
        logits = logits_at(self.lens, repeated(self.batch, n_rows), self.readout.positions, edit)
        return self.readout.read(logits, self.plain).double().cpu()


def one_text(lens: Lens, text: Text | Capture) -> Batch:
    """The batch of one text; a run stands for its text."""
    given: Any = text
    if isinstance(text, Capture):
        given = text.text if text.source is None else (text.source.text, text.text)
    return lens.reader.batch([lens.reader.item(given, None, None, None, None)])


def repeated(batch: Batch, n_rows: int) -> Batch:
    """`n_rows` copies of the one text of a batch."""
    if n_rows == 1:
        return batch
    copies = {
        name: value.expand(n_rows, *value.shape[1:]) if isinstance(value, Tensor) and value.ndim > 1 else value
        for name, value in batch.arguments.items()
    }
    return Batch(copies, batch.extents, batch.texts * n_rows, batch.sources * n_rows)


@torch.no_grad()
def logits_at(
    lens: Lens, batch: Batch, positions: tuple[int, ...], edit: Edit | None = None
) -> Float[Tensor, "row kept vocab"]:
    """Logits of a batch at some positions; only these are computed, where the model can do so.

    Of a model without a head, its last states.
    """
    model: Any = lens.model
    options: dict[str, Any] = without_cache(model)
    chosen = torch.tensor(positions, dtype=torch.long)
    keeps = bool(positions) and "logits_to_keep" in inspect.signature(model.forward).parameters
    if keeps:
        options["logits_to_keep"] = chosen.to(next(model.parameters()).device)
    with nullcontext() if edit is None else lens.intervene(edit):
        output = batch.call(model, **options)
    named = next((name for name in ("logits", "last_hidden_state") if hasattr(output, name)), None)
    logits: Tensor = output if named is None else getattr(output, named)
    if logits.ndim == 2:
        return logits[:, None]
    return logits if keeps or not positions else logits[:, chosen.to(logits.device)]
