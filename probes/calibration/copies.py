"""What copies with random weights do, measured once for all models of one config that read the same text."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attnlens.files import write_text
from probes.baselines import RandomBest
from probes.document import tokenizer_part
from probes.random_models import RandomPass, Read, measure_random
from probes.tally import Key

__all__ = ["Copies"]


class Copies:
    """A reader of copies (`probes.random_models.RandomReader`) that remembers, for the models of one calibration.

    A copy is its config, a seed and a tokenizer; weights and hooks of the model itself are no part of it. Most models
    of a suite differ in these alone, so that their copies are the same ones.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: where processes of the same calibration tell each other; None for a process by itself."""
        self.folder = folder
        self._known: dict[str, RandomPass] = {}

    def __call__(self, lens: Any, n_models: int, read: Read, fewest: int) -> RandomPass:
        """As `measure_random`; text, families and settings must be the same in all calls."""
        parts = (type(lens.model).__name__, _config(lens.model), tokenizer_part(lens.tokenizer), n_models, fewest)
        name = hashlib.sha256(repr(parts).encode()).hexdigest()
        if name not in self._known:
            self._known[name] = self._told(name) or self._tell(name, measure_random(lens, n_models, read, fewest))
        return self._known[name]

    def _told(self, name: str) -> RandomPass | None:
        if self.folder is None or not (file := self.folder / name).is_file():
            return None
        told = json.loads(file.read_text(encoding="utf-8"))
        best = {(family, Key(*key)): RandomBest(**values) for family, key, values in told["best"]}
        return RandomPass(tuple(told["seeds"]), told["n_sentences"], best, told["reason"])

    def _tell(self, name: str, found: RandomPass) -> RandomPass:
        if self.folder is not None:
            best = [(family, list(key), asdict(values)) for (family, key), values in found.best.items()]
            told = {"seeds": found.seeds, "n_sentences": found.n_sentences, "best": best, "reason": found.reason}
            write_text(self.folder / name, json.dumps(told))
        return found


def _config(model: Any) -> str:
    """Everything in a config but the model's name."""
    listed = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    return repr(sorted(listed.items(), key=str))
