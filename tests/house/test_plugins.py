"""Entry points are found whoever else looks for them in the same process."""

from __future__ import annotations

import pytest


def test_the_built_in_plugins_are_found_like_anyone_elses():
    from attnlens.plugins import installed, load_plugin

    assert {"positional", "syntax", "coreference"} <= installed("attnlens.probes").keys()
    assert load_plugin("attnlens.commands", "models").__name__ == "models"


def test_entry_points_are_found_after_the_backport_has_replaced_the_finder():
    import importlib.metadata

    import importlib_metadata

    from attnlens.plugins import installed

    (first, *_) = importlib.metadata.entry_points(group="attnlens.commands")

    assert isinstance(first, importlib_metadata.EntryPoint)  # else this test no longer tests anything
    assert "models" in installed("attnlens.commands")


def test_an_unknown_plugin_is_answered_with_what_there_is():
    from attnlens.errors import PluginError
    from attnlens.plugins import load_plugin

    with pytest.raises(PluginError, match=r"no probe 'sintax'.*coreference, .*positional, .*syntax"):
        load_plugin("attnlens.probes", "sintax")
