"""Generation stitched to one map, held against one eager forward of transformers over the same tokens."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from eager_truth import eager_attentions, eager_generation
from family_models import FAMILIES
from torch import Tensor
from transformers import GenerationMixin, GPT2Config, GPT2Model, PreTrainedModel

import attnlens
from attnlens.capture.patterns import LazyPattern
from attnlens.capture.run import Capture
from attnlens.capture.tokens import EncodedText
from attnlens.errors import AttnlensError, CaptureError, TextError, UsageError
from attnlens.models.decoding import continued
from attnlens.models.lens import Lens

GENERATING = [name for name, family in FAMILIES.items() if family.kind not in ("encoder", "vision")]
# One of each way of attending: plain, own softmax, window, windows on some layers, softcap, sinks, pairs, sound.
KINDS = ["gpt2", "bloom", "falcon", "mistral", "qwen2", "gemma2", "gemma3", "gpt_oss", "t5", "bart", "whisper"]
N_PROMPT, N_NEW = 7, 6
WRITE = {"max_new_tokens": N_NEW, "min_new_tokens": N_NEW}  # random models would end at once now and then


@cache
def lens_of(name: str) -> Lens:
    family = FAMILIES[name]
    return attnlens.load(model=family.build(), tokenizer=family.tokenizer())


def prompt_of(name: str, seed: int = 0) -> dict[str, Tensor]:
    inputs = FAMILIES[name].inputs(batch=1, length=N_PROMPT, seed=seed)
    return {key: value for key, value in inputs.items() if key != "decoder_input_ids"}


def ids_of(run: Capture) -> Tensor:
    return torch.tensor([[token.id for token in run.tokens]])


def whole_text(run: Capture, prompt: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of one forward over everything that `run` holds."""
    ids = ids_of(run)
    if run.anatomy.is_encoder_decoder:
        return {**prompt, "decoder_input_ids": ids}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def assert_same_as_one_forward(run: Capture, model: PreTrainedModel, prompt: Mapping[str, Tensor]) -> None:
    for stack, layers in eager_attentions(model, whole_text(run, prompt)).items():
        for layer, weights in enumerate(layers):
            torch.testing.assert_close(run.attention(layer, stack=stack or None), weights[0], atol=1e-5, rtol=0)


def written_by_transformers(model: PreTrainedModel, prompt: Mapping[str, Tensor], **options: Any) -> Tensor:
    return GenerationMixin.generate(model, **prompt, **{"do_sample": False, **options})


@pytest.mark.parametrize("name", GENERATING)
def test_a_generation_is_one_forward_over_the_text_that_it_wrote(name: str) -> None:
    lens, prompt = lens_of(name), prompt_of(name)

    run = lens.generate(inputs=prompt, **WRITE)

    assert torch.equal(ids_of(run), written_by_transformers(lens.model, prompt, **WRITE))
    assert run.n_prompt == (1 if lens.anatomy.is_encoder_decoder else N_PROMPT)
    assert_same_as_one_forward(run, lens.model, prompt)
    once = lens.capture(inputs=whole_text(run, prompt))
    torch.testing.assert_close(run.attention(), once.attention(), atol=1e-5, rtol=0)
    assert torch.equal(run.visible(), once.visible())


@pytest.mark.parametrize(
    "options",
    [{"cache": "static"}, {"use_cache": False}, {"num_beams": 3}, {"num_beams": 3, "cache": "static"}],
    ids=["static", "no-cache", "beams", "static-beams"],
)
@pytest.mark.parametrize("name", KINDS)
def test_caches_and_beams_are_stitched_to_the_same_map(name: str, options: dict[str, Any]) -> None:
    lens, prompt = lens_of(name), prompt_of(name)
    theirs = {("cache_implementation" if key == "cache" else key): value for key, value in options.items()}

    run = lens.generate(inputs=prompt, **WRITE, **options)

    assert torch.equal(ids_of(run), written_by_transformers(lens.model, prompt, **WRITE, **theirs))
    assert_same_as_one_forward(run, lens.model, prompt)


@pytest.mark.parametrize("name", ["llama", "gemma3", "bloom"])
def test_every_written_row_is_what_its_step_computed(name: str) -> None:
    lens, prompt = lens_of(name), prompt_of(name)
    steps = eager_generation(lens.model, prompt, N_NEW).attentions[""]

    run = lens.generate(inputs=prompt, **WRITE)

    for number, step in enumerate(steps[1:]):
        position = N_PROMPT + number
        for layer, weights in enumerate(step):
            first_key = position + 1 - weights.shape[-1]  # a window has dropped the keys before
            row = run.attention(layer)[:, position]
            torch.testing.assert_close(row[:, first_key : position + 1], weights[0, :, 0], atol=1e-5, rtol=0)
            assert row[:, :first_key].sum() == 0


def test_beams_that_changed_places_are_followed_to_where_the_best_one_came_from() -> None:
    lens, prompt = lens_of("llama"), prompt_of("llama", seed=3)
    options = {**WRITE, "num_beams": 4}
    told = written_by_transformers(lens.model, prompt, **options, return_dict_in_generate=True, output_scores=True)
    assert len(set(told.beam_indices[0].tolist())) > 1  # else the test would pass without following anything

    run = lens.generate(inputs=prompt, **options)

    assert torch.equal(ids_of(run), told.sequences)
    assert_same_as_one_forward(run, lens.model, prompt)


def test_a_prompt_that_is_read_in_pieces_gives_the_same_map() -> None:
    lens, prompt = lens_of("gemma3"), prompt_of("gemma3")

    run = lens.generate(inputs=prompt, **WRITE, prefill_chunk_size=3)

    assert_same_as_one_forward(run, lens.model, prompt)


def test_plain_causal_steps_keep_no_mask_and_windows_are_not_visible_rather_than_zero() -> None:
    full = lens_of("llama").generate(inputs=prompt_of("llama"), **WRITE)
    window = lens_of("mistral").generate(inputs=prompt_of("mistral"), **WRITE)

    n = N_PROMPT + N_NEW
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    assert isinstance(pattern := full.patterns[0], LazyPattern)
    assert pattern.scores.mask is None
    assert torch.equal(full.visible(), causal)
    assert torch.equal(window.visible(), causal & causal.T.tril(3).T)  # four tokens: itself and three before it
    assert (window.attention()[:, :, ~window.visible()] == 0).all()
    assert (window.attention().sum(-1) - 1).abs().max() < 1e-5


def test_a_cache_with_which_the_model_computes_something_else_is_refused() -> None:
    """GPT-Neo's local layers misplace their window in a static cache (transformers 5.23)."""
    lens, prompt = lens_of("gpt_neo"), prompt_of("gpt_neo")

    with pytest.raises(CaptureError, match=r"differ by .* with this cache it computes something else"):
        lens.generate(inputs=prompt, **WRITE, cache="static")


def test_sampling_from_a_seed_is_reproducible_and_leaves_the_random_state_alone() -> None:
    lens, prompt = lens_of("llama"), prompt_of("llama")
    options = {**WRITE, "do_sample": True, "temperature": 3.0}
    before = torch.get_rng_state()

    one, again, other = (lens.generate(inputs=prompt, **options, seed=seed) for seed in (5, 5, 6))

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(ids_of(one), ids_of(again))
    assert not torch.equal(ids_of(one), ids_of(other))
    torch.manual_seed(5)
    assert torch.equal(ids_of(one), written_by_transformers(lens.model, prompt, **options))
    torch.manual_seed(5)
    assert torch.equal(ids_of(one), ids_of(lens.generate(inputs=prompt, **options)))  # without a seed: torch's state
    assert_same_as_one_forward(one, lens.model, prompt)


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_options_of_the_drawing_change_what_is_drawn(narrow: dict[str, Any]) -> None:
    lens, prompt = lens_of("llama"), prompt_of("llama")
    wide = {"top_k": 0, "top_p": 1.0, "temperature": 5.0}

    greedy = lens.generate(inputs=prompt, **WRITE)
    drawn = lens.generate(inputs=prompt, **WRITE, do_sample=True, seed=0, **wide)
    narrowed = lens.generate(inputs=prompt, **WRITE, do_sample=True, seed=0, **wide | narrow)

    assert not torch.equal(ids_of(drawn), ids_of(greedy))
    assert torch.equal(ids_of(narrowed), ids_of(greedy))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_end_token_ends_the_run(num_beams: int) -> None:
    lens, prompt = lens_of("gpt2"), prompt_of("gpt2")
    end = int(ids_of(lens.generate(inputs=prompt, **WRITE, num_beams=num_beams))[0, N_PROMPT + 2])
    options = {"max_new_tokens": N_NEW, "eos_token_id": end, "num_beams": num_beams, "length_penalty": -5.0}

    run = lens.generate(inputs=prompt, **options)

    assert torch.equal(ids_of(run), written_by_transformers(lens.model, prompt, **options))
    assert run.tokens[-1].id == end
    assert len(run.tokens) < N_PROMPT + N_NEW
    assert run.attention().shape[-2:] == (len(run.tokens), len(run.tokens))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["llama", "gptj", "t5"])
def test_a_generation_leaves_the_model_as_it_was(name: str, fails: bool) -> None:
    lens, prompt = lens_of(name), prompt_of(name)
    before = state_of(lens.model)

    def stop(written: int, _most: int) -> None:
        if fails and written == 3:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        lens.generate(inputs=prompt, **WRITE, progress=stop, do_sample=True, seed=1)

    assert state_of(lens.model) == before
    run = lens.generate(inputs=prompt, **WRITE)
    assert_same_as_one_forward(run, lens.model, prompt)


def state_of(model: PreTrainedModel) -> tuple[object, ...]:
    parts = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    implementations = tuple(config._attn_implementation for config in parts)
    random = torch.get_rng_state().tolist()
    return implementations, hooks, model.generation_config.to_dict(), model.config.to_dict(), model.training, random


def test_progress_tells_every_token() -> None:
    told: list[tuple[int, int]] = []

    lens_of("gpt2").generate(inputs=prompt_of("gpt2"), **WRITE, progress=lambda done, most: told.append((done, most)))

    assert told == [(number, N_NEW) for number in range(1, N_NEW + 1)]


def test_threads_that_write_at_a_time_do_not_mix() -> None:
    lens = lens_of("llama")
    prompts = [prompt_of("llama", seed) for seed in (1, 2)]
    alone = [lens.generate(inputs=prompt, **WRITE) for prompt in prompts]
    together: dict[int, Capture] = {}
    barrier = threading.Barrier(2)

    def write(number: int) -> None:
        barrier.wait()
        together[number] = lens.generate(inputs=prompts[number], **WRITE)

    threads = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number, run in enumerate(alone):
        assert torch.equal(ids_of(together[number]), ids_of(run))
        torch.testing.assert_close(together[number].attention(), run.attention(), atol=1e-6, rtol=0)


def test_points_and_logits_cover_prompt_and_written_text() -> None:
    lens, prompt = lens_of("gpt2"), prompt_of("gpt2")

    run = lens.generate(inputs=prompt, **WRITE, points=("embed", "resid_post", "z"))
    bare = lens.generate(inputs=prompt, **WRITE, logits=False)

    n = N_PROMPT + N_NEW
    with torch.no_grad():
        logits = lens.model(ids_of(run)).logits[0]
    assert run.logits is not None
    torch.testing.assert_close(run.logits, logits, atol=1e-5, rtol=0)
    assert run.logits.argmax(-1)[N_PROMPT - 1 : -1].tolist() == ids_of(run)[0, N_PROMPT:].tolist()  # greedy
    assert run.residual("resid_post").shape == (2, n, 21)
    assert run.residual("z", 1).shape == (3, n, 7)
    assert bare.logits is None
    assert not bare.stream


def test_only_the_heads_asked_for_are_kept() -> None:
    lens, prompt = lens_of("llama"), prompt_of("llama")
    every = lens.generate(inputs=prompt, **WRITE)

    some = lens.generate(inputs=prompt, **WRITE, heads=("L1H4", "L3H0"))

    torch.testing.assert_close(some.attention(head="L1H4"), every.attention(head="L1H4"), atol=1e-6, rtol=0)
    assert [pattern is None for pattern in some.patterns] == [True, False, True, False]
    assert some.nbytes < every.nbytes


def test_a_text_prompt_goes_on_as_text_with_words() -> None:
    lens = attnlens.load("attnlens/tiny-gpt2")

    run = lens.generate("The keys to the cabinet", max_new_tokens=8)

    assert run.text.startswith("The keys to the cabinet ")
    assert run.text == lens.tokenizer.decode([token.id for token in run.tokens], skip_special_tokens=True)
    assert [token.label for token in run.tokens[: run.n_prompt]] == [
        "<|endoftext|>",
        *"The keys to the cabinet".split(),
    ]
    spans = [token.span for token in run.tokens if token.span is not None]
    assert "".join(run.text[start:end] for start, end in spans) == run.text.replace(" ", "")
    assert {word.label for word in run.words} >= {"keys", "cabinet"}
    assert run.attention(0, words=True).shape[-1] == len(run.units)
    assert run.settings["generation"]["max_new_tokens"] == 8
    assert run.settings["generation"]["gap"] < 1e-5


def test_an_encoder_decoder_reads_the_source_once_and_writes_on_from_a_prompt() -> None:
    lens = lens_of("t5")

    plain = lens.generate("héllo", **WRITE)
    begun = lens.generate("Yes", source="héllo", **WRITE)

    assert plain.source is not None
    assert plain.source.text == "héllo"
    assert (plain.n_prompt, begun.n_prompt) == (1, 4)
    assert [token.label for token in begun.tokens[1:4]] == ["Y", "e", "s"]
    assert begun.text.startswith("Yes")
    assert begun.attention(0, kind="cross").shape == (3, 4 + N_NEW, len(plain.source.tokens))
    assert begun.attention(0, stack="E").shape[-1] == len(plain.source.tokens)
    torch.testing.assert_close(begun.attention(0, kind="cross").sum(-1), torch.ones(3, 4 + N_NEW))


def test_characters_of_several_tokens_are_one_span_and_broken_ones_have_none() -> None:
    tokenizer = FAMILIES["llama"].tokenizer()
    assert tokenizer is not None
    prompt = EncodedText("a", (), (), (), False)
    ids = [id for id in tokenizer("é€ b")["input_ids"] if id not in tokenizer.all_special_ids]
    broken = ids[2:3]  # the first of three bytes

    whole = continued(tokenizer, prompt, [*ids, tokenizer.eos_token_id])
    cut = continued(tokenizer, prompt, [*ids, *broken])

    assert whole.text == "aé€ b"
    spans = [(1, 2)] * 2 + [(2, 3)] * 3 + [(3, 4), (4, 5)]
    assert [token.span for token in whole.tokens] == [*spans, None]
    assert whole.tokens[-1].special
    assert [token.label for token in whole.tokens[:5]] == ["é 1/2", "é 2/2", "€ 1/3", "€ 2/3", "€ 3/3"]
    assert [token.span for token in cut.tokens] == [*spans, None]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("bert", {}, CaptureError, "BertForMaskedLM writes no text"),
        ("vit", {}, CaptureError, "ViTForImageClassification writes no text"),
        ("llama", {"max_new_tokens": 60}, TextError, "7 tokens and max_new_tokens=60 make 67.*at most 64"),
        ("bart", {"max_new_tokens": 64}, TextError, "1 tokens and max_new_tokens=64 make 65.*at most 64"),
        ("llama", {"max_new_tokens": 0}, UsageError, "max_new_tokens is 0"),
        ("llama", {"cache": "nonsense"}, UsageError, "nonsense.*Choose one of"),
        ("llama", {"cache": "quantized"}, UsageError, "quantized"),
        ("llama", {"cache": "static", "use_cache": False}, UsageError, "contradicts"),
        ("llama", {"nonsense": 3}, UsageError, "nonsense"),
        ("llama", {"temperature": 0.5}, UsageError, "do_sample=True"),
        ("llama", {"num_return_sequences": 2}, UsageError, "num_return_sequences"),
        ("llama", {"prompt_lookup_num_tokens": 2}, UsageError, "prompt_lookup_num_tokens"),
        ("llama", {"layers": [9]}, UsageError, "layers"),
        ("llama", {"max_memory": "1K"}, TextError, "would take about"),
    ],
)
def test_what_cannot_be_generated_is_refused_by_name(
    name: str, options: dict[str, Any], error: type[AttnlensError], message: str
) -> None:
    lens, prompt = lens_of(name), prompt_of(name)

    with pytest.raises(error, match=message):
        lens.generate(inputs=prompt, **options)


def test_prompts_of_several_rows_padded_ones_and_none_are_refused() -> None:
    lens, family = lens_of("llama"), FAMILIES["llama"]
    padded = {name: value[1:] for name, value in family.inputs(batch=2, padding="left").items()}

    with pytest.raises(UsageError, match="2 rows"):
        lens.generate(inputs=family.inputs(batch=2))
    with pytest.raises(UsageError, match="padding"):
        lens.generate(inputs=padded)
    with pytest.raises(UsageError, match="give either a prompt"):
        lens.generate()
    with pytest.raises(TextError, match="empty"):
        lens.generate(" ")


def test_a_model_without_its_head_writes_no_text() -> None:
    config = GPT2Config(n_layer=2, n_head=2, n_embd=12, vocab_size=261, n_positions=32)
    lens = attnlens.load(model=GPT2Model(config).eval(), tokenizer=FAMILIES["gpt2"].tokenizer())

    with pytest.raises(CaptureError, match="GPT2Model writes no text"):
        lens.generate("abc")


def test_a_saved_generation_keeps_its_map_and_its_boundary(tmp_path: Path) -> None:
    run = lens_of("mistral").generate(inputs=prompt_of("mistral"), **WRITE)

    opened = attnlens.open(run.save(tmp_path / "run.attn"))

    assert opened.n_prompt == N_PROMPT
    assert opened.settings["generation"] == run.settings["generation"]
    assert torch.equal(opened.attention(), run.attention())
    assert torch.equal(opened.visible(), run.visible())
