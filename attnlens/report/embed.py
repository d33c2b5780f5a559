"""Data inside a page: JSON that cannot end its script element."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["json_for_script"]


def json_for_script(document: Any) -> str:
    """JSON for a script element: no character of it can end the element or start a comment; NaN is refused."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
