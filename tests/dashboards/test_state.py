"""The page's address: what is written can be read, and what cannot be read does no harm."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.request import KINDS, MAX_NEW_TOKENS
from dashboards.state import BERTVIZ, BETWEEN, COMBINE, HOW, METHODS, SHOWN, TABS, ViewState

STATES = st.builds(
    ViewState,
    model=st.text(max_size=30),
    text=st.text(max_size=80),
    kind=st.sampled_from(KINDS),
    second=st.text(max_size=20),
    new_tokens=st.integers(0, MAX_NEW_TOKENS),
    run=st.text(max_size=8),
    head=st.text(max_size=6),
    metric=st.text(max_size=10),
    words=st.booleans(),
    hide_special=st.booleans(),
    hide_sinks=st.booleans(),
    whole_rows=st.booleans(),
    between=st.sampled_from(BETWEEN),
    threshold=st.floats(0, 1),
    top=st.integers(0, 99),
    window=st.text(max_size=20),
    also=st.text(max_size=20),
    combine=st.sampled_from(COMBINE),
    measure=st.text(max_size=20),
    bertviz=st.sampled_from(BERTVIZ),
    query=st.none() | st.integers(0, 999_999),
    key=st.none() | st.integers(0, 999_999),
    details=st.booleans(),
    tab=st.sampled_from(TABS),
    results=st.text(max_size=20),
    show=st.sampled_from(SHOWN),
    find=st.text(max_size=20),
    at=st.none() | st.integers(0, 999_999),
    target=st.text(max_size=20),
    stream=st.text(max_size=20),
    method=st.sampled_from(METHODS),
    off=st.text(max_size=20),
    how=st.sampled_from(HOW),
    cut=st.text(max_size=20),
    cell=st.text(max_size=9),
    other=st.text(max_size=20),
    patch=st.none() | st.integers(0, 999_999),
    patch_at=st.none() | st.integers(0, 999_999),
    preset=st.text(max_size=12),
    reach=st.text(max_size=6),
    took=st.text(max_size=12),
    temp=st.text(max_size=4),
    topk=st.text(max_size=4),
    topp=st.text(max_size=4),
    block=st.text(max_size=6),
    part=st.text(max_size=20),
    step=st.text(max_size=20),
)


@given(STATES)
def test_reading_a_written_address_gives_the_same_view(state):
    again = ViewState.read(state.query_string())

    assert again == state


@given(st.text(max_size=200))
def test_any_address_can_be_read_and_its_normal_form_is_stable(search):
    state = ViewState.read(search)

    assert ViewState.read(state.query_string()) == state


def test_an_address_is_readable_and_holds_only_what_differs():
    state = ViewState(model="attnlens/tiny-bert", text="a & b", head="L3H1", words=True)

    assert parse_qs(state.query_string()[1:]) == {
        "model": ["attnlens/tiny-bert"],
        "text": ["a & b"],
        "head": ["L3H1"],
        "words": ["1"],
    }
    assert ViewState().query_string() == ""


@pytest.mark.parametrize("bad", ["2", "-0.1", "nan", "inf", "x", ""])
def test_a_threshold_that_is_no_weight_falls_back(bad):
    assert ViewState.read(f"?threshold={bad}").threshold == ViewState.threshold


@pytest.mark.parametrize("bad", ["-1", "1.5", "x", "9" * 30, quote("²")])
def test_a_position_that_is_none_is_left_out(bad):
    assert ViewState.read(f"?query={bad}").query is None


def test_an_unknown_tab_is_the_first():
    assert ViewState.read("?tab=<script>").tab == TABS[0]
