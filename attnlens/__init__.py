"""attnlens: what does this attention head do, and how do we know?

Importing this package loads neither torch nor dash; the public names below load what they need on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnlens._version import __version__

if TYPE_CHECKING:
    from attnlens.capture.bundle import open_run as open
    from attnlens.capture.exchange import from_attentions
    from attnlens.capture.run import Capture
    from attnlens.capture.tokens import Token
    from attnlens.heads import Head
    from attnlens.models.families import Family
    from attnlens.models.lens import Lens, load
    from attnlens.report.classic import head_view, model_view, neuron_view

_HOMES = {
    "Capture": ("attnlens.capture.run", "Capture"),
    "Family": ("attnlens.models.families", "Family"),
    "Head": ("attnlens.heads", "Head"),
    "Lens": ("attnlens.models.lens", "Lens"),
    "Token": ("attnlens.capture.tokens", "Token"),
    "from_attentions": ("attnlens.capture.exchange", "from_attentions"),
    "head_view": ("attnlens.report.classic", "head_view"),
    "load": ("attnlens.models.lens", "load"),
    "model_view": ("attnlens.report.classic", "model_view"),
    "neuron_view": ("attnlens.report.classic", "neuron_view"),
    "open": ("attnlens.capture.bundle", "open_run"),
}

__all__ = [
    "Capture",
    "Family",
    "Head",
    "Lens",
    "Token",
    "__version__",
    "from_attentions",
    "head_view",
    "load",
    "model_view",
    "neuron_view",
    "open",
]


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'attnlens' has no attribute {name!r}") from None
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
