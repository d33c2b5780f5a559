"""The badge is carried by heads that are known to matter, by the others not, and the tasks are what they say."""

from __future__ import annotations

import json

import pytest
import torch

import attnlens
from attnlens.errors import CorpusError
from attnlens.heads import Head
from attnlens.interventions.pairs import Pair, grammar_pairs
from attnlens.models.encode import encode
from probes.causal import CausalSettings, Claim, Tasks, badges, impossible, task_of
from probes.causal.badges import TOGETHER, UNTESTED
from probes.causal.edges import AWAY, hide_edges
from probes.causal.tasks import AGREEMENT, ANAPHORA, DETERMINERS, NEXT_WORD, REPETITION

FEW = CausalSettings(draws=2)
TEXTS = tuple((f"t{i}", pair.good) for i, pair in enumerate(grammar_pairs("agreement", 60)))


@pytest.fixture(scope="module")
def llama():
    return attnlens.load("attnlens/tiny-llama")


@pytest.fixture(scope="module")
def gpt2():
    return attnlens.load("attnlens/tiny-gpt2")


def heads_of(lens, *names):
    return tuple({str(head): head for head in lens.anatomy.heads()}[name] for name in names)


@pytest.mark.parametrize(("name", "agrees", "idle"), [("tiny-gpt2", "L2H1", "L0H2"), ("tiny-bert", "L2H2", "L1H1")])
def test_the_agreement_head_carries_the_badge(name, agrees, idle):
    lens = attnlens.load(f"attnlens/{name}")
    claims = [Claim("agreement", AGREEMENT, heads_of(lens, agrees)), Claim("nsubj", AGREEMENT, heads_of(lens, idle))]

    found = badges(lens, claims, Tasks(lens, TEXTS, n=60), FEW)

    true, false = found["agreement", *heads_of(lens, agrees)], found["nsubj", *heads_of(lens, idle)]
    assert (true["verdict"], false["verdict"]) == ("supported", "not supported")
    assert true["effect"] > true["control"]
    assert true["ci"][0] > 0
    assert "drop" in false["reason"]
    assert NEXT_WORD in true["unrelated"]
    assert ANAPHORA not in true["unrelated"]  # reflexives need the subject's number as well
    json.dumps(list(found.values()), allow_nan=False)


def test_the_induction_circuit_carries_the_badge(llama):
    """The heads of layer 1 stand in for each other; the previous-token head below has no one."""
    four = heads_of(llama, "L1H3", "L1H0", "L1H2", "L1H1")
    claims = [Claim("induction", REPETITION, four), Claim("previous", REPETITION, heads_of(llama, "L0H0"))]
    asked = []

    found = badges(
        llama,
        claims,
        Tasks(llama, TEXTS, n=30),
        CausalSettings(draws=1),
        lambda done, total: asked.append((done, total)),
    )

    previous = found["previous", *heads_of(llama, "L0H0")]
    assert previous["verdict"] == "supported"
    assert previous["loss_rise"] > 1
    for head in four:
        badge = found["induction", head]
        assert badge["verdict"] == TOGETHER
        assert badge["method"] == "edge knock-out"
        assert badge["effect"] > 0.4 > badge["control"]
    assert asked == [(4, 5), (5, 5)]


def test_hiding_the_key_is_what_a_blocked_mask_does(llama):
    """One text, all heads of a layer: an additive mask in transformers' own code."""
    task = Tasks(llama, n=10).task(REPETITION)
    item, (query, key) = task.pairs[0], task.edges[0]
    ids = torch.tensor([item.good.ids])
    found = hide_edges(llama, [Head(1, h) for h in range(4)], task.pairs[:1], task.edges[:1])
    mask = torch.full((1, 1, ids.shape[1], ids.shape[1]), torch.finfo(torch.float32).min).triu(1)
    blocked = mask.clone()
    blocked[..., query, key] = torch.finfo(torch.float32).min
    model = llama.model
    layer = model.model.layers[1].self_attn

    def block(_module, args, kwargs):
        return args, {**kwargs, "attention_mask": blocked}

    def loss():
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, query].double()
        return -float(logits.log_softmax(-1)[item.good.targets[0]])

    plain = loss()
    hook = layer.register_forward_pre_hook(block, with_kwargs=True)
    hidden = loss()
    hook.remove()

    assert found.loss_rise == pytest.approx(hidden - plain, rel=1e-3, abs=1e-4)
    assert found.n == 1


def test_repetition_asks_for_the_token_that_followed(llama):
    task = Tasks(llama, n=12).task(REPETITION)

    assert len(task.pairs) == len(task.edges) == 12
    for item, (query, key) in zip(task.pairs, task.edges, strict=True):
        ids = item.good.ids
        assert len(ids) - 1 == query
        assert ids[key - 1] == ids[query]
        assert ids[key] == item.good.targets[0]
        assert item.bad.targets[0] in ids
        assert item.bad.targets != item.good.targets
        assert all(0 < key + away <= query for away in AWAY if 0 < key + away < query)


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-bert"])
def test_the_next_word_is_one_of_the_text(name):
    lens = attnlens.load(f"attnlens/{name}")
    tasks = Tasks(lens, TEXTS, n=20)

    task = tasks.task(NEXT_WORD)

    texts = [tuple(encode(lens.tokenizer, text, bos=True).ids) for _, text in TEXTS]
    for item in task.pairs:
        (place,), (target,) = item.good.places, item.good.targets
        filled = (*item.good.ids, target) if name == "tiny-gpt2" else tuple(
            target if i == place else token for i, token in enumerate(item.good.ids)
        )  # fmt: skip
        assert any(text[: len(filled)] == filled for text in texts)
    again = Tasks(lens, TEXTS[::-1], n=20).task(NEXT_WORD)
    assert again.pairs == task.pairs  # chosen by name, not by order


def test_a_text_model_without_a_head_for_words_cannot_be_tested(minilm, gpt2):
    assert "predicts no words" in impossible(attnlens.load(minilm))
    assert impossible(gpt2) is None


def test_blimp_files_take_the_place_of_the_grammar(gpt2, tmp_path):
    row = {"sentence_good": "The cat sees it.", "sentence_bad": "The cat see it.", "one_prefix_method": True}
    verbs, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    verbs.write_text(json.dumps(row | {"UID": "regular_plural_subject_verb_agreement_1"}) + "\n", encoding="utf-8")
    other.write_text(json.dumps(row | {"UID": "npi_present_1"}) + "\n", encoding="utf-8")
    tasks = Tasks(gpt2, TEXTS, blimp=(verbs, other), n=20)

    assert tasks.task(AGREEMENT).pairs == (Pair(row["sentence_good"], row["sentence_bad"]),)
    assert "regular_plural" in tasks.task(AGREEMENT).of
    assert "npi_present_1" in tasks.unrelated(AGREEMENT)
    assert tasks.task(DETERMINERS) is None
    with pytest.raises(CorpusError, match="cannot be read"):
        Tasks(gpt2, blimp=(tmp_path / "missing.jsonl",)).task(AGREEMENT)


def test_labels_without_a_task_stay_untested(gpt2):
    (head,) = heads_of(gpt2, "L0H0")

    found = badges(gpt2, [Claim("det", DETERMINERS, (head,))], Tasks(gpt2, TEXTS), FEW)

    assert found["det", head]["verdict"] == UNTESTED


@pytest.mark.parametrize(
    ("family", "relation", "task"),
    [
        ("syntax", "nsubj", AGREEMENT),
        ("syntax", "nsubj:pass", AGREEMENT),
        ("syntax", "agreement", AGREEMENT),
        ("syntax", "det", DETERMINERS),
        ("syntax", "obj", None),
        ("coreference", "antecedent (other form)", ANAPHORA),
        ("induction", "induction", REPETITION),
        ("induction", "duplicate", None),
        ("positional", "offset -1", NEXT_WORD),
        ("positional", "first-token", None),
    ],
)
def test_each_label_has_its_task(family, relation, task):
    assert task_of(family, relation) == task
