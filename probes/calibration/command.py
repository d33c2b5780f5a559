"""`attnlens calibrate`: how far the label rule can be trusted, on models whose heads are known."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.cli import console
from attnlens.cli.options import JsonOption
from attnlens.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table


__all__ = ["calibrate"]

DOCUMENTS, QUICK_DOCUMENTS, SEED = 200, 100, 31
DOCS = Path("docs") / "calibration.md"


def calibrate(
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", metavar="NAME", help="strength, accuracy, distractor, null, permutation, trained (default: all)."
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option("--corpus", "-c", metavar="CORPUS", help="A treebank (default: new text of the grammar)."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few models of each suite, on less text.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write calibration.json into this folder, and what each model got."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the models that an interrupted run left in DIR.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes that run models.")] = 2,
    as_json: JsonOption = False,
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help=f"Put the tables into {DOCS}, in a checkout of the project.")
    ] = False,
) -> None:
    """Measure the label rule on models whose heads are known.

    Models are planted: their weights are written so that each head follows gold annotation, an offset, a sink or
    something that looks like it, as strongly and as accurately as a suite asks for. What the rule says of them is held
    against what is known. Exits with 1 where a condition does not hold.
    """
    from attnlens.models.lens import library_versions
    from probes.calibration.figures import figures_of
    from probes.calibration.kept import FOLDER, Kept
    from probes.calibration.measuring import Recipe, Settings, families_for, measure, prepared, readings
    from probes.calibration.suites import SUITES
    from probes.calibration.table import document, markdown, tables
    from probes.thresholds import Thresholds

    suites = tuple(suite or SUITES)
    if unknown := [name for name in suites if name not in SUITES]:
        raise UsageError(f"there is no suite {unknown[0]!r}; expected {', '.join(SUITES)}.")
    if write_docs and not DOCS.is_file():
        raise UsageError(f"there is no {DOCS} here; run --write-docs at the top of a checkout.")
    if resume and output is None:
        raise UsageError("--resume needs -o DIR, the folder of the interrupted run.")
    recipe = Recipe(suites, quick, corpus, QUICK_DOCUMENTS if quick else DOCUMENTS, SEED)
    settings = Settings(bootstrap=500, permutations=999, random_models=1) if quick else Settings()
    with console.status("making text"):
        material, cases = prepared(recipe)
    kept = None
    if output is not None:
        made_by = {
            "corpus": material.corpus.name,
            "sha256": material.corpus.sha256,
            "settings": asdict(settings),
            "thresholds": asdict(Thresholds()),
            "versions": library_versions(),
        }
        kept = Kept(output / FOLDER, made_by, resume)
    with console.progress("models") as advance:
        said = readings(recipe, settings, workers, kept)
        figures = figures_of(measure(cases, said, families_for(material), advance))
    result = document(figures, material.corpus.name, settings, suites, quick=quick)
    if output is not None:
        _write(output, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if write_docs:
        _rewrite(markdown(figures, material.corpus.name, settings, suites, quick=quick))
    if as_json:
        console.json(result)
    else:
        for title, header, rows in tables(figures):
            console.out(title, _drawn(header, rows), "")
    if not figures.accepted:
        raise typer.Exit(1)


def _write(folder: Path, text: str) -> None:
    from attnlens.files import write_text

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "calibration.json", text)


def _rewrite(tables: str) -> None:
    """Replace what stands between the markers."""
    from attnlens.files import write_text
    from probes.calibration.table import BEGIN, END

    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(DOCS, f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


def _drawn(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    return table
