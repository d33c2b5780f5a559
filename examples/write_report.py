"""Write one HTML page about a sentence, and BertViz' classic head view, both without any network."""

from pathlib import Path

import attnlens
from attnlens.report.classic import classic_page
from attnlens.report.html import run_report


def main(folder: Path = Path("out")) -> None:
    """Write both pages into `folder`; in a notebook, `attnlens.head_view(run)` shows the second in place."""
    folder.mkdir(parents=True, exist_ok=True)
    run = attnlens.load("attnlens/tiny-llama").capture("The girl that the kings see is very tall.")

    for name, page in (("report.html", run_report(run)), ("bertviz.html", classic_page(run, view="head"))):
        (folder / name).write_text(page, encoding="utf-8")
        print(folder / name, f"{len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    import sys

    main(*map(Path, sys.argv[1:2]))
