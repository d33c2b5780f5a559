"""What probing a very large corpus costs, computed from measured rates; renews the table in docs/scale.md.

The rates are inputs: measure yours with `benchmarks/ray_scaling.py`, and give them as options.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
BLOCK = re.compile(r"(<!-- table: scale -->\n).*?(<!-- end -->\n)", re.DOTALL)
WORDS = (10**6, 10**7, 10**8, 10**9)
MACHINES = (1, 10, 100)


@dataclass(frozen=True)
class Rates:
    """What was measured, on the machine that docs/scale.md names.

    Attributes:
        counted: words that one core counts in a second, for the model and the families that the page names.
        taken_in: words that the process which was started reads, sends, keeps and adds up in a second.
        read: words of CoNLL-U that one process reads in a second.
        walks: how often a run reads the corpus beside counting it: to check it, for each copy with random weights, for
            examples and for closer reading.
        after_s: what follows the pass: statistics, closer reading, copies with random weights.
        cores: of each machine.
    """

    counted: float
    taken_in: float
    read: float
    walks: int
    after_s: float
    cores: int


MEASURED = Rates(counted=930, taken_in=9_200, read=57_000, walks=8, after_s=300, cores=16)


def hours(words: int, machines: int, rates: Rates) -> float:
    """Hours where the corpus is cut into as many parts as there are machines, each a run with workers of its own."""
    part = words / machines
    counting = part / min(rates.counted * rates.cores, rates.taken_in)
    return (counting + part * rates.walks / rates.read + rates.after_s) / 3600


def most_cores(rates: Rates) -> float:
    """Cores that one run can keep busy."""
    return rates.taken_in / rates.counted


def table(rates: Rates) -> str:
    """Hours, and machine-hours, by words and machines, as Markdown."""
    lines = [
        "| words | " + " | ".join(f"{n} machine{'s' * (n > 1)}" for n in MACHINES) + " |",
        "|---:|" + "---:|" * len(MACHINES),
    ]
    for words in WORDS:
        cells = [f"{_shown(hours(words, n, rates))} ({_shown(hours(words, n, rates) * n)})" for n in MACHINES]
        lines.append(f"| {words:,} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"One run keeps about {most_cores(rates):,.0f} such cores busy: one process reads and adds up for all.",
    ]
    return "\n".join(lines) + "\n"


def renewed(page: str, rates: Rates = MEASURED) -> str:
    """`page` with its table as the rates make it."""
    return BLOCK.sub(lambda match: f"{match[1]}{table(rates)}{match[2]}", page)


def _shown(value: float) -> str:
    return f"{value:,.0f} h" if value >= 10 else f"{value:.1f} h"


def main() -> None:
    """Print the table for other rates, or renew the page's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in vars(MEASURED).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    rates = Rates(**vars(parser.parse_args()))
    if rates == MEASURED:
        PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table(rates))  # noqa: T201


if __name__ == "__main__":
    main()
