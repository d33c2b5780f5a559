"""docs/measures.md says of every measure what the registry says."""

from __future__ import annotations

import sys

from documents import ROOT


def test_the_page_is_what_the_registry_says(monkeypatch):
    """When this fails: .venv/bin/python tools/measures_table.py"""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import measures_table

    page = measures_table.PAGE.read_text(encoding="utf-8")

    assert page == measures_table.renewed(page)


def test_the_measure_of_ones_own_on_the_page_works(random_gpt2):
    import attnlens

    page = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
    source = page.partition("# my_package/measures.py\n")[2].partition("```")[0]
    names: dict[str, object] = {}
    exec(source, names)  # the page's own code, as a reader would paste it
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)

    found = lens.measure(names["LAST"], "the keys")

    run = found.run
    expected = run.attention()[..., -1].double().mean(-1)
    assert found.values.shape == (2, 3)
    assert (found.values - expected).abs().max() < 1e-9
    assert "my_package" not in sys.modules
