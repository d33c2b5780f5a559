"""The measures of circuits, as they are registered: copying, composition, and heads that look for repeated tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from attnlens.errors import CaptureError, UsageError
from attnlens.measures import circuits, induction
from attnlens.measures.opened import Compute, opened_of, refusing
from attnlens.measures.registry import STACK, Measure, MeasureInput, Needs, Option
from attnlens.measures.rows import HeadRows, OverHeads

__all__ = [
    "COPYING",
    "DUPLICATE_TOKEN",
    "INDUCTION",
    "KEY_COMPOSITION",
    "PREVIOUS_TOKEN",
    "QUERY_COMPOSITION",
    "VALUE_COMPOSITION",
]

_ELHAGE = "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits"
_OLSSON = "Olsson et al. 2022, arXiv:2209.11895"
_SCORES = ("mean", "mul", "abs")
_TEXTS = ("text", "random")
_REPEATED = (
    STACK,
    Option("on", "text", "text: the text given; random: random tokens that repeat, drawn for the model"),
    Option("score", "mean", "mean over queries with a target; mul or abs: TransformerLens' head detector"),
    Option("length", 25, "random: tokens until the first repetition"),
    Option("repeats", 4, "random: how often they stand there"),
    Option("sequences", 10, "random: how many texts"),
    Option("seed", 0, "random: seed of the drawing"),
)


def _copying(given: MeasureInput) -> Float64[Tensor, "layer head"]:
    from attnlens.models.circuits import circuits_of, known, token_embedding, token_unembedding

    opened, stack = opened_of(given), given.run.anatomy.stack(given.stack)
    if given.stack != given.run.anatomy.main_stack:
        raise CaptureError("only self-attention of the stack that is read out goes from tokens to logits")
    embedding, read = token_embedding(opened), token_unembedding(opened, given.run)
    values = torch.full((stack.n_layers, stack.n_heads), torch.nan, dtype=torch.float64)
    for layer, one in circuits_of(opened, given.stack).items():
        ov = known(one.ov, one.ov_absent)
        values[layer] = circuits.copying_score(circuits.token_eigenvalues(ov, embedding, read))
    return values


def _composition(how: Any) -> Compute:
    def compute(given: MeasureInput) -> Float64[Tensor, "layer head from_layer from_head"]:
        from attnlens.models.circuits import compositions

        return compositions(opened_of(given), how, given.stack)

    return compute


def _repeated(rule: str) -> Compute:
    """How much attention follows a rule of repetition, on the text given or on random tokens."""

    def of(rows: HeadRows) -> Float64[Tensor, " head"]:
        tokens = torch.tensor([token.id for token in rows.query_tokens])
        targets, score = induction.RULES[rule](tokens), rows.given.options["score"]
        if score == "mean":
            return induction.target_mass(rows.weights, targets, rows.keep)
        found: Tensor = getattr(induction.detector_scores(rows.weights, targets), score)
        return found

    def compute(given: MeasureInput) -> Float64[Tensor, ...]:
        for name, allowed in (("score", _SCORES), ("on", _TEXTS)):
            if given.options[name] not in allowed:
                raise UsageError(f"{name}={given.options[name]!r} does not exist; expected {' or '.join(allowed)}.")
        if given.options["on"] == "text":
            return OverHeads(of)(given)
        runs = _random_runs(given)
        return torch.stack([OverHeads(of)(replace(given, run=run)) for run in runs]).mean(0)

    return compute


def _random_runs(given: MeasureInput) -> Any:
    """Runs of random tokens that repeat, by the model that is open."""
    lens = given.lens
    if lens is None:
        raise CaptureError("random tokens need the model, and there is only a run; open the model too")
    if not lens.anatomy.vocab_size or lens.anatomy.is_encoder_decoder:
        raise CaptureError("random tokens are for models of one stack that read tokens; take on='text'")
    ids = _random_tokens(given)
    return lens.captures(inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def _random_tokens(given: MeasureInput) -> Int64[Tensor, "sequence position"]:
    assert given.lens is not None
    tokenizer, options = given.lens.tokenizer, given.options
    special = set() if tokenizer is None else set(tokenizer.all_special_ids)
    size = given.lens.anatomy.vocab_size if tokenizer is None else min(len(tokenizer), given.lens.anatomy.vocab_size)
    vocabulary = [token for token in range(size) if token not in special]
    start = None if tokenizer is None else tokenizer.bos_token_id
    sizes = {name: options[name] for name in ("length", "repeats", "sequences", "seed")}
    try:
        return induction.repeated_tokens(vocabulary, **sizes, start=start)
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def _repetition(name: str, title: str, description: str, rule: str, **more: Any) -> Measure:
    return Measure(
        name=name,
        title=title,
        description=description,
        low=float("-inf"),
        high=1.0,
        axes=("layer", "head"),
        needs=Needs(one_text=True),
        options=_REPEATED,
        compute=refusing(name, _repeated(rule)),
        **more,
    )


INDUCTION = _repetition(
    "induction",
    "induction",
    "Weight on the tokens that followed earlier copies of the query's token; 0 to 1 (score=abs: at most 1).",
    "induction",
    more="the head looks at what came next the last time",
    source=f"{_OLSSON}, prefix matching",
    aliases=("induction_head", "induction_score", "prefix-matching"),
)
DUPLICATE_TOKEN = _repetition(
    "duplicate-token",
    "duplicate token",
    "Weight on earlier copies of the query's token; 0 to 1 (score=abs: at most 1).",
    "duplicate",
    more="the head looks at the same token further up",
    source="Wang et al. 2022, arXiv:2211.00593, section 3.1",
    aliases=("duplicate_token_head",),
)
PREVIOUS_TOKEN = _repetition(
    "previous-token",
    "previous token",
    "Weight on the token before, also on random tokens; 0 to 1 (score=abs: at most 1).",
    "previous",
    more="the head looks at the token before, whatever it is",
    source=_OLSSON,
    aliases=("previous_token_head",),
)
COPYING = Measure(
    name="copying",
    title="copying",
    description="Whether OV, from token embeddings to logits, raises the tokens that are attended to (eigenvalues).",
    low=-1.0,
    high=1.0,
    more="the head copies; below 0 it lowers what it attends to",
    source=f"{_ELHAGE}, Detecting Copying Behavior; norms' weights folded in",
    axes=("layer", "head"),
    needs=Needs(points=("resid_post", "final"), logits=True, model=True, one_text=True),
    options=(STACK,),
    aliases=("copying-score", "ov-copying"),
    compute=refusing("copying", _copying),
    instead="logit-attribution",
)
_PAIRS = ("layer", "head", "from_layer", "from_head")


def _composing(how: str, what: str) -> Measure:
    name = f"{how}-composition"
    return Measure(
        name=name,
        title=f"{what}-composition",
        description=f"How far a head's {how} reads the directions that each earlier head writes, by weights alone.",
        low=0.0,
        high=1.0,
        more="the head builds more on the earlier one; chance is about 1 / sqrt(d_model)",
        source=f"{_ELHAGE}; weight of the norm in front folded in, chance not taken away",
        axes=_PAIRS,
        needs=Needs(model=True),
        options=(STACK,),
        aliases=(f"{what}-composition",),
        compute=refusing(name, _composition(how)),
    )


QUERY_COMPOSITION = _composing("query", "Q")
KEY_COMPOSITION = _composing("key", "K")
VALUE_COMPOSITION = _composing("value", "V")
