"""Planted models: the attention, norms and logits that their design says, computed by other means."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import attnlens
from attnlens.errors import UsageError
from attnlens.zoo import planted_heads as heads
from attnlens.zoo import registry
from attnlens.zoo.planted import plant, pointers
from attnlens.zoo.planted_models import build_planted, layers_of, write_files
from attnlens.zoo.planted_stream import FIRST, token_vectors, unit
from attnlens.zoo.planted_terms import Match
from attnlens.zoo.planted_words import grammar_words

TEXT = "The queen that the boys admire often helps the old queen. She is very happy and the king likes himself today."
DETERMINERS = {"the"}
NOUNS = {"queen": "feminine", "boys": "plural", "king": "masculine"}
PRONOUNS = {"she": "feminine", "himself": "masculine"}
VERBS = {"admire", "helps", "likes"}


def attention_of(planted, ids, types=None):
    """All heads' attention, `[layer head query key]`, from transformers' own eager code."""
    planted.model.set_attn_implementation("eager")
    extra = {} if types is None else {"token_type_ids": torch.tensor([types])}
    with torch.no_grad():
        output = planted.model(torch.tensor([ids]), output_attentions=True, output_hidden_states=True, **extra)
    return np.stack([layer[0].numpy() for layer in output.attentions]), output


def designed(name, words, query, causal):
    """The keys that share a head's attention at a query, from the words alone."""
    n = len(words)
    seen = range(query + 1) if causal else range(n)
    before = range(query - 1, 0, -1)
    offsets = {"previous token": -1, "next token": 1, "offset -2": -2, "offset -3": -3, "offset +2": 2}
    if name in offsets:
        at = query + offsets[name]
        return [at] if 0 <= at < n else [0]
    if name == "first token":
        return [0]
    if name in {"separator", "full stop"}:
        return [k for k in seen if words[k] == {"separator": "[SEP]", "full stop": "."}[name]] or [0]
    if name == "same token":
        return [k for k in seen if words[k] == words[query] and k != query] or [0]
    if name == "induction":
        return [k for k in seen if k and words[k - 1] == words[query]] or [0]
    if name == "uniform":
        return list(seen)
    if name == "verb before":
        return [next((k for k in before if words[k] in VERBS), 0)]
    if name == "verbs":
        return [k for k in seen if words[k] in VERBS] or [0]
    if name == "determiner to noun":
        after = [k for k in range(query + 1, n) if words[k] in NOUNS]
        return [after[0] if words[query] in DETERMINERS and after else 0]
    if name == "antecedent":
        kind = PRONOUNS.get(words[query])
        return [next((k for k in before if kind and NOUNS.get(words[k]) == kind), 0)]
    if name == "rare word":
        rarity = dict(zip(grammar_words("bert").tokens, grammar_words("bert").rarity, strict=True))
        return [max(seen, key=lambda k: rarity.get(words[k], 0.0))]
    raise AssertionError(name)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_every_head_attends_as_designed_at_every_token(family):
    planted = build_planted(f"attnlens/planted-{family}")
    ids = planted.tokenizer(TEXT)["input_ids"]
    words = planted.tokenizer.convert_ids_to_tokens(ids)

    attention, _ = attention_of(planted, ids)

    assert len(ids) >= 24
    checked = 0
    for layer, own in enumerate(planted.heads):
        for index, head in enumerate(own):
            if head.terms is None or (family == "llama" and head.name == "same token"):
                continue
            for query in range(len(ids)):
                expected = np.zeros(len(ids))
                keys = designed(head.name, words, query, causal=family != "bert")
                expected[keys] = 1 / len(keys)
                np.testing.assert_allclose(
                    attention[layer, index, query],
                    expected,
                    atol=0.02,
                    err_msg=f"{head.name} at {query} {words[query]}",
                )
                checked += 1
    assert checked >= 10 * len(ids)


def test_rotary_duplicates_include_the_token_itself():
    planted = build_planted("attnlens/planted-llama")
    ids = planted.tokenizer(TEXT)["input_ids"]

    attention, _ = attention_of(planted, ids)

    for query in range(1, len(ids)):
        same = [key for key in range(query + 1) if ids[key] == ids[query]]
        np.testing.assert_allclose(attention[0, 5, query, same], 1 / len(same), atol=2e-3)


@pytest.mark.parametrize(
    ("family", "annotated", "lengths"),
    [("bert", True, (4, 5, 5)), ("gpt2", True, (4, 5, 6)), ("gpt2", False, (3, 4, 5)), ("llama", False, (2, 3, 4))],
)
def test_the_stream_has_its_designed_length_at_every_token(family, annotated, lengths):
    layers = ([heads.previous().writing("TOK", "PREV"), heads.first_token()], [])
    if lengths[2] > lengths[1]:
        layers[1].append(heads.previous().writing("TOK", "OUT"))
    planted = plant(family, layers, annotations=pointers() if annotated else ())
    ids = planted.tokenizer(TEXT)["input_ids"]
    types = None
    if annotated:
        types = [position + (family == "gpt2") * len(planted.tokenizer) for position in range(len(ids))]
    ends = []
    blocks = planted.model.base_model.encoder.layer if family == "bert" else (
        planted.model.base_model.h if family == "gpt2" else planted.model.base_model.layers
    )  # fmt: skip
    for each in blocks:
        each.register_forward_hook(
            lambda _m, _a, output: ends.append(output[0] if isinstance(output, tuple) else output)
        )

    _, output = attention_of(planted, ids, types)

    copies = 1 if family == "llama" else 2
    for expected, state in zip(lengths, [output.hidden_states[0], *ends], strict=True):
        found = (state.reshape(len(ids), -1).double() ** 2).sum(-1) / copies
        torch.testing.assert_close(found, torch.full_like(found, expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("probability", [0.3, 0.5, 0.7, 0.9, 0.98])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_head_gives_its_target_the_probability_asked_for(family, probability):
    asked = [
        heads.offset(-2, probability),
        heads.pointer("gold", probability=probability),
        heads.on_token(".", "full stop", "", probability),
    ]
    planted = plant(family, [asked, []], annotations=pointers())
    ids = planted.tokenizer("the queen helps the king .")["input_ids"][:7]
    targets = [0, 0, 1, 1, 2, 3, 1]
    types = [target + (family == "gpt2") * len(planted.tokenizer) for target in targets]

    attention, _ = attention_of(planted, ids, types)

    for query in range(3, 7):
        assert attention[0, 0, query, query - 2] == pytest.approx(probability, abs=1e-3)
        assert attention[0, 1, query, targets[query]] == pytest.approx(probability, abs=1e-3)
    assert attention[0, 2, 6, 6] == pytest.approx(probability, abs=1e-3)


def test_a_mixture_shares_its_attention_by_its_weights():
    planted = plant("bert", [[heads.mixture({-1: 0.5, 1: 0.3})], []])
    ids = planted.tokenizer(TEXT)["input_ids"]

    attention, _ = attention_of(planted, ids)

    for query in range(2, len(ids) - 1):
        assert attention[0, 0, query, [query - 1, query + 1, 0]] == pytest.approx([0.5, 0.3, 0.2], abs=1e-3)


SINGULAR, PLURAL = "helps", "help"


def agreement_model():
    """A pointer from the token before the verb to the subject carries the subject's number to the output."""
    readout = []
    for verb, names in (
        (SINGULAR, heads.classes("noun feminine", "noun masculine")),
        (PLURAL, heads.classes("noun plural")),
    ):
        readout += [(verb, "OUT", axis, 10.0) for axis in names]
    layers = (
        [heads.previous().writing("TOK", "PREV"), heads.first_token()],
        [heads.pointer("subject", probability=0.98).writing("FEAT", "OUT"), heads.offset(-2)],
    )
    return plant("gpt2", layers, annotations=pointers(), readout=readout)


def preference(planted, text, subject, zeroed=None):
    """Logit of the singular verb less that of the plural one after `text`, with one head's output set to zero."""
    ids = planted.tokenizer(text)["input_ids"]
    types = [len(planted.tokenizer) + position for position in range(len(ids))]
    types[-1] = len(planted.tokenizer) + subject
    handles = []
    if zeroed is not None:
        layer, head = zeroed

        def without(_module, arguments):
            heads_out = arguments[0].clone()
            heads_out[..., head * 128 : (head + 1) * 128] = 0
            return (heads_out,)

        handles.append(planted.model.transformer.h[layer].attn.c_proj.register_forward_pre_hook(without))
    _, output = attention_of(planted, ids, types)
    for handle in handles:
        handle.remove()
    singular, plural = planted.tokenizer.convert_tokens_to_ids([SINGULAR, PLURAL])
    return float(output.logits[0, -1, singular] - output.logits[0, -1, plural])


def test_agreement_follows_the_pointer_to_the_subject():
    """By hand: .98 of the subject's class is written; the stream then has 5 + .98^2 + .02^2 for a gain made for 6."""
    planted = agreement_model()
    expected = 10 * 0.98 * math.sqrt(6 / (5 + 0.98**2 + 0.02**2))

    assert expected == pytest.approx(9.83, abs=0.005)
    assert preference(planted, "the queen near the boys", 2) == pytest.approx(expected, abs=2e-3)
    assert preference(planted, "the boys near the queen", 2) == pytest.approx(-expected, abs=2e-3)


def test_zeroing_the_pointer_head_alone_removes_the_preference():
    planted, text = agreement_model(), "the queen near the boys"
    whole = preference(planted, text, 2)

    effects = {
        (layer, head): preference(planted, text, 2, (layer, head)) - whole for layer in range(2) for head in range(6)
    }

    assert whole + effects.pop((1, 0)) == pytest.approx(0, abs=1e-5)
    assert whole + effects.pop((0, 0)) == pytest.approx(11.95, abs=0.01)  # the norm falls, so everything else is louder
    assert max(map(abs, effects.values())) < 1e-3


def test_repeated_tokens_score_as_transformer_lens_counts_them():
    """Its scores are shares of all attention in the cells of a pattern, rows without a target included."""
    planted = build_planted("attnlens/planted-gpt2")
    block = list(range(100, 120))

    attention, _ = attention_of(planted, [2, *block, *block])

    n = 41
    cells = {
        "previous": (attention[0, 0], [(q, q - 1) for q in range(1, n)], 40 / 41),
        "duplicate": (attention[0, 5], [(q, q - 20) for q in range(21, n)], 20 / 41),
        "induction": (attention[1, 0], [(q, q - 19) for q in range(21, n)], 20 / 41),
    }
    for pattern, places, share in cells.values():
        found = sum(pattern[cell] for cell in places)
        assert found / pattern.sum() == pytest.approx(share, abs=3e-4)
        assert found / len(places) == pytest.approx(1, abs=1e-3)
        assert pattern[0, 0] == 1


def test_token_vectors_have_length_1_and_wide_angles():
    vectors = token_vectors(np.zeros(4096))

    cosines = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(cosines), 1)
    apart = np.abs(cosines - np.diag(np.diag(cosines)))
    assert apart.max() == pytest.approx(18 / 62)
    assert apart[FIRST].max() == 0


@pytest.mark.parametrize("name", sorted(registry.PLANTED))
def test_the_embedded_planted_models_open_and_run(name):
    lens = attnlens.load(name)
    run = lens.capture(TEXT)

    assert (lens.anatomy.model, lens.anatomy.n_layers, lens.anatomy.n_heads) == (name, 2, 6)
    assert lens.anatomy.weights_sha256 == build_planted(name).sha256
    assert run.attention().shape[:2] == (2, 6)
    assert lens.tokenizer.decode(lens.tokenizer("Zebra!")["input_ids"], skip_special_tokens=True).replace(" ", "")


def test_a_planted_model_copies_by_induction():
    lens = attnlens.load("attnlens/planted-gpt2")

    run = lens.capture("lamp anna horses lamp anna horses lamp")

    assert lens.tokenizer.decode([int(run.logits[-1].argmax())]) == "anna"


def test_a_planted_model_opens_though_none_of_its_heads_is_asked_to_write():
    planted = plant("bert", [[heads.offset(-2, probability=0.7)], [heads.same_token()]])

    lens = attnlens.load(model=planted.model, tokenizer=planted.tokenizer)

    pattern = lens.capture("the queen helps the king").attention(layer=0, head=0)
    assert float(pattern[4, 2]) == pytest.approx(0.7, abs=1e-3)


def test_planted_models_load_in_other_precisions():
    lens = attnlens.load("attnlens/planted-bert", dtype="float64")

    assert lens.anatomy.dtype == "float64"


def test_the_files_beside_the_planted_models_are_what_the_code_writes(tmp_path):
    write_files(tmp_path)

    for model in registry.PLANTED.values():
        for name in ("config.json", "card.json", "README.md"):
            assert (model.folder / name).read_text() == (tmp_path / model.folder.name / name).read_text()
        card = registry.card(model.name)
        assert [each["name"] for each in card["heads"]] == [
            head.name for own in layers_of(model.family) for head in own
        ]
        config = json.loads((model.folder / "config.json").read_text())
        assert config["model_type"] == model.family


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plant("t5", [[]]), "no planted 't5'"),
        (lambda: plant("bert", [[heads.uniform()] * 7]), "7 heads"),
        (lambda: plant("llama", [[heads.antecedent()]]), "POS"),
        (lambda: plant("llama", [[heads.mixture({-1: 0.5, -2: 0.5})]]), "mixes offsets"),
        (lambda: plant("llama", [[]], annotations=pointers()), "no token types"),
        (lambda: plant("gpt2", [[]], annotations=[[("PTR", 0)], []]), "equally many"),
        (lambda: heads.offset(1, 1.0), "probability"),
        (lambda: heads.mixture({-1: 0.8, 1: 0.4}), "shares"),
        (lambda: heads.nearest("x", "x", [0], "up"), "left or right"),
    ],
)
def test_what_cannot_be_planted_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_head_with_too_many_rows_is_refused():
    full = Match("POS", np.eye(64), "POS")

    with pytest.raises(UsageError, match="192 rows"):
        plant("bert", [[heads.PlantedHead("full", "", (full, full, full))], []])


def test_a_term_takes_as_few_rows_as_it_can():
    from attnlens.zoo.planted_terms import rows_of

    by_key, by_query = np.outer(np.ones(64), unit(3)), np.outer(unit(3), np.ones(64))

    assert [len(rows_of([Match("FEAT", scores, "POS")])) for scores in (by_key, by_query, np.eye(64))] == [1, 1, 64]
