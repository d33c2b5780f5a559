import pytest

from attnlens.zoo.grammar import documents
from attnlens.zoo.recipes import CORPUS_DOCUMENTS, CORPUS_SEED
from attnlens.zoo.vocabularies import build_tokenizer, save_tokenizer

HOSTILE = '"’ 中文 👩‍🚀 naïve\n</script><img src=x onerror=alert(1)>\t\x00 \u202e end  '
FREE_TEXT = (
    "Dr. O'Neil paid $3.50 (50%) for café-crème & 'quiche' @ 7:30 — was it worth it?! "
    "See https://example.org/a_b?c=d#e; [x] {y} <z> ~ ^ ` | \\ * + = “quoted” naïve Zürich señor"
)
FAMILIES = ("bert", "gpt2", "llama")


@pytest.fixture(scope="module")
def texts():
    return [document.text for document in documents(CORPUS_DOCUMENTS, seed=CORPUS_SEED)]


@pytest.fixture(scope="module")
def tokenizers(texts, tmp_path_factory):
    """Family -> tokenizer as AutoTokenizer reads it from disk."""
    from transformers import AutoTokenizer

    loaded = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        save_tokenizer(build_tokenizer(family, texts, 700), family, folder, 128)
        (folder / "config.json").write_text(f'{{"model_type": "{family}"}}')
        loaded[family] = AutoTokenizer.from_pretrained(folder)
    return loaded


@pytest.mark.parametrize("family", FAMILIES)
def test_same_texts_same_vocabulary(family, texts):
    first, second = (build_tokenizer(family, texts, 700).to_str() for _ in range(2))

    assert first == second


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bytes_round_trip_whatever_is_typed(tokenizers, family):
    tokenizer = tokenizers[family]

    ids = tokenizer(HOSTILE)["input_ids"]

    assert tokenizer.decode(ids[1:]) == HOSTILE
    assert tokenizer.unk_token_id is None


def test_word_pieces_know_all_ordinary_text(tokenizers):
    tokenizer = tokenizers["bert"]

    ids = tokenizer(FREE_TEXT)["input_ids"]

    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids[1:-1]).replace(" ", "") == FREE_TEXT.replace(" ", "")
    assert tokenizer.unk_token_id in tokenizer("中")["input_ids"]  # so the test can see an unknown


@pytest.mark.parametrize("family", FAMILIES)
def test_offsets_cover_every_character_that_is_not_a_space(tokenizers, family):
    offsets = tokenizers[family](FREE_TEXT, return_offsets_mapping=True)["offset_mapping"]

    covered = {place for first, last in offsets for place in range(first, last)}
    assert covered >= {place for place, letter in enumerate(FREE_TEXT) if letter != " "}


@pytest.mark.parametrize(
    ("family", "first", "last"), [("bert", "[CLS]", "[SEP]"), ("gpt2", "<|endoftext|>", "y"), ("llama", "<s>", "y")]
)
def test_start_tokens_come_by_themselves(tokenizers, family, first, last):
    tokenizer = tokenizers[family]

    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Zqy")["input_ids"])

    assert (tokens[0], tokens[-1]) == (first, last)
    assert tokenizer.pad_token_id is not None


def test_only_bert_tells_pairs_of_texts_apart(tokenizers):
    encoded = {family: tokenizer("The key", "The door") for family, tokenizer in tokenizers.items()}

    segments = encoded["bert"]["token_type_ids"]
    assert segments == sorted(segments)
    assert set(segments) == {0, 1}
    assert "token_type_ids" not in encoded["gpt2"]
    assert "token_type_ids" not in encoded["llama"]


@pytest.mark.parametrize("family", FAMILIES)
def test_rare_words_are_cut_and_frequent_ones_are_not(tokenizers, texts, family):
    words = {word for text in texts for word in text.replace(".", "").replace(",", "").split()}

    pieces = {word: len(tokenizers[family](f" {word}", add_special_tokens=False)["input_ids"]) for word in words}

    assert pieces["the"] == pieces["is"] == pieces["are"] == 1
    assert 0.1 < sum(count > 1 for count in pieces.values()) / len(words) < 0.8
