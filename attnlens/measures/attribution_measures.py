"""The measures of attribution, as they are registered."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from attnlens.measures.opened import Compute, refusing
from attnlens.measures.registry import STACK, Measure, MeasureInput, Needs, Option

__all__ = ["HEAD_ATTRIBUTION", "INTEGRATED_GRADIENTS", "LAYER_CONDUCTANCE"]

_TARGETS = (
    Option("target", None, "the token whose logit is explained; the model's first choice where nothing is said"),
    Option("against", None, "a token whose logit is taken away from it"),
    Option("position", None, "token whose output is read; the masked one where there is one, else the last"),
)
_BASELINE = Option("baseline", None, "token in place of every token, or zero; mask, padding or the like if not given")
_STEPS = Option("steps", None, "points of the integral; as many as it needs where nothing is said")
_METHOD = Option("method", "gradients", "gradients, ablation (one head at a time) or shapley")


def _measure(name: str, title: str, description: str, compute: Compute, **more: Any) -> Measure:
    shared: dict[str, Any] = {
        "low": float("-inf"),
        "high": None,
        "unit": "logits",
        "needs": Needs(logits=True, model=True),
        "instead": "relevance",
    }
    return Measure(name=name, title=title, description=description, compute=refusing(name, compute), **shared | more)


def _asked(given: MeasureInput, *names: str) -> dict[str, Any]:
    chosen = ("target", "against", "position", "steps", *names)
    return {name: given.options[name] for name in chosen} | {"stack": given.stack or None}


def _integrated_gradients(given: MeasureInput) -> Float[Tensor, " token"]:
    assert given.lens is not None
    return given.lens.attribute_tokens(given.run, **_asked(given, "baseline")).values


def _layer_conductance(given: MeasureInput) -> Float[Tensor, "layer token"]:
    assert given.lens is not None
    return given.lens.attribute_layers(given.run, **_asked(given, "baseline")).values


def _head_attribution(given: MeasureInput) -> Float[Tensor, "layer head"]:
    assert given.lens is not None
    return given.lens.attribute_heads(given.run, **_asked(given, "method")).values


INTEGRATED_GRADIENTS = _measure(
    "integrated-gradients",
    "integrated gradients on tokens",
    "What each input token adds to a logit, or to a difference of two, on the way from a baseline text.",
    _integrated_gradients,
    axes=("token",),
    options=(STACK, *_TARGETS, _BASELINE, _STEPS),
    more="the token speaks more for the target; below 0 against it",
    source="Sundararajan et al. 2017, arXiv:1703.01365, section 3",
    aliases=("ig",),
)
LAYER_CONDUCTANCE = _measure(
    "layer-conductance",
    "conductance of positions by layer",
    "At which positions a logit's difference to a baseline text flows through the stream after each layer.",
    _layer_conductance,
    axes=("layer", "token"),
    options=(STACK, *_TARGETS, _BASELINE, _STEPS),
    more="more of the difference flows through there; below 0 it works against the target",
    source="Dhamdhere et al. 2019, arXiv:1805.12233, section 2",
)
HEAD_ATTRIBUTION = _measure(
    "head-attribution",
    "attribution to heads",
    "What each head adds to a logit, directly and through later layers, by gates on the heads.",
    _head_attribution,
    axes=("layer", "head"),
    options=(STACK, *_TARGETS, _METHOD, _STEPS),
    more="the head speaks more for the target; below 0 against it",
    source="Sundararajan et al. 2017, arXiv:1703.01365, section 3, with gates on heads",
    instead="logit-attribution",
)
