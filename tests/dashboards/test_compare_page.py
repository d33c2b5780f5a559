"""The Compare page's functions, on real runs of a random model."""

from __future__ import annotations

import pytest
from components import graphs_in

from attnlens.errors import ModelNotFoundError, UsageError
from dashboards import ids
from dashboards.pages import compare
from dashboards.request import RunRequest

OTHER = "the keys to the cabinets are on the chair"


def test_what_the_fields_leave_out_is_as_in_the_first_run(desk, shown):
    written = shown | {"kind": "pair", "second": "the dogs bark"}

    first, second = compare.Pair.of(desk, written, compare.with_what(compare.SAME_MODEL, f" {OTHER} ")).requests

    assert first == RunRequest.from_json(written)
    assert second == RunRequest(shown["model"], OTHER, "pair", "the dogs bark")


def test_the_same_run_twice_is_refused(desk, shown):
    with pytest.raises(UsageError, match="both sides are the same"):
        compare.Pair.of(desk, shown, compare.with_what(None, shown["text"]))


def test_an_address_does_not_open_an_unlisted_model(desk, shown):
    with pytest.raises(ModelNotFoundError, match="org/unknown"):
        compare.Pair.of(desk, shown, compare.with_what("org/unknown", ""))


def test_a_checkpoint_that_a_visitor_types_is_opened_and_compared_with(make_desk, shown, tmp_path):
    desk = make_desk(roots=(tmp_path,))
    (tmp_path / "checkpoint-2").mkdir()
    name = str(tmp_path / "checkpoint-2")
    against = compare.with_what(name, "")
    with pytest.raises(ModelNotFoundError, match="is not open here"):
        compare.Pair.of(desk, shown, against)

    options, chosen = compare.open_second(desk, f" {name} ")

    assert chosen == name
    assert name in [option["value"] for option in options]
    assert compare.Pair.of(desk, shown, against).comparison.divergence().abs().max() == 0  # the same weights there
    for refused, said in (
        ("/", "outside the folders"),
        ("", "no model is chosen"),
        ("no such/thing/at all", "neither"),
    ):
        with pytest.raises(ModelNotFoundError, match=said):
            compare.open_second(desk, refused)
    assert not any(compare.with_what(ids.OTHER, "").values())


def test_the_map_and_the_pair_are_drawn_for_another_text(desk, shown):
    pair = compare.Pair.of(desk, shown, compare.with_what(None, OTHER))

    apart = graphs_in(pair.heads("L1H2", "light"))
    first, second, difference = graphs_in(pair.head("L1H2", "light"))

    assert apart[0].data[0].z == pytest.approx(pair.comparison.divergence().numpy())
    one, two = (weights.numpy() for weights in pair.comparison.maps("L1H2"))
    assert first.data[0].z == pytest.approx(one, abs=1e-6)
    assert second.data[0].z == pytest.approx(two, abs=1e-6)
    assert difference.data[0].z == pytest.approx(two - one, abs=1e-6)


def test_another_head_of_the_same_runs_is_not_measured_again(desk, shown):
    against = compare.with_what(None, OTHER)
    compare.Pair.of(desk, shown, against).heads("L1H2", "light")
    kept = desk.memo.keys

    compare.Pair.of(desk, shown, against).heads("L1H3", "dark")

    assert desk.memo.keys == kept
    assert [key[0] for key in kept] == ["divergence"]
