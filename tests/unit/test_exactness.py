"""What a capture holds is what transformers' own eager code computes: every family, padding and mode."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
import torch
from eager_truth import eager_attentions, kept_rows
from family_models import FAMILIES, Padding
from hypothesis import given, settings
from torch import Tensor, nn
from transformers import PreTrainedModel

import attnlens
from attnlens.capture.replacements import GateRecorder
from attnlens.capture.run import Capture
from attnlens.capture.tap import needs_eager, recording
from attnlens.errors import CaptureError, TextError
from attnlens.measures import patterns
from attnlens.models.projections import projection_bias

TOLERANCE = 1e-5
CASES = [(name, padding) for name, family in FAMILIES.items() for padding in family.paddings]
HEADS_OF_POINTS = ("q", "k", "v", "z", "write")


@cache
def opened(name: str) -> attnlens.Lens:
    """One family's model, opened once; no test changes it for good."""
    family = FAMILIES[name]
    return attnlens.load(model=family.build(), tokenizer=family.tokenizer())


@cache
def truth(name: str, padding: Padding) -> dict[str, list[Tensor]]:
    return eager_attentions(opened(name).model, FAMILIES[name].inputs(padding=padding))


def modes(lens: attnlens.Lens) -> list[dict[str, Any]]:
    """The ways of running a capture that the model allows."""
    lazy = [{"mode": "lazy"}, {"mode": "lazy", "weights": True}]
    return [{"mode": "exact"}] if lens.anatomy.route == "softmax" else [*lazy, {"mode": "exact"}]


def stack_of(run: Capture, letter: str) -> Tensor:
    return run.attention(stack=letter or None)


def numbered(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions that count from the first real token, where padding stands on the left."""
    keep = inputs.get("attention_mask")
    if keep is None or bool(keep[:, 0].all()) or "position_ids" not in inspect.signature(model.forward).parameters:
        return inputs
    return {**inputs, "position_ids": (keep.cumsum(-1) - 1).clamp(min=0)}


def gap_to_truth(name: str, padding: Padding, runs: list[Capture]) -> float:
    """The largest difference of any real row of any stack from eager transformers."""
    inputs, worst = FAMILIES[name].inputs(padding=padding), 0.0
    for letter, layers in truth(name, padding).items():
        for row, (queries, keys) in enumerate(kept_rows(inputs, letter)):
            expected = torch.stack([layer[row, :, queries, keys] for layer in layers])
            worst = max(worst, float((stack_of(runs[row], letter) - expected).abs().max()))
    return worst


@pytest.mark.parametrize(("name", "padding"), CASES)
def test_every_mode_equals_eager_transformers(name: str, padding: Padding) -> None:
    lens, inputs = opened(name), FAMILIES[name].inputs(padding=padding)

    gaps = [gap_to_truth(name, padding, list(lens.captures(inputs=inputs, **mode))) for mode in modes(lens)]

    assert max(gaps) < TOLERANCE


@pytest.mark.parametrize(("name", "padding"), CASES)
def test_exact_mode_is_the_eager_code_bit_by_bit(name: str, padding: Padding) -> None:
    """Difference 0.0, also with left padding once both count positions alike.

    A capture numbers positions from the first real token. Without `position_ids` rotary families count from the
    padding instead: the same attention by theory, but rotated by other angles, and so rounded otherwise (2e-6).
    """
    lens, inputs = opened(name), FAMILIES[name].inputs(padding=padding)
    if lens.anatomy.route == "sdpa":
        pytest.skip("Falcon calls SDPA by default; its eager code is another path")
    expected = eager_attentions(lens.model, numbered(lens.model, inputs))

    runs = list(lens.captures(inputs=inputs, mode="exact"))

    for letter, layers in expected.items():
        for row, (queries, keys) in enumerate(kept_rows(inputs, letter)):
            own = torch.stack([layer[row, :, queries, keys] for layer in layers])
            assert torch.equal(stack_of(runs[row], letter), own)


def test_exact_mode_keeps_scores_in_float32_where_the_model_does() -> None:
    """GPT-2 that reorders and upcasts has eager code of its own; in bfloat16 it differs from the usual in each row."""
    family = FAMILIES["gpt2-upcast"]
    model, inputs = family.build().bfloat16(), family.inputs(batch=1)
    expected = torch.cat(eager_attentions(model, inputs)[""])

    run = next(attnlens.load(model=model, tokenizer=family.tokenizer()).captures(inputs=inputs, mode="exact"))

    assert torch.equal(run.attention(), expected.to(run.attention().dtype))


@pytest.mark.parametrize("name", FAMILIES)
def test_left_padding_needs_no_position_ids(name: str) -> None:
    """Learned positions count from the first real token: a padded row equals the same tokens alone."""
    family = FAMILIES[name]
    if "left" not in family.paddings:
        pytest.skip("padded on the right only")
    inputs = family.inputs(padding="left")
    inputs.pop("position_ids", None)

    padded = list(opened(name).captures(inputs=inputs))[1]

    alone = {key: value[1:, 4:] for key, value in inputs.items()}
    expected = torch.cat(eager_attentions(opened(name).model, alone)[""])
    torch.testing.assert_close(padded.attention(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_models_own(name: str) -> None:
    lens, padding = opened(name), FAMILIES[name].paddings[-1]
    inputs = FAMILIES[name].inputs(padding=padding)
    with torch.no_grad():
        own = lens.model(**inputs).logits

    runs = list(lens.captures(inputs=inputs, logits=True))

    rows = kept_rows(inputs, "D" if lens.anatomy.is_encoder_decoder else "")
    for row, (run, (queries, _)) in enumerate(zip(runs, rows, strict=True)):
        if own.ndim == 3:
            torch.testing.assert_close(run.logits, own[row, queries], atol=TOLERANCE, rtol=TOLERANCE)
        else:
            assert run.logits is None, "classes of a picture are no logits of tokens"


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_write_what_attention_adds(name: str) -> None:
    """The writes of all heads and W_O's bias are the attention's output, in every stack."""
    lens = opened(name)
    available = set(lens.anatomy.residual_points)
    if "write" not in available or "attn_out" not in available:
        pytest.fail(f"{name}: {lens.anatomy.absent}")
    points = [point for point in (*HEADS_OF_POINTS, "attn_out", "cross_out") if _given(lens, point)]

    run = next(lens.captures(inputs=FAMILIES[name].inputs(padding=FAMILIES[name].paddings[-1]), points=points))

    for stack in lens.anatomy.stacks:
        kind, out = ("cross", "cross_out") if stack.letter == "X" else ("self", "attn_out")
        home = "D" if stack.letter == "X" else stack.letter
        wiring, layers = lens._opened.wirings[home], lens._opened.stacks[home].layers
        written = run.residual("write", stack=stack.letter or None).sum(1)
        for layer, total in enumerate(written):
            projection = layers[wiring.order[layer]].get_submodule(wiring.projections[kind])
            bias = projection_bias(projection)
            total = total if bias is None else total + bias
            expected = run.residual(out, layer, stack=home or None)
            if wiring.layout == "post-norm":  # what is added has gone through a norm first
                norm = layers[layer].get_submodule(wiring.readings[out].path)
                with torch.no_grad():
                    total = norm(total)
            scale = float(expected.abs().max())
            torch.testing.assert_close(total, expected, atol=TOLERANCE * max(1.0, scale), rtol=0)


def _given(lens: attnlens.Lens, point: str) -> bool:
    return any(point in stack.residual_points for stack in lens.anatomy.stacks)


@pytest.mark.parametrize("name", FAMILIES)
def test_queries_keys_and_values_give_weights_and_output(name: str) -> None:
    """z is the weights times the values; where scores are plain products, the weights are those of q and k."""
    lens = opened(name)
    if lens.anatomy.route == "softmax":
        assert {"q", "k", "v"} <= set(lens.anatomy.absent)
        return

    run = next(lens.captures(inputs=FAMILIES[name].inputs(), points=("q", "k", "v", "z")))

    for stack in lens.anatomy.stacks:
        letter = stack.letter or None
        q, k, v, z = (run.residual(point, stack=letter) for point in ("q", "k", "v", "z"))
        group = stack.n_heads // k.shape[1]  # Falcon repeats its keys before it attends: 1
        assert q.shape[1] == stack.n_heads == k.shape[1] * group
        weights = stack_of(run, stack.letter)
        torch.testing.assert_close(weights @ v.repeat_interleave(group, 1), z, atol=2e-5, rtol=TOLERANCE)


@pytest.mark.parametrize(("name", "expected"), [("llama", 3), ("falcon", 1), ("falcon-grouped", 3), ("gpt2", None)])
def test_key_heads_that_queries_share_are_counted_once(name: str, expected: int | None) -> None:
    anatomy = opened(name).anatomy

    assert anatomy.n_kv_heads == (anatomy.n_heads if expected is None else expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_stream_is_the_sum_of_what_is_written(name: str) -> None:
    """pre + attention (+ cross) + MLP = post, through the layer's norms where the family normalises the sum."""
    lens = opened(name)
    points = [point for point in ("resid_pre", "resid_post", "attn_out", "cross_out", "mlp_out", "resid_mid",
                                  "resid_cross") if _given(lens, point)]  # fmt: skip

    run = next(lens.captures(inputs=FAMILIES[name].inputs(), points=points))

    for letter, wiring in lens._opened.wirings.items():
        read = {point: run.residual(point, stack=letter or None) for point in points if point in wiring.readings}
        stream, writes = read["resid_pre"], [point for point in ("attn_out", "cross_out", "mlp_out") if point in read]
        if wiring.norms:
            assert wiring.layout == "post-LN"
            continue  # checked below, through the norms
        for point in writes:
            stream = stream + read[point]
        scale = float(read["resid_post"].abs().max())
        torch.testing.assert_close(stream, read["resid_post"], atol=TOLERANCE * max(1.0, scale), rtol=0)
        torch.testing.assert_close(read["resid_pre"][1:], read["resid_post"][:-1], atol=0, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states_are_the_models_own(name: str) -> None:
    """resid_pre of a layer is what transformers calls hidden_states[layer]."""
    lens, inputs = opened(name), FAMILIES[name].inputs(batch=1)
    with torch.no_grad():
        output = lens.model(**inputs, output_hidden_states=True)

    run = next(lens.captures(inputs=inputs, points=("embed", "resid_pre")))

    names = {"": "hidden_states", "E": "encoder_hidden_states", "D": "decoder_hidden_states"}
    for letter in lens._opened.wirings:
        expected = torch.cat(list(getattr(output, names[letter])))[:-1]
        torch.testing.assert_close(run.residual("resid_pre", stack=letter or None), expected, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(run.residual("embed", stack=letter or None), expected[0], atol=0, rtol=0)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_experts_are_those_that_the_router_chose(name: str) -> None:
    lens, inputs = opened(name), FAMILIES[name].inputs(padding="right")
    points = ("router_logits", "router_weights", "router_experts")

    runs = list(lens.captures(inputs=inputs, points=points))

    with torch.no_grad():
        output = lens.model(**inputs, output_router_logits=True)
    for row, run in enumerate(runs):
        n = len(run.tokens)
        logits, weights, experts = (run.residual(point) for point in points)
        theirs = torch.stack([layer.view(2, 11, -1)[row, :n] for layer in output.router_logits])
        if name == "gpt_oss":  # transformers gives the logits of all experts; the weights are a softmax over the chosen
            expected, chosen = theirs.topk(2, -1)
            expected = expected.softmax(-1)
        else:
            expected, chosen = theirs.softmax(-1).topk(2, -1)
            expected = expected / expected.sum(-1, keepdim=True)
        torch.testing.assert_close(weights, expected, atol=TOLERANCE, rtol=0)
        assert torch.equal(experts, chosen)
        assert logits.shape == (4, n, 5)


@pytest.mark.parametrize("name", FAMILIES)
def test_subsets_keep_only_what_was_asked_for_and_the_same_numbers(name: str) -> None:
    lens, inputs = opened(name), FAMILIES[name].inputs(padding=FAMILIES[name].paddings[-1])
    last = lens.anatomy.n_layers - 1
    address = f"{lens.anatomy.main_stack}L{last}H1"
    for mode in modes(lens):
        whole = list(lens.captures(inputs=inputs, points=("resid_post",), **mode))

        some = list(lens.captures(inputs=inputs, layers=(last,), points=("resid_post",), **mode))
        one = list(lens.captures(inputs=inputs, heads=(address,), points=("resid_post",), **mode))

        for run, layer_only, head_only in zip(whole, some, one, strict=True):
            expected = run.attention(last)
            torch.testing.assert_close(layer_only.attention(last), expected, atol=TOLERANCE, rtol=0)
            torch.testing.assert_close(head_only.attention(head=address), expected[1], atol=TOLERANCE, rtol=0)
            for partial in (layer_only, head_only):
                post = partial.residual("resid_post", last)
                torch.testing.assert_close(post, run.residual("resid_post", last), atol=1e-4, rtol=1e-4)
            runs = (head_only, layer_only, run)
            sizes = [sum(pattern.nbytes for pattern in part.patterns if pattern) for part in runs]
            assert sizes == sorted(set(sizes))
            with pytest.raises(CaptureError, match="was not kept"):
                layer_only.attention(0)
            with pytest.raises(CaptureError, match="was not kept"):
                layer_only.residual("resid_post", 0)
            with pytest.raises(CaptureError, match="H0 was not kept"):
                head_only.attention(last, 0)


def test_points_of_an_encoder_follow_the_layers_asked_for() -> None:
    """BART has 2 encoder and 5 decoder layers: layer 4 is of the decoder alone."""
    lens, inputs = opened("bart"), FAMILIES["bart"].inputs(batch=1)
    whole = next(lens.captures(inputs=inputs, points=("resid_post", "q", "write")))

    run = next(lens.captures(inputs=inputs, points=("resid_post", "q", "write"), layers=(1, 4)))
    deep = next(lens.captures(inputs=inputs, points=("resid_post", "q"), layers=(4,)))
    heads = next(lens.captures(inputs=inputs, points=("q",), heads=("EL0H1", "XL3H2")))

    for point in ("resid_post", "q", "write"):
        for stack, layer in (("E", 1), ("D", 1), ("D", 4)):
            expected = whole.residual(point, layer, stack=stack)
            torch.testing.assert_close(run.residual(point, layer, stack=stack), expected, atol=TOLERANCE, rtol=1e-5)
    for stack, layer in (("X", 4), ("X", 1)):
        torch.testing.assert_close(run.residual("q", layer, stack=stack), whole.residual("q", layer, stack=stack))
    with pytest.raises(CaptureError, match="layer 0 was not kept"):
        run.residual("q", 0, stack="E")
    with pytest.raises(CaptureError):
        deep.residual("resid_post", 1, stack="E")
    torch.testing.assert_close(heads.residual("q", 0, stack="D"), whole.residual("q", 0, stack="D"))
    torch.testing.assert_close(heads.residual("q", 3, stack="X"), whole.residual("q", 3, stack="X"))
    with pytest.raises(CaptureError, match="layer 1 was not kept"):
        heads.residual("q", 1, stack="E")


def test_resid_pre_is_not_made_up_from_layers_that_were_left_out() -> None:
    lens = opened("gpt2")

    run = next(lens.captures(inputs=FAMILIES["gpt2"].inputs(), layers=(1,), points=("embed", "resid_post")))

    with pytest.raises(CaptureError, match="'resid_pre' was not kept"):
        run.residual("resid_pre")


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss"])
def test_softcap_and_sinks_hold_in_layers_that_nobody_asked_for(name: str) -> None:
    """What a layer puts out depends on the ones before it, which are not kept but must be exact as well."""
    lens, inputs = opened(name), FAMILIES[name].inputs()
    expected = truth(name, "none")[""][3][0]

    run = next(lens.captures(inputs=inputs, layers=(3,), weights=True))
    part, whole = (lens.reduce(inputs=inputs, layers=layers)[0].value() for layers in ((3,), None))

    torch.testing.assert_close(run.attention(3), expected, atol=TOLERANCE, rtol=0)
    site = next(iter(part))
    for measure, values in part[site].items():
        torch.testing.assert_close(values, whole[site][measure], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "window"), [("mistral", 4), ("phi3", 6), ("gemma2", 5), ("gpt_oss", 5)])
def test_keys_outside_a_sliding_window_are_not_visible(name: str, window: int) -> None:
    """A masked cell is "not visible" and its weight exactly 0; gemma2 and gpt_oss slide in every other layer."""
    lens = opened(name)
    rows = torch.arange(11)
    causal = rows[:, None] >= rows[None]
    sliding = causal & (rows[:, None] - rows[None] < window)
    for mode in modes(lens):
        run = next(lens.captures(inputs=FAMILIES[name].inputs(), **mode))

        for layer in range(4):
            slides = layer % 2 == 0 or name in ("mistral", "phi3")
            expected = sliding if slides else causal
            assert torch.equal(run.visible(layer), expected)
            assert bool((run.attention(layer)[:, ~expected] == 0).all())


@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_with_sinks_rows_sum_to_less_than_one(mode: str) -> None:
    run = next(opened("gpt_oss").captures(inputs=FAMILIES["gpt_oss"].inputs(), mode=mode))

    sums = run.attention().sum(-1)
    assert 0 < float(sums.min()) < 0.9
    assert float(sums.max()) < 1


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.takes_segments])
def test_pairs_run_as_two_segments(name: str) -> None:
    """Equal to the tokenizer's own encoding of the pair; without the segments the numbers are others."""
    lens = opened(name)
    tokenizer: Any = FAMILIES[name].tokenizer()
    encoded = tokenizer("ab c", "dog", return_tensors="pt")
    assert encoded["token_type_ids"].any()

    run = lens.capture(("ab c", "dog"))

    expected = torch.cat(eager_attentions(lens.model, encoded)[""])
    torch.testing.assert_close(run.attention(), expected, atol=TOLERANCE, rtol=0)
    one_segment = {**encoded, "token_type_ids": torch.zeros_like(encoded["token_type_ids"])}
    assert float((torch.cat(eager_attentions(lens.model, one_segment)[""]) - expected).abs().max()) > 0.01


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "bloom"])
def test_many_texts_come_back_in_order(name: str) -> None:
    lens, texts = opened(name), ["dog", "a longer text", "x", "the keys", "middle one"]
    done: list[tuple[int, int]] = []

    runs = list(lens.captures(texts, batch_size=2, progress=lambda *seen: done.append(seen)))

    assert [run.text for run in runs] == texts
    assert [seen[0] for seen in done] == [2, 4, 5]
    for text, run in zip(texts, runs, strict=True):
        torch.testing.assert_close(run.attention(), lens.capture(text).attention(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("name", "padding"), CASES)
def test_reduce_equals_the_measures_of_the_dense_map(name: str, padding: Padding) -> None:
    lens, inputs = opened(name), FAMILIES[name].inputs(padding=padding)

    (summary,) = lens.reduce(inputs=inputs)

    runs = list(lens.captures(inputs=inputs, mode="exact"))
    found = {str(site): values for site, values in summary.value().items()}
    for stack in lens.anatomy.stacks:
        for layer in range(stack.n_layers):
            expected = measured([run.attention(layer, stack=stack.letter or None) for run in runs],
                                [_visible(run, layer, stack.letter) for run in runs])  # fmt: skip
            for measure, values in expected.items():
                given = found[f"{stack.letter}L{layer}"][measure]
                torch.testing.assert_close(given, values, atol=2e-6, rtol=2e-6, equal_nan=True)


def _visible(run: Capture, layer: int, letter: str) -> Tensor:
    return run.visible(layer, stack=letter or None)


def measured(maps: list[Tensor], seen: list[Tensor]) -> dict[str, Tensor]:
    """The four measures of `head_summary`, mean over all queries of all texts for which each is defined."""
    rows: dict[str, list[Tensor]] = {"entropy": [], "distance": [], "previous": [], "first": []}
    for weights, visible in zip(maps, seen, strict=True):
        rows["entropy"].append(patterns.entropy(weights))
        rows["distance"].append(patterns.distance(weights))
        rows["previous"].append(patterns.offset_mass(weights, -1, visible.expand_as(weights)))
        rows["first"].append(patterns.key_mass(weights, 0, visible.expand_as(weights)))
    return {name: patterns.over_queries(torch.cat(values, -1)) for name, values in rows.items()}


def test_a_lazy_run_of_a_long_text_is_smaller_than_its_weights() -> None:
    family = FAMILIES["t5"]  # no table of positions limits the text
    lens, inputs = opened("t5"), family.inputs(batch=1, length=600)

    run = next(lens.captures(inputs=inputs))

    dense = sum(run.attention(layer, stack="E").nbytes for layer in range(4))
    assert sum(pattern.nbytes for pattern in run.encoder if pattern is not None) < 2 * dense
    plain = opened("bloom")
    assert plain.anatomy.max_length is None


def test_a_refusal_names_the_length_that_would_fit_and_it_does() -> None:
    lens = opened("llama")
    text, limit = "x" * 59, 120_000

    with pytest.raises(TextError, match="tokens would fit") as refused:
        lens.capture(text, weights=True, max_memory=limit)

    fits = int(str(refused.value).split("about ")[-1].split()[0])
    assert 0 < fits < 60
    run = lens.capture("x" * (fits - 1), weights=True, max_memory=limit)
    assert len(run.tokens) == fits
    assert run.nbytes <= limit
    with pytest.raises(TextError):
        lens.capture("x" * fits, weights=True, max_memory=limit)


@pytest.mark.parametrize("name", FAMILIES)
def test_silencing_a_head_equals_zeroing_its_part_of_the_projection(name: str) -> None:
    lens, inputs = opened(name), FAMILIES[name].inputs(padding=FAMILIES[name].paddings[-1])
    for stack in lens.anatomy.stacks:
        layer, head = stack.n_layers - 1, stack.n_heads - 1
        gates = torch.ones(2, stack.n_layers, stack.n_heads)
        gates[:, layer, head] = 0
        with torch.no_grad(), recording(lens._opened.tap, GateRecorder(gates, needs_eager(lens.model), stack.letter)):
            gated = lens.model(**inputs).logits
        with torch.no_grad():
            own = lens.model(**inputs).logits

        with _without_head(lens, stack.letter, layer, head, stack.n_heads), torch.no_grad():
            expected = lens.model(**inputs).logits

        for row, (queries, _) in enumerate(kept_rows(inputs, "D" if lens.anatomy.is_encoder_decoder else "")):
            part = (row, queries) if own.ndim == 3 else row
            assert float((gated[part] - expected[part]).abs().max()) < 1e-5
            assert float((gated[part] - own[part]).abs().max()) > 1e-4


@contextmanager
def _without_head(lens: attnlens.Lens, letter: str, layer: int, head: int, n_heads: int) -> Iterator[None]:
    """W_O's rows of one head are zero; in a module that serves several layers, in one of its calls only."""
    home = "D" if letter == "X" else letter
    wiring = lens._opened.wirings[home]
    path = wiring.projections["cross" if letter == "X" else "self"]
    projection = lens._opened.stacks[home].layers[wiring.order[layer]].get_submodule(path)
    calls = [0]

    def zeroed(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        calls[0] += 1
        if calls[0] != [number for number, at in enumerate(wiring.order) if at == wiring.order[layer]].index(layer) + 1:
            return args
        by_head = args[0].clone().unflatten(-1, (n_heads, -1))
        by_head[..., head, :] = 0
        return (by_head.flatten(-2),)

    hook = projection.register_forward_pre_hook(zeroed)
    try:
        yield
    finally:
        hook.remove()


# What two ways of computing the same weights may differ by: rounding errors of the scores, grown through the layers.
BY_PRECISION = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 0.15}


@contextmanager
def softmax_in_double(double: bool) -> Iterator[None]:
    """Families take their softmax in float32 whatever the model's precision; a comparison in float64 must not."""
    plain = torch.nn.functional.softmax

    def softmax(scores: Tensor, dim: int = -1, dtype: torch.dtype | None = None) -> Tensor:
        return plain(scores, dim=dim, dtype=torch.float64 if double else dtype)

    with patch.object(torch.nn.functional, "softmax", softmax):
        yield


@st.composite
def random_architectures(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A family and settings of its config: any number of layers, heads, key heads and dimensions, window or none."""
    family = draw(st.sampled_from(["llama", "mistral", "gpt2", "bert", "gemma2", "t5"]))
    layers, d_head = draw(st.integers(1, 3)), 2 * draw(st.integers(2, 6))
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads, window = kv_heads * group, draw(st.integers(1, 13))
    sizes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_layer": layers, "n_head": heads, "n_embd": heads * (d_head + 4), "n_inner": 19},
        "bert": {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": heads * (d_head + 4)},
        "t5": {"num_layers": layers, "num_decoder_layers": draw(st.integers(1, 3)), "num_heads": heads, "d_kv": d_head,
               "d_model": 14},
    }  # fmt: skip
    grouped = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": d_head,
        "hidden_size": 14 * heads,
    }
    if family == "mistral":
        grouped["sliding_window"] = window
    if family == "gemma2":
        grouped |= {"sliding_window": window, "layer_types": ["sliding_attention", "full_attention"] * 2}
        grouped["layer_types"] = grouped["layer_types"][:layers]
    return family, sizes.get(family, grouped)


@settings(max_examples=30)
@given(
    architecture=random_architectures(),
    dtype=st.sampled_from(sorted(BY_PRECISION, key=str)),
    padding=st.sampled_from(["none", "right", "left"]),
    length=st.integers(6, 12),
    seed=st.integers(0, 99),
)
def test_random_architectures_never_differ_from_eager(
    architecture: tuple[str, dict[str, Any]], dtype: torch.dtype, padding: Padding, length: int, seed: int
) -> None:
    name, settings = architecture
    family = replace(FAMILIES[name], settings={**FAMILIES[name].settings, **settings})
    padding = padding if padding in family.paddings else "right"
    model = family.build(seed).to(dtype)
    inputs = family.inputs(length=length, padding=padding, seed=seed)
    lens = attnlens.load(model=model, tokenizer=family.tokenizer())
    with softmax_in_double(dtype == torch.float64):
        expected = eager_attentions(model, numbered(model, inputs))

    for mode in modes(lens):
        with softmax_in_double(dtype == torch.float64):
            runs = list(lens.captures(inputs=inputs, **mode))

        for letter, layers in expected.items():
            for row, (queries, keys) in enumerate(kept_rows(inputs, letter)):
                own = torch.stack([layer[row, :, queries, keys] for layer in layers])
                given_here = stack_of(runs[row], letter)
                gap = float((given_here - own.to(given_here.dtype)).abs().max())
                assert gap <= BY_PRECISION[dtype], f"{mode}, stack {letter!r}, row {row}"
