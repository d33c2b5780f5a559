"""A run that is killed, at any moment, and taken up again ends with the bytes of one that was left alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import interrupted_run
import pytest
import torch
from interrupted_run import FOLDER, results_in, run_into, start

from attnlens.errors import ResultsError, UsageError
from attnlens.models.lens import load
from probes.engine import run

N_SHARDS = interrupted_run.SETTINGS["limit"] // interrupted_run.SETTINGS["shard_sentences"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """The results of a run that was left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_into(folder)
    return results_in(folder)


@pytest.fixture(scope="module")
def kill_at(tmp_path_factory) -> Callable[[Path, str], None]:
    """`kill_at(folder, moment)`: what is left in a folder of a run that was killed where it waited.

    One process is killed per moment; who asks for that moment again gets a copy of what it left.
    """
    left: dict[str, Path] = {}

    def kill(folder: Path, moment: str) -> None:
        if moment not in left:
            left[moment] = tmp_path_factory.mktemp("killed")
            process = start(left[moment], "--at", moment)
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            process.kill()
            process.communicate()
        shutil.copytree(left[moment], folder, dirs_exist_ok=True)

    return kill


@pytest.mark.parametrize(
    ("moment", "n_finished"),
    [("between shards", 2), ("in a shard", 2), ("in the statistics", N_SHARDS), ("in the results", N_SHARDS)],
)
def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(
    undisturbed, kill_at, tmp_path, moment, n_finished
):
    """The killed process has two threads, this one has one."""
    kill_at(tmp_path, moment)
    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == n_finished
    counted: list[int] = []

    run_into(tmp_path, resume=True, progress=lambda done, total: counted.append(done))

    assert results_in(tmp_path) == undisturbed
    assert counted[-1] == interrupted_run.SETTINGS["limit"]


def test_a_shard_that_was_kept_is_not_counted_again(undisturbed, kill_at, tmp_path, monkeypatch):
    kill_at(tmp_path, "in the statistics")
    monkeypatch.setattr("probes.counting.run_shard", None)

    run_into(tmp_path, resume=True)

    assert results_in(tmp_path) == undisturbed


@pytest.mark.parametrize("lost", [(), ("000001.parquet",)], ids=["clean", "killed before the shards were removed"])
def test_many_shards_become_one_file_and_count_once(undisturbed, kill_at, tmp_path, monkeypatch, lost):
    """With two files at most, six shards are put together three times; the second time, nothing is counted again."""
    monkeypatch.setattr("probes.checkpoints.MOST_FILES", 2)
    folded, kept = tmp_path / "one", tmp_path / "two"
    kill_at(kept, "between shards")
    run(load("attnlens/tiny-bert"), **interrupted_run.SETTINGS, checkpoints=folded / FOLDER)
    assert {path.name for path in (folded / FOLDER).iterdir()} == {"sum.parquet", "manifest.json"}
    for name in lost:
        shutil.copy(kept / FOLDER / name, folded / FOLDER)
    monkeypatch.setattr("probes.counting.run_shard", None)

    run_into(folded, resume=True)

    assert results_in(folded) == undisturbed


def test_texts_that_families_bring_themselves_are_kept_too(tmp_path, monkeypatch):
    lens = load("attnlens/tiny-gpt2")
    settings = interrupted_run.SETTINGS | {"families": "induction", "limit": 8}
    once = run(lens, **settings, checkpoints=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"-00001.parquet", "000000.parquet", "manifest.json"}
    monkeypatch.setattr("probes.counting.run_stimuli", None)

    again = run(lens, **settings, checkpoints=tmp_path, resume=True)

    assert again.to_json() == once.to_json()


def test_a_disk_that_fills_up_loses_nothing_that_was_finished(undisturbed, tmp_path):
    process = start(tmp_path, "--at", "disk full")
    told, _ = process.communicate()

    assert process.returncode == 1
    assert "OutputError: cannot write" in told
    assert "File too large" in told
    assert "The shards that were finished before are kept there: when there is room, go on with --resume." in told
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [
        "000000.parquet",
        "000001.parquet",
        "manifest.json",
    ]

    run_into(tmp_path, resume=True)
    assert results_in(tmp_path) == undisturbed


def test_a_shard_that_a_power_cut_has_damaged_is_counted_anew(undisturbed, kill_at, tmp_path):
    kill_at(tmp_path, "between shards")
    (tmp_path / FOLDER / "000001.parquet").write_bytes(b"")

    run_into(tmp_path, resume=True)

    assert results_in(tmp_path) == undisturbed


def test_another_run_is_not_taken_up_and_the_message_says_what_differs(kill_at, tmp_path):
    kill_at(tmp_path, "between shards")
    other = interrupted_run.SETTINGS | {"seed": 7}

    with pytest.raises(ResultsError, match=r"seed: 0 then, 7 now"):
        run(load("attnlens/tiny-bert"), **other, checkpoints=tmp_path / FOLDER, resume=True)

    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == 2


def test_a_model_with_other_weights_is_another_run(tmp_path):
    lens = load("attnlens/tiny-bert")
    settings = interrupted_run.SETTINGS | {"limit": 16, "families": "positional"}
    run(lens, **settings, checkpoints=tmp_path)
    with torch.no_grad():
        next(lens.model.parameters())[0, 0] += 1

    with pytest.raises(ResultsError, match="weights: "):
        run(lens, **settings, checkpoints=tmp_path, resume=True)


def test_what_others_have_put_into_the_folder_stays(tmp_path):
    from probes.checkpoints import Checkpoints

    (tmp_path / "notes.txt").write_text("mine")
    store = Checkpoints(tmp_path, {})
    store.begin(resume=False)

    store.clear()

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_to_go_on_without_a_folder_is_an_error():
    with pytest.raises(UsageError, match="resume=True needs checkpoints"):
        run(load("attnlens/tiny-bert"), "positional", resume=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--resume"], "--resume needs -o DIR"),
        (["--workers", "2"], "add --engine ray"),
        (["--engine", "rai"], "no engine 'rai' is installed; there is local, ray"),
    ],
)
def test_the_command_line_says_what_is_missing(options, told, capsys):
    from attnlens.cli import main

    with pytest.raises(SystemExit) as exit_:
        main(["probe", "positional", "-m", "attnlens/tiny-bert", *options])

    assert exit_.value.code in (1, 2)
    assert told in capsys.readouterr().err
