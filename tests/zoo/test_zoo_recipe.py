"""The recipe from end to end, with a handful of steps."""

import json
import random

import pytest
import torch

from attnlens.zoo.batches import IGNORED, masked, repeated_blocks, text_batches
from attnlens.zoo.train import main


def run(out, *options):
    return main(["--out", str(out), "--steps", "3", "--documents", "60", "--processes", "1", *options])


def test_recipe_writes_models_cards_and_corpus_and_repeats_itself(tmp_path, monkeypatch, capsys, corpus_text):
    monkeypatch.setattr("attnlens.zoo.text.PAIRS_DOCUMENTS", 60)
    monkeypatch.setattr("attnlens.zoo.text.pairs_documents", few_documents)
    monkeypatch.setattr("attnlens.zoo.text.agreement_documents", tuple)  # the corpus' last part, slow to draw
    monkeypatch.setattr("attnlens.zoo.text.held_out_sentences", frozenset)

    codes = [run(tmp_path / name, "--only", "tiny-llama") for name in ("first", "second")]

    assert codes == [0, 0]
    first, second = ((tmp_path / name / "models" / "tiny-llama") for name in ("first", "second"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    card = json.loads((first / "card.json").read_text())
    assert card["training"]["steps"] == 3
    assert card["license"] == "Apache-2.0"
    assert 0 <= card["accuracy"]["agreement"]["value"] <= 1
    readme = (first / "README.md").read_text()
    assert f"{card['accuracy']['agreement']['value']:.3f}" in readme
    assert str(card["training"]["loss"]) in readme
    corpus = (tmp_path / "first" / "data" / "grammar.conllu").read_text(encoding="utf-8")
    assert corpus_text.startswith(corpus)
    assert len(corpus) > 300_000
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "step 3/3" in printed.err


def few_documents(n=60):
    from attnlens.zoo.grammar import documents

    return tuple(documents(60, seed=4, prefix="pairs"))


@pytest.mark.parametrize(
    ("options", "hint"),
    [(["--only", "tiny-bart"], "choose from tiny-bert"), (["--steps", "0"], "at least 1")],
)
def test_wrong_calls_are_one_line(tmp_path, capsys, options, hint):
    code = main(["--out", str(tmp_path), *options])

    printed = capsys.readouterr().err
    assert code == 2
    assert hint in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_text_targets_are_the_next_tokens_and_never_padding():
    batches = text_batches([[1, 5, 6], [1, 7, 8, 9]], batch_size=2, pad=0, rng=random.Random(0))

    batch = next(batches)

    assert batch.ids.tolist() == [[1, 5, 6, 0], [1, 7, 8, 9]]
    assert batch.keep.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.targets.tolist() == [[5, 6, IGNORED, IGNORED], [7, 8, 9, IGNORED]]


def test_masking_follows_the_shares_and_asks_for_what_was_there():
    rows = [[1, *range(10, 60), 2]] * 32
    plain = next(text_batches(rows, batch_size=32, pad=0, rng=random.Random(0)))
    shares = torch.zeros(60)
    shares[10:35], shares[35:60] = 0.1, 0.5

    hidden = masked(plain, mask_id=3, shares=shares, generator=torch.Generator().manual_seed(0))

    chosen = hidden.ids == 3
    assert torch.equal(chosen, hidden.targets != IGNORED)
    assert torch.equal(hidden.targets[chosen], plain.ids[chosen])
    assert torch.equal(hidden.ids[~chosen], plain.ids[~chosen])
    seldom, often = (chosen[(plain.ids >= low) & (plain.ids < low + 25)].float().mean() for low in (10, 35))
    assert 0.06 < seldom < 0.14
    assert 0.45 < often < 0.55
    assert not chosen[:, [0, -1]].any()


def test_padding_is_never_masked():
    plain = next(text_batches([[1, 5], [1, 5, 6, 7]], batch_size=2, pad=0, rng=random.Random(0)))

    hidden = masked(plain, mask_id=3, shares=torch.ones(10), generator=torch.Generator().manual_seed(0))

    assert hidden.ids.tolist() == [[3, 3, 0, 0], [3, 3, 3, 3]]
    assert hidden.targets.tolist()[0] == [1, 5, IGNORED, IGNORED]


def test_repeated_blocks_ask_only_for_what_repetition_tells():
    batch = repeated_blocks(
        rows=8, length=40, start=1, ordinary=list(range(10, 100)), shortest=5, longest=12,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip

    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        block = ids.index(ids[1], 2) - 1  # tokens of a block are distinct
        assert ids[0] == 1
        assert 5 <= block <= 12
        assert ids[1:] == (ids[1 : block + 1] * 10)[:39]
        assert targets[: block + 1] == [IGNORED] * (block + 1)
        assert targets[block + 1 : -1] == ids[block + 2 :]
        assert targets[-1] == IGNORED
