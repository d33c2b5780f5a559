"""The house stands: imports run one way, light imports stay light, and the public names are there."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ALLOWED = {
    "attnlens": {"attnlens"},
    "probes": {"attnlens", "probes"},
    "dashboards": {"attnlens", "probes", "dashboards"},
}
HEAVY = {"torch", "transformers", "dash", "plotly", "pandas", "scipy", "sklearn", "bertviz", "captum", "pyarrow"}


def imports_at_run_time(source: str) -> Iterator[str]:
    """Top packages that a module imports, inside functions too; what only a type checker reads is left out."""
    tree = ast.parse(source)
    for_type_checkers = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_type_checkers:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_lies_below_it(root, package):
    upward = {
        f"{path.relative_to(root)} imports {name}"
        for path in sorted((root / package).rglob("*.py"))
        for name in imports_at_run_time(path.read_text(encoding="utf-8"))
        if name in ALLOWED and name not in ALLOWED[package]
    }

    assert upward == set()


def test_the_walk_finds_imports_wherever_they_stand():
    source = (
        "import a.b\nif TYPE_CHECKING:\n    import hidden\ndef f():\n    from c.d import e\n    from . import near\n"
    )

    found = set(imports_at_run_time(source))

    assert found == {"a", "c"}


def heavy_after(statements: str) -> set[str]:
    """Heavy packages that a fresh process has loaded after running `statements`."""
    program = f"import json, sys\n{statements}\njson.dump(sorted(sys.modules), sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return HEAVY & {name.split(".")[0] for name in json.loads(done.stderr)}


def run_command_line(*arguments: str) -> str:
    call = f"main({list(arguments)!r})"
    return f"from attnlens.cli import main\ntry:\n    {call}\nexcept SystemExit as done:\n    assert not done.code"


def test_importing_the_packages_loads_nothing_heavy():
    loaded = heavy_after("import attnlens, attnlens.cli, probes, dashboards")

    assert loaded == set()


@pytest.mark.parametrize(
    "command",
    [
        "",
        "models",
        "show",
        "capture",
        "measure",
        "measures",
        "probe",
        "calibrate",
        "report",
        "open",
        "figure",
        "export",
        "serve",
        "size",
        "doctor",
    ],
)
def test_help_loads_nothing_heavy(command):
    loaded = heavy_after(run_command_line(*filter(None, [command, "--help"])))

    assert loaded == set()


def test_the_check_for_heavy_packages_sees_one():
    assert heavy_after("import pandas") >= {"pandas"}


def test_public_names_exist():
    import attnlens

    names = {name: getattr(attnlens, name) for name in attnlens.__all__}

    assert {
        "load",
        "open",
        "Lens",
        "Capture",
        "Token",
        "Head",
        "head_view",
        "model_view",
        "neuron_view",
    } <= names.keys()
    assert all(value is not None for value in names.values())
    assert set(attnlens.__all__) <= set(dir(attnlens))


def test_public_methods_of_the_design_exist():
    from attnlens import Capture, Head, Lens

    assert {"capture", "captures", "n_tokens", "probe"} <= set(dir(Lens))
    assert {"attention", "residual", "visible", "save", "units", "_repr_html_"} <= set(dir(Capture))
    assert str(Head.parse("5.1")) == "L5H1"


def test_an_unknown_name_is_an_attribute_error():
    import attnlens

    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(attnlens, "no_such_name")  # noqa: B009 -- a type checker would refuse the plain form


def test_errors_of_users_have_the_exit_codes_of_the_design():
    from attnlens import errors

    classes = [getattr(errors, name) for name in errors.__all__]

    assert all(issubclass(kind, errors.AttnlensError) for kind in classes)
    assert {kind.exit_code for kind in classes} == {1, 2}
    assert all(kind.exit_code == 2 for kind in classes if issubclass(kind, errors.UsageError))


def test_checkout_is_what_is_imported(root):
    import attnlens

    assert Path(attnlens.__file__).is_relative_to(root)
