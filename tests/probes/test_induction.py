"""Induction scores against plain loops, designed patterns, and heads that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probe_arrays import seen, sentence

import attnlens
from probes.family import Judging, Measuring, Probe, Stimulating
from probes.induction import COPYING, DUPLICATE, INDUCTION, PREVIOUS, InductionProbe
from probes.induction.copying import copying, inspect, own_token_on_top
from probes.induction.keys import OV_COPYING, PARITY
from probes.induction.stimuli import drawn_from, stimuli
from probes.inspecting import Inspecting, inspect_into
from probes.plain import observe
from probes.split import Split
from probes.tally import UNIT, Tally
from probes.texts import Stimulus

PROBE = InductionProbe()
IDS = (0, 7, 3, 9, 7, 3, 9, 7, 3, 9)  # a start token, then 7 3 9 three times


def reading(attention, ids=IDS, special=(0,)):
    """What a causal model with this attention saw of a stimulus."""
    n = len(ids)
    made = seen(sentence(" ".join("x" * n)), attention, specials=special, causal=True)
    return type(made)(**{**made.__dict__, "ids": tuple(ids)})


def random_rows(n_heads, n, seed=0):
    rows = np.random.default_rng(seed).random((n_heads, n, n)) * np.tri(n)
    return rows / rows.sum(-1, keepdims=True)


def scores(observation):
    """Question -> (trials, mean of each head, mean chance)."""
    tally = Tally(1, len(observation.attention), ())
    observe(PROBE, tally, observation)
    return {
        key: (int(cell.trials[0]), cell.mass[0] / UNIT / cell.trials[0], cell.chance[0] / UNIT / cell.trials[0])
        for key, cell in tally.cells.items()
    }


def targets_of(rule, q, ids):
    """Keys by the definitions, in words: an earlier copy; what followed it; the token before. Never the start token."""
    if rule == "previous":
        return [q - 1] if q > 1 else []
    copies = [k for k in range(1, q) if ids[k] == ids[q]]
    return copies if rule == "duplicate" else [k + 1 for k in copies if k + 1 < q]


@pytest.mark.parametrize(("key", "rule"), [(PREVIOUS, "previous"), (DUPLICATE, "duplicate"), (INDUCTION, "induction")])
def test_scores_are_what_plain_loops_count(key, rule):
    rows = random_rows(3, len(IDS)).astype(np.float32)
    asked = [(q, targets_of(rule, q, IDS)) for q in range(1, len(IDS)) if targets_of(rule, q, IDS)]
    expected = np.mean([[rows[h, q, at].sum() for q, at in asked] for h in range(3)], axis=1)

    n, mass, chance = scores(reading(rows))[key]

    assert n == len(asked)
    np.testing.assert_allclose(mass, expected, atol=1e-6)
    assert chance == pytest.approx(np.mean([len(at) / (q + 1) for q, at in asked]), abs=1e-7)


@pytest.mark.parametrize("rule", ["previous", "duplicate", "induction"])
def test_the_scores_of_the_head_detector_are_its_formulas(rule):
    rows = random_rows(2, len(IDS)).astype(np.float32)
    wanted = np.zeros((len(IDS), len(IDS)))
    for q in range(len(IDS)):
        for k in [q - 1] if rule == "previous" and q else targets_of(rule, q, IDS) if rule != "previous" else []:
            wanted[q, k] = 1

    found = scores(reading(rows))

    mul = (rows * wanted).sum((1, 2)) / rows.sum((1, 2))
    apart = 1 - np.abs(rows - wanted).sum((1, 2)) / len(IDS)
    np.testing.assert_allclose(found[PARITY[rule, "mul"]][1], mul, atol=1e-6)
    np.testing.assert_allclose(found[PARITY[rule, "abs"]][1], apart, atol=1e-6)


def test_a_designed_head_scores_one_on_its_own_question_only():
    n = len(IDS)
    rows = np.zeros((3, n, n))
    for head, rule in enumerate(("previous", "duplicate", "induction")):
        for q in range(n):
            at = targets_of(rule, q, IDS) or [0]
            rows[head, q, at[-1]] = 1

    found = scores(reading(rows))

    own = np.array([found[key][1] for key in (PREVIOUS, DUPLICATE, INDUCTION)])
    np.testing.assert_allclose(np.diag(own), 1)
    assert (own - np.diag(np.diag(own))).max() < 0.5


def test_permuting_heads_permutes_scores():
    rows = random_rows(4, len(IDS), seed=3)
    order = [2, 0, 3, 1]

    straight, permuted = scores(reading(rows)), scores(reading(rows[order]))

    for key, (_, mass, _) in straight.items():
        np.testing.assert_array_equal(mass[order], permuted[key][1])


class Letters:
    """A tokenizer of 300 ordinary tokens, three special ones and two that no text spells."""

    bos_token_id = 0
    all_special_ids = (0, 1, 2)
    pieces = ("<s>", "</s>", "<pad>", *(f"w{i}" for i in range(300)), "[unused0]", "<extra_id_0>")

    def __len__(self):
        return len(self.pieces)

    def get_added_vocab(self):
        return {"<pad>": 2}

    def convert_ids_to_tokens(self, ids):
        return [self.pieces[i] for i in ids]


def anatomy(*, max_length=None, causal=True, vocab_size=305):
    known = attnlens.load("attnlens/tiny-llama").anatomy
    return replace(known, model="mine", causal=causal, max_length=max_length, vocab_size=vocab_size)


def test_tokens_are_drawn_from_the_middle_without_special_and_unused_ones():
    assert drawn_from(anatomy(), Letters()) == list(range(103, 273))


@pytest.mark.parametrize(
    ("max_length", "shapes"),
    [(None, {(25, 4), (50, 2)}), (60, {(25, 2), (29, 2)}), (9, {(4, 2)}), (8, set())],
)
def test_stimuli_fit_the_model(max_length, shapes):
    made = list(stimuli(anatomy(max_length=max_length), Letters(), seed=0))

    assert {(len(set(each.ids)) - 1, (len(each.ids) - 1) // (len(set(each.ids)) - 1)) for each in made} == shapes
    for each in made:
        assert max_length is None or len(each.ids) <= max_length
        assert (each.ids[0], each.special) == (0, (0,))
        n = len(set(each.ids)) - 1
        assert each.ids[1 : 1 + n] * ((len(each.ids) - 1) // n) == each.ids[1:]


def test_the_same_seed_gives_the_same_tokens():
    first, again, other = (list(stimuli(anatomy(), Letters(), seed)) for seed in (1, 1, 2))

    assert first == again
    assert {each.ids for each in first}.isdisjoint(each.ids for each in other)
    assert len({each.key for each in first}) == len(first) >= 20


def test_models_that_see_later_tokens_are_refused():
    bidirectional = anatomy(causal=False)

    reason = PROBE.unsuited(bidirectional)

    assert reason is not None
    assert "mine sees later tokens" in reason
    assert list(PROBE.stimuli(bidirectional, Letters(), 0)) == []
    assert PROBE.unsuited(anatomy()) is None


def test_the_family_keeps_every_contract_it_claims():
    for contract in (Probe, Measuring, Judging, Stimulating, Inspecting):
        assert isinstance(PROBE, contract)
    assert PROBE.conditions(INDUCTION).needs[0].key == COPYING
    assert PROBE.conditions(PREVIOUS).needs == ()
    assert PROBE.wording(COPYING) is None


def test_examples_point_at_what_followed_the_copy():
    pointer = PROBE.pointer(INDUCTION, reading(random_rows(1, len(IDS))))

    assert pointer is not None
    assert (pointer.query, pointer.targets, pointer.level) == (4, (2,), "token")


def test_copying_is_the_attended_token_against_the_others():
    """Head 0 raises only what it looks at, head 1 all alike, head 2 anything else, head 3 nothing."""
    ids = torch.tensor([0, 5, 6, 7])
    sample, place = torch.unique(ids, return_inverse=True)
    attention = torch.zeros(4, 1, 4)
    attention[:, 0] = torch.tensor([0.5, 0.1, 0.3, 0.1])  # most on the start token, which is no ordinary key
    raised = torch.tensor([[9.0, 0, 2, -1], [9, 2, 2, 2], [9, 1, -1, 1], [9, -1, -1, -1]])[:, None]

    found = copying(attention, raised, place, torch.tensor([False, True, True, True]), sample > 0)

    assert found[:, 0].tolist() == [1.0, 0.0, -1.0, 0.0]


def by_transformers(model, ids, head):
    """Pattern of a head of layer 1, and what it adds to the logits with the final norm's scale; by hooks alone."""
    kept = {}
    attention = model.model.layers[1].self_attn
    hooks = [
        attention.o_proj.register_forward_pre_hook(lambda _module, args: kept.update(z=args[0].detach()[0])),
        model.model.norm.register_forward_pre_hook(lambda _module, args: kept.update(last=args[0].detach()[0])),
    ]
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        pattern = model(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False).attentions[1][0, head]
    model.set_attn_implementation(usual)
    for hook in hooks:
        hook.remove()
    own = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    written = kept["z"][:, own] @ attention.o_proj.weight[:, own].T
    scale = (kept["last"].square().mean(-1, keepdim=True) + model.config.rms_norm_eps).rsqrt()
    return pattern, ((written * scale * model.model.norm.weight) @ model.lm_head.weight.T).detach()


def test_copying_by_hand_on_a_model(tiny_llama):
    """The head's write through the model's own norm scale and output matrix, with nothing of attnlens."""
    made = list(PROBE.stimuli(tiny_llama.anatomy, tiny_llama.tokenizer, 0))[:2]

    found = {each.number: each for each in inspect(tiny_llama, made) if each.key == COPYING}

    for number, stimulus in enumerate(made):
        ids = stimulus.ids
        pattern, logits = by_transformers(tiny_llama.model, ids, 3)
        raised = (logits - logits.mean(-1, keepdim=True)).clamp_min(0)
        total = 0.0
        for q in (q for q in range(1, len(ids)) if ids[q] in ids[1:q]):
            attended = ids[1 + int(pattern[q, 1:].argmax())]
            others = float(np.mean([float(raised[q, token]) for token in set(ids[1:]) - {attended}]))
            own = float(raised[q, attended])
            total += (own - others) / (own + others) if own + others > 0 else 0
        assert float(found[number].values[7]) == pytest.approx(total, rel=1e-3)  # L1H3


def test_own_token_on_top_by_hand():
    from attnlens.measures.circuits import ov_circuit

    generator = torch.Generator().manual_seed(0)
    value, output = torch.randn(2, 6, 3, generator=generator), torch.randn(2, 3, 6, generator=generator)
    embedding, read = torch.randn(40, 6, generator=generator), torch.randn(40, 6, generator=generator)
    ids = torch.arange(10, 30)

    found = own_token_on_top(ov_circuit(value, output), embedding[ids], read, ids)

    for head in range(2):
        logits = embedding @ value[head] @ output[head] @ read.T
        expected = np.mean([int((logits[i] > logits[i, i]).sum()) < 5 for i in ids.tolist()])
        assert float(found[head]) == pytest.approx(expected)


@pytest.fixture(scope="module")
def tiny_llama():
    return attnlens.load("attnlens/tiny-llama")


SPLIT = Split("document", np.array([False, True]), 1, 1, "", {"a": 0, "b": 1})


def run_on(lens):
    """The tally of a quarter of a model's stimuli, each half on its own, through the plain scorer."""
    n_heads = lens.anatomy.n_layers * lens.anatomy.n_heads
    tally = Tally(2, n_heads, ())
    for number, stimulus in enumerate(PROBE.stimuli(lens.anatomy, lens.tokenizer, 0)):
        if number % 16 > 3:
            continue
        ids = torch.tensor([stimulus.ids])
        run = next(iter(lens.captures(inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)})))
        made = reading(run.attention().flatten(0, 1).numpy(), stimulus.ids, stimulus.special)
        observe(PROBE, tally, type(made)(**{**made.__dict__, "cluster": number % 2, "confirm": bool(number % 2)}))
    return tally


def best(tally, lens, key):
    cell = tally.cells[key]
    means = cell.mass.sum(0) / UNIT / cell.trials.sum()
    return str(lens.anatomy.heads()[int(means.argmax())]), float(means.max())


def test_tiny_llama_has_its_previous_token_and_induction_heads(tiny_llama):
    tally = run_on(tiny_llama)
    inspect_into(tally, PROBE, tiny_llama, SPLIT, 0)

    assert best(tally, tiny_llama, PREVIOUS)[0] == "L0H0"
    head, score = best(tally, tiny_llama, INDUCTION)
    assert head == "L1H3"
    assert score > 0.75
    assert best(tally, tiny_llama, DUPLICATE)[1] < 0.1
    copies = tally.cells[COPYING].hits[:, 7] / UNIT / tally.cells[COPYING].trials
    assert (copies > 0.4).all()
    assert tally.cells[OV_COPYING].trials.tolist() == [1, 1]


def test_tiny_gpt2_has_none():
    lens = attnlens.load("attnlens/tiny-gpt2")

    tally = run_on(lens)

    assert all(best(tally, lens, key)[1] < 0.2 for key in (PREVIOUS, DUPLICATE, INDUCTION))


def test_a_model_without_a_head_has_no_copying(random_llama):
    lens = attnlens.load(model=random_llama.model.model, tokenizer=random_llama.tokenizer)

    found = list(inspect(lens, [Stimulus("a", (5, 6, 7, 5, 6, 7))]))

    assert found == []
