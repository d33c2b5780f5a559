"""Effects, sweeps and verdicts are what the model's own arithmetic, transformers and the decision rule say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from family_models import FAMILIES
from torch.nn import functional

import attnlens
from attnlens.errors import CaptureError, CorpusError, HeadAddressError, UsageError
from attnlens.interventions.causal import CausalReport, is_label_causal
from attnlens.interventions.causal import _decision as decision
from attnlens.interventions.edits import ablation
from attnlens.interventions.effects import effect
from attnlens.interventions.metrics import Divergence, LogitDifference, Loss, Probability
from attnlens.interventions.pairs import Pair, grammar_pairs, pair_items, preferences, read_blimp
from attnlens.interventions.sweeps import ablate_each, patch_each
from attnlens.interventions.verdicts import is_edge_causal, is_head_causal, percentile_95

TEXT, OTHER = "The keys to the cabinet", "The key to the cabinet"
AGREES = LogitDifference("are", "is")


@pytest.fixture(scope="module")
def gpt2():
    return attnlens.load("attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def bert():
    return attnlens.load("attnlens/tiny-bert")


def gpt2_logits(lens, text, head=None, layer_states=None):
    """Logits by plain transformers: the rows of W_O of one head zeroed, or a layer's output replaced at a token."""
    ids = torch.tensor([lens.reader.item(text, None, None, None, None).text.ids])
    model, hooks, whole = lens.model, [], None
    if head is not None:
        weight = model.transformer.h[head[0]].attn.c_proj.weight
        whole = weight.detach().clone()
        weight.data[head[1] * 32 : (head[1] + 1) * 32] = 0
    if layer_states is not None:
        layer, position, state = layer_states

        def replace(_module, _args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[:, position] = state
            return output

        hooks.append(model.transformer.h[layer].register_forward_hook(replace))
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    if whole is not None:
        weight.data = whole
    return logits


def word(lens, text):
    return lens.tokenizer(f" {text}", add_special_tokens=False)["input_ids"][0]


@pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        (AGREES, lambda lens, plain, now: now[-1, word(lens, "are")] - now[-1, word(lens, "is")]),
        (Probability("are"), lambda lens, plain, now: now[-1].softmax(-1)[word(lens, "are")]),
        (Probability(), lambda lens, plain, now: now[-1].softmax(-1)[plain[-1].argmax()]),
        (Probability("the", position=3), lambda lens, plain, now: now[3].softmax(-1)[word(lens, "the")]),
        (Divergence(), lambda lens, plain, now: functional.kl_div(
            now[-1].log_softmax(-1), plain[-1].log_softmax(-1), log_target=True, reduction="sum")),
        (Loss(), lambda lens, plain, now: functional.cross_entropy(
            now[:-1], torch.tensor(lens.reader.item(TEXT, None, None, None, None).text.ids[1:]))),
    ],
)  # fmt: skip
def test_an_effect_is_the_metric_of_the_model_with_zeroed_rows(gpt2, metric, by_hand):
    plain, now = gpt2_logits(gpt2, TEXT), gpt2_logits(gpt2, TEXT, head=(2, 1))

    found = effect(gpt2, TEXT, ablation(gpt2, ["L2H1"]), metric)

    assert found.before == pytest.approx(float(by_hand(gpt2, plain, plain)), abs=1e-4)
    assert found.after == pytest.approx(float(by_hand(gpt2, plain, now)), abs=1e-4)
    assert found.change == found.after - found.before
    json.dumps(found.to_json(), allow_nan=False)


def test_a_masked_word_is_read_at_its_mask(bert):
    text = "The keys to the cabinet [MASK] on the table."
    run = bert.capture(text)
    place = [token.label for token in run.tokens].index("[MASK]")
    chosen = bert.tokenizer.convert_tokens_to_ids("are")

    found = effect(bert, text, ablation(bert, ["L2H2"]), Probability("are"))

    assert found.before == pytest.approx(float(run.logits[place].softmax(-1)[chosen]), abs=1e-5)
    assert found.after < found.before


def test_encoder_decoders_are_judged_by_what_they_write():
    family = FAMILIES["t5"]
    lens = attnlens.load(model=family.build(), tokenizer=family.tokenizer())
    pair = ("read this", "write that")
    run = lens.capture(source=pair[0], target=pair[1])
    ids = torch.tensor([token.id for token in run.tokens])

    found = effect(lens, pair, ablation(lens, ["XL1H0"]), Loss())

    assert found.before == pytest.approx(float(functional.cross_entropy(run.logits[:-1], ids[1:])), rel=1e-4)
    assert found.change != 0


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_a_sweep_is_every_head_ablated_by_itself(gpt2, batch_size):
    calls = []

    sweep = ablate_each(gpt2, TEXT, AGREES, batch_size=batch_size, progress=lambda *at: calls.append(at))

    are, is_ = word(gpt2, "are"), word(gpt2, "is")
    for place, head in enumerate(sweep.heads):
        logits = gpt2_logits(gpt2, TEXT, head=(head.layer, head.head))[-1]
        assert float(sweep.after[0, place]) == pytest.approx(float(logits[are] - logits[is_]), abs=1e-4)
    assert sweep.table().shape == (3, 4)
    assert calls[-1] == (12, 12)
    assert len(calls) == -(-12 // batch_size)


def test_resampling_draws_again_with_each_seed_and_the_same_with_the_same(gpt2):
    one, again, other = (
        ablate_each(gpt2, TEXT, AGREES, ["L2H1", "L1H2"], how="resample", source=[OTHER], draws=3, seed=seed).after
        for seed in (0, 0, 1)
    )

    assert torch.equal(one, again)
    torch.testing.assert_close(one[1:], other[:2])
    assert one[:, 0].std() > 0


def test_a_patch_sweep_is_every_state_replaced_by_itself(gpt2):
    run = gpt2.capture(OTHER, points=("resid_post",))

    sweep = patch_each(gpt2, TEXT, OTHER, AGREES, layers=(0, 2), batch_size=5)

    are, is_ = word(gpt2, "are"), word(gpt2, "is")
    assert sweep.after.shape == (2, 6)
    for row, layer in enumerate(sweep.layers):
        for position in sweep.positions:
            state = run.residual("resid_post", layer)[position]
            logits = gpt2_logits(gpt2, TEXT, layer_states=(layer, position, state))[-1]
            assert float(sweep.after[row, position]) == pytest.approx(float(logits[are] - logits[is_]), abs=1e-4)
    assert float(sweep.recovered[1, -1]) == pytest.approx(1, abs=1e-4)  # nothing but the last state is read
    assert sweep.recovered[0, :2].abs().max() < 1e-4  # the texts begin alike


@pytest.mark.parametrize("point", ["resid_pre", "attn_out", "resid_mid", "mlp_out", "embed", "final"])
def test_every_point_can_be_swept(bert, point):
    text, other = (f"The {noun} to the cabinet [MASK] on the table." for noun in ("keys", "key"))

    sweep = patch_each(bert, text, other, AGREES, point=point)

    assert sweep.after.isfinite().all()
    assert (sweep.after - sweep.before).abs().max() > 1e-3


def test_the_head_that_carries_the_number_is_causal_and_others_are_not(gpt2):
    verdicts = {head: is_head_causal(gpt2, TEXT, head, AGREES) for head in ("L2H1", "L2H2")}

    assert {head: verdict.verdict for head, verdict in verdicts.items()} == {
        "L2H1": "supported", "L2H2": "not supported"
    }  # fmt: skip
    found = verdicts["L2H1"]
    assert len(found.controls) == 11
    assert found.threshold == max(found.controls.values())  # of fewer than 20
    assert found.rank_p == pytest.approx(1 / 12)
    assert found.interval[0] < found.harm < found.interval[1]
    assert found.controls["L2H2"] == pytest.approx(verdicts["L2H2"].harm)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_text_that_the_model_gets_wrong_is_no_test(gpt2):
    found = is_head_causal(gpt2, TEXT, "L2H1", LogitDifference("is", "are"), draws=2)

    assert (found.verdict, "does not prefer" in found.reason) == ("void", True)


def test_the_edge_to_the_subject_is_causal_and_another_is_not(gpt2):
    verb, subject = 5, 2
    with gpt2.knock_out([(verb, subject)], "L2H1"):
        cut = gpt2.capture(TEXT).logits[-1]

    found = is_edge_causal(gpt2, TEXT, "L2H1", (verb, subject), AGREES)
    other = is_edge_causal(gpt2, TEXT, "L2H1", (verb, 1), AGREES)

    after = float(cut[word(gpt2, "are")] - cut[word(gpt2, "is")])
    assert found.harm == pytest.approx(found.before - after, abs=1e-4)
    assert found.verdict == "supported"
    assert {"4->1", "3->0"} == {control for control in found.controls if control[0] != "5"}
    assert other.verdict == "not supported"


def test_preferences_agree_with_the_models_card(gpt2, bert):
    """`attnlens.zoo.evaluate` asks the same by other code: its accuracy on pairs of one differing token."""
    from attnlens.zoo.evaluate import minimal_pair_accuracy
    from attnlens.zoo.pairs import minimal_pairs
    from attnlens.zoo.text import pairs_documents

    pairs = [pair for pair in minimal_pairs(pairs_documents(120)) if pair.kind == "agreement"]
    for lens in (gpt2, bert):
        same = [p for p in pairs if one_token_apart(lens, p)]
        items = pair_items(lens, [Pair(p.before + p.good + p.after, p.before + p.bad + p.after) for p in same])

        hits = int((preferences(lens, items) > 0).sum())

        score = minimal_pair_accuracy(lens.model, lens.tokenizer, same)["agreement"]
        assert (len(items), hits) == (score.n, score.hits)
        assert score.n > 50


def one_token_apart(lens, pair):
    good, bad = (lens.tokenizer(pair.before + form + pair.after)["input_ids"] for form in (pair.good, pair.bad))
    return len(good) == len(bad) and sum(a != b for a, b in zip(good, bad, strict=True)) == 1


def test_whole_sentences_are_compared_by_the_sum_that_transformers_gives(gpt2):
    pairs = [
        Pair("The keys are here.", "The keys is here.", whole=True),
        Pair("A cat sees us.", "Cats see.", whole=True),
    ]
    expected = []
    for pair in pairs:
        sums = []
        for text in (pair.good, pair.bad):
            ids = torch.tensor([lens_ids(gpt2, text)])
            with torch.no_grad():
                sums.append(-float(gpt2.model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1))
        expected.append(sums[0] - sums[1])

    found = preferences(gpt2, pair_items(gpt2, pairs))

    assert found.tolist() == pytest.approx(expected, abs=1e-3)


def lens_ids(lens, text):
    return list(lens.reader.item(text, None, None, None, None).text.ids)


def test_words_of_several_pieces_are_masked_together(bert):
    text, other = "The zorblats see it.", "The zorblat sees it."
    (item,) = pair_items(bert, [Pair(text, other)])
    mask = bert.tokenizer.mask_token_id

    pieces = [token.label for token in bert.capture(text).tokens]
    start, stop = pieces.index("The") + 1, pieces.index("it")
    assert [i for i, token in enumerate(item.good.ids) if token == mask] == list(range(start, stop))
    assert item.good.targets == tuple(lens_ids(bert, text)[start:stop])


def test_a_blimp_file_is_read_and_its_mistakes_are_told(tmp_path, shared_data):
    for paradigm in ("regular_plural_subject_verb_agreement_1", "anaphor_gender_agreement"):
        pairs = read_blimp(shared_data(f"blimp/{paradigm}.jsonl"), limit=30)
        assert len(pairs) == 30
        assert all(pair.good != pair.bad and not pair.whole for pair in pairs)
    broken = tmp_path / "pairs.jsonl"
    broken.write_text('{"sentence_good": "A", "sentence_bad": "B"}\n{"good": 1}\n')

    with pytest.raises(CorpusError, match="line 2"):
        read_blimp(broken)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_blimp(tmp_path / "missing.jsonl")
    assert read_blimp(broken, limit=1) == (Pair("A", "B", whole=True),)


@pytest.fixture(scope="module")
def report(bert):
    return is_label_causal(
        bert,
        ["L2H2", "L1H1"],
        grammar_pairs("agreement with attractors", 150),
        {"reflexive": grammar_pairs("reflexive", 100), "pronoun": grammar_pairs("pronoun", 20)},
        label="agreement", task="agreement with attractors", draws=2,
    )  # fmt: skip


def test_a_label_is_causal_for_the_head_that_agreement_needs(report):
    agreement, idle = report.each

    assert (agreement.verdict, idle.verdict) == ("supported", "not supported")
    assert agreement.baseline - agreement.accuracy == pytest.approx(agreement.drop)
    assert agreement.drop > max(agreement.controls.values())
    assert "L1H1" not in agreement.controls  # it carries the label too
    assert len(agreement.controls) == 10
    assert agreement.interval[0] < agreement.drop < agreement.interval[1]
    assert report.together.heads == ("L2H2", "L1H1")
    assert all(len(name.split("+")) == 2 for name in report.together.controls)
    assert isinstance(report, CausalReport)
    assert report.verdict == "supported"
    json.dumps(report.to_json(), allow_nan=False)


def test_a_model_that_knows_nothing_makes_the_test_void(random_gpt2):
    model, tokenizer = random_gpt2
    lens = attnlens.load(model=model, tokenizer=tokenizer)

    found = is_label_causal(lens, ["L0H0"], grammar_pairs("agreement", 30), {}, draws=1)

    assert found.verdict == "void"
    assert found.together is None
    assert any("0.75" in reason for reason in found.each[0].reasons)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((0.9, 50, 0.3, (0.2, 0.4), 0.1, (0.1, 0.3)), "supported"),
        ((0.74, 50, 0.3, (0.2, 0.4), 0.1, (0.1, 0.3)), "void"),
        ((0.9, 19, 0.3, (0.2, 0.4), 0.1, (0.1, 0.3)), "void"),
        ((0.9, 50, 0.3, (0.2, 0.4), None, (0.1, 0.3)), "void"),
        ((0.9, 50, 0.3, (0.2, 0.4), 0.1, None), "void"),
        ((0.9, 50, 0.3, (0.0, 0.4), 0.1, (0.1, 0.3)), "not"),
        ((0.9, 50, 0.3, (0.2, 0.4), 0.3, (0.1, 0.3)), "not"),
        ((0.9, 50, 0.3, (0.2, 0.4), 0.1, (-0.1, 0.3)), "not"),
    ],
)  # fmt: skip
def test_the_decision_rule(numbers, verdict):
    found, reasons = decision(*numbers)

    assert found.startswith(verdict)
    assert len(reasons) == (0 if verdict == "supported" else 1)


def test_the_95th_percentile_of_few_is_their_largest():
    assert percentile_95([0.1, 0.7, 0.3]) == 0.7
    assert percentile_95(list(np.arange(100.0))) == 95.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda lens: ablate_each(lens, TEXT, AGREES, ["L7H0"]), HeadAddressError, "L0H0 to L2H3"),
        (lambda lens: ablate_each(lens, TEXT, AGREES, batch_size=0), UsageError, "at least 1"),
        (lambda lens: ablate_each(lens, TEXT, AGREES, how="noise"), UsageError, "zero, mean, resample"),
        (lambda lens: effect(lens, TEXT, ablation(lens, ["L0H0"]), Probability("zorblats")), UsageError, "one token"),
        (lambda lens: effect(lens, TEXT, ablation(lens, ["L0H0"]), Divergence(position=9)), UsageError, "6 tokens"),
        (lambda lens: patch_each(lens, TEXT, "The key", AGREES), UsageError, "same number of tokens"),
        (lambda lens: patch_each(lens, TEXT, OTHER, AGREES, positions=[6]), UsageError, "0 to 5"),
        (lambda lens: patch_each(lens, TEXT, OTHER, AGREES, point="q"), CaptureError, "cannot be patched"),
        (lambda lens: is_edge_causal(lens, TEXT, "L2H1", (2, 5), AGREES), UsageError, "none after its query"),
        (lambda lens: grammar_pairs("islands"), UsageError, "reflexive"),
        (lambda lens: is_label_causal(lens, ["L0H0"], [Pair("A b.", "A b.")], {}), UsageError, "none of the pairs"),
    ],
)  # fmt: skip
def test_mistakes_say_what_is_expected(gpt2, call, error, words):
    with pytest.raises(error, match=words):
        call(gpt2)


def test_models_without_a_prediction_are_refused(bert):
    headless = attnlens.load(model=bert.model.bert, tokenizer=bert.tokenizer)

    with pytest.raises(CaptureError, match="no head that predicts"):
        effect(headless, "The keys are here.", ablation(headless, ["L0H0"]), Divergence())
    with pytest.raises(UsageError, match="no loss"):
        effect(bert, "The keys are here.", ablation(bert, ["L0H0"]), Loss())
    with pytest.raises(UsageError, match="once in the text"):
        effect(bert, "The keys are here.", ablation(bert, ["L0H0"]), Divergence())
