"""Whether heads copy what they attend to (measure I5), by what they write and by their weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.measures.circuits import FactoredMatrix, copying_score, token_eigenvalues
from attnlens.measures.induction import duplicate_targets
from attnlens.models.circuits import circuits_of, known, token_embedding, token_unembedding
from attnlens.models.readouts import final_norm, unembedding
from probes.induction.keys import COPYING, OV_COPYING, OWN_TOKEN
from probes.inspecting import Inspected
from probes.texts import Stimulus

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["copying", "inspect", "own_token_on_top"]

TOP = 5
TOKENS = 200  # whose own logit is looked at


def inspect(lens: Lens, stimuli: Sequence[Stimulus]) -> Iterator[Inspected]:
    """Copying on every text, and the two scores of weights once per half; nothing where logits are not linear."""
    for number, (stimulus, run) in enumerate(zip(stimuli, _runs(lens, stimuli), strict=True)):
        ids = torch.tensor(stimulus.ids)
        ordinary = torch.ones(len(ids), dtype=torch.bool)
        ordinary[list(stimulus.special)] = False
        asked = duplicate_targets(ids).any(-1) & ordinary
        sample, place = torch.unique(ids, return_inverse=True)
        distinct = torch.isin(sample, ids[ordinary])
        try:
            scores = [
                copying(run.attention(layer)[:, asked], raised[:, asked], place, ordinary, distinct).sum(-1)
                for layer, raised in enumerate(_raised(lens, run, sample))
            ]
        except (CaptureError, UnsupportedModelError):
            return
        yield Inspected(COPYING, number, int(asked.sum()), torch.cat(scores))
        if number == 0:
            yield from _by_weights(lens, run, stimuli)


def copying(
    attention: Float[Tensor, "head query key"],
    raised: Float[Tensor, "head query sample"],
    place: Int64[Tensor, " key"],
    ordinary: Bool[Tensor, " key"],
    distinct: Bool[Tensor, " sample"],
) -> Float64[Tensor, "head query"]:
    """Whether a head raises the token that it attends to most above the other tokens of the text; -1 to 1.

    `(own - others) / (own + others)` of what the head itself adds to their logits, above the mean over the vocabulary
    and cut off at 0; `others` is the mean over the other distinct tokens of the text. 1: only the attended token is
    raised; 0: like any other; -1: it is not raised. 0 where the head raises none of them.

    Source: Olsson et al. 2022 (arXiv:2209.11895), copying by head activations; that 0 stands for "like any other token"
    is our choice of scale.

    Args:
        attention: weights.
        raised: what each head adds to the logits of the text's distinct tokens, less its mean over the vocabulary.
        place: index of each key's token among these.
        ordinary: keys that are not special.
        distinct: tokens that stand for an ordinary key.
    """
    above = raised.clamp_min(0).double() * distinct
    strongest = attention.masked_fill(~ordinary, -1.0).argmax(-1)
    own = above.gather(-1, place[strongest][..., None])[..., 0]
    others = (above.sum(-1) - own) / max(int(distinct.sum()) - 1, 1)
    total = own + others
    return torch.where(total > 0, (own - others) / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def own_token_on_top(
    circuit: FactoredMatrix,
    embedding: Float[Tensor, "token d_model"],
    read: Float[Tensor, "vocab d_model"],
    ids: Int64[Tensor, " token"],
) -> Float64[Tensor, " head"]:
    """Share of tokens whose own logit is among the five highest of what a head writes when it sees only them.

    Source: Wang et al. 2022 (arXiv:2211.00593), copy score of name movers; here of any token, from its embedding.

    Args:
        circuit: OV of the heads.
        embedding: of the tokens.
        read: the unembedding.
        ids: the tokens.
    """
    found = []
    for head in range(len(circuit.left)):  # a head's logits at a time: tokens x vocabulary is large enough
        top = (circuit[head].apply(embedding) @ read.T).topk(min(TOP, len(read)), dim=-1).indices
        found.append((top == ids[:, None]).any(-1).double().mean())
    return torch.stack(found)


def _runs(lens: Lens, stimuli: Sequence[Stimulus]) -> Iterator[Capture]:
    for stimulus in stimuli:
        ids = torch.tensor([stimulus.ids])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        yield from lens.captures(inputs=given, points=("write", "resid_post", "final"), logits=True)


def _raised(lens: Lens, run: Capture, sample: Int64[Tensor, " sample"]) -> Iterator[Float[Tensor, "head query sample"]]:
    """Per layer, what each head adds to some logits, less its mean over all, the final norm's scale held fixed.

    Raises:
        CaptureError: the model has no prediction head, or none that is a linear map.
    """
    opened, letter = lens.opened, lens.anatomy.main_stack
    weight = unembedding(opened, run).weight.float().cpu()
    centred = weight[sample] - weight.mean(0)
    norm = None if opened.wirings[letter].final_norm is None else final_norm(opened, run)
    for layer in range(lens.anatomy.n_layers):
        written = run.residual("write", layer).float()
        yield (written if norm is None else norm.linear(written)) @ centred.T


def _by_weights(lens: Lens, run: Capture, stimuli: Sequence[Stimulus]) -> Iterator[Inspected]:
    """The same for both halves, since weights know nothing of texts; nothing where they are not plain matrices."""
    opened = lens.opened
    try:
        embedding, read = token_embedding(opened), token_unembedding(opened, run)
        circuits = [known(one.ov, one.ov_absent) for _, one in sorted(circuits_of(opened).items())]
    except CaptureError:
        return
    every = FactoredMatrix(torch.cat([ov.left for ov in circuits]), torch.cat([ov.right for ov in circuits]))
    ids = torch.tensor(sorted({token for each in stimuli for token in each.ids[len(each.special) :]})[:TOKENS])
    scores = {
        OV_COPYING: copying_score(token_eigenvalues(every, embedding, read)).nan_to_num(0),
        OWN_TOKEN: own_token_on_top(every, embedding[ids], read, ids),
    }
    for key, values in scores.items():
        yield from (Inspected(key, number, 1, values) for number in (0, 1))
