"""A desk over random models: real captures, no download, no server; and probe results for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SENTENCE = "the keys to the cabinet are on the table"


@pytest.fixture
def random_lens(random_bert) -> Any:
    """A real lens on a random BERT."""
    from attnlens.models.lens import load

    return load(model=random_bert.model, tokenizer=random_bert.tokenizer)


@pytest.fixture
def make_desk(random_lens) -> Callable[..., Any]:
    """`make_desk(**config)`: a desk whose models, "attnlens/random" listed among them, are all the random BERT."""
    from dashboards.choices import Choice, ModelChoices
    from dashboards.config import DashboardConfig
    from dashboards.desk import Desk
    from dashboards.runs import RunStore
    from dashboards.shelf import Shelf

    def make(**settings: Any) -> Desk:
        config = DashboardConfig(**({"model": "attnlens/random"} | settings))
        choices = ModelChoices(config, (Choice("attnlens/random", "random weights", (SENTENCE, "the dogs bark")),))
        runs = RunStore(lambda name: random_lens, allow=choices.check, max_tokens=config.max_tokens)
        return Desk(config, choices, runs, Shelf(config.results))

    return make


@pytest.fixture
def desk(make_desk) -> Any:
    """The desk as it is by default."""
    return make_desk()


@pytest.fixture
def shown() -> dict[str, Any]:
    """What the page's store says about the run that it shows."""
    return {"model": "attnlens/random", "text": SENTENCE, "n_layers": 3, "n_heads": 4, "n_tokens": 11}


@pytest.fixture
def results_folder(random_lens, tmp_path) -> Path:
    """A folder "found" as `attnlens probe` leaves it, with L1H2 labelled and L2H0 nearly."""
    from sample_results import heads_document

    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "heads.json").write_text(json.dumps(heads_document(random_lens.anatomy, "L1H2", "L2H0")))
    return folder
