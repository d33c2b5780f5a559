"""The pages of the dashboard, in the order of the navigation."""

from __future__ import annotations

from dashboards.pages import compare, explore, head, heads, intervene, stream
from dashboards.pages.inside import block, generation, kinds, masks, model, positions, size
from dashboards.pages.inside import head as one_head
from dashboards.pages.inside import heads as all_heads
from dashboards.pages.page import Page
from dashboards.state import ViewState

__all__ = ["PAGES", "find_page"]

PAGES: tuple[Page, ...] = (
    explore.PAGE,
    heads.PAGE,
    stream.PAGE,
    intervene.PAGE,
    compare.PAGE,
    model.PAGE,
    one_head.PAGE,
    all_heads.PAGE,
    positions.PAGE,
    masks.PAGE,
    block.PAGE,
    generation.PAGE,
    size.PAGE,
    kinds.PAGE,
    head.PAGE,
)


def find_page(path: str, view: ViewState) -> tuple[Page, ViewState] | None:
    """The page at a path below the dashboard's own, and the view of it; None where there is no such page."""
    for page in PAGES:
        if (found := page.match(path, view)) is not None:
            return page, found
    return None
