"""The logit lens of a run: what the model would say at each position if it stopped after each layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError
from attnlens.measures.logits import early_choices
from attnlens.models.opening import Opened
from attnlens.models.reruns import batch_of_run, read_states
from attnlens.models.running import has_head
from attnlens.models.targets import token_spelling

__all__ = ["LogitLens", "read_logit_lens"]

# Numbers that the logits of the layers read at a time may take together; a layer of a large vocabulary has 25 million.
_AT_ONCE = 2**25


@dataclass(frozen=True, eq=False)
class LogitLens:
    """The likeliest tokens after each layer, likeliest first.

    Attributes:
        ids: their numbers in the vocabulary.
        probability: of each, 0 to 1.
        spelled: number -> printable spelling, of every token in `ids`.
    """

    ids: Int[Tensor, "layer position top"]
    probability: Float64[Tensor, "layer position top"]
    spelled: dict[int, str]


def read_logit_lens(
    opened: Opened, tokenizer: PreTrainedTokenizerBase | None, run: Capture, count: int = 5
) -> LogitLens:
    """Send the stream after each layer through the final norm and the prediction head.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".

    Args:
        opened: the model that made `run`.
        tokenizer: its tokenizer; without it tokens are spelled by their numbers.
        run: with the point `resid_post`.
        count: tokens per layer and position.

    Raises:
        CaptureError: the model has no language-model head, or one that cannot be given other states.
    """
    if not has_head(opened.tap.model):
        raise CaptureError(f"{opened.anatomy.model} has no language-model head, so its layers predict no tokens")
    states, batch = run.residual("resid_post"), batch_of_run(opened, run)
    step = max(1, _AT_ONCE // (states.shape[1] * opened.anatomy.vocab_size))
    found = [early_choices(read_states(opened, batch, part), count) for part in torch.split(states, step)]
    ids = torch.cat([part.ids for part in found])
    spelled = {token: token_spelling(tokenizer, token) for token in set(ids.flatten().tolist())}
    return LogitLens(ids, torch.cat([part.probability for part in found]), spelled)
