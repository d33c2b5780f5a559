"""Models with random weights: whatever is said of their heads, besides that they are broad, is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from probes.calibration.cases import Case
from probes.calibration.material import Material
from probes.calibration.truth import Claim, Expected

__all__ = ["null_cases"]

_LAYERS, _HEADS = 2, 6
_BROAD = Claim("positional", ("breadth",))


def null_cases(n_models: int, material: Material) -> Iterator[Case]:
    """So many BERT, GPT-2 and LLaMA models in turn, each with weights of its own."""
    for number in range(n_models):
        architecture = ("bert", "gpt2", "llama")[number % 3]
        expected = (Expected("random weights", "null", allowed=(_BROAD,)),) * (_LAYERS * _HEADS)
        order = tuple(range(len(expected)))
        yield Case(f"null {number} {architecture}", "null", expected, _opener(architecture, number, material), order)


def _opener(architecture: str, number: int, material: Material) -> Any:
    def opened(_order: Sequence[int]) -> Any:
        import torch
        import transformers

        import attnlens
        from attnlens.zoo.planted_words import new_tokenizer

        words = material.words(architecture)
        made = {"bert": _bert, "gpt2": _gpt2, "llama": _llama}[architecture](transformers, len(words))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(10_000 + number)
            model = made()
        model.config._name_or_path = f"null {number}"
        return attnlens.load(model=model, tokenizer=new_tokenizer(architecture, words, 128))

    return opened


def _bert(transformers: Any, n_words: int) -> Any:
    config = transformers.BertConfig(
        vocab_size=n_words, hidden_size=96, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS,
        intermediate_size=192, max_position_embeddings=128, initializer_range=0.2,
    )  # fmt: skip
    return lambda: transformers.BertForMaskedLM(config)


def _gpt2(transformers: Any, n_words: int) -> Any:
    config = transformers.GPT2Config(
        vocab_size=n_words, n_embd=96, n_layer=_LAYERS, n_head=_HEADS, n_positions=128, initializer_range=0.2,
        bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return lambda: transformers.GPT2LMHeadModel(config)


def _llama(transformers: Any, n_words: int) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=n_words, hidden_size=96, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS, intermediate_size=192, max_position_embeddings=128, initializer_range=0.2,
        bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    return lambda: transformers.LlamaForCausalLM(config)
