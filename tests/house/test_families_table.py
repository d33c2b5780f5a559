"""docs/families.md: a row for every family, no figure beyond its limit, and what it says is measured again in part."""

from __future__ import annotations

import re

import pytest
from documents import ROOT
from family_models import FAMILIES

WRITING = ("decoder", "encoder-decoder", "speech")


@pytest.fixture
def tools(monkeypatch):
    """The modules that make the table."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import families_measured
    import families_subjects
    import families_table

    return families_measured, families_subjects, families_table


@pytest.fixture
def rows(tools):
    table = tools[2]
    return table.rows_of(table.PAGE.read_text(encoding="utf-8"))


def test_the_table_has_a_row_for_every_family_and_for_plain_pytorch(tools, rows):
    expected = [*FAMILIES, *tools[1].PLAIN]

    assert list(rows) == expected


def test_every_figure_is_below_its_limit_or_says_why_it_is_missing(tools, rows):
    table = tools[2]
    notes = set(re.findall(r"^(\d+)\. ", table.PAGE.read_text(encoding="utf-8"), re.M))

    cells = {(name, column): row[column] for name, row in rows.items() for column in table.FIGURES}

    for place, cell in cells.items():
        missing = re.fullmatch(r"– \((\d+)\)", cell)
        assert missing[1] in notes if missing else 0 <= float(cell) < 1e-5, place
    always = [cells[name, column] for name in rows for column in ("exact", "W_O", "ablation")]
    always += [cells[name, "generation"] for name, family in FAMILIES.items() if family.kind in WRITING]
    assert not any(cell.startswith("–") for cell in always)


@pytest.mark.parametrize("name", ["bloom", "bart"])
def test_a_row_measured_again_says_the_same(tools, rows, name):
    measured, subjects, table = tools
    subject = subjects.subject_of(name)
    without_numbers = {column: re.sub(r" \(\d+\)", "", cell) for column, cell in rows[name].items()}

    found = measured.measure(subject)

    cells = dict(zip(table.COLUMNS, table.cells_of(subject, found, {}), strict=True))
    gaps = [gap for gap in (found.lazy, found.exact, found.writes, found.ablation, found.generation) if gap is not None]
    assert max(gaps) < 1e-5
    for column in set(table.COLUMNS) - set(table.FIGURES):
        assert re.sub(r" \(\d+\)", "", cells[column]).strip("`") == without_numbers[column].strip("`")


def test_the_measurement_sees_a_capture_that_is_off(tools, monkeypatch):
    """A capture that shows the next head's weights is far from exact in both modes."""
    measured, subjects, _ = tools
    from attnlens.capture.run import Capture

    own = Capture.attention
    monkeypatch.setattr(Capture, "attention", lambda run, **options: own(run, **options).roll(1, dims=0))

    found = measured.measure(subjects.subject_of("bert"))

    assert found.lazy is not None
    assert min(found.lazy, found.exact) > 0.1
