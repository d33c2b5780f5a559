"""What a user installs: three packages, with their data, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version

import pytest

PACKAGES = ("attnlens", "probes", "dashboards")


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """Names in the wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=300)
    (file,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


@pytest.fixture(scope="module")
def tracked(root):
    """Files under version control."""
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name and (root / name).exists()}


def test_the_wheel_holds_three_packages_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in wheel if "__pycache__" in name or name.endswith((".part", ".pyc", ".ipynb"))]


def test_every_tracked_file_of_the_packages_is_in_the_wheel(wheel, tracked):
    expected = {name for name in tracked if name.startswith(tuple(f"{package}/" for package in PACKAGES))}

    assert expected - wheel == set()


@pytest.mark.parametrize(
    "pattern",
    [
        r"attnlens/py\.typed",
        r"probes/py\.typed",
        r"dashboards/py\.typed",
        r"attnlens/report/schema/heads-1\.json",
        r"attnlens/report/schema/report-1\.json",
        r"attnlens/report/scripts/report_.+\.js",
        r"attnlens/report/templates/.+",
        r"attnlens/zoo/.+\.safetensors",
        r"attnlens/zoo/.+\.conllu",
        r"dashboards/assets/.+\.css",
        r"attnlens-.+\.dist-info/licenses/LICENSE",
    ],
)
def test_the_wheel_holds_the_data(wheel, pattern):
    assert [name for name in wheel if re.fullmatch(pattern, name)]


def test_the_version_has_one_source(root):
    from attnlens import __version__

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert "version" in project["dynamic"]
    assert version("attnlens") == __version__


def test_every_dependency_of_the_project_is_pinned_for_development(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {name_of(line) for line in [*project["dependencies"], *extras["dev"], *extras["docs"], *extras["minilm"]]}
    pins = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]

    assert wanted - {name_of(pin) for pin in pins} == set()
    assert all("==" in pin and "@" not in pin for pin in pins)
    assert "torch==2.13.0" in pins


def name_of(requirement: str) -> str:
    return re.split(r"[\s<>=!~\[;]", requirement)[0].lower().replace("_", "-")
