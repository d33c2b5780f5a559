"""Runs of small random models, and results for one of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from report_samples import HOSTILE, TEXT, load_run, results_document


@pytest.fixture(scope="session")
def bert_run() -> Any:
    """A run of 3 layers of 4 heads, in both directions, with [CLS] and [SEP]."""
    return load_run("bert", TEXT)


@pytest.fixture(scope="session")
def gpt2_run() -> Any:
    """A run of 2 layers of 3 heads; no token sees a later one."""
    return load_run("gpt2", "the keys")


@pytest.fixture(scope="session")
def hostile_run() -> Any:
    """A run of a text that would act, did it get into a page unescaped."""
    return load_run("gpt2", HOSTILE)


@pytest.fixture(scope="session")
def long_run() -> Any:
    """A causal run of 70 tokens, beyond the length up to which every line is drawn."""
    return load_run("llama", "ab cd efg " * 7)


@pytest.fixture
def document(bert_run: Any) -> dict[str, Any]:
    """Results for the model of `bert_run`."""
    return copy.deepcopy(results_document(bert_run.anatomy.to_json()))


@pytest.fixture
def results(document: dict[str, Any]) -> Any:
    """The same, parsed."""
    from attnlens.report.results import parse_results

    return parse_results(document)


@pytest.fixture
def called() -> Any:
    """`called(command)`: a function that runs a command of the command line; what it raises comes out as it is."""
    import typer
    from typer.testing import CliRunner

    def of(command: Any) -> Any:
        app = typer.Typer()
        app.command()(command)

        def run(*arguments: object) -> str:
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
            if result.exception and not isinstance(result.exception, SystemExit):
                raise result.exception
            assert result.exit_code == 0, result.output
            return result.stdout

        return run

    return of
