"""The command line, called in this process (fast) or as the installed script in one of its own (real)."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Done(NamedTuple):
    """What a call left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys, monkeypatch) -> Callable[..., Done]:
    """`cli("show", "-m", ..., stdin="...")`: main() in this process, with stdout and stderr that are no terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("ATTNLENS_TRACEBACK", raising=False)

    def call(*arguments: object, stdin: str = "") -> Done:
        from attnlens.cli import main

        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = exit_.value.code
        return Done(code if isinstance(code, int) else 0, out, err)

    return call


@pytest.fixture(scope="session")
def script() -> Callable[..., Done]:
    """The console script as pip installed it, in a process of its own."""
    path = Path(sys.executable).with_name("attnlens")

    def call(*arguments: object, stdin: str | None = None, **environment: str) -> Done:
        import os

        done = subprocess.run(
            [path, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"COLUMNS": "80"} | environment,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    """A folder with a random BERT: 3 layers, 4 heads, 48 positions."""
    return _folder("bert", tmp_path_factory)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory) -> Path:
    """A folder with a random GPT-2: 2 layers, 3 heads, 50 positions."""
    return _folder("gpt2", tmp_path_factory)


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory) -> Callable[[str], Path]:
    """`family_folder("bart")`: a folder with the tiny random model of a family, and its tokenizer."""
    from family_models import FAMILIES

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("families") / name
            FAMILIES[name].build().save_pretrained(made[name])
            if tokenizer := FAMILIES[name].tokenizer():
                tokenizer.save_pretrained(made[name])
        return made[name]

    return folder


def _folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from random_models import BUILDERS

    folder: Path = tmp_path_factory.mktemp("models") / family
    model, tokenizer = BUILDERS[family]()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
