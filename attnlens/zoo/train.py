"""Make the embedded models and the embedded corpus again: `python -m attnlens.zoo.train`.

Two processes of one torch thread each; progress goes to stderr. Same versions of torch and tokenizers, same weights.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnlens.errors import AttnlensError, UsageError
from attnlens.zoo.recipes import RECIPES, Recipe

__all__ = ["main", "make_corpus", "make_model"]

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
        if not options.corpus_only:
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
    from transformers import AutoTokenizer

    from attnlens.files import whole_file
    from attnlens.zoo.architectures import load_model
    from attnlens.zoo.cards import make_card, write_card
    from attnlens.zoo.evaluate import induction, minimal_pair_accuracy
    from attnlens.zoo.pairs import minimal_pairs
    from attnlens.zoo.text import pairs_documents, word_forms
    from attnlens.zoo.training import train_model

    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary)
        run = train_model(recipe, fresh, _say)
        model = load_model(recipe, fresh)
        tokenizer = AutoTokenizer.from_pretrained(fresh)
        scores = minimal_pair_accuracy(model, tokenizer, minimal_pairs(pairs_documents()))
        copying = None if recipe.family == "bert" else induction(model, tokenizer)
        card = make_card(recipe, run, scores, copying, model.num_parameters(), len(word_forms()))
        write_card(card, fresh)
        for file in sorted(fresh.iterdir()):
            with whole_file(folder / file.name) as part:
                part.write_bytes(file.read_bytes())
    measured = ", ".join(f"{kind} {value['value']}" for kind, value in card["accuracy"].items())
    _say(f"{recipe.name}: done in {run.wall_time_s / 60:.1f} minutes; {measured}; written to {folder}")


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
    return [replace(RECIPES[name], **changes) for name in _ORDER if not only or name in only]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m attnlens.zoo.train", description="Make the embedded models again.")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this model (may be repeated)")
    parser.add_argument("--out", default=str(_HERE), help="folder that gets models/ and data/ (default: the package)")
    parser.add_argument("--processes", type=int, default=2, help="models trained at the same time (default 2)")
    parser.add_argument("--corpus-only", action="store_true", help="write the embedded corpus and stop")
    parser.add_argument("--steps", type=int, help="fewer steps, to try the recipe out")
    parser.add_argument("--documents", type=int, help="fewer documents, to try the recipe out")
    return parser


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
