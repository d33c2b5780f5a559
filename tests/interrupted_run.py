"""A probe run in a process of its own, which can be made to stop and wait at a moment, to be killed there.

python interrupted_run.py FOLDER [--at MOMENT] [--ray] [--resume]; it prints `here` where it waits.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "families": ["positional", "syntax"],
    "limit": 48,
    "shard_sentences": 8,
    "bootstrap": 20,
    "permutations": 99,
    "random_models": 0,
}
FOLDER = ".shards"


def run_into(folder: Path, *, resume: bool = False, ray: bool = False, progress: Any = None) -> None:
    """Probe the tiny BERT on the embedded corpus, as `attnlens probe -o FOLDER` does."""
    from attnlens.models.lens import load
    from attnlens.plugins import load_plugin
    from probes.checkpoints import remove

    run = load_plugin("attnlens.engines", "ray" if ray else "local")
    more = {"workers": 2} if ray else {}
    kept = folder / FOLDER
    lens = load("attnlens/tiny-bert")
    report = run(lens, **SETTINGS, **more, checkpoints=kept, resume=resume, progress=progress)
    report.save(folder)
    remove(kept)


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """This script in a process of its own, with two threads."""
    return subprocess.Popen(
        [sys.executable, __file__, folder, *options],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        stdout=subprocess.PIPE,
        text=True,
    )


def results_in(folder: Path) -> dict[str, bytes]:
    """Every file in a folder and its subfolders, by name; without what a killed process had not written to its end."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".part"}


def wait_here() -> None:
    sys.stdout.write("here\n")
    sys.stdout.flush()
    time.sleep(600)


def wait_in(module: Any, name: str, *, after: int = 0, half: bool = False) -> None:
    """Replace a function by one that waits, at its call number `after`; `half`: once it has written half of a file."""
    real, calls = getattr(module, name), []

    def stopping(*args: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) <= after:
            return real(*args, **options)
        if half:
            real(*args, **options)
            path = args[1]
            os.truncate(path, path.stat().st_size // 2)
        return wait_here()

    setattr(module, name, stopping)


class Killer:
    """Told of progress, it does something once, after some shards: kills a worker, waits, or takes the disk away."""

    def __init__(self, moment: str | None) -> None:
        self.moment, self.calls = moment, 0

    def __call__(self, done: int, total: int) -> None:
        self.calls += 1
        if self.calls != 2:
            return
        if self.moment == "between shards":
            wait_here()
        elif self.moment == "disk full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        elif self.moment == "worker":
            os.kill(max(workers_of(os.getpid())), signal.SIGKILL)
            sys.stdout.write("killed a worker\n")


def descendants(pid: int) -> dict[int, str]:
    """Processes that a process has started, and those that they have, with their command lines."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except (OSError, ValueError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {each: names.get(each, "") for each in found - {pid}}


def workers_of(pid: int) -> list[int]:
    """The processes of Ray's actors."""
    return [each for each, name in descendants(pid).items() if name.startswith("ray::Worker")]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--at")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    if options.at in ("in a shard", "in the statistics", "in the results"):
        import pyarrow.parquet

        import probes.engine
        from probes.report import HeadReport

        match options.at:
            case "in a shard":
                wait_in(pyarrow.parquet, "write_table", after=2, half=True)
            case "in the statistics":
                wait_in(probes.engine, "find")
            case "in the results":
                wait_in(HeadReport, "layers_frame")
                HeadReport.save = _half_saved  # type: ignore[method-assign]
    from attnlens.errors import AttnlensError

    try:
        run_into(options.folder, resume=options.resume, ray=options.ray, progress=Killer(options.at))
    except AttnlensError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


def _half_saved(self: Any, folder: Path) -> None:
    """The first file of the results stands; the second is half written."""
    from attnlens.files import whole_file

    self.frame.to_parquet(folder / "cells.parquet", index=False)
    with whole_file(folder / "heads.json") as part:
        part.write_text('{"half": ')
        wait_here()


if __name__ == "__main__":
    sys.exit(main())
