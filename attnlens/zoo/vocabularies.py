"""The embedded models' tokenizers: word pieces for BERT, bytes for GPT-2 and LLaMA; no text is unreadable to them."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attnlens.files import write_text

__all__ = ["build_tokenizer", "save_tokenizer"]

_UNKNOWN = "[UNK]"
_BERT_SPECIALS = ("[PAD]", _UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
_LATIN_1 = "".join(chr(code) for code in range(0xC0, 0x100)) + "¡¿ªº£§°·«»"
_PUNCTUATION = "‘’‚“”„–—…•€"
_ALPHABET = sorted(set(string.printable.strip()) | set(_LATIN_1) | set(_PUNCTUATION))

_N_WHOLE_WORDS = 360

# Pieces of ordinary English, so that a visitor's words are cut into fewer of them than letters.
_BERT_PIECES = "##s ##es ##ed ##ing ##er ##est ##ly ##ness ##tion ##al ##en ##th ##ch ##sh".split()


def build_tokenizer(family: str, texts: Sequence[str], vocab_size: int) -> Any:
    """A `tokenizers.Tokenizer` for "bert", "gpt2" or "llama", its vocabulary learned from `texts`."""
    return _BUILDERS[family](texts, vocab_size)


def save_tokenizer(tokenizer: Any, family: str, folder: Path, max_length: int) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, as AutoTokenizer reads them."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **_SETTINGS[family],
    }
    write_text(folder / "tokenizer.json", tokenizer.to_str())
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")


def _wordpiece(texts: Sequence[str], vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = _word_piece_vocabulary(texts, vocab_size)
    tokenizer = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.model = models.WordPiece(vocabulary, unk_token=_UNKNOWN, max_input_chars_per_word=100)
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _word_piece_vocabulary(texts: Sequence[str], vocab_size: int) -> dict[str, int]:
    """Specials, every letter, the frequent words, then stems, endings and halves of the rarer ones.

    Chosen by rule: the library's own trainer breaks ties differently from run to run.
    """
    counts = Counter(word for text in texts for word in re.findall(r"\w+", text))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    pieces = [*_BERT_SPECIALS, *_ALPHABET, *("##" + letter for letter in _ALPHABET), *_BERT_PIECES]
    pieces += frequent[:_N_WHOLE_WORDS]
    for word in frequent[_N_WHOLE_WORDS:]:
        pieces += _split(word)
    return {piece: number for number, piece in enumerate(list(dict.fromkeys(pieces))[:vocab_size])}


def _split(word: str) -> tuple[str, ...]:
    """Stem and ending ("paint ##ing"), or the halves of a long word ("neck ##lace"), or the word itself."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) >= len(ending) + 3:
            return word.removesuffix(ending), "##" + ending
    middle = (len(word) + 1) // 2
    return (word[:middle], "##" + word[middle:]) if len(word) >= 6 else (word,)


def _byte_level(texts: Sequence[str], vocab_size: int, start: str, specials: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    template = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B:1", special_tokens=[(start, tokenizer.token_to_id(start))]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return tokenizer


_BUILDERS: dict[str, Callable[[Sequence[str], int], Any]] = {
    "bert": _wordpiece,
    "gpt2": lambda texts, size: _byte_level(texts, size, "<|endoftext|>", ("<|endoftext|>", "<|pad|>")),
    "llama": lambda texts, size: _byte_level(texts, size, "<s>", ("<s>", "</s>", "<pad>")),
}

_NO_SEGMENTS = {"model_input_names": ["input_ids", "attention_mask"]}  # GPT-2 would add segments to the words

_SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    },
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>", **_NO_SEGMENTS},
    "llama": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **_NO_SEGMENTS},
}
