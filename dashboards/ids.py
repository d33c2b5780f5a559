"""The names by which layout, callbacks, style sheets and browser tests find the parts of the page."""

from __future__ import annotations

# State
LOCATION = "location"  # the browser's address, as far as it decides which page is shown
SITE = "site"  # what the browser must know to write addresses: {"prefix", "defaults", "parents"}
ADDRESS = "address"  # what the address asks for: {"path": "/", "search": "?model=..."}
ADDRESS_SENT = "address-sent"  # what the address became, without the fields of one page: "?model=..."
PAGE_VIEW = "page-view"  # the controls of the page in the address' words: {"path": "/", "given": {"metric": "max"}}
PAGE_CONTROLS = "page-controls"  # which control holds which field (see `pages.page.Page.to_json`)
REQUEST = "request"  # the run that is asked for: {"model", "text", ...} (see `dashboards.request.RunRequest.to_json`)
RUN = "run"  # the run that is shown: the request, and {"request", "n_layers", "n_heads", "n_tokens", "stacks"}
RUN_MODEL = "run-model"  # {"model", "run"} of the shown run: what does not change from text to text
QUERY = "query"  # the token whose links alone are drawn: {"position", "of"}
KEY = "key"  # with it, the key of the selected link: {"position", "of"}
DETAILS = "details"  # whether the drawer is open
DRAWER = "drawer"
DRAWER_BUTTON = "drawer-button"
THEME = "theme"  # "light" or "dark"

# Rail
MODEL = "model"
MODEL_NOTE = "model-note"
OTHER_MODEL = "other-model"
OTHER = "(other)"  # the value of MODEL that opens OTHER_MODEL
TEXT = "text"
KIND = "kind"
SECOND = "second"
NEW_TOKENS = "new-tokens"
EXAMPLES = "examples"
EXAMPLE = "example"  # type of the pattern-matching ids {"type": EXAMPLE, "index": ...}
RUN_BUTTON = "run-button"
RESULTS = "results"
UPLOAD = "upload"
UPLOAD_BUTTON = "upload-button"
UPLOADED = "uploaded"  # name of the probe result that was uploaded last
BATCH = "batch"  # the sentences of a file
CORPUS = "corpus"  # the list of a corpus' sentences, filled by the browser when it is opened
RECENT = "recent"
RECENT_LIST = "recent-list"
RESULTS_NOTE = "results-note"

# Frame
PROVIDER = "provider"
NAVIGATION = "navigation"  # type of the pattern-matching ids {"type": NAVIGATION, "index": path}
SECTION = "section"  # type of {"type": SECTION, "index": path}, the links between the pages below `/inside`
STAGE = "stage"
NOTICE = "notice"
STATUS = "status"
SUMMARY = "summary"
EXPORT = "export"  # type of the pattern-matching ids {"type": EXPORT, "index": "head.csv"}
EXPORT_PICTURES = "export-pictures"  # type of {"type": EXPORT_PICTURES, "index": "svg"}
EXPORT_DONE = "export-done"
PAGE = "page"  # where the open page stands
HEAD = "head"
PREVIOUS_HEAD = "previous-head"
NEXT_HEAD = "next-head"
HEAD_PAGE = "open-head"  # the link to the page of the selected head

# Explore
METRIC = "metric"
MAP = "head-map"
MAP_FRAME = "head-map-frame"
MAP_CAPTION = "head-map-caption"
MAP_TABLE = "head-map-table"
MAP_LEGEND = "head-map-legend"
STACK = "stack"  # the letter of the stack whose heads are mapped
CELLS = "cells"  # what the map says about each head beside its picture
DRAWN = "drawn"  # written when the browser has drawn

# One head
HEAD_TITLE = "head-title"
HEAD_LABELS = "head-labels"
TAB = "tab"
WORDS = "words"
HIDE_SPECIAL = "hide-special"
HIDE_SINKS = "hide-sinks"
WHOLE_ROWS = "whole-rows"
BETWEEN = "between"
THRESHOLD = "threshold"
TOP = "top"
ALSO = "also"  # further heads, drawn with the selected one
COMBINE = "combine"
MEASURE = "measure"  # what is drawn instead of weights: a measure of mixing
BERTVIZ = "bertviz"  # which of its views: "head", "model", "neuron"
OVERVIEW = "overview"
WINDOW = "window"  # the part of a long text that is shown: "0-64,0-64"
HEAD_LEGEND = "head-legend"
LINKS = "links"
LINKS_CAPTION = "links-caption"
MATRIX = "matrix"
MATRIX_CAPTION = "matrix-caption"
MATRIX_TABLE = "matrix-table"
CLASSIC = "classic"
STRONGEST = "strongest"
EVIDENCE = "evidence"
EVIDENCE_ASKED = "evidence-asked"  # whose evidence to write; the same for every head where no result is loaded
CLASSIC_ASKED = "classic-asked"  # what BertViz is to show, where its tab is open
MAP_TABLE_ASKED = "head-map-table-asked"  # what to write as a table, where it is open
MODEL_CARD = "model-card"

# Compare
AGAINST_MODEL = "against-model"
AGAINST_OTHER = "against-other"  # a folder or hub id that is not listed
AGAINST_OPEN = "against-open"
AGAINST_TEXT = "against-text"
APART = "apart"
APART_MAP = "apart-map"
PAIR = "pair"
PAIR_PICTURES = "pair-pictures"
PAIR_CELL = "pair-cell"
HELD_CELL = "held-cell"  # of the pictures of the pair: "3-5", row and column

# Heads
HEADS_SHOW = "heads-show"
HEADS_FIND = "heads-find"
HEADS_GRID = "heads-grid"
HEADS_EXPORT = "heads-export"
HEADS_MAP = "heads-map"
HEADS_MAP_CAPTION = "heads-map-caption"
HEADS_FACTS = "heads-facts"
HEADS_WEAK = "heads-weak"
HEADS_BODY = "heads-body"

# The page of one head
SENTENCES = "sentences"
SIMILAR = "similar"
HEAD_TOKENS = "head-tokens"
HEAD_LINKS = "head-links"
HEAD_LINKS_CAPTION = "head-links-caption"
HEAD_FINDINGS = "head-findings"

# Stream
POSITION = "position"  # the token whose prediction is looked at; "" for the masked or the last one
TARGET = "target"
STREAM_MEASURE = "stream-measure"
STREAM = "stream"
STREAM_GRID = "stream-grid"
LENS = "lens"
LENS_GRID = "lens-grid"
SHARES = "shares"
METHOD = "method"
FROM_TOKENS = "from-tokens"

# Probes that the page starts
JOB_CORPUS = "job-corpus"
JOB_PATH = "job-path"
JOB_UPLOAD = "job-upload"
JOB_UPLOAD_NOTE = "job-upload-note"
JOB_FAMILIES = "job-families"
JOB_LIMIT = "job-limit"
JOB_CAUSAL = "job-causal"
JOB_SKIP = "job-skip"
JOB_START = "job-start"
JOBS = "jobs"
JOBS_TICK = "jobs-tick"
JOBS_CHANGED = "jobs-changed"
JOB_ACTION = "job-action"  # type of the pattern-matching ids {"type": JOB_ACTION, "do": "cancel", "index": name}

# Intervene
CHANGED_AT = "changed-at"  # the token whose prediction is compared; "" for the masked or the last one
OFF = "off"  # the heads that are switched off, as the address spells them
HOW = "how"
CUTS = "cuts"  # the edges that are cut, as the address spells them
OFF_FRAME = "off-map-frame"
OFF_MAP = "off-map"
OFF_CAPTION = "off-map-caption"
OFF_TABLE = "off-map-table"
OFF_CLEAR = "off-clear"
SWEEP = "sweep"  # what each head does alone, as far as it was measured: {"key", "effects", "done", "of"}
SWEEP_STEP = "sweep-step"  # the layer to measure next: {"layer", "key"}
SWEEP_BUTTON = "sweep-button"
SWEEP_STATUS = "sweep-status"
OUTCOME = "outcome"
CUT_FROM = "cut-from"
CUT_TO = "cut-to"
CUT_HEADS = "cut-heads"
CUT_ADD = "cut-add"
CUT_LIST = "cut-list"
CUT = "cut"  # type of the pattern-matching ids {"type": CUT, "index": ...}
OTHER_TEXT = "other-text"
TWO_STACKS = "two-stacks"  # what the parts of the page show of an encoder-decoder
PATCH = "patch"
PATCH_AT = "patch-at"

# Inside: size and cost
PRESET = "preset"
REACH = "reach"
SIZES = "sizes"

# Inside: the block
BLOCK_LAYER = "block-layer"
BLOCK_AT = "block-at"  # the token that is looked at, by position; None for the usual one
BLOCK_PART = "block-part"  # key of the step that is marked
BLOCK_TOKENS = "block-tokens"
BLOCK_SUMMARY = "block-summary"
BLOCK_DRAWING = "block-drawing"  # the wiring as data: {"boxes": [...], "lines": [...], ...}
BLOCK_DIAGRAM = "block-diagram"
BLOCK_STEPS = "block-steps"
BLOCK_DRAWN = "block-drawn"

# Inside: the model
MODEL_SUMMARY = "model-summary"
MODEL_DIAGRAM = "model-diagram"
MODEL_DRAWINGS = "model-drawings"  # id of a place -> the drawing that goes there, as data
MODEL_DRAWN = "model-drawn"
MODEL_SHAPES = "model-shapes"
SIGHTS = "sights"
SIGHT_AT = "sight-at"  # the token whose sight is shown, by position
KINDS = "kinds"

# Inside: generation
TOOK = "took"  # numbers of the tokens that were written after the text: "12,5"
CANDIDATES = "candidates-data"  # what probabilities are computed from (see `CandidatesView.to_json`)
CANDIDATE_LIST = "candidates"
CANDIDATE_TABLE = "candidates-table"
STORY = "story"
SAMPLED = "sampled"
TEMPERATURE = "temperature"
TOP_K = "top-k"
TOP_P = "top-p"
MOVES = "moves"
ASKED_AT = "asked-at"
MASKED_AT = "masked-at"
TAKE_LIKELIEST = "take-likeliest"
TAKE_DRAWN = "take-drawn"
TAKE_BACK = "take-back"
TAKE_NONE = "take-none"
GROWN = "grown"
NEWEST = "newest"
# Inside: positions
PLACES_QUERY = "places-query"
PLACES_KEY = "places-key"
PLACES_ALONG = "places-along"
PLACES_APART = "places-apart"
PLACES_SCHEME = "places-scheme"
PLACES_PAIR = "places-pair"  # the query and the key as data (see `TurnView.to_json`)
PLACES_DIALS = "places-dials"
PLACES_SCORE = "places-score"
PLACES_TURN = "places-turn"
PLACES_TURN_CARD = "places-turn-card"
PLACES_WORDS = "places-words"
PLACES_ORDER = "places-order"
PLACES_BEYOND = "places-beyond"
PLACES_OTHERS = "places-others"

# Inside: masks
MASK_QUERY = "mask-query"
MASK_BESIDE = "mask-beside"
MASK_OWN = "mask-own"
MASK_ROW = "mask-row"
MASK_PADDING = "mask-padding"
MASK_KINDS = "mask-kinds"

# Inside: what heads learn
KINDS_FOUND = "kinds-found"

# Inside: one head and all heads
STEPS_AT = "steps-at"  # the token that asks, by position; None for the usual one
STEPS_TOKENS = "steps-tokens"
STEPS_SUMMARY = "steps-summary"
STEPS_DATA = "steps-data"
STEPS_STEP = "steps-step"  # key of the step that is shown; "" for all at once
STEPS_BOARD = "steps-board"
STEPS_TABLE = "steps-table"
BESIDE_AT = "beside-at"
BESIDE_TOKENS = "beside-tokens"
BESIDE_SUMMARY = "beside-summary"
BESIDE_DATA = "beside-data"
BESIDE_BOARD = "beside-board"
BESIDE_SPLIT = "beside-split"
BESIDE_TABLE = "beside-table"
