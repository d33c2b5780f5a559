"""`attnlens probe`: what is printed where, exit codes, and that nothing is left half-written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from probe_arrays import write_conllu

PLAIN = "1 the _ DET _ _ 2 det\n2 keys _ NOUN _ _ 0 root"


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    from random_models import random_bert

    folder = tmp_path_factory.mktemp("models") / "bert"
    model, tokenizer = random_bert()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def probe(capsys, monkeypatch, bert_folder):
    """`probe("syntax", "-c", ...)`: (exit code, stdout, stderr) of the command with a random BERT."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments, model=bert_folder):
        from attnlens.cli import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["probe", *map(str, arguments), "-m", str(model)])
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return call


def test_tables_go_to_stdout_and_the_paths_come_last(probe, tmp_path):
    code, out, err = probe("all", "-o", tmp_path / "out")

    assert code == 0
    assert "heads labelled" in out
    assert "b1 the best offset" in out
    assert "Attention is evidence of information movement, not explanation." in " ".join(out.split())
    assert out.rstrip().endswith("cells.parquet")
    assert max(len(line) for line in out.splitlines()[1:-1]) <= 100
    assert all(" is left out: " in line for line in err.splitlines())


def test_json_is_all_that_stdout_gets_and_equals_the_file(probe, tmp_path):
    code, out, _ = probe("positional", "--limit", 30, "--json", "-o", tmp_path)

    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "heads.json").read_text(encoding="utf-8"))


def test_without_a_folder_nothing_is_written(probe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    code, _, _ = probe("positional", "--limit", 30)

    assert code == 0
    assert list(tmp_path.iterdir()) == []


def test_what_all_leaves_out_is_said_on_stderr(probe, tmp_path):
    path = write_conllu(tmp_path / "plain.conllu", PLAIN)

    code, _, err = probe("all", "-c", path)

    assert code == 0
    left_out = {line.split(" is left out: ")[0]: line for line in err.splitlines()}
    assert left_out.keys() == {"coreference", "induction", "pairs"}
    assert "plain.conllu has no coreference (no `Entity=` in MISC" in left_out["coreference"]


def test_a_hostile_file_name_reaches_the_terminal_as_text(probe, tmp_path):
    path = write_conllu(tmp_path / "a\x1b[31mb.conllu", PLAIN)

    _, _, err = probe("all", "-c", path)

    assert "\x1b" not in err
    assert "[31mb.conllu has no coreference" in err


REFUSED = {
    "unknown family": (["sintax"], PLAIN, 1, "coreference, induction, lexical"),
    "no coreference": (["coreference", "-c", "{file}"], PLAIN, 1, "run `induction` or `lexical`"),
    "no arcs": (["syntax", "-c", "{file}"], "1 a\n2 b", 1, "no dependency arcs"),
    "cycle": (
        ["syntax", "-c", "{file}"],
        "1 a _ X _ _ 2 dep\n2 b _ X _ _ 1 dep",
        1,
        "line 1: a cycle of heads: 1 -> 2 -> 1",
    ),
    "broken row": (["syntax", "-c", "{file}"], "1 a _ X _ _ 0 root _ _ extra", 1, "11 columns, not 10"),
    "empty file": (["syntax", "-c", "{file}"], "", 1, "holds no sentence"),
    "missing file": (["syntax", "-c", "{folder}/nowhere.conllu"], PLAIN, 1, "no corpus"),
    "folder": (["syntax", "-c", "{folder}"], PLAIN, 1, "is a folder"),
    "unknown engine": (["syntax", "--engine", "warp"], PLAIN, 1, "local"),
    "output is a file": (["positional", "-o", "{file}"], PLAIN, 1, "cannot write"),
    "limit": (["positional", "--limit", "0"], PLAIN, 2, "--limit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_one_line_and_leave_nothing(probe, tmp_path, case):
    arguments, text, exit_code, reason = REFUSED[case]
    file = write_conllu(tmp_path / "c.conllu", text)
    out_folder = tmp_path / "out"
    filled = [each.format(file=file, folder=tmp_path) for each in arguments]

    code, out, err = probe(*filled, *([] if "-o" in filled else ["-o", out_folder]))

    assert (code, out) == (exit_code, "")
    assert err.count("\n") == 1
    assert err.startswith("attnlens: ")
    assert reason in err
    assert "Traceback" not in err
    assert not out_folder.exists()


def test_the_corpus_is_read_before_the_model_is_opened(probe, tmp_path):
    code, _, err = probe("syntax", "-c", tmp_path / "nowhere.conllu", model="also-nowhere")

    assert code == 1
    assert "no corpus" in err


@pytest.mark.parametrize("module", ["probes", "probes.syntax", "probes.positional", "probes.coreference"])
def test_families_are_scripts_of_their_own(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert "--corpus" in done.stdout


def test_a_family_script_puts_its_name_in_front(bert_folder, tmp_path):
    file = write_conllu(tmp_path / "c.conllu", PLAIN)

    done = subprocess.run(
        [sys.executable, "-m", "probes.coreference", "-m", str(bert_folder), "-c", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 1
    assert "no coreference" in done.stderr


def test_importing_the_command_loads_nothing_heavy():
    heavy = "{'torch', 'numpy', 'scipy', 'pandas', 'transformers'}"
    code = f"import sys, probes.cli; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_list_of_families_needs_neither_a_model_nor_a_family(capsys, monkeypatch):
    from importlib.metadata import entry_points

    from attnlens.cli import main

    monkeypatch.setenv("COLUMNS", "80")
    printed = []
    for arguments in (["probe", "--list"], ["probe", "--list", "--json"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert not caught.value.code
        printed.append(capsys.readouterr().out)

    names = {point.name for point in entry_points(group="attnlens.probes")}
    families = {each["name"]: each for each in json.loads(printed[1])["families"]}
    assert families.keys() == names
    assert {line.split()[0] for line in printed[0].splitlines() if not line.startswith(" ")} == names
    assert "no dependency arcs" in families["syntax"]["needs"]
    assert families["positional"]["needs"] is None
    assert max(map(len, printed[0].splitlines())) <= 80


def test_a_family_that_cannot_be_loaded_says_so_in_the_list(monkeypatch):
    from attnlens.errors import PluginError
    from probes import listing

    def broken(name):
        raise PluginError(f"{name} is broken.")

    monkeypatch.setattr(listing, "load_family", broken)

    entries = listing.families()

    assert entries
    assert all(entry.fault == f"{entry.name} is broken." for entry in entries)
    assert "    syntax is broken." in list(listing.draw_families(entries, 80))


@pytest.mark.parametrize("arguments", [["-m", "attnlens/tiny-bert"], ["syntax"]])
def test_without_a_family_or_a_model_there_is_nothing_to_run(capsys, arguments):
    from attnlens.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["probe", *arguments])

    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err.startswith("attnlens: say which ")
    assert err.count("\n") == 1


def test_the_number_of_examples_is_that_of_each_side(probe):
    """A model whose heads do what their cards say has labels to show."""
    options = ("--limit", 60, "--random-models", 0, "--bootstrap", 20, "--json")
    shown = {}
    for n in (0, 1):
        _, out, _ = probe("positional", "--examples", n, *options, model="attnlens/tiny-bert")
        labels = [label for head in json.loads(out)["heads"] for label in head["labels"]]
        shown[n] = [[example["side"] for example in label["examples"]] for label in labels]

    assert shown[0]
    assert all(sides == [] for sides in shown[0])
    assert ["best", "worst"] in shown[1]
    assert max(map(len, shown[1])) == 2


def test_the_folder_for_headvis_holds_every_head_with_its_labels(probe, tmp_path):
    folder = tmp_path / "viewer"

    code, out, _ = probe("positional", "--limit", 30, "--bootstrap", 20, "--headvis", folder, "--json")

    heads = json.loads(out)["heads"]
    assert code == 0
    assert {path.stem for path in (folder / "heads").iterdir()} == {head["head"] for head in heads}
    assert len(json.loads((folder / "scatter_data.json").read_text(encoding="utf-8"))) == len(heads)


def test_only_the_relations_that_were_asked_for_are_reported(probe):
    options = ("--limit", 40, "--random-models", 0, "--bootstrap", 20, "--json")

    code, out, _ = probe("syntax", "--relations", "det, obj", *options)

    assert code == 0
    assert {each["relation"] for each in json.loads(out)["relations"]} == {"det", "obj"}
