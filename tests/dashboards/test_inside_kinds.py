"""The page of what heads learn: a card per kind, a link to the head on its sentence, and the command that tests it."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from components import graphs_in, texts_in

from dashboards.config import DashboardConfig
from dashboards.desk import Desk
from dashboards.pages.inside import kinds
from probes.kinds.found import KINDS, read_kinds


def test_each_kind_has_a_card_with_its_head_its_command_and_a_picture():
    cards = kinds.draw(Desk.of(DashboardConfig()), "light")

    assert len(cards) == len(KINDS)
    for kind, card in zip(KINDS, cards, strict=True):
        best = read_kinds().of(kind.name)[0]
        text = texts_in(card)
        assert kind.meaning in text
        assert f"{best.model.split('/')[1]} {best.head}" in text
        assert best.command in text
    assert len(graphs_in(cards)) == 2  # broad and induction: no examples are kept, so the map is made now


def test_a_model_that_is_not_here_leaves_its_card_with_a_reason(desk):
    cards = kinds.draw(desk, "dark")

    assert all(kind.title in texts_in(card) for kind, card in zip(KINDS, cards, strict=True))


def test_the_link_leads_to_the_head_on_its_sentence():
    found = read_kinds().of("object")[0]

    address = urlsplit(kinds.head_address(found))

    assert address.path == f"../head/{found.head}"
    assert parse_qs(address.query) == {"model": [found.model], "text": [found.sentence]}
