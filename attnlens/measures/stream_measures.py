"""The measures of the residual stream and of logits, as they are registered."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.errors import CaptureError
from attnlens.measures import stream
from attnlens.measures.logits import LensReading, read_lens
from attnlens.measures.opened import Compute, opened_of, refusing
from attnlens.measures.registry import STACK, Measure, MeasureInput, Needs, Option

__all__ = [
    "ATTENTION_UPDATE_COSINE",
    "ATTENTION_WRITE_NORM",
    "HEAD_LOGIT_EFFECTS",
    "LAYER_COSINE",
    "LOGIT_ATTRIBUTION",
    "LOGIT_LENS_AGREEMENT",
    "LOGIT_LENS_DIVERGENCE",
    "LOGIT_LENS_PROBABILITY",
    "LOGIT_LENS_RANK",
    "MLP_LOGIT_ATTRIBUTION",
    "MLP_UPDATE_COSINE",
    "MLP_WRITE_NORM",
    "STREAM_NORM",
]

_DIRECT_POINTS = ("embed", "z", "mlp_out", "resid_post", "final")
_NOSTALGEBRAIST = "nostalgebraist 2020, interpreting GPT: the logit lens"
_ELHAGE = "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits"
_DIRECT = f"{_ELHAGE}; Wang et al. 2022, arXiv:2211.00593, section 3.1"
_TARGETS = (
    Option("target", None, "the token whose logit is explained; the model's first choice where nothing is said"),
    Option("against", None, "a token whose logit is taken away from it"),
    Option("position", None, "token whose output is read; the masked one where there is one, else the last"),
)


def _measure(name: str, title: str, description: str, compute: Compute, **more: Any) -> Measure:
    """A measure by layer and position unless `more` says otherwise."""
    shared: dict[str, Any] = {"low": 0.0, "high": None, "axes": ("layer", "position")}
    return Measure(
        name=name, title=title, description=description, compute=refusing(name, compute), **shared | more
    )  # fmt: skip


def _point(given: MeasureInput, point: str) -> Float[Tensor, "layer position d_model"]:
    if given.stack == "X":
        raise CaptureError("cross-attention has no stream of its own; name E or D")
    return given.run.residual(point, stack=given.stack or None)


def _norms_of(point: str) -> Compute:
    return lambda given: stream.norms(_point(given, point))


def _cosines_of(point: str, other: str) -> Compute:
    return lambda given: stream.cosine(_point(given, point), _point(given, other))


def _mlp_update_cosine(given: MeasureInput) -> Float[Tensor, "layer position"]:
    return stream.cosine(_point(given, "mlp_out"), _point(given, "resid_post"))


def _reading(given: MeasureInput) -> LensReading:
    from attnlens.models.reruns import batch_of_run, read_states

    opened, run = opened_of(given), given.run
    assert run.logits is not None
    return read_lens(read_states(opened, batch_of_run(opened, run), run.residual("resid_post")), run.logits)


def _attribution(given: MeasureInput) -> Any:
    from attnlens.models.direct import attribute_directly
    from attnlens.models.targets import choose_target

    assert given.lens is not None
    target = choose_target(given.run, given.lens.tokenizer, given.options)
    return attribute_directly(opened_of(given), given.run, target)


def _logit_attribution(given: MeasureInput) -> Float[Tensor, "layer head"]:
    found = _attribution(given)
    if given.stack == "E":
        raise CaptureError("heads of the encoder write into another stream than the one that is read")
    heads: Tensor = found.cross_heads if given.stack == "X" else found.heads
    return heads


def _mlp_logit_attribution(given: MeasureInput) -> Float[Tensor, " layer"]:
    mlp: Tensor = _attribution(given).mlp
    return mlp


def _head_logit_effects(given: MeasureInput) -> Float[Tensor, "*layers_heads vocab"]:
    from attnlens.models.direct import head_effects
    from attnlens.models.targets import choose_target

    assert given.lens is not None
    if given.stack not in ("", "D"):
        raise CaptureError("only heads of the stream that is read have such effects")
    opened, position = opened_of(given), choose_target(given.run, given.lens.tokenizer, given.options).position
    if given.head is not None:
        return head_effects(opened, given.run, given.head.layer, given.head.head, position)
    stack = given.run.anatomy.stack(given.stack)
    rows = [
        torch.stack([head_effects(opened, given.run, layer, head, position) for head in range(stack.n_heads)])
        for layer in stack.attention_layers
    ]
    values = torch.full((stack.n_layers, *rows[0].shape), torch.nan)
    values[list(stack.attention_layers)] = torch.stack(rows)
    return values


STREAM_NORM = _measure(
    "stream-norm",
    "length of the stream",
    "Length of the stream's vectors after each layer.",
    _norms_of("resid_post"),
    needs=Needs(points=("resid_post",)),
    options=(STACK,),
    unit="stream",
    more="the vector is longer",
    source="attnlens",
)
ATTENTION_WRITE_NORM = _measure(
    "attention-write-norm",
    "length of what attention writes",
    "Length of what attention adds to the stream in each layer.",
    _norms_of("attn_out"),
    needs=Needs(points=("attn_out",)),
    options=(STACK,),
    unit="stream",
    more="attention writes more",
    source="attnlens",
    instead="stream-norm",
)
MLP_WRITE_NORM = _measure(
    "mlp-write-norm",
    "length of what the MLP writes",
    "Length of what the feed-forward network adds to the stream in each layer.",
    _norms_of("mlp_out"),
    needs=Needs(points=("mlp_out",)),
    options=(STACK,),
    unit="stream",
    more="the network writes more",
    source="attnlens",
    instead="stream-norm",
)
LAYER_COSINE = _measure(
    "layer-cosine",
    "turn by a layer",
    "Cosine between the stream before and after each layer.",
    _cosines_of("resid_pre", "resid_post"),
    needs=Needs(points=("resid_pre", "resid_post")),
    options=(STACK,),
    low=-1.0,
    high=1.0,
    more="the layer changes the direction less",
    source="Ethayarajh 2019, arXiv:1909.00512, section 3, between layers",
)
ATTENTION_UPDATE_COSINE = _measure(
    "attention-update-cosine",
    "attention along the stream",
    "Cosine between what attention writes and the stream that it is added to.",
    _cosines_of("attn_out", "resid_pre"),
    needs=Needs(points=("attn_out", "resid_pre")),
    options=(STACK,),
    low=-1.0,
    high=1.0,
    more="attention strengthens what is there; below 0 it takes away",
    source="attnlens",
    instead="layer-cosine",
)
MLP_UPDATE_COSINE = _measure(
    "mlp-update-cosine",
    "MLP along the stream",
    "Cosine between what the feed-forward network writes and the stream after the layer.",
    _mlp_update_cosine,
    needs=Needs(points=("mlp_out", "resid_post")),
    options=(STACK,),
    low=-1.0,
    high=1.0,
    more="the stream is made of what the network wrote; below 0 it works against it",
    source="attnlens",
    instead="layer-cosine",
)
_LENS = {"needs": Needs(points=("resid_post",), logits=True, model=True), "source": _NOSTALGEBRAIST}
LOGIT_LENS_AGREEMENT = _measure(
    "logit-lens-agreement",
    "logit lens: same first choice",
    "1 where the prediction read off a layer's stream is the final one, else 0.",
    lambda given: _reading(given).agrees,
    high=1.0,
    more="the layer already says what the model says",
    instead="layer-cosine",
    **_LENS,
)
LOGIT_LENS_PROBABILITY = _measure(
    "logit-lens-probability",
    "logit lens: probability of the final choice",
    "Probability that a layer's stream gives to the final first choice.",
    lambda given: _reading(given).probability,
    high=1.0,
    more="the layer is surer of what the model says",
    instead="layer-cosine",
    **_LENS,
)
LOGIT_LENS_DIVERGENCE = _measure(
    "logit-lens-divergence",
    "logit lens: distance to the final prediction",
    "Kullback-Leibler divergence of the prediction read off a layer's stream from the final one.",
    lambda given: _reading(given).divergence,
    unit="nats",
    more="the layer is further from what the model says",
    instead="layer-cosine",
    **_LENS,
)
LOGIT_LENS_RANK = _measure(
    "logit-lens-rank",
    "logit lens: rank of the final choice",
    "How many tokens a layer's stream puts before the final first choice.",
    lambda given: _reading(given).rank.double(),
    unit="tokens",
    more="the layer is further from what the model says",
    instead="layer-cosine",
    **_LENS,
)
_DIRECTLY: dict[str, Any] = {
    "needs": Needs(points=_DIRECT_POINTS, logits=True, model=True),
    "unit": "logits",
    "low": float("-inf"),
    "source": _DIRECT,
    "instead": "value-zeroing",
}
LOGIT_ATTRIBUTION = _measure(
    "logit-attribution",
    "direct logit attribution",
    "What each head's output adds directly to a logit, or to a difference of two.",
    _logit_attribution,
    axes=("layer", "head"),
    options=(STACK, *_TARGETS),
    more="the head speaks more for the target; below 0 against it",
    aliases=("dla", "direct-logit-attribution"),
    **_DIRECTLY,
)
MLP_LOGIT_ATTRIBUTION = _measure(
    "mlp-logit-attribution",
    "direct logit attribution of MLPs",
    "What each feed-forward network adds directly to a logit, or to a difference of two.",
    _mlp_logit_attribution,
    axes=("layer",),
    options=_TARGETS,
    more="the network speaks more for the target; below 0 against it",
    **_DIRECTLY,
)
HEAD_LOGIT_EFFECTS = _measure(
    "head-logit-effects",
    "tokens promoted and suppressed",
    "What a head's output at a position adds directly to the logit of every token of the vocabulary.",
    _head_logit_effects,
    axes=("layer", "head", "vocab"),
    options=(STACK, _TARGETS[2]),
    more="the token is promoted; below 0 suppressed",
    **_DIRECTLY,
)
