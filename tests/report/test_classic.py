"""BertViz' views: its own scripts with our data, offline, escaped, once."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

import numpy as np
import pytest
import torch
from family_models import FAMILIES
from report_samples import HOSTILE, made_run

import attnlens
from attnlens.errors import CaptureError, HeadAddressError, UsageError
from attnlens.report import classic


def params(html: str) -> dict:
    text = re.search(r"const params = Object\.assign\((.*?),\{root_div_id:", html, re.DOTALL)
    return json.loads(text[1])


@pytest.mark.parametrize("view", ["head", "model"])
def test_the_numbers_are_the_runs_own_and_stand_there_once(bert_run, view):
    html = classic.classic_page(bert_run, view)

    attention = params(html)["attention"][0]
    np.testing.assert_allclose(attention["attn"], bert_run.attention().numpy(), atol=10.0**-classic.DECIMALS)
    assert attention["left_text"] == attention["right_text"] == [token.label for token in bert_run.tokens]
    assert html.count('"left_text"') == 1


@pytest.mark.parametrize("view", ["head", "model"])
def test_bertvizs_script_is_run_as_it_is_installed(bert_run, view):
    script = files("bertviz").joinpath(f"{view}_view.js").read_text(encoding="utf-8")

    html = classic.classic_page(bert_run, view)

    for part in script.split("const params = PYTHON_PARAMS;"):
        assert part in html


def test_the_neuron_view_scores_queries_and_keys_as_the_model_does(bert_run):
    html = classic.classic_page(bert_run, "neuron", head="L1H2")

    given = params(html)
    assert (given["layer"], given["head"], given["bidirectional"]) == (1, 2, True)
    shown = given["attention"]["all"]
    query, key = (np.array(shown[name][1][2]) for name in ("queries", "keys"))
    scores = query @ key.T / np.sqrt(query.shape[1])  # as the script says beside each product
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(weights, bert_run.attention(head="L1H2").numpy(), atol=2e-3)
    np.testing.assert_allclose(shown["attn"][1][2], bert_run.attention(head="L1H2").numpy(), atol=1e-4)
    script = files("bertviz").joinpath("neuron_view.js").read_text(encoding="utf-8")
    for part in script.split("const params = window.bertviz_params"):
        assert part in html


def test_heads_that_share_keys_show_their_own_and_a_run_of_weights_is_refused():
    lens = attnlens.load("attnlens/tiny-llama")
    run = lens.capture("the keys", points=())
    shared = run.patterns[0].scores.key[0]

    shown = params(classic.neuron_view(run, html_action="return"))["attention"]["all"]["keys"][0]

    assert len(shared) < len(shown) == run.n_heads
    group = len(shown) // len(shared)
    np.testing.assert_allclose(shown, np.repeat(shared.numpy(), group, axis=0), atol=1e-4)
    with pytest.raises(CaptureError, match="queries and keys"):
        classic.neuron_view(lens.capture("the keys", points=(), weights=True))


def test_the_page_may_run_its_script_and_load_nothing(bert_run):
    html = classic.classic_page(bert_run)

    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)[1]
    allowed = re.search(r"default-src 'none'; script-src '([^']+)';", html)[1]
    assert allowed == "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert not re.search(r'(src|href)="', html.replace(script, ""))


def test_hostile_tokens_stay_text():
    run = made_run(np.full((1, 2, 2, 2), 0.5), [HOSTILE, "<!--"])

    html = classic.classic_page(run, "model")

    assert HOSTILE not in html
    assert html.lower().count("</script") == 1
    assert params(html)["attention"][0]["left_text"] == [HOSTILE, "<!--"]


def test_a_head_is_shown_first(bert_run):
    head = params(classic.classic_page(bert_run, "head", head="L2H1"))
    model = params(classic.classic_page(bert_run, "model", layer=1))

    assert (head["layer"], head["heads"], head["include_layers"]) == (2, [1], [0, 1, 2])
    assert (model["include_layers"], model["include_heads"]) == ([1], [0, 1, 2, 3])
    np.testing.assert_allclose(model["attention"][0]["attn"][0], bert_run.attention(1).numpy(), atol=1e-4)


def test_tensors_are_taken_as_bertviz_takes_them(bert_run):
    tensors = [layer[None] for layer in bert_run.attention()]
    tokens = [token.label for token in bert_run.tokens]

    by_run = params(attnlens.head_view(bert_run, html_action="return"))
    by_tensors = params(attnlens.head_view(tensors, tokens, html_action="return"))

    assert by_tensors["attention"][0]["left_text"] == tokens
    np.testing.assert_allclose(by_tensors["attention"][0]["attn"], by_run["attention"][0]["attn"], atol=1e-4)


def test_the_same_view_has_the_same_bytes(bert_run):
    assert classic.classic_page(bert_run, "model") == classic.classic_page(bert_run, "model")


def test_different_views_have_places_of_their_own(bert_run):
    views = [attnlens.head_view(bert_run, html_action="return"), attnlens.model_view(bert_run, html_action="return")]

    assert len({re.search(r'id="(bertviz-[^"]+)"', html)[1] for html in views}) == 2


def test_view_shows_and_return_gives_back(bert_run, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing: shown.append(thing.data))

    nothing = attnlens.head_view(bert_run)
    html = attnlens.head_view(bert_run, html_action="return")

    assert nothing is None
    assert shown == [html]
    assert html.data == html._repr_html_() == html


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 3}, "layer 3 is not among"),
        ({"heads": [4]}, "numbers from 0 to 3"),
        ({"include_layers": []}, "numbers from 0 to 2"),
        ({"tokens": ["a"]}, "a run brings its own tokens"),
        ({"html_action": "print"}, "'view' or 'return'"),
    ],
)
def test_mistakes_are_named(bert_run, arguments, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        classic.head_view(bert_run, **{"html_action": "return"} | arguments)


def test_wrong_tensors_are_named():
    with pytest.raises(UsageError, match="output_attentions=True"):
        classic.head_view((), ["a"])
    with pytest.raises(UsageError, match="need `tokens`"):
        classic.head_view([torch.ones(1, 2, 3, 3)])
    with pytest.raises(UsageError, match=r"expected \[1, heads, 2, 2\].*found \[2, 3, 3\]"):
        classic.head_view([torch.ones(1, 2, 3, 3)], ["a", "b"])
    with pytest.raises(UsageError, match="display_mode"):
        classic.model_view([torch.ones(1, 2, 1, 1)], ["a"], display_mode="blue")


def test_what_a_browser_cannot_draw_is_refused(bert_run, monkeypatch):
    monkeypatch.setattr(classic, "MAX_LINES", 4 * 11 * 11)

    assert classic.head_view(bert_run, html_action="return")
    with pytest.raises(CaptureError, match=r"draw 1,452 lines, a browser takes about 484; use the token view"):
        classic.model_view(bert_run, html_action="return")
    monkeypatch.setattr(classic, "MAX_WEIGHTS", 4 * 11 * 11)
    with pytest.raises(CaptureError, match=r"hold 1,452 weights"):
        classic.head_view(bert_run, html_action="return")
    assert params(classic.classic_page(bert_run, "head"))["include_layers"] == [0]


def test_a_page_of_a_view_or_head_that_does_not_exist(bert_run):
    with pytest.raises(UsageError, match="head, neuron, model"):
        classic.classic_page(bert_run, "neurons")
    with pytest.raises(HeadAddressError):
        classic.classic_page(bert_run, "head", head="L0H4")


@pytest.fixture(scope="module")
def pair_run():
    """What a BART of equally many layers and heads on both sides attends to."""
    lens = attnlens.load(model=FAMILIES["bart"].build(), tokenizer=FAMILIES["bart"].tokenizer())
    return lens.capture(source="the dogs bark", target="die Hunde", points=())


def test_an_encoder_decoders_stacks_stand_in_a_list(pair_run):
    same = [stack.letter for stack in pair_run.anatomy.stacks if stack.n_layers == pair_run.n_layers]

    html = attnlens.head_view(pair_run, html_action="return")

    names = {"E": "Encoder", "D": "Decoder", "X": "Cross"}
    parts = {part["name"]: part for part in params(html)["attention"]}
    assert set(parts) == {names[letter] for letter in same}
    assert re.findall(r'<option value="\d">(\w+)</option>', html) == list(parts)
    for letter in same:
        weights = pair_run.attention(stack=letter).numpy()
        np.testing.assert_allclose(parts[names[letter]]["attn"], weights, atol=1e-4)
    target, source = ([token.label for token in side] for side in (pair_run.tokens, pair_run.source.tokens))
    assert (parts["Cross"]["left_text"], parts["Cross"]["right_text"]) == (target, source)


def test_an_output_of_transformers_and_tensors_by_stack_show_the_same(pair_run):
    output = pair_run.to_model_output()
    labels = {
        "encoder_tokens": [token.label for token in pair_run.source.tokens],
        "decoder_tokens": [token.label for token in pair_run.tokens],
    }
    stacks = ("decoder_attention", "cross_attention")
    tensors = {name: getattr(output, f"{name}s") for name in stacks}

    by_stack = params(attnlens.model_view(**tensors, **labels, html_action="return"))
    decoder = params(attnlens.head_view(output, labels["decoder_tokens"], html_action="return"))
    run = {part["name"]: part for part in params(attnlens.model_view(pair_run, html_action="return"))["attention"]}

    for part in by_stack["attention"]:
        np.testing.assert_allclose(part["attn"], run[part["name"]]["attn"], atol=1e-4)
    assert [part["name"] for part in by_stack["attention"]] == ["Decoder", "Cross"]
    np.testing.assert_allclose(decoder["attention"][0]["attn"], run["Decoder"]["attn"], atol=1e-4)


def test_marks_of_tokenizers_are_taken_out_unless_somebody_wants_them(bert_run):
    one = [torch.eye(2)[None, None]]

    pretty, plain = (
        params(attnlens.head_view(one, ["Ġthe", "end</w>"], prettify_tokens=pretty, html_action="return"))
        for pretty in (True, False)
    )

    assert pretty["attention"][0]["left_text"] == [" the", "end"]
    assert plain["attention"][0]["left_text"] == ["Ġthe", "end</w>"]


def test_the_neuron_view_runs_an_opened_model(random_gpt2):
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)

    by_model = attnlens.neuron_view(lens, "the keys", layer=1, head=2, html_action="return")

    assert by_model == attnlens.neuron_view(lens.capture("the keys", points=()), None, None, "light", 1, 2, "return")
    with pytest.raises(UsageError, match="a text to run"):
        attnlens.neuron_view(lens)
    with pytest.raises(UsageError, match="tuple holds no queries and keys"):
        attnlens.neuron_view((torch.ones(1, 1, 1, 1),), "the keys")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "there is no attention"),
        ({"attention": [torch.eye(2)[None]], "tokens": ["a", "b"], "sentence_b_start": 2}, "sentence_b_start=2"),
        ({"attention": [torch.eye(2)[None]], "cross_attention": [torch.eye(2)[None]]}, "of one stack"),
        ({"cross_attention": [torch.eye(2)[None]], "decoder_tokens": ["a", "b"]}, "encoder_tokens is missing"),
        (
            {
                "encoder_attention": [torch.eye(2)[None]] * 2,
                "decoder_attention": [torch.eye(2)[None]],
                "encoder_tokens": ["a", "b"],
                "decoder_tokens": ["a", "b"],
            },
            "found Decoder 1 x 1, Encoder 2 x 1",
        ),
    ],
    ids=["nothing", "start", "both", "labels", "sizes"],
)
def test_stacks_that_do_not_go_together_are_named(arguments, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        attnlens.head_view(**arguments, html_action="return")
