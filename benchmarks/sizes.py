"""The models that are measured: known sizes with random weights, so that nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WORDS = 1000
BATCHES = ((1, 32), (1, 128), (1, 512), (16, 128))


@dataclass(frozen=True)
class Size:
    """A model to measure.

    Attributes:
        title: what the table calls it.
        build: makes it, with random weights.
        batches: texts and tokens of each batch.
    """

    title: str
    build: Callable[[], PreTrainedModel]
    batches: tuple[tuple[int, int], ...] = BATCHES


def _bert(**options: int) -> PreTrainedModel:
    return BertModel(BertConfig(**options))


def _gpt2(**options: int) -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(bos_token_id=1, eos_token_id=1, **options))


def _llama() -> PreTrainedModel:
    config = LlamaConfig(
        num_hidden_layers=8, hidden_size=512, intermediate_size=1408, num_attention_heads=16, num_key_value_heads=4
    )
    return LlamaForCausalLM(config)


SIZES = {
    "bert-base": Size("BERT-base", _bert),
    "gpt2-small": Size("GPT-2-small", _gpt2),
    "minilm": Size("MiniLM-L6", lambda: _bert(num_hidden_layers=6, hidden_size=384, intermediate_size=1536)),
    "llama": Size("LLaMA, 8 layers, 16 heads on 4", _llama),
    "long": Size(
        "GPT-2, 4 layers, 8 heads, 256 wide",
        lambda: _gpt2(n_layer=4, n_head=8, n_embd=256, n_positions=4096, vocab_size=WORDS),
        batches=((1, 4096),),
    ),
}


def build(name: str) -> PreTrainedModel:
    """The model of that name, the same at every call."""
    torch.manual_seed(0)
    return SIZES[name].build().eval()


def inputs(n_texts: int, n_tokens: int) -> dict[str, Tensor]:
    """Random tokens without padding."""
    noise = torch.Generator().manual_seed(1)
    ids = torch.randint(2, WORDS, (n_texts, n_tokens), generator=noise)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def tokenizer() -> PreTrainedTokenizerFast:
    """Names for the tokens, which a run shows."""
    words = {f"w{number}": number for number in range(WORDS)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), unk_token="w0", pad_token="w1"
    )
