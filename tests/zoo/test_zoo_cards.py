"""Cards are written from measured values, and the documentation repeats them."""

import json
from pathlib import Path

import pytest

from attnlens.zoo import registry
from attnlens.zoo.cards import comparison_table, make_card, read_training_run, readme
from attnlens.zoo.evaluate import Induction, PairScore
from attnlens.zoo.recipes import RECIPES
from attnlens.zoo.train import main
from attnlens.zoo.training import TrainingRun

DOCS = Path(__file__).resolve().parents[2] / "docs" / "models.md"
RUN = TrainingRun(
    n_texts=7_654, n_tokens=98_765, loss=1.23456, induction_loss=0.0625, wall_time_s=324.0, cpu_time_s=246.0
)


@pytest.fixture
def card():
    scores = {"agreement": PairScore(n=800, hits=784), "reflexive": PairScore(n=0, hits=0)}
    copying = Induction(second_copy_accuracy=0.938, best_head="L2H1", prefix_matching=0.5, n_sequences=20)
    return make_card(RECIPES["tiny-llama"], RUN, scores, copying, n_parameters=543_210, n_word_forms=601)


def test_card_holds_what_was_measured_and_nothing_invented(card):
    assert card["accuracy"]["agreement"] == {"value": 0.98, "n": 800}
    assert card["accuracy"]["reflexive"] == {"value": None, "n": 0}
    assert card["training"]["loss"] == 1.2346
    assert card["induction"]["prefix_matching"] == 0.5
    assert json.loads(json.dumps(card)) == card


def test_readme_tells_the_same_figures(card):
    text = readme(card)

    for figure in (
        "543,210",
        "7,654",
        "98,765",
        "1.2346",
        "0.0625",
        "| agreement | 0.980 | 800 |",
        "0.938 of the places",
        "L2H1",
    ):
        assert figure in text, figure
    assert "| reflexive | not measured | 0 |" in text
    assert "5.4 minutes, of which 4.1 minutes" in text


def test_a_training_run_is_read_back_from_its_card(card):
    run = read_training_run(card)

    assert run.n_tokens == RUN.n_tokens
    assert run.loss == pytest.approx(RUN.loss, abs=1e-4)
    assert run.cpu_time_s == RUN.cpu_time_s


@pytest.mark.parametrize("name", tuple(RECIPES))
def test_readme_of_each_model_is_made_from_its_card(name):
    folder = registry.find_embedded(f"attnlens/{name}")

    assert (folder / "README.md").read_text(encoding="utf-8") == readme(registry.card(f"attnlens/{name}"))


def test_documentation_repeats_the_cards():
    table = comparison_table([registry.card(name) for name in registry.EMBEDDED])

    assert table in DOCS.read_text(encoding="utf-8")


def test_measuring_what_was_never_trained_is_one_line(tmp_path, capsys):
    code = main(["--out", str(tmp_path), "--measure-only", "--only", "tiny-bert"])

    assert code == 1
    assert "train the model first" in capsys.readouterr().err.splitlines()[-1]
