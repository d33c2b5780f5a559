"""Peak memory of one side on a long text, above the loaded model, in a process of its own; prints one number, in MiB.

python benchmarks/peak_memory.py SIDE [MODEL]
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import sides
import sizes

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(side: str, name: str = "long") -> None:
    """Open the model, forget what that took, run once."""
    bench = sides.open_bench(name, sizes.SIZES[name].batches[0])
    make = sides.REFERENCES.get(side) or sides.SIDES[side][0]
    run = make(bench)
    before = _start()
    result = run()
    print(f"{(_peak() - before) / 2**20:.1f}")
    del result


def _start() -> int:
    """Bytes resident now, and the high-water mark set back to it where the system allows that."""
    if not _STATUS.exists():
        return _peak()
    _CLEAR.write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    if _STATUS.exists():
        return _status("VmHWM")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def _status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
