"""The three planted models that come with attnlens: which head does what, their cards and the files that show them.

`python -m attnlens.zoo.planted_models` writes the files (everything but the weights, which are made on loading).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlens.files import write_text
from attnlens.zoo.planted import PlantedModel, plant
from attnlens.zoo.planted_heads import (
    PlantedHead,
    antecedent,
    classes,
    first_token,
    induction,
    nearest,
    offset,
    on_class,
    on_token,
    previous,
    random,
    rare_word,
    same_token,
    uniform,
)
from attnlens.zoo.registry import PLANTED

__all__ = ["build_planted", "layers_of", "planted_card", "planted_readme", "write_files"]

Layers = tuple[tuple[PlantedHead, ...], ...]


def build_planted(name: str) -> PlantedModel:
    """One of the planted models by its public name (`attnlens/planted-bert`, ...)."""
    family = PLANTED[name].family
    return plant(family, layers_of(family))


def layers_of(family: str) -> Layers:
    """The heads of the public planted model of this family."""
    return _LAYERS[family]()


def _bert() -> Layers:
    first = (
        previous().writing("TOK", "PREV"),
        offset(1),
        first_token(),
        on_token("[SEP]", "separator", "the separator at the end of the text"),
        _full_stops(),
        rare_word(),
    )
    second = (
        same_token(),
        antecedent(),
        nearest(
            "determiner to noun", "from a determiner to the nearest noun after it; else the first token",
            classes("noun"), "right", classes("determiner"),
        ),
        _verb_before(),
        random(1),
        offset(2).writing("TOK", "OUT"),
    )  # fmt: skip
    return first, second


def _gpt2() -> Layers:
    first = (previous().writing("TOK", "PREV"), offset(-2), first_token(), _full_stops(), rare_word(), same_token())
    return first, (induction().writing("TOK", "OUT"), antecedent(), _verb_before(), uniform(), random(2), _whisper())


def _llama() -> Layers:
    occurrences = same_token(positions=False)
    first = (previous().writing("TOK", "PREV"), offset(-2), first_token(), _full_stops(), rare_word(), occurrences)
    verbs = on_class(classes("verb"), "verbs", "all verbs before the word, evenly; the first token where there is none")
    return first, (induction().writing("TOK", "OUT"), offset(-3), verbs, uniform(), random(3), _whisper())


_LAYERS = {"bert": _bert, "gpt2": _gpt2, "llama": _llama}


def _full_stops() -> PlantedHead:
    return on_token(".", "full stop", "the full stops that it can see, evenly; the first token where there is none")


def _verb_before() -> PlantedHead:
    return nearest(
        "verb before", "the nearest verb before the word; the first token where there is none", classes("verb"), "left"
    )


def _whisper() -> PlantedHead:
    """Induction copies the first token where it finds nothing; a head that always writes keeps the layer audible."""
    return offset(-1).writing("TOK", "OUT", 1e-3)


def planted_card(name: str) -> dict[str, Any]:
    """The card as JSON-able data: what each head attends to and what it writes."""
    planted = build_planted(name)
    return {
        "schema": "attnlens.planted/1",
        "name": name,
        "license": "Apache-2.0",
        "family": PLANTED[name].family,
        "n_parameters": sum(parameter.numel() for parameter in planted.model.parameters()),
        "weights": "written by hand when the model is loaded; none are stored",
        "heads": [
            {
                "head": f"L{layer}H{index}",
                "name": head.name,
                "attends_to": head.text,
                "writes": None if head.write is None else {
                    "copies": head.write.source, "into": head.write.target, "scale": head.write.scale,
                },
            }
            for layer, heads in enumerate(planted.heads)
            for index, head in enumerate(heads)
        ],
    }  # fmt: skip


def planted_readme(card: dict[str, Any]) -> str:
    """The card for people."""
    rows = [f"| {each['head']} | {each['name']} | {each['attends_to']} | {_writing(each)} |" for each in card["heads"]]
    return "\n".join([
        f"# {card['name']}",
        "",
        "Its weights are written by hand, so that what every head does is known without measuring it. They are made",
        "when the model is loaded; nothing is stored. It knows the words of the embedded grammar and reads 64 tokens.",
        f"Licence: {card['license']}. {card['n_parameters']:,} parameters, most of them zero.",
        "",
        "| head | name | attends to | copies |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
    ])  # fmt: skip


def _writing(head: dict[str, Any]) -> str:
    write = head["writes"]
    if write is None:
        return "nothing"
    loud = "" if write["scale"] == 1 else f", times {write['scale']:g}"
    return f"{write['copies']} into {write['into']}{loud}"


def write_files(folder: Path, names: Sequence[str] = tuple(PLANTED)) -> None:
    """Config, tokenizer and cards of the planted models, each in a folder of its own below `folder`."""
    for name in names:
        planted, own = build_planted(name), folder / PLANTED[name].folder.name
        card = planted_card(name)
        planted.model.config.architectures = [type(planted.model).__name__]
        config = planted.model.config.to_diff_dict()
        config.pop("transformers_version", None)
        write_text(own / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
        write_text(own / "card.json", json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        write_text(own / "README.md", planted_readme(card))


if __name__ == "__main__":
    write_files(Path(__file__).resolve().parent / "models")
