"""The template package installs into an environment of its own, and its own tests pass there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def environment(root, tmp_path_factory):
    """The Python of a fresh environment that sees this one's packages and has the template installed."""
    folder = tmp_path_factory.mktemp("plugin")
    template = shutil.copytree(root / "examples" / "plugin", folder / "template")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"])
    python = folder / "venv" / "bin" / "python"
    here = sysconfig.get_path("purelib", vars={"base": folder / "venv", "platbase": folder / "venv"})
    borrowed = [str(root), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    Path(here, "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)), encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, template])
    return python, template


def run(command, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_templates_own_tests_pass_where_it_is_installed(environment, tmp_path):
    python, template = environment

    said = run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:dash",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            template,
            template / "tests",
        ],
        cwd=tmp_path,
    )

    assert "8 passed" in said


def test_every_entry_point_of_the_template_is_listed_in_its_readme(root):
    folder = root / "examples" / "plugin"
    declared = [line for line in (folder / "pyproject.toml").read_text().splitlines() if "entry-points" in line]
    readme = (folder / "README.md").read_text()

    assert len(declared) == 6
    assert all(line.partition('"')[2].rstrip('"]') in readme for line in declared)
