"""Small models with random weights of large variance, and their tokenizers, built in code: no download.

No two axes of one model have the same length, so that a transposed or mixed-up axis is a shape error and not
a wrong number. The weights are drawn wide enough for attention to be far from uniform. The three differ where
families differ: special tokens around the sentence (BERT), none at all and no padding token (GPT-2), one in
front (LLaMA, which also shares each key head between two query heads and rotates queries and keys).
"""

from __future__ import annotations

import string
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

WORDS = "the keys to cabinet are on table she saw her self dog dogs bark ##s ##ing ##ed".split()


class RandomModel(NamedTuple):
    """What `attnlens.load(model=..., tokenizer=...)` takes."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def random_bert(seed: int = 0) -> RandomModel:
    """3 layers of 4 heads of 5 dimensions; [CLS] ... [SEP]; lower case; knows every ASCII character."""
    tokenizer = BertTokenizer(vocab=_word_piece_vocabulary(), model_max_length=48)
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=3,
        num_attention_heads=4,
        hidden_size=20,
        intermediate_size=37,
        max_position_embeddings=48,
        pad_token_id=tokenizer.pad_token_id,
    )
    return RandomModel(_with_wide_weights(BertForMaskedLM(config), seed), tokenizer)


def random_gpt2(seed: int = 0) -> RandomModel:
    """2 layers of 3 heads of 7 dimensions; a token per byte; adds no special token; has none for padding."""
    tokenizer = GPT2Tokenizer(vocab=_byte_vocabulary("<|endoftext|>"), merges=[], model_max_length=50)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=2,
        n_head=3,
        n_embd=21,
        n_inner=44,
        n_positions=50,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return RandomModel(_with_wide_weights(GPT2LMHeadModel(config), seed), tokenizer)


def random_llama(seed: int = 0) -> RandomModel:
    """5 layers of 4 heads (2 key heads) of 6 dimensions in a stream of 28; one token per byte after `<s>`."""
    tokenizer = _byte_tokenizer_with_start()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        hidden_size=28,
        intermediate_size=39,
        max_position_embeddings=80,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return RandomModel(_with_wide_weights(LlamaForCausalLM(config), seed), tokenizer)


BUILDERS = {"bert": random_bert, "gpt2": random_gpt2, "llama": random_llama}


def _with_wide_weights(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Draw every parameter anew: matrices with a gain of 2, gains of norms around 1, biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() or ".ln_" in name:
                parameter.copy_(0.2 * noise + (0.0 if name.endswith("bias") else 1.0))
            elif "embed" in name or ".wte" in name or ".wpe" in name:
                parameter.copy_(noise)
            elif parameter.ndim == 2:
                parameter.copy_(2.0 * noise / model.config.hidden_size**0.5)
            else:
                parameter.copy_(0.3 * noise)
    return model.eval()


def _word_piece_vocabulary() -> dict[str, int]:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = string.ascii_lowercase + string.digits
    pieces = [*specials, *WORDS, *string.punctuation, *characters, *(f"##{letter}" for letter in characters)]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def _byte_vocabulary(*specials: str) -> dict[str, int]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {piece: index for index, piece in enumerate([*specials, *alphabet])}


def _byte_tokenizer_with_start() -> PreTrainedTokenizerBase:
    vocabulary = _byte_vocabulary("<unk>", "<s>", "</s>")
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=80,
        clean_up_tokenization_spaces=False,
    )
