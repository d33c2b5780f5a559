"""Make the embedded models and the embedded corpus again: `python -m attnlens.zoo.train`.

Two processes of one torch thread each; progress goes to stderr. Same versions of torch and tokenizers, same weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import AttnlensError, ModelNotFoundError, UsageError
from attnlens.zoo.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from attnlens.zoo.training import TrainingRun

__all__ = ["main", "make_corpus", "make_model", "measure_again"]

_HERE = Path(__file__).resolve().parent
# Longest first, so that two processes finish at about the same time.
_ORDER = ("tiny-bert", "tiny-llama", "tiny-gpt2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        recipes = _chosen(options.only, options.steps, options.documents)
        out = Path(options.out)
        make_corpus(out / "data" / "grammar.conllu")
        if options.measure_only:
            for recipe in recipes:
                measure_again(recipe, out / "models" / recipe.name)
        elif not options.corpus_only:
            _make_all(recipes, out / "models", processes=options.processes)
    except AttnlensError as error:
        _say(f"attnlens.zoo.train: {error}")
        return error.exit_code
    return 0


def make_corpus(target: Path) -> None:
    """Write the embedded corpus."""
    from attnlens.files import write_text
    from attnlens.zoo.conllu import to_conllu
    from attnlens.zoo.text import corpus_documents

    write_text(target, to_conllu(corpus_documents()))
    _say(f"wrote {target}")


def make_model(recipe: Recipe, folder: Path) -> None:
    """Train one model, measure it, write its card; `folder` changes only when all of that has worked."""
    from attnlens.files import whole_file
    from attnlens.zoo.training import train_model

    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary)
        run = train_model(recipe, fresh, _say)
        _measure(recipe, run, fresh)
        for file in sorted(fresh.iterdir()):
            with whole_file(folder / file.name) as part:
                part.write_bytes(file.read_bytes())
    _say(f"{recipe.name}: written to {folder}")


def measure_again(recipe: Recipe, folder: Path) -> None:
    """Measure the model in `folder` again and rewrite its card; what the card says of the training run stays.

    Raises:
        ModelNotFoundError: there is no model with a card in `folder`.
    """
    from attnlens.zoo.cards import read_training_run

    path = folder / "card.json"
    if not path.is_file():
        raise ModelNotFoundError(
            f"{folder} holds no card.json to take the training figures from; train the model first."
        )
    card = json.loads(path.read_text(encoding="utf-8"))
    _measure(recipe, read_training_run(card), folder)


def _measure(recipe: Recipe, run: TrainingRun, folder: Path) -> None:
    """Load the model as users do, measure what it can do, write its card beside it."""
    from transformers import AutoTokenizer

    from attnlens.zoo.architectures import load_model
    from attnlens.zoo.cards import make_card, write_card
    from attnlens.zoo.evaluate import induction, minimal_pair_accuracy
    from attnlens.zoo.pairs import minimal_pairs
    from attnlens.zoo.text import pairs_documents, word_forms

    model, tokenizer = load_model(recipe, folder), AutoTokenizer.from_pretrained(folder)
    scores = minimal_pair_accuracy(model, tokenizer, minimal_pairs(pairs_documents()))
    copying = None if recipe.family == "bert" else induction(model, tokenizer)
    write_card(make_card(recipe, run, scores, copying, model.num_parameters(), len(word_forms())), folder)
    measured = ", ".join(f"{kind} {score.accuracy:.3f}" for kind, score in scores.items() if score.n)
    _say(f"{recipe.name}: trained in {run.wall_time_s / 60:.1f} minutes; {measured}")


def _make_all(recipes: Sequence[Recipe], models: Path, *, processes: int) -> None:
    jobs = [(recipe, models / recipe.name) for recipe in recipes]
    if len(jobs) == 1 or processes == 1:
        for job in jobs:
            make_model(*job)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        pool.starmap(make_model, jobs, chunksize=1)


def _chosen(only: Sequence[str] | None, steps: int | None, n_documents: int | None) -> list[Recipe]:
    unknown = sorted(set(only or ()) - set(RECIPES))
    if unknown:
        raise UsageError(f"no recipe is called {unknown[0]!r}; choose from {', '.join(RECIPES)}.")
    changes: dict[str, Any] = {
        name: value for name, value in (("steps", steps), ("n_documents", n_documents)) if value is not None
    }
    if any(value < 1 for value in changes.values()):
        raise UsageError("--steps and --documents are counts; give a number of at least 1.")
    return [_shortened(RECIPES[name], **changes) for name in _ORDER if not only or name in only]


def _shortened(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other counts; its first stretch keeps its share of the steps."""
    changed = replace(recipe, **changes)
    return replace(changed, induction_first=recipe.induction_first * changed.steps // recipe.steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m attnlens.zoo.train", description="Make the embedded models again.")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this model (may be repeated)")
    parser.add_argument("--out", default=str(_HERE), help="folder that gets models/ and data/ (default: the package)")
    parser.add_argument("--processes", type=int, default=2, help="models trained at the same time (default 2)")
    parser.add_argument("--corpus-only", action="store_true", help="write the embedded corpus and stop")
    parser.add_argument("--measure-only", action="store_true", help="no training: measure again, rewrite the cards")
    parser.add_argument("--steps", type=int, help="fewer steps, to try the recipe out")
    parser.add_argument("--documents", type=int, help="fewer documents, to try the recipe out")
    return parser


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
