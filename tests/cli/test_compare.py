"""`attnlens compare`: two saved results on the terminal and as JSON."""

from __future__ import annotations

import json

import pytest

import attnlens


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    lens = attnlens.load("attnlens/tiny-bert")
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"out{seed}")
        lens.probe("syntax", limit=40, seed=seed, bootstrap=20, permutations=99, random_models=1).save(folder)
        folders.append(str(folder))
    return folders


def test_the_command_compares_two_folders(cli, saved):
    done = cli("compare", *saved, "--all")
    as_json = cli("compare", *saved, "--json")

    assert done.code == 0
    assert "A: attnlens/tiny-bert on attnlens/grammar" in done.out
    assert "nsubj" in done.out
    document = json.loads(as_json.out)
    assert document["one_model"] is True
    at_words = {each["difference"] for each in document["questions"] if each["at"] == "word"}
    assert at_words <= {0.0, None}  # the seed draws control words, and which words are masked


def test_a_folder_without_results_is_one_line(cli, saved, tmp_path):
    done = cli("compare", saved[0], str(tmp_path))

    assert done.code == 1
    assert "holds no heads.json; name a folder" in done.err
    assert "Traceback" not in done.err
