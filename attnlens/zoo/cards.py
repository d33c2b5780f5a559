"""Model cards, written from what was measured: `card.json` for programs, `README.md` for people."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.files import write_text
from attnlens.zoo.recipes import CORPUS_SEED, PAIRS_DOCUMENTS, PAIRS_SEED, Recipe

if TYPE_CHECKING:
    from attnlens.zoo.evaluate import Induction, PairScore
    from attnlens.zoo.training import TrainingRun

__all__ = ["comparison_table", "make_card", "read_training_run", "readme", "write_card"]

_TEMPLATE = Path(__file__).resolve().parent / "data" / "card.md.j2"


def make_card(
    recipe: Recipe,
    run: TrainingRun,
    scores: dict[str, PairScore],
    copying: Induction | None,
    n_parameters: int,
    n_word_forms: int,
) -> dict[str, Any]:
    """The card as JSON-able data; a figure that does not apply is None."""
    return {
        "schema": "attnlens.card/1",
        "name": f"attnlens/{recipe.name}",
        "license": "Apache-2.0",
        "family": recipe.family,
        "recipe": asdict(recipe),
        "seed": recipe.seed,
        "n_parameters": n_parameters,
        "data": {
            "grammar": "attnlens.zoo.grammar",
            "seed": recipe.seed,
            "n_documents": recipe.n_documents,
            "n_texts": run.n_texts,
            "n_tokens": run.n_tokens,
            "n_word_forms": n_word_forms,
            "held_out": f"no document that shares a sentence with the embedded corpus (seed {CORPUS_SEED}) or with the "
            f"{PAIRS_DOCUMENTS} documents of the minimal pairs (seed {PAIRS_SEED})",
        },
        "training": {
            "steps": recipe.steps,
            "loss": _rounded(run.loss),
            "induction_loss": _rounded(run.induction_loss),
            "wall_time_s": round(run.wall_time_s, 1),
            "cpu_time_s": round(run.cpu_time_s, 1),
        },
        "accuracy": {kind: {"value": _rounded(score.accuracy), "n": score.n} for kind, score in scores.items()},
        "induction": None if copying is None else {
            "second_copy_accuracy": _rounded(copying.second_copy_accuracy),
            "prefix_matching": _rounded(copying.prefix_matching),
            "best_head": copying.best_head,
            "n_sequences": copying.n_sequences,
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "transformers", "tokenizers")},
        },
    }  # fmt: skip


def write_card(card: dict[str, Any], folder: Path) -> None:
    """Write `card.json` and `README.md` into the model's folder."""
    write_text(folder / "card.json", json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", readme(card))


def read_training_run(card: dict[str, Any]) -> TrainingRun:
    """What a card says of its training run, to measure the model again without training it again."""
    from attnlens.zoo.training import TrainingRun

    data, training = card["data"], card["training"]
    return TrainingRun(
        n_texts=data["n_texts"],
        n_tokens=data["n_tokens"],
        loss=training["loss"],
        induction_loss=training["induction_loss"],
        wall_time_s=training["wall_time_s"],
        cpu_time_s=training["cpu_time_s"],
    )


def comparison_table(cards: Sequence[dict[str, Any]]) -> str:
    """The main figures of several cards side by side, as a Markdown table (docs/models.md holds it)."""
    rows = [["", *(card["name"].removeprefix("attnlens/") for card in cards)], ["---"] * (len(cards) + 1)]
    rows.append(["parameters", *(f"{card['n_parameters']:,}" for card in cards)])
    rows.append(["steps", *(f"{card['training']['steps']:,}" for card in cards)])
    rows.append(["loss, nats per predicted token", *(f"{card['training']['loss']:.3f}" for card in cards)])
    rows.append(["minutes of one processor core", *(f"{card['training']['cpu_time_s'] / 60:.1f}" for card in cards)])
    for kind in cards[0]["accuracy"]:
        scores = (card["accuracy"][kind] for card in cards)
        rows.append([kind, *(f"{score['value']:.3f} (n={score['n']})" for score in scores)])
    for label, key in (
        ("copying of random tokens", "second_copy_accuracy"),
        ("best prefix matching", "prefix_matching"),
    ):
        figures = (card["induction"] for card in cards)
        rows.append([label, *("not causal" if figure is None else f"{figure[key]:.3f}" for figure in figures)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def readme(card: dict[str, Any]) -> str:
    """The card as Markdown. Not escaped: it is no HTML, and all of it is ours."""
    from jinja2 import Environment, StrictUndefined

    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False).from_string(  # noqa: S701
        _TEMPLATE.read_text(encoding="utf-8")
    )
    kind = "masked" if card["family"] == "bert" else "causal"
    return template.render(card=card, recipe=card["recipe"], kind=kind, minutes=lambda s: f"{s / 60:.1f}")
