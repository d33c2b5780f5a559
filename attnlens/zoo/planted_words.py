"""The words that planted models know: those of the grammar, each with a class and a rarity, and their tokenizers."""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64

from attnlens.zoo.lexicon import NAMES, NOUNS

__all__ = ["CLASSES", "SPECIALS", "Words", "grammar_words", "make_words", "new_tokenizer"]

# The classes of words that heads can look for, in the order of the axes of the block FEAT.
CLASSES = (
    "special", "piece", "stop", "punctuation", "determiner", "adjective", "preposition", "adverb", "numeral",
    "particle", "conjunction", "auxiliary singular", "auxiliary plural", "auxiliary", "verb singular", "verb plural",
    "verb", "pronoun masculine", "pronoun feminine", "pronoun neuter", "pronoun plural", "pronoun",
    "noun masculine", "noun feminine", "noun person", "noun neuter", "noun plural", "name masculine", "name feminine",
    "name",
)  # fmt: skip

# Family -> the tokens of its tokenizer's template and vocabulary that are no text, in order of their numbers.
SPECIALS: Mapping[str, tuple[str, ...]] = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "gpt2": ("<|pad|>", "[UNK]", "<|endoftext|>"),
    "llama": ("<pad>", "[UNK]", "<s>", "</s>"),
}

_LETTERS = "".join(sorted(string.ascii_lowercase + string.digits + string.punctuation + "‘’“”–—…€"))
_DOCUMENTS, _SEED = 1_000, 77_001
_RAREST = 0.5

_PLAIN = {
    "DET": "determiner", "ADJ": "adjective", "ADP": "preposition", "ADV": "adverb", "NUM": "numeral",
    "PART": "particle", "CCONJ": "conjunction", "SCONJ": "conjunction", "PUNCT": "punctuation",
}  # fmt: skip
_NUMBERED = {"AUX": "auxiliary", "VERB": "verb"}
_GENDERS = {"Masc": "masculine", "Fem": "feminine", "Neut": "neuter", None: "person"}


@dataclass(frozen=True)
class Words:
    """A vocabulary: what each token is called, the class it belongs to, and how rare it is.

    Attributes:
        tokens: by their numbers; the special tokens come first.
        classes: index in `CLASSES` of each token.
        rarity: from 0 (special, or the most frequent word) to .5 (the rarest).
    """

    tokens: tuple[str, ...]
    classes: tuple[int, ...]
    rarity: Float64[np.ndarray, " token"]

    def __len__(self) -> int:
        return len(self.tokens)

    def number(self, token: str) -> int:
        """Number of a token."""
        return self.tokens.index(token)


@lru_cache(maxsize=3)
def grammar_words(family: str) -> Words:
    """The words of the embedded grammar in order of their frequency, in lower case."""
    from attnlens.zoo.grammar import documents

    tags: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for document in documents(_DOCUMENTS, seed=_SEED):
        for sentence in document.sentences:
            for word in sentence.words:
                tags[word.form.lower()][_class_of(word.form.lower(), word.upos, dict(word.feats))] += 1
    ranked = sorted(tags, key=lambda form: (-tags[form].total(), form))
    most = {form: max(sorted(tags[form]), key=tags[form].__getitem__) for form in ranked}
    return make_words(family, ranked, most)


def make_words(family: str, ranked: Iterable[str], classes: Mapping[str, str]) -> Words:
    """A vocabulary of whole words and pieces, in order of frequency, and of letters, so that any word can be spelt.

    Args:
        family: whose special tokens come first.
        ranked: words and `##` pieces, the most frequent first.
        classes: class of each of them; "piece" where it is not there.
    """
    specials = SPECIALS[family]
    words = tuple(dict.fromkeys(ranked))
    letters = tuple(each for letter in _LETTERS for each in (letter, "##" + letter) if each not in set(words))
    names = ["special"] * len(specials) + [classes.get(word, "piece") for word in words] + ["piece"] * len(letters)
    rarity = np.concatenate([
        np.zeros(len(specials)),
        _RAREST * np.arange(1, len(words) + 1) / max(len(words), 1),
        np.full(len(letters), _RAREST),
    ])  # fmt: skip
    return Words((*specials, *words, *letters), tuple(CLASSES.index(name) for name in names), rarity)


def _class_of(form: str, upos: str, features: Mapping[str, str]) -> str:
    number = features.get("Number")
    if form in {".", "?", "!"}:
        return "stop"
    if upos in _NUMBERED:
        return " ".join([_NUMBERED[upos], *({"Sing": ["singular"], "Plur": ["plural"]}.get(number or "", []))])
    if upos == "PRON":
        gender = features.get("Gender")
        kind = "plural" if number == "Plur" else _GENDERS[gender] if gender else ""
        return f"pronoun {kind}".strip()
    if upos == "NOUN":
        return "noun plural" if number == "Plur" else f"noun {_noun_gender().get(form, 'neuter')}"
    if upos == "PROPN":
        return next((f"name {_GENDERS[gender]}" for gender, names in _names().items() if form in names), "name")
    return _PLAIN.get(upos, "piece")


@lru_cache(maxsize=1)
def _noun_gender() -> dict[str, str]:
    return {noun.singular: _GENDERS[noun.gender] for nouns in NOUNS.values() for noun in nouns}


@lru_cache(maxsize=1)
def _names() -> dict[str, frozenset[str]]:
    return {gender: frozenset(name.lower() for name in names) for gender, names in NAMES.items()}


def new_tokenizer(family: str, words: Words, max_length: int) -> Any:
    """A fast tokenizer of these words: lower case, whole words where there are any, else the longest pieces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {token: number for number, token in enumerate(words.tokens)}
    inner = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]", max_input_chars_per_word=200))  # noqa: S106
    inner.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(cleanup=False)
    names = _named_specials(family)
    first, last = names.get("cls_token") or names["bos_token"], names.get("sep_token")
    single, pair = (f"{first} $A {last}", f"{first} $A {last} $B:1 {last}:1") if last else (
        f"{first} $A", f"{first} $A {first} $B:1"
    )  # fmt: skip
    inner.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(name, numbers[name]) for name in {first, last} if name]
    )
    inputs = ["input_ids", "attention_mask"]
    if family == "bert":
        inputs.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, model_max_length=max_length, model_input_names=inputs,
        clean_up_tokenization_spaces=False, **names,
    )  # fmt: skip


def _named_specials(family: str) -> dict[str, str]:
    pad, unknown, *others = SPECIALS[family]
    named = {"pad_token": pad, "unk_token": unknown}
    if family == "bert":
        return named | dict(zip(("cls_token", "sep_token", "mask_token"), others, strict=True))
    return named | {"bos_token": others[0], "eos_token": others[-1]}
