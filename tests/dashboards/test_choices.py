"""Which models a page may open."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnlens.errors import ModelNotFoundError
from dashboards.choices import Choice, ModelChoices
from dashboards.config import DashboardConfig
from dashboards.runs import RunRequest, RunStore

LISTED = (Choice("attnlens/tiny-bert", "small"),)


def choices(**settings) -> ModelChoices:
    return ModelChoices(DashboardConfig(**settings), LISTED)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "open" / "model").mkdir(parents=True)
    (tmp_path / "closed").mkdir()
    return tmp_path


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_listed_models_may_be_opened_wherever_the_server_listens(host):
    assert choices(host=host).check("attnlens/tiny-bert") is None  # else it raises


def test_the_model_given_at_start_is_listed():
    found = choices(model="org/mine", host="0.0.0.0")

    found.check("org/mine")

    assert [choice.name for choice in found.listed] == ["org/mine", "attnlens/tiny-bert"]


def test_a_folder_below_a_root_may_be_opened(folder):
    assert choices(roots=(folder / "open",)).check(str(folder / "open" / "model")) is None  # else it raises


def test_a_folder_elsewhere_may_not_be_opened(folder):
    with pytest.raises(ModelNotFoundError, match=r"outside .*--root"):
        choices(roots=(folder / "open",)).check(str(folder / "closed"))


def test_a_way_out_of_the_root_is_no_way(folder):
    (folder / "open" / "link").symlink_to(folder / "closed")
    found = choices(roots=(folder / "open",))

    for name in ("link", "../closed"):
        with pytest.raises(ModelNotFoundError, match="outside"):
            found.check(str(folder / "open" / name))


@pytest.mark.parametrize("name", ["org/model", "bert-base-uncased"])
def test_a_hub_id_may_be_opened_on_loopback_only(name):
    choices().check(name)

    with pytest.raises(ModelNotFoundError, match="not listed"):
        choices(host="192.0.2.7").check(name)


def test_a_folder_may_not_be_opened_on_a_server_that_others_reach(folder):
    with pytest.raises(ModelNotFoundError, match="not listed"):
        choices(host="192.0.2.7", roots=(folder,)).check(str(folder / "open" / "model"))


@pytest.mark.parametrize("name", ["", "a/b/c", "/no/such/folder", "..", "<img src=x>", "a b", "org/", "x" * 5000, "\0"])
def test_other_names_are_refused_in_one_line(name):
    with pytest.raises(ModelNotFoundError) as refused:
        choices().check(name)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_refused_model_is_never_loaded():
    store = RunStore(lambda name: pytest.fail("loaded"), allow=choices().check)

    with pytest.raises(ModelNotFoundError):
        store.lens("../../etc")
    with pytest.raises(ModelNotFoundError):
        store.open(RunRequest("../../etc", "a"))
