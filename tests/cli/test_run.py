"""The frame around every command: finding it, its help, its errors and exit codes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

COMMANDS = (
    "models show capture measure measures ablate patch probe compare merge calibrate report "
    "open figure export serve size doctor"
).split()


@pytest.fixture
def with_command(monkeypatch):
    """Install a command for one test, as a plug-in would."""
    from attnlens.cli import commands

    def install(name, function):
        def load(group, entry):
            return function if entry == name else original_load(group, entry)

        original_load, original_installed = commands.load_plugin, commands.installed
        entry = EntryPoint(name, "somewhere:command", commands.GROUP)
        monkeypatch.setattr(commands, "load_plugin", load)
        monkeypatch.setattr(commands, "installed", lambda group: original_installed(group) | {name: entry})

    return install


def test_help_lists_every_command_of_the_design_in_order(cli):
    done = cli("--help")

    listed = re.findall(r"^  ([a-z]+)  ", done.out.partition("Commands:")[2], re.M)
    assert done.code == 0
    assert listed[: len(COMMANDS)] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_has_help_in_80_columns(cli, name):
    long, short = cli(name, "--help"), cli(name, "-h")

    assert long.code == 0
    assert long.out == short.out
    assert "cannot be loaded" not in long.out
    assert max(map(len, long.out.splitlines())) <= 80


def test_version_is_that_of_the_package(cli):
    from attnlens import __version__

    assert cli("--version") == (0, f"attnlens {__version__}\n", "")


def test_no_command_prints_help_and_is_wrong_usage(cli):
    done = cli()

    assert (done.code, done.out) == (2, "")
    assert "Usage: attnlens" in done.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["shwo"], "No such command 'shwo'. Did you mean 'show'?"),
        (["--no-such-option"], "No such option: --no-such-option"),
        (["show"], "Missing"),
        (["capture", "-m", "x", "-o", "y", "--mode", "quick", "text"], "'lazy', 'exact'"),
        (["show", "-m", "x", "a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(cli, arguments, expected):
    done = cli(*arguments)

    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"attnlens: .+ See: attnlens.* --help\n", done.err)
    assert expected in done.err


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_on_purpose_is_one_line_with_its_exit_code(cli, with_command, code):
    from attnlens.errors import TextError, UsageError

    def fails() -> None:
        raise {1: TextError, 2: UsageError}[code]("first\nsecond \x1b[31m red")

    with_command("fails", fails)

    done = cli("fails")

    assert done == (code, "", "attnlens: first second \\x1b[31m red\n")


def test_an_unexpected_error_is_called_a_bug_and_shown_on_request(cli, with_command, monkeypatch):
    def breaks() -> None:
        raise ZeroDivisionError("by nothing")

    with_command("breaks", breaks)

    plain, option = cli("breaks"), cli("breaks", "--traceback")
    monkeypatch.setenv("ATTNLENS_TRACEBACK", "1")
    variable = cli("breaks")

    assert plain.code == option.code == variable.code == 1
    assert plain.err.count("\n") == 1
    assert "bug" in plain.err
    assert "--traceback" in plain.err
    assert "Traceback" in option.err
    assert option.err == variable.err


def test_an_interrupted_command_says_so_in_one_word(cli, with_command):
    def waits() -> None:
        raise KeyboardInterrupt

    with_command("waits", waits)

    assert cli("waits") == (130, "", "interrupted\n")


def test_a_command_chooses_its_exit_code(cli, with_command):
    def refuses() -> None:
        raise typer.Exit(1)

    with_command("refuses", refuses)

    assert cli("refuses") == (1, "", "")


def test_a_broken_plugin_leaves_the_others_alone_and_is_an_error_when_run(cli, monkeypatch):
    from attnlens.cli import commands

    entry = EntryPoint("broken", "no_such_module:command", commands.GROUP)
    original = commands.installed
    monkeypatch.setattr(commands, "installed", lambda group: original(group) | {"broken": entry})
    monkeypatch.setattr("attnlens.plugins.installed", lambda group: original(group) | {"broken": entry})

    listing, run, other = cli("--help"), cli("broken", "--any", "thing"), cli("models", "--help")

    assert listing.code == other.code == 0
    assert "cannot be loaded" in listing.out
    assert run.code == 1
    assert run.err.startswith("attnlens: no_such_module:command")
    assert "No module named 'no_such_module'" in run.err


def test_what_libraries_log_and_warn_stays_off_both_streams(cli, with_command):
    def chats() -> None:
        import warnings

        import transformers

        warnings.warn("chatter", stacklevel=1)
        transformers.logging.get_logger("transformers").warning("chatter")
        typer.echo("result")

    with_command("chats", chats)

    assert cli("chats") == (0, "result\n", "")


def test_the_installed_script_answers(script):
    from attnlens import __version__

    assert script("--version") == (0, f"attnlens {__version__}\n", "")
    assert script("shwo").code == 2


def test_a_reader_that_leaves_early_is_met_quietly():
    path = Path(sys.executable).with_name("attnlens")
    with subprocess.Popen([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()

    assert err == b""


def test_a_terminal_without_utf8_gets_escapes_not_a_crash(script, bert):
    done = script("show", "-m", bert, "the keys", PYTHONIOENCODING="ascii", PYTHONUTF8="0")

    assert done.code == 0
    assert "\\xb7" in done.out


def test_ctrl_c_ends_a_real_process_with_130():
    program = (
        "import time, sys\nfrom attnlens.cli import commands, main\n"
        "def waits() -> None:\n    print('ready', flush=True); time.sleep(60)\n"
        "commands.load_plugin = lambda group, name: waits\nmain(['models'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()

    assert (process.returncode, err) == (130, "interrupted\n")


def test_ctrl_c_ends_a_process_whose_threads_are_inside_torch():
    program = (
        "import sys, threading, time, torch\nfrom attnlens.cli import commands, main\n"
        "def works():\n    while True: (torch.rand(400, 400) @ torch.rand(400, 400)).sum().item()\n"
        "def waits() -> None:\n"
        "    [threading.Thread(target=works, daemon=True).start() for _ in range(4)]\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "commands.load_plugin = lambda group, name: waits\nsys.argv = ['attnlens', 'models']\nmain()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()

    assert (process.returncode, err) == (130, "interrupted\n")


def test_json_escapes_what_a_terminal_could_act_on(capsys):
    from attnlens.cli import console

    hostile = {"token": "\x1b[31m\x9b\u202e</script><img src=x onerror=alert(1)>é漢\ud800"}

    console.json(hostile)

    printed = capsys.readouterr().out
    assert json.loads(printed) == hostile
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", printed)
    assert "é漢" in printed


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json(value):
    from attnlens.cli import console

    with pytest.raises(ValueError, match="JSON"):
        console.json({"value": value})


def test_markup_in_a_string_is_printed_as_it_stands(capsys):
    from rich.text import Text

    from attnlens.cli import console

    console.out("[bold]:smile:[/bold]", Text("[red]x[/red]"))

    assert capsys.readouterr().out == "[bold]:smile:[/bold]\n[red]x[/red]\n"


def test_progress_is_silent_where_stderr_is_no_terminal(capsys):
    from attnlens.cli import console

    with console.progress("counting") as advance:
        advance(1, 2)

    assert capsys.readouterr() == ("", "")
