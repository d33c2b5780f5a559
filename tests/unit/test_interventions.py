"""Interventions are what surgery on the weights, another run or the model's own arithmetic says they are."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress

import pytest
import torch
from eager_truth import run_eagerly
from family_models import FAMILIES
from torch import nn

import attnlens
from attnlens.errors import CaptureError, HeadAddressError, UsageError
from attnlens.interventions.edits import ablation, knock_out, patching, steering

RELATIVE = 5e-6  # of the largest logit: rounding in float32


@pytest.fixture(scope="module")
def opened():
    """`opened("gpt2")`: (family, lens) of a tiny random model, each opened once."""
    made = {}

    def get(name):
        if name not in made:
            family = FAMILIES[name]
            made[name] = family, attnlens.load(model=family.build(), tokenizer=family.tokenizer())
        return made[name]

    return get


def logits_of(lens, inputs):
    with torch.no_grad():
        cache = {} if lens.anatomy.family == "vit" else {"use_cache": False}
        return lens.model(**inputs, **cache).logits


def assert_same(found, expected, what=""):
    limit = RELATIVE * float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=limit, rtol=0, msg=lambda text: f"{what}: {text}")


def one_row(family, seed=0):
    return family.inputs(batch=1, seed=seed)


def sites_to_try(lens):
    """A head of the last layer of every stack, and one of the first."""
    for stack in lens.anatomy.stacks:
        for layer in dict.fromkeys((stack.attention_layers[0], stack.attention_layers[-1])):
            yield f"{stack.letter}L{layer}H{stack.n_heads - 1}", stack, layer


@contextmanager
def zeroed_rows(lens, stack, layer, head):
    """Weight surgery: the rows of W_O that read one head are 0, in that call of the layer only."""
    home = "D" if stack.letter == "X" else stack.letter
    wiring, layers = lens.opened.wirings[home], lens.opened.stacks[home].layers
    path = wiring.projections["cross" if stack.letter == "X" else "self"]
    projection = layers[wiring.order[layer]].get_submodule(path)
    width = projection.weight.shape[0 if type(projection).__name__ == "Conv1D" else 1] // stack.n_heads
    rows = slice(head * width, (head + 1) * width)
    whole = projection.weight.detach().clone()
    calls = [call for call, index in enumerate(wiring.order) if index == wiring.order[layer]]
    seen = [0]

    def before(_module, _args):
        projection.weight.data = whole.clone()
        if calls[seen[0] % len(calls)] == layer:
            (projection.weight.data if type(projection).__name__ == "Conv1D" else projection.weight.data.T)[rows] = 0
        seen[0] += 1

    hook = projection.register_forward_pre_hook(before)
    try:
        yield
    finally:
        hook.remove()
        projection.weight.data = whole


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_zero_ablation_is_zeroed_rows_of_the_output_projection(opened, name):
    family, lens = opened(name)
    inputs = family.inputs(padding=family.paddings[-1])

    for head, stack, layer in sites_to_try(lens):
        with zeroed_rows(lens, stack, layer, stack.n_heads - 1):
            expected = logits_of(lens, inputs)
        with lens.ablate(head):
            found = logits_of(lens, inputs)

        assert_same(found, expected, head)
        assert (found - logits_of(lens, inputs)).abs().max() > 1e-4


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_capture_under_ablation_is_the_changed_models(opened, name):
    family, lens = opened(name)
    inputs = one_row(family)
    head, stack, layer = next(sites_to_try(lens))

    with zeroed_rows(lens, stack, layer, stack.n_heads - 1):
        expected = lens.capture(inputs=inputs)
    with lens.ablate(head):
        found = lens.capture(inputs=inputs, points=("z",))

    for letter in (part.letter for part in lens.anatomy.stacks):
        torch.testing.assert_close(found.attention(stack=letter), expected.attention(stack=letter), atol=1e-5, rtol=0)
    assert found.residual("z", layer, stack=stack.letter or None)[stack.n_heads - 1].abs().max() == 0
    assert found.settings["interventions"] == [f"ablate {head} (zero)"]


@pytest.mark.parametrize("how", ["mean", "resample"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5", "deberta-v2", "bloom", "falcon"])
def test_mean_and_resample_put_values_of_the_source_in(opened, name, how):
    family, lens = opened(name)
    head, stack, layer = list(sites_to_try(lens))[-1]
    index = stack.n_heads - 1
    source = [lens.capture(inputs=one_row(family, seed), points=("z",)) for seed in (1, 2)]
    letter = stack.letter or None
    start = 1 if stack.letter in ("D", "X") else 0  # a decoder's start token is special, and no source of values
    bank = torch.cat([run.residual("z", layer, stack=letter)[index, start:] for run in source])

    with lens.ablate(head, how=how, source=source):
        z = lens.capture(inputs=one_row(family), points=("z",)).residual("z", layer, stack=letter)[index]

    if how == "mean":
        torch.testing.assert_close(z, bank.mean(0).expand_as(z), atol=1e-5, rtol=1e-5)
    else:
        nearest = (z[:, None] - bank[None]).abs().amax(-1).min(1)
        assert nearest.values.max() < 1e-5
        assert len(set(nearest.indices.tolist())) > 1


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_knocked_out_edge_has_weight_zero_and_the_rest_of_its_row_grows(opened, name):
    family, lens = opened(name)
    inputs = one_row(family)
    plain = lens.capture(inputs=inputs, mode="exact")

    for head, stack, layer in sites_to_try(lens):
        index, letter = stack.n_heads - 1, stack.letter or None
        own = plain.attention(layer, stack=letter)[index]
        query = own.shape[0] - 1
        key = int(own[query].argmax())
        expected = own.clone()
        sinks = own[query].sum() if lens.anatomy.family == "gpt_oss" else torch.tensor(1.0)
        rest = 1 - sinks + own[query].sum() - own[query, key]
        expected[query, key] = 0
        expected[query] /= rest

        for mode in lens.opened.recorders:
            with lens.knock_out([(query, key)], head):
                run = lens.capture(inputs=inputs, mode=None if mode == "dense" else mode, weights=mode == "dense")

            found = run.attention(layer, stack=letter)
            torch.testing.assert_close(found[index], expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(found[:index], plain.attention(layer, stack=letter)[:index], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"falcon-alibi", "falcon-sequential"}))
def test_knock_out_is_the_softmax_without_that_key(opened, name):
    """The model's own softmax, given -inf at the edge, gives the same logits."""
    family, lens = opened(name)
    inputs = one_row(family)
    stack = lens.anatomy.stacks[0]
    layer, head = stack.attention_layers[0], 1
    plain = lens.capture(inputs=inputs, mode="exact").attention(layer, stack=stack.letter or None)[head]
    edge = (plain.shape[0] - 1, int(plain[-1].argmax()))

    with softmax_without(edge, head, call=0, n_heads=stack.n_heads), run_eagerly(lens.model):
        expected = logits_of(lens, inputs)
    with lens.knock_out([edge], f"{stack.letter}L{layer}H{head}"):
        found = logits_of(lens, inputs)

    assert_same(found, expected)
    assert (found - logits_of(lens, inputs)).abs().max() > 1e-4


@contextmanager
def softmax_without(edge, head, *, call, n_heads):
    """Softmax over the keys of the `call`-th attention of the forward with -inf at one edge of one head."""
    originals = torch.softmax, nn.functional.softmax
    seen = [0]

    def changed(original):
        def softmax(scores, dim=-1, *args, **kwargs):
            if scores.ndim == 4 and scores.shape[1] == n_heads and scores.shape[2] > 1:
                if seen[0] == call:
                    scores = scores.clone()
                    scores[:, head, edge[0], edge[1]] = -torch.inf
                seen[0] += 1
            return original(scores, dim, *args, **kwargs)

        return softmax

    try:
        torch.softmax, nn.functional.softmax = map(changed, originals)
        yield
    finally:
        torch.softmax, nn.functional.softmax = originals


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_points_patched_with_their_own_values_change_nothing_and_with_anothers_give_its_logits(opened, name):
    family, lens = opened(name)
    ours, theirs = one_row(family), one_row(family, seed=1)
    if "input_ids" not in ours:
        theirs = {part: torch.roll(value, 1, -1) for part, value in ours.items()}
    letter = lens.anatomy.main_stack
    stack = lens.anatomy.stack(letter)
    last = stack.n_layers - 1
    own_logits, their_logits = logits_of(lens, ours), logits_of(lens, theirs)
    whole = ["resid_pre", "resid_mid", "resid_cross", "resid_post"]  # what is behind them reads nothing else

    for point in [part for part in (*whole, "attn_out", "mlp_out", "mlp_act") if part in stack.residual_points]:
        run = lens.capture(inputs=ours, points=(point,))
        with lens.patch(run, point=point):
            assert_same(logits_of(lens, ours), own_logits, point)
        run = lens.capture(inputs=theirs, points=(point,))
        with lens.patch(run, point=point, layers=last):
            found = logits_of(lens, ours)
            again = lens.capture(inputs=ours, points=(point, "resid_post"), logits=False)
        torch.testing.assert_close(again.residual(point, last), run.residual(point, last), atol=1e-5, rtol=0)
        assert (found - own_logits).abs().max() > 1e-4
        reads_source = letter == "D" and point in ("resid_pre", "resid_mid")  # and theirs is another one
        if point in whole and not reads_source:
            assert_same(found, their_logits, point)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_heads_patched_from_another_run_pass_its_values_on(opened, name):
    family, lens = opened(name)
    ours, theirs = one_row(family), one_row(family, seed=1)
    if "input_ids" not in ours:
        theirs = {part: torch.roll(value, 1, -1) for part, value in ours.items()}
    head, stack, layer = list(sites_to_try(lens))[-1]
    letter, index = stack.letter or None, stack.n_heads - 1
    own, other = (lens.capture(inputs=given, points=("z",)) for given in (ours, theirs))

    with lens.patch(own, head):
        unchanged = logits_of(lens, ours)
    with lens.patch(other, head):
        z = lens.capture(inputs=ours, points=("z",)).residual("z", layer, stack=letter)

    assert_same(unchanged, logits_of(lens, ours))
    torch.testing.assert_close(z[index], other.residual("z", layer, stack=letter)[index], atol=1e-6, rtol=0)
    torch.testing.assert_close(z[:index], own.residual("z", layer, stack=letter)[:index], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_heads_steered_to_their_own_patterns_change_nothing(opened, name):
    family, lens = opened(name)
    inputs = one_row(family)
    run = lens.capture(inputs=inputs, mode="exact")
    heads = [head for head, _, _ in sites_to_try(lens)]

    with lens.steer(run, *heads):
        found = logits_of(lens, inputs)
        again = lens.capture(inputs=inputs)

    assert_same(found, logits_of(lens, inputs))
    torch.testing.assert_close(again.attention(head=heads[0]), run.attention(head=heads[0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "bart"])
def test_only_the_named_positions_change(opened, name):
    family, lens = opened(name)
    ours, theirs = one_row(family), one_row(family, seed=1)
    letter = lens.anatomy.main_stack or None
    own, other = (lens.capture(inputs=given, points=("resid_post", "z")) for given in (ours, theirs))
    head = f"{letter or ''}L0H1"

    with lens.patch(other, layers=0, positions={3: 5}):
        patched = lens.capture(inputs=ours, points=("resid_post",)).residual("resid_post", 0)
    with lens.ablate(head, positions=[2, 4]):
        z = lens.capture(inputs=ours, points=("z",)).residual("z", 0)

    expected = own.residual("resid_post", 0).clone()
    expected[3] = other.residual("resid_post", 0)[5]
    torch.testing.assert_close(patched, expected, atol=1e-5, rtol=0)
    gone = own.residual("z", 0).clone()
    gone[1, [2, 4]] = 0
    torch.testing.assert_close(z, gone, atol=1e-5, rtol=0)


def test_blocks_compose_and_the_inner_one_comes_last(opened):
    family, lens = opened("llama")
    ours, other = one_row(family), lens.capture(inputs=one_row(family, seed=1), points=("z", "resid_post"))
    edits = [
        ablation(lens, ["L0H1"]),
        knock_out(lens, [(7, 2)], ["L1H0"]),
        patching(lens, other, layers=1, positions=4),
        steering(lens, torch.eye(11), ["L2H3"]),
    ]

    with lens.intervene(edits[0]), lens.intervene(edits[1]), lens.intervene(edits[2]), lens.intervene(edits[3]):
        nested = lens.capture(inputs=ours, points=("z", "resid_post"))
        plain = logits_of(lens, ours)[0]
    with lens.intervene(edits[0] + edits[1] + edits[2] + edits[3]):
        added = lens.capture(inputs=ours, points=("z", "resid_post"))

    assert_same(nested.logits, plain)
    assert_same(added.logits, plain)
    assert nested.residual("z", 0)[1].abs().max() == 0
    assert nested.attention(head="L1H0")[7, 2] == 0
    torch.testing.assert_close(nested.residual("resid_post", 1)[4], other.residual("resid_post", 1)[4])
    torch.testing.assert_close(nested.attention(head="L2H3"), torch.eye(11))
    assert len(nested.settings["interventions"]) == 4


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["albert", "gpt2", "bloom", "t5"])
def test_nothing_is_left_behind(opened, name, fails):
    family, lens = opened(name)
    inputs, hooks = one_row(family), hooks_of(lens.model)
    head = next(iter(sites_to_try(lens)))[0]
    run = lens.capture(inputs=inputs, points=("resid_post",))
    before = logits_of(lens, inputs)
    implementation = lens.model.config._attn_implementation

    with suppress(RuntimeError), lens.ablate(head), lens.patch(run, layers=0), lens.knock_out([(1, 0)]):
        logits_of(lens, inputs)
        if fails:
            raise RuntimeError

    assert hooks_of(lens.model) == hooks
    assert lens.model.config._attn_implementation == implementation
    assert torch.equal(logits_of(lens, inputs), before)
    assert "interventions" not in lens.capture(inputs=inputs).settings


def test_a_forward_that_fails_does_not_shift_the_layers_of_the_next(opened):
    family, lens = opened("albert")  # whose one layer module is called once per layer
    inputs = one_row(family)
    run = lens.capture(inputs=inputs, points=("resid_post",))
    other = lens.capture(inputs=one_row(family, seed=1), points=("resid_post",))

    def fail(_module, _args):
        raise RuntimeError

    with lens.patch(other, layers=1), lens.ablate("L2H0"):
        expected = logits_of(lens, inputs)
        with pytest.raises(UsageError, match="11"), lens.patch(run, layers=1):
            lens.model(**family.inputs(batch=1, length=9))
        after_refusal = logits_of(lens, inputs)
        hook = lens.opened.stacks[""].layers[0].ffn.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError):
            lens.model(**inputs)
        hook.remove()
        after_failure = logits_of(lens, inputs)

    assert torch.equal(after_refusal, expected)
    assert torch.equal(after_failure, expected)


@pytest.mark.parametrize("name", ["gpt2", "bloom"])
def test_other_threads_run_the_model_as_it_is(opened, name):
    family, lens = opened(name)
    inputs = one_row(family)
    plain, elsewhere = logits_of(lens, inputs), []
    run = lens.capture(inputs=one_row(family, seed=1), points=("resid_post",))

    with lens.ablate("L0H0"), lens.patch(run, layers=1):
        thread = threading.Thread(target=lambda: elsewhere.append(logits_of(lens, inputs)))
        thread.start()
        thread.join()
        here = logits_of(lens, inputs)

    assert_same(elsewhere[0], plain)
    assert (here - plain).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "t5"])
def test_generation_runs_with_it_and_refuses_positions_with_a_cache(opened, name):
    family, lens = opened(name)
    prompt = {part: value for part, value in one_row(family).items() if not part.startswith("decoder_")}
    options = {"inputs": prompt, "max_new_tokens": 3, "min_new_tokens": 3}
    head, stack, _ = list(sites_to_try(lens))[-1]

    with lens.ablate(head):
        cached, whole = (lens.generate(**options, use_cache=use_cache) for use_cache in (True, False))
    with lens.knock_out([(0, 0)]):
        with pytest.raises(CaptureError, match=r"by position.*use_cache=False"):
            lens.generate(**options)
        cut = lens.generate(**options, use_cache=False)

    letter = stack.letter or None
    torch.testing.assert_close(cached.attention(stack=letter), whole.attention(stack=letter), atol=1e-5, rtol=0)
    assert [token.id for token in cached.tokens] == [token.id for token in whole.tokens]
    assert cut.attention(0)[:, 0].abs().max() == 0


def test_a_query_that_loses_every_key_gets_nothing_from_its_head(opened):
    for name in ("gpt2", "bloom", "falcon", "gemma2", "gpt_oss"):
        family, lens = opened(name)
        inputs = one_row(family)

        for mode in lens.opened.recorders:
            with lens.knock_out([(0, 0)], "L0H1"):
                run = lens.capture(
                    inputs=inputs, points=("z",), mode=None if mode == "dense" else mode, weights=mode == "dense"
                )

            assert run.attention(head="L0H1")[0].abs().max() == 0
            assert run.residual("z", 0)[1, 0].abs().max() == 0
            assert run.residual("z", 0).isfinite().all()
            assert run.logits.isfinite().all()


def test_gradients_pass_through_interventions(opened):
    family, lens = opened("llama")
    inputs = one_row(family)
    other = lens.capture(inputs=one_row(family, seed=1), points=("resid_mid",))

    with (
        lens.ablate("L3H0"),
        lens.knock_out([(5, 1)], "L3H1"),
        lens.patch(other, point="resid_mid", layers=3, positions=2),
    ):
        lens.model(**inputs, use_cache=False).logits[0, -1, 7].backward()
    gradient = lens.model.model.layers[3].self_attn.o_proj.weight.grad
    lens.model.zero_grad(set_to_none=True)

    assert gradient[:, :8].abs().max() == 0  # nothing comes from the head that was ablated
    assert gradient[:, 8:].abs().max() > 0


def test_a_model_loaded_to_run_eagerly_does_and_gives_its_changed_weights(opened):
    family, lens = opened("gpt2")
    inputs = one_row(family)

    with run_eagerly(lens.model), lens.knock_out([(6, 1)], "L1H2"):
        attentions = lens.model(**inputs, output_attentions=True).attentions

    assert attentions[1][0, 2, 6, 1] == 0
    assert float(attentions[1][0, 2, 6].sum().detach()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda lens, run: lens.ablate("L9H0"), HeadAddressError, "L0H0 to L1H2"),
        (lambda lens, run: lens.ablate(), UsageError, "at least one head"),
        (lambda lens, run: lens.ablate("L0H0", how="noise"), UsageError, "zero, mean, resample"),
        (lambda lens, run: lens.ablate("L0H0", how="mean", source=[]), UsageError, "empty"),
        (lambda lens, run: lens.ablate("L0H0", how="mean", source="web"), UsageError, "'corpus'"),
        (lambda lens, run: lens.ablate("L0H0", positions=-1), UsageError, "counted from 0"),
        (lambda lens, run: lens.knock_out([]), UsageError, "at least one edge"),
        (lambda lens, run: lens.knock_out([(2, 5)]), UsageError, "later key"),
        (lambda lens, run: lens.patch(run, point="resid_middle"), CaptureError, "expected one of"),
        (lambda lens, run: lens.patch(run, point="q"), CaptureError, "cannot be patched"),
        (lambda lens, run: lens.patch(run, layers=7), UsageError, "0 to 1"),
        (lambda lens, run: lens.patch(run, positions=99), UsageError, "0 to 10"),
        (lambda lens, run: lens.patch(run, "L0H0"), CaptureError, "was not kept"),
        (lambda lens, run: lens.steer(torch.eye(3)), UsageError, "name the heads"),
        (lambda lens, run: lens.steer(2 * torch.eye(3), "L0H0"), UsageError, "more than 1"),
        (lambda lens, run: lens.steer(torch.full((3, 3), torch.nan), "L0H0"), UsageError, "NaN"),
    ],
)  # fmt: skip
def test_mistakes_say_what_is_expected(opened, make, error, words):
    family, lens = opened("gpt2")
    run = lens.capture(inputs=one_row(family))

    with pytest.raises(error, match=words):
        make(lens, run)


@pytest.mark.parametrize("make", [
    lambda lens, run: lens.steer(torch.eye(3), "L0H0"),
    lambda lens, run: lens.knock_out([(40, 3)]),
    lambda lens, run: lens.ablate("L0H0", positions=30),
    lambda lens, run: lens.patch(run),
])  # fmt: skip
def test_a_text_that_an_edit_was_not_made_for_is_refused(opened, make):
    family, lens = opened("gpt2")
    run = lens.capture(inputs=one_row(family))

    with make(lens, run), pytest.raises(UsageError, match="9"):
        lens.capture(inputs=family.inputs(batch=1, length=9))


def test_the_model_in_training_mode_is_refused(opened):
    _, lens = opened("gpt2")
    lens.model.train()

    with pytest.raises(CaptureError, match="eval"), lens.ablate("L0H0"):
        pass

    lens.model.eval()
    with lens.ablate("L0H0"):
        pass
