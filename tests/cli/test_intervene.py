"""`attnlens ablate` and `attnlens patch` print what the library says."""

from __future__ import annotations

import json

import pytest

import attnlens
from attnlens.interventions.metrics import LogitDifference
from attnlens.interventions.sweeps import ablate_each, patch_each

MODEL, TEXT, OTHER = "attnlens/tiny-gpt2", "The keys to the cabinet", "The key to the cabinet"
WATCHED = ("--target", "are", "--against", "is")


@pytest.fixture(scope="module")
def lens():
    return attnlens.load(MODEL)


def test_every_head_is_ablated_and_the_strongest_stands_first(cli, lens):
    sweep = ablate_each(lens, TEXT, LogitDifference("are", "is"), how="zero")
    strongest, change = sweep.strongest(1)[0]

    done = cli("ablate", "-m", MODEL, TEXT, "--how", "zero", *WATCHED)

    rows = done.out.partition("change\n")[2].splitlines()
    assert (done.code, done.err) == (0, "")
    assert len(rows) == 10
    assert rows[0].split() == [str(strongest), f"{sweep.before + change:.4g}", f"{change:+.4g}"]
    assert max(map(len, done.out.splitlines())) <= 80


def test_one_head_is_judged(cli):
    done = cli("ablate", "-m", MODEL, TEXT, "--head", "L2H1", "--how", "resample", *WATCHED)
    document = json.loads(cli("ablate", "-m", MODEL, TEXT, "--head", "L2H1", *WATCHED, "--json").out)

    assert "causal for this text: supported" in done.out
    assert f"worse by {document['harm']:.4g}" in done.out
    assert (document["subject"], document["verdict"], len(document["controls"])) == ("L2H1", "supported", 11)


def test_without_a_target_the_prediction_is_watched(cli, bert):
    done = cli("ablate", "-m", bert, "the key [MASK] here", "--how", "zero", "--json")

    document = json.loads(done.out)
    assert (document["unit"], document["before"]) == ("nats", 0)
    assert len(document["heads"]) == 12
    assert min(head["after"][0] for head in document["heads"]) > 0


def test_patches_go_from_one_text_to_the_other(cli, lens):
    sweep = patch_each(lens, TEXT, OTHER, LogitDifference("are", "is"))

    done = cli("patch", "-m", MODEL, TEXT, "--from", OTHER, "--point", "resid_post", *WATCHED)
    document = json.loads(cli("patch", "-m", MODEL, TEXT, "--from", OTHER, *WATCHED, "--layers", "1", "--json").out)

    rows = {line.split()[1]: line.split()[2:] for line in done.out.splitlines() if line[:3].strip().isdecimal()}
    assert rows["keys"] == [f"{round(100 * float(value))}%" for value in sweep.recovered[:2, 2]] + ["0%"]
    assert document["layers"] == [1]
    assert document["after"][0] == pytest.approx(sweep.after[1].tolist(), abs=1e-4)
    assert document["tokens"][2] == "keys"


def test_an_encoder_decoder_says_what_it_writes(cli, family_folder):
    folder = family_folder("t5")

    done = cli("ablate", "-m", folder, "abc", "--writes", "de", "--how", "zero", "--head", "XL1H0", "--json")
    refused = cli("ablate", "-m", folder, "abc")

    assert json.loads(done.out)["subject"] == "XL1H0"
    assert (refused.code, "--writes" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ablate", "--head", "L9H9"), 2, "L0H0 to L2H3"),
        (("ablate", "--how", "noise"), 2, "zero, mean, resample"),
        (("ablate", "--against", "is"), 2, "--target"),
        (("ablate", "--writes", "x"), 2, "one stack"),
        (("patch", "--from", "The key"), 2, "same number of tokens"),
        (("patch", "--from", OTHER, "--point", "middle"), 1, "resid_post"),
        (("patch", "--from", OTHER, "--layers", "7"), 2, "0 to 2"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(cli, arguments, code, words):
    command, *options = arguments

    done = cli(command, "-m", MODEL, TEXT, *options)

    assert done.code == code
    assert done.out == ""
    assert words in done.err
    assert len(done.err.splitlines()) == 1
