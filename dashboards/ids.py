"""The names by which layout, callbacks, style sheets and browser tests find the parts of the page."""

from __future__ import annotations

# State
ADDRESS = "address"  # what the browser's address asks for: {"search": "?model=..."}
ADDRESS_OUT = "address-out"  # what the address should become: "?model=..."
ADDRESS_SENT = "address-sent"
REQUEST = "request"  # the run that is asked for: {"model", "text"}
RUN = "run"  # the run that is shown: {"model", "text", "n_layers", "n_heads", "n_tokens"}
QUERY = "query"  # the token whose links alone are drawn: {"position", "of"}
THEME = "theme"  # "light" or "dark"

# Rail
MODEL = "model"
MODEL_NOTE = "model-note"
OTHER_MODEL = "other-model"
OTHER = "(other)"  # the value of MODEL that opens OTHER_MODEL
TEXT = "text"
EXAMPLES = "examples"
EXAMPLE = "example"  # type of the pattern-matching ids {"type": EXAMPLE, "index": ...}
RUN_BUTTON = "run-button"
RESULTS = "results"
UPLOAD = "upload"
RESULTS_NOTE = "results-note"

# Stage
PROVIDER = "provider"
STAGE = "stage"
NOTICE = "notice"
STATUS = "status"
SUMMARY = "summary"
METRIC = "metric"
MAP = "head-map"
MAP_FRAME = "head-map-frame"
MAP_CAPTION = "head-map-caption"
MAP_TABLE = "head-map-table"

# One head
HEAD = "head"
PREVIOUS_HEAD = "previous-head"
NEXT_HEAD = "next-head"
HEAD_TITLE = "head-title"
HEAD_LABELS = "head-labels"
TAB = "tab"
WORDS = "words"
HIDE_SPECIAL = "hide-special"
THRESHOLD = "threshold"
LINKS = "links"
LINKS_CAPTION = "links-caption"
MATRIX = "matrix"
MATRIX_CAPTION = "matrix-caption"
MATRIX_TABLE = "matrix-table"
CLASSIC = "classic"
STRONGEST = "strongest"
EVIDENCE = "evidence"
MODEL_CARD = "model-card"
