"""Text of strangers (tokens, names) made safe for a picture: short, escaped, and kept in its own direction."""

from __future__ import annotations

import html
import unicodedata

__all__ = ["MAX_LABEL", "escaped", "isolated", "shortened"]

MAX_LABEL = 22


def shortened(label: str, limit: int = MAX_LABEL) -> str:
    """`label` cut in the middle to `limit` characters; an empty one becomes `∅`.

    >>> shortened("a" * 40, 9), shortened("")
    ('aaaaa…aaa', '∅')
    """
    if len(label) <= limit:
        return label or "∅"
    tail = (limit - 1) * 2 // 5
    return f"{label[: limit - 1 - tail]}…{label[-tail:]}"


def isolated(label: str) -> str:
    """`label` between direction isolates where it holds right-to-left text, so that it cannot turn its neighbours."""
    if any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in label):
        return f"\u2068{label}\u2069"
    return label


def escaped(label: str, limit: int = MAX_LABEL) -> str:
    """What plotly shows as `label`: plotly reads tags and the entities of `<`, `>` and `&`, not those of quotes."""
    return html.escape(isolated(shortened(label, limit)), quote=False)
