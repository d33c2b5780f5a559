"""The embedded models as they lie in the package: safe, small, and able to do what their cards say."""

import json

import pytest
import torch

from attnlens.heads import Head
from attnlens.zoo import registry
from attnlens.zoo.architectures import load_model
from attnlens.zoo.evaluate import induction, minimal_pair_accuracy, prefix_matching
from attnlens.zoo.pairs import minimal_pairs
from attnlens.zoo.recipes import RECIPES
from attnlens.zoo.text import pairs_documents

SHORT_NAMES = tuple(RECIPES)
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def loaded():
    """Short name -> (model, tokenizer), loaded from the package with the network off."""
    from transformers import AutoTokenizer

    models = {}
    for name, recipe in RECIPES.items():
        folder = registry.find_embedded(f"attnlens/{name}")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        models[name] = (load_model(recipe, folder), tokenizer)
    return models


@pytest.fixture(scope="module")
def some_pairs():
    """Pairs that no model trained on: the card counts them too, among many more."""
    return list(minimal_pairs(pairs_documents(350)))


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_folder_is_small_and_holds_no_pickle(name):
    files = list(registry.find_embedded(f"attnlens/{name}").iterdir())

    assert sum(file.stat().st_size for file in files) <= 3 * MEGABYTE
    assert {file.name for file in files} == {
        "README.md", "card.json", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_model_is_what_its_recipe_says(loaded, name):
    model, tokenizer = loaded[name]
    recipe = RECIPES[name]

    card = registry.card(f"attnlens/{name}")

    assert model.config.model_type == recipe.family
    assert model.config.num_hidden_layers == recipe.n_layers
    assert model.config.num_attention_heads == recipe.n_heads
    assert getattr(model.config, "num_key_value_heads", recipe.n_heads) == recipe.n_kv_heads
    assert model.config.vocab_size == len(tokenizer)
    assert card["n_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert card["recipe"] == json.loads(json.dumps(recipe.__dict__))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_accuracies_of_the_card_are_found_again(loaded, some_pairs, name):
    card = registry.card(f"attnlens/{name}")["accuracy"]

    scores = minimal_pair_accuracy(*loaded[name], some_pairs)

    assert scores["agreement"].accuracy >= 0.9
    assert scores["agreement with attractors"].accuracy >= 0.9
    for kind, score in scores.items():
        assert score.n >= 20, kind
        margin = 4 * (0.25 / score.n) ** 0.5  # four standard errors at most
        assert abs(score.accuracy - card[kind]["value"]) < margin, kind


def test_llama_has_learned_induction(loaded):
    figures = registry.card("attnlens/tiny-llama")["induction"]

    found = induction(*loaded["tiny-llama"], seed=99)

    assert found.second_copy_accuracy >= 0.9
    assert found.prefix_matching >= 0.4
    assert found.second_copy_accuracy == pytest.approx(figures["second_copy_accuracy"], abs=0.05)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_wrong_model_would_fail(loaded, some_pairs, name):
    """The same measure on random weights is near chance, so that the figures above mean something."""
    _, tokenizer = loaded[name]
    torch.manual_seed(0)
    from attnlens.zoo.architectures import new_model

    scores = minimal_pair_accuracy(new_model(RECIPES[name], tokenizer).eval(), tokenizer, some_pairs)

    assert scores["agreement"].accuracy < 0.7


def test_free_text_runs_through_every_model(loaded):
    for model, tokenizer in loaded.values():
        ids = tokenizer("Why, o why did Zoë's 3 qüaint lynxes <jump>?", return_tensors="pt")

        with torch.no_grad():
            logits = model(**ids).logits

        assert logits.isfinite().all()


def test_prefix_matching_of_a_perfect_head_is_one():
    ids = torch.tensor([[9, 1, 2, 3, 1, 2, 3]])  # a start token, then a block of three twice
    pattern = torch.zeros(1, 1, 2, 7, 7)
    for query, target in ((4, 2), (5, 3), (6, 4)):
        pattern[0, 0, 0, query, target] = 1.0  # head 0: the token after the earlier copy
        pattern[0, 0, 1, query, query - 3] = 1.0  # head 1: the earlier copy itself

    scores = prefix_matching(pattern, ids)

    assert scores.tolist() == [[1.0, 0.0]]
    assert str(Head(*divmod(int(scores.argmax()), 2))) == "L0H0"
