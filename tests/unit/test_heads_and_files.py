"""Head addresses in every accepted spelling, and files that are written whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.errors import HeadAddressError, OutputError
from attnlens.files import check_writable, whole_file, write_text
from attnlens.heads import Head


@given(st.integers(0, 999), st.integers(0, 999), st.sampled_from(["", "E", "D", "X"]))
def test_printed_address_reads_back(layer: int, head: int, stack: str) -> None:
    address = Head(layer, head, stack)

    assert Head.parse(str(address)) == address
    assert Head.parse(str(address).lower()) == address
    assert {Head.parse(f"{layer}.{head}"), Head.parse(f"{layer}:{head}"), Head.parse((layer, head))} == {
        Head(layer, head)
    }


@pytest.mark.parametrize(
    "wrong", ["", "5", "L5", "H1", "5-1", "L-1H0", "QL1H1", (1, 2, 3), (-1, 0), (1, True), None, 5]
)
def test_anything_else_is_refused_with_the_spellings(wrong: object) -> None:
    with pytest.raises(HeadAddressError, match=r"write L5H1, 5\.1, 5:1"):
        Head.parse(wrong)


def test_numpy_numbers_are_numbers() -> None:
    assert Head.parse((np.int64(1), np.int32(2))) == Head(1, 2)
    assert type(Head.parse((np.int64(1), np.int32(2))).layer) is int


def test_head_outside_the_model_is_refused_with_its_range() -> None:
    assert Head(5, 11).within(6, 12) == Head(5, 11)

    with pytest.raises(HeadAddressError, match="L0H0 to L5H11"):
        Head(6, 0).within(6, 12)
    with pytest.raises(HeadAddressError, match="6 layers of 12 heads"):
        Head(0, 12).within(6, 12)


@pytest.mark.parametrize("old", [None, "old"])
def test_failed_write_loses_nothing_and_leaves_nothing(tmp_path: Path, old: str | None) -> None:
    target = tmp_path / "report.html"
    if old is not None:
        target.write_text(old)

    with suppress(RuntimeError), whole_file(target) as part:
        part.write_text("half")
        raise RuntimeError

    assert [path.read_text() for path in tmp_path.iterdir()] == ([old] if old else [])


def test_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "usual").write_text("x")

    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_check_writable_leaves_no_trace_and_finds_the_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    check_writable(tmp_path / "new" / "deep" / "report.html")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for obstacle in (tmp_path, tmp_path / "file" / "report.html", tmp_path / ("a" * 300)):
        with pytest.raises(OutputError, match="cannot write"):
            check_writable(obstacle)
