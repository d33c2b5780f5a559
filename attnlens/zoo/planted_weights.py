"""Planted heads as weights of BERT, GPT-2 and LLaMA; every parameter that is not set here is zero.

BERT and GPT-2 hold the stream twice, once negated, so that its mean is 0 and its variance known: with the right gain
a layer norm then changes nothing. LLaMA's root-mean-square norm needs no second copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from attnlens.errors import UsageError
from attnlens.zoo.planted_heads import PlantedHead
from attnlens.zoo.planted_stream import BLOCK_SIZE, BLOCKS, WIDTH, block, token_vectors, unit
from attnlens.zoo.planted_terms import Fixed, Match, Offset, Sink, Term, Write, rows_of
from attnlens.zoo.planted_words import CLASSES, Words

__all__ = ["HEADS_PER_LAYER", "LONGEST", "Plan", "build_model"]

HEADS_PER_LAYER = len(BLOCKS)
LONGEST = BLOCK_SIZE
_D_HEAD = 2 * BLOCK_SIZE
_MIRRORED = 2 * WIDTH

# Rotary positions: the pairs of coordinates (f, f + 64) turn by theta^(-f/64) radians per token. The last 32 hardly
# turn over 64 tokens and carry content; the first eight tell distances; some in between carry scores for all queries.
_THETA = 1e8
_SLOW = (*range(32, 64), *range(96, 128))
_CONSTANT = tuple(range(31, 23, -1))
_FAST = 8

Array = Float64[np.ndarray, "..."]


@dataclass(frozen=True)
class Plan:
    """What a planted model is made of.

    Attributes:
        family: "bert", "gpt2" or "llama".
        layers: six heads per layer.
        words: the vocabulary.
        classed: tokens carry their class in FEAT.
        annotations: gold annotation as token types: per type, the axes (block, index) that it sets.
        readout: rows of the vocabulary's output in the coordinates of the stream.
    """

    family: str
    layers: tuple[tuple[PlantedHead, ...], ...]
    words: Words
    classed: bool
    annotations: tuple[tuple[tuple[str, int], ...], ...]
    readout: Float64[np.ndarray, "token stream"]

    def embeddings(self) -> Float64[np.ndarray, "token stream"]:
        """What each token puts into the stream."""
        table = np.zeros((len(self.words), WIDTH))
        table[:, block("TOK")] = token_vectors(self.words.rarity)
        if self.classed:
            table[np.arange(len(table)), block("FEAT").start + np.array(self.words.classes)] = 1
        return table

    def types(self) -> Float64[np.ndarray, "type stream"]:
        """What each token type puts into the stream."""
        table = np.zeros((len(self.annotations), WIDTH))
        for row, axes in zip(table, self.annotations, strict=True):
            for name, index in axes:
                row[block(name).start + index] += 1
        return table

    def energies(self) -> list[float]:
        """Squared length of the stream after the embeddings and after each layer's heads."""
        start = 1.0 + self.classed + (self.family != "llama")
        if self.annotations:
            start += len(self.annotations[0])
        found = [start]
        for heads in self.layers:
            found.append(found[-1] + sum(head.write.scale**2 for head in heads if head.write is not None))
        return found


def build_model(plan: Plan) -> Any:
    """The model, in evaluation mode, in float32.

    Raises:
        UsageError: a head that this family's positions cannot make, or that takes more than 128 rows.
    """
    made = _BUILDERS[plan.family](plan)
    return made.eval()


def _bert(plan: Plan) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=len(plan.words), hidden_size=_MIRRORED, num_hidden_layers=len(plan.layers),
        num_attention_heads=HEADS_PER_LAYER, intermediate_size=8, max_position_embeddings=LONGEST,
        type_vocab_size=len(plan.annotations), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-12, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model: Any = BertForMaskedLM(config)
    _zero(model)
    energies = plan.energies()
    tables = model.bert.embeddings
    _put(tables.word_embeddings.weight, _mirrored(plan.embeddings()))
    _put(tables.position_embeddings.weight, _mirrored(_places()))
    _put(tables.token_type_embeddings.weight, _mirrored(plan.types()))
    tables.LayerNorm.weight.data.fill_(_gain(energies[0], config.layer_norm_eps))
    for layer, heads, energy in zip(model.bert.encoder.layer, plan.layers, energies[1:], strict=True):
        for index, head in enumerate(heads):
            parts = _parts(plan, head)
            at = slice(index * _D_HEAD, (index + 1) * _D_HEAD)
            own = layer.attention.self
            _put(own.query.weight[at], parts.query)
            _put(own.query.bias[at], parts.bias)
            _put(own.key.weight[at], parts.key)
            _put(own.value.weight[at], parts.value)
            _put(layer.attention.output.dense.weight[:, at], parts.output)
        for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.data.fill_(_gain(energy, config.layer_norm_eps))
    _read_bert(model, plan)
    return model


def _read_bert(model: Any, plan: Plan) -> None:
    """The masked-word head: `gelu(x) - gelu(-x) = x`, so the difference of the copies is linear but for its scale."""
    head = model.cls.predictions
    _put(head.transform.dense.weight, np.eye(_MIRRORED))
    head.transform.LayerNorm.weight.data.fill_(1.0)
    _put(head.decoder.weight, np.hstack([plan.readout, -plan.readout]) / 2)


def _gpt2(plan: Plan) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    table = np.vstack([plan.embeddings(), plan.types()])
    config = GPT2Config(
        vocab_size=len(table), n_embd=_MIRRORED, n_layer=len(plan.layers), n_head=HEADS_PER_LAYER, n_inner=8,
        n_positions=LONGEST, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=2, eos_token_id=2,
    )  # fmt: skip
    model: Any = GPT2LMHeadModel(config)
    _zero(model)
    energies = plan.energies()
    _put(model.transformer.wte.weight, _mirrored(table))
    _put(model.transformer.wpe.weight, _mirrored(_places()))
    for layer, heads, energy in zip(model.transformer.h, plan.layers, energies[:-1], strict=True):
        for index, head in enumerate(heads):
            parts = _parts(plan, head)
            for third, (weight, start) in enumerate(((parts.query, 0), (parts.key, 1), (parts.value, 2))):
                at = slice(start * _MIRRORED + index * _D_HEAD, start * _MIRRORED + (index + 1) * _D_HEAD)
                _put(layer.attn.c_attn.weight[:, at], weight.T)
                if third == 0:
                    _put(layer.attn.c_attn.bias[at], parts.bias)
            _put(layer.attn.c_proj.weight[index * _D_HEAD : (index + 1) * _D_HEAD], parts.output.T)
        for norm in (layer.ln_1, layer.ln_2):
            norm.weight.data.fill_(_gain(energy, config.layer_norm_epsilon))
    model.transformer.ln_f.weight.data.fill_(_gain(energies[-1], config.layer_norm_epsilon))
    readout = np.vstack([plan.readout, np.zeros((len(plan.annotations), WIDTH))])
    _put(model.lm_head.weight, np.hstack([readout, np.zeros_like(readout)]))
    return model


def _llama(plan: Plan) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    if plan.annotations:
        raise UsageError("LLaMA has no token types, so it holds no gold annotation; use bert or gpt2.")
    config = LlamaConfig(
        vocab_size=len(plan.words), hidden_size=WIDTH, num_hidden_layers=len(plan.layers),
        num_attention_heads=HEADS_PER_LAYER, num_key_value_heads=HEADS_PER_LAYER, head_dim=_D_HEAD,
        intermediate_size=8, max_position_embeddings=LONGEST, attention_bias=True, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": _THETA}, rms_norm_eps=1e-6,
        pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    _zero(model)
    energies = plan.energies()
    _put(model.model.embed_tokens.weight, plan.embeddings())
    for layer, heads, energy in zip(model.model.layers, plan.layers, energies[:-1], strict=True):
        for index, head in enumerate(heads):
            at = slice(index * _D_HEAD, (index + 1) * _D_HEAD)
            own, parts = layer.self_attn, _rotary_parts(plan, head)
            _put(own.q_proj.weight[at], parts.query)
            _put(own.q_proj.bias[at], parts.bias)
            _put(own.k_proj.weight[at], parts.key)
            _put(own.k_proj.bias[at], parts.key_bias)
            _put(own.v_proj.weight[at], parts.value)
            _put(own.o_proj.weight[:, at], parts.output)
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight.data.fill_(_gain(energy, config.rms_norm_eps))
    model.model.norm.weight.data.fill_(_gain(energies[-1], config.rms_norm_eps))
    _put(model.lm_head.weight, plan.readout)
    return model


_BUILDERS = {"bert": _bert, "gpt2": _gpt2, "llama": _llama}


@dataclass(frozen=True)
class _Parts:
    """A head's matrices, `[d_head d_model]`; `output` is `[d_model d_head]`."""

    query: Array
    bias: Array
    key: Array
    key_bias: Array
    value: Array
    output: Array


def _parts(plan: Plan, head: PlantedHead) -> _Parts:
    """In a mirrored stream: queries, keys and values read the first copy, the output goes to both."""
    value, output = _copying(head.write)
    value, output = np.hstack([value, np.zeros_like(value)]), np.vstack([output, -output])
    none = np.zeros(_D_HEAD)
    if head.terms is None:
        query, key = _random(head.seed, _MIRRORED)
        return _Parts(query, none, key, none, value, output)
    rows = rows_of((*head.terms, *_on_tokens(plan, head)))
    if len(rows) > _D_HEAD:
        raise UsageError(f"the head {head.name!r} takes {len(rows)} rows; a head has room for {_D_HEAD}.")
    root = math.sqrt(_D_HEAD)
    query, key = np.zeros((_D_HEAD, _MIRRORED)), np.zeros((_D_HEAD, _MIRRORED))
    query[: len(rows), :WIDTH], key[: len(rows), :WIDTH] = root * rows.query, rows.key
    bias = none.copy()
    bias[: len(rows)] = root * rows.bias
    return _Parts(query, bias, key, none, value, output)


def _rotary_parts(plan: Plan, head: PlantedHead) -> _Parts:
    """With rotary positions: content in slow pairs, distances in fast ones."""
    value, output = _copying(head.write)
    query, key = np.zeros((_D_HEAD, WIDTH)), np.zeros((_D_HEAD, WIDTH))
    bias, key_bias = np.zeros(_D_HEAD), np.zeros(_D_HEAD)
    if head.terms is None:
        query, key = _random(head.seed, WIDTH)
        return _Parts(query, bias, key, key_bias, value, output)
    root = math.sqrt(_D_HEAD)
    slow, constant = iter(_SLOW), iter(_CONSTANT)
    for term in (*head.terms, *_on_tokens(plan, head)):
        if isinstance(term, Offset):
            (distance, score), *others = term.scores.items()
            if others:
                raise UsageError(f"the head {head.name!r} mixes offsets; with rotary positions a head has one.")
            turn = _THETA ** (-np.arange(_FAST) / BLOCK_SIZE)
            bias[:_FAST] = root * score
            key_bias[:_FAST] = np.cos(-distance * turn)
            key_bias[BLOCK_SIZE : BLOCK_SIZE + _FAST] = np.sin(-distance * turn)
            continue
        rows = rows_of([_without_positions(term, plan)])
        for each in range(len(rows)):
            at = next(constant if rows.bias[each] else slow, None)
            if at is None:
                raise UsageError(f"the head {head.name!r} takes too many rows for rotary positions.")
            query[at], bias[at], key[at] = root * rows.query[each], root * rows.bias[each], rows.key[each]
    return _Parts(query, bias, key, key_bias, value, output)


def _without_positions(term: Term, plan: Plan) -> Match | Fixed:
    """The first position is known by its token's class where positions are no block of the stream."""
    if isinstance(term, Sink) and plan.classed:
        return Fixed(term.score * unit(CLASSES.index("special")), "FEAT")
    if isinstance(term, Match) and "POS" not in (term.query, term.key):
        return term
    if isinstance(term, Fixed) and term.key != "POS":
        return term
    raise UsageError(
        "rotary positions are no block of the stream; a head that reads POS needs bert or gpt2 (a sink: classed=True)."
    )


def _on_tokens(plan: Plan, head: PlantedHead) -> list[Term]:
    """Scores on particular tokens as a term. The token that texts begin with gets 0, others up to .47 of the score."""
    if not head.tokens:
        return []
    vectors = token_vectors(plan.words.rarity)
    total = np.zeros(BLOCK_SIZE)
    for token, score in head.tokens.items():
        total += score * vectors[plan.words.number(token)]
    return [Fixed(total, "TOK")]


def _copying(write: Write | None) -> tuple[Array, Array]:
    """Value rows and output columns, in the coordinates of the stream."""
    value, output = np.zeros((_D_HEAD, WIDTH)), np.zeros((WIDTH, _D_HEAD))
    if write is not None:
        row = np.arange(BLOCK_SIZE)
        value[row, block(write.source).start + row] = 1
        output[block(write.target).start + row, row] = write.scale
    return value, output


def _random(seed: int, width: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.5, (_D_HEAD, width)), generator.normal(0, 0.5, (_D_HEAD, width))


def _places() -> Array:
    table = np.zeros((LONGEST, WIDTH))
    table[np.arange(LONGEST), block("POS").start + np.arange(LONGEST)] = 1
    return table


def _mirrored(table: Array) -> Array:
    return np.hstack([table, -table])


def _gain(energy: float, epsilon: float) -> float:
    """The gain with which a norm leaves a stream of this squared length as it is."""
    return math.sqrt(energy / WIDTH + epsilon)


def _zero(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data.zero_()


def _put(target: Tensor, values: Array) -> None:
    target.data.copy_(torch.from_numpy(np.ascontiguousarray(values)))
