"""What a request says, and what it runs: the model's own call, made here without the store."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlens.errors import AttnlensError, TextError
from dashboards.making import chat_prompt, check_text, make_run
from dashboards.request import KINDS, MAX_NEW_TOKENS, RunRequest

REQUESTS = st.builds(
    RunRequest.from_json,
    st.fixed_dictionaries(
        {"model": st.text(max_size=9), "text": st.text(max_size=9)},
        optional={"kind": st.sampled_from(KINDS), "second": st.text(max_size=9), "new_tokens": st.integers(-5, 999),
                  "run": st.sampled_from(["", "ab" * 32, "AB" * 32, "../x"])},
    ),
)  # fmt: skip


@given(REQUESTS)
def test_a_request_is_what_its_json_says(request):
    document = request.to_json()

    assert RunRequest.from_json(document) == request
    assert {"model", "text"} <= document.keys()
    assert 0 <= request.new_tokens <= MAX_NEW_TOKENS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"second": "b"}, RunRequest("m", "a")),
        ({"kind": "pair", "second": "b", "new_tokens": "7"}, RunRequest("m", "a", "pair", "b")),
        ({"kind": "write"}, RunRequest("m", "a", "write", new_tokens=20)),
        ({"kind": "write", "new_tokens": "9999999999"}, RunRequest("m", "a", "write", new_tokens=20)),
        ({"kind": "chat"}, RunRequest("m", "a", "chat")),
        ({"kind": "pair", "run": "0f" * 32}, RunRequest("m", "a", run="0f" * 32)),
    ],
)
def test_a_kind_keeps_what_it_uses(given, expected):
    assert RunRequest.from_json({"model": "m", "text": "a"} | given) == expected


@pytest.mark.parametrize("second", ["", "  "])
@pytest.mark.parametrize("kind", ["pair", "target"])
def test_an_empty_second_text_is_named(kind, second):
    with pytest.raises(TextError, match="second text is empty"):
        check_text(RunRequest("m", "a", kind, second), 100)


def same_attention(one, other) -> bool:
    return torch.equal(one.attention(), other.attention())


def test_a_pair_runs_as_two_segments(random_lens):
    run = make_run(random_lens, RunRequest("m", "the dog", "pair", "she saw"), max_tokens=40)

    assert same_attention(run, random_lens.capture(("the dog", "she saw")))
    assert sum(token.label == "[SEP]" for token in run.tokens) == 2


def test_a_model_writes_as_many_tokens_as_asked_for(random_gpt2):
    import attnlens

    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)

    run = make_run(lens, RunRequest("m", "the", "write", new_tokens=4), max_tokens=40)

    assert len(run.tokens) - run.n_prompt in range(1, 5)
    with pytest.raises(TextError, match=r"3 tokens and is to get 38 more, this page takes 40"):
        make_run(lens, RunRequest("m", "the", "write", new_tokens=38), max_tokens=40)


def test_points_and_logits_are_there_when_asked_for(random_lens):
    request = RunRequest("m", "the dog")

    plain, full = (make_run(random_lens, request, max_tokens=40, points=points) for points in (False, True))

    assert plain.logits is None
    assert len(plain.stream) == 0
    assert full.logits is not None
    assert "resid_post" in full.stream


TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def test_a_turn_is_put_into_the_template_with_one_beginning(random_llama):
    import attnlens

    lens = attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer)
    lens.tokenizer.chat_template = TEMPLATE
    try:
        prompt = chat_prompt(lens, "the dog")
        run = make_run(lens, RunRequest("m", "the dog", "chat"), max_tokens=40)
    finally:
        lens.tokenizer.chat_template = None

    assert prompt == "<user>the dog<assistant>"
    assert [token.id for token in run.tokens].count(lens.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no <b>system</b> turn') }}", "{% for %}"])
def test_a_template_that_is_none_or_fails_is_a_message(random_lens, template):
    random_lens.tokenizer.chat_template = template
    try:
        with pytest.raises(TextError, match="choose a single text"):
            chat_prompt(random_lens, "a")
    finally:
        random_lens.tokenizer.chat_template = None


@pytest.mark.parametrize("kind", ["target", "write"])
def test_what_a_model_cannot_do_is_a_message(random_lens, kind):
    with pytest.raises(AttnlensError):
        make_run(random_lens, RunRequest("m", "a", kind, "b", 3), max_tokens=40)
