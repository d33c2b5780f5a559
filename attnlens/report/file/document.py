"""The data inside a report: one JSON document (`attnlens.report/1`) that a run or a probe result comes back from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from attnlens._version import __version__
from attnlens.capture.patterns import DensePattern
from attnlens.capture.plain import as_json, read_as
from attnlens.capture.run import Capture, Patterns
from attnlens.capture.sites import CROSS, DECODER, ENCODER
from attnlens.capture.tokens import EncodedText, Token, Word
from attnlens.errors import BundleError
from attnlens.heads import Head
from attnlens.models.anatomy import Anatomy
from attnlens.report.file.weights import PackedStack, unpack_stack
from attnlens.report.maps import tokens_of

__all__ = ["SCHEMA", "check_document", "document_of", "run_document", "run_of"]

SCHEMA = "attnlens.report/1"
_FIELDS = {
    "text": str,
    "tokens": tuple[Token, ...],
    "words": tuple[Word, ...],
    "anatomy": Anatomy,
    "mode": str,
    "settings": Mapping[str, Any],
    "versions": Mapping[str, str],
    "source": EncodedText | None,
    "n_prompt": int | None,
}


def document_of(
    kind: str, runs: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], page: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole document.

    Args:
        kind: "run", "heads" or "comparison".
        runs: parts made by `run_document`.
        results: probe results, as in `heads.json`.
        page: what only the page's script reads.
    """
    head = {"schema": SCHEMA, "kind": kind, "attnlens": __version__}
    return head | {"runs": list(runs), "results": list(results), "page": dict(page)}


def run_document(run: Capture, stacks: Sequence[PackedStack]) -> dict[str, Any]:
    """A run as JSON values: what it says of itself, and its weights."""
    about = {name: as_json(getattr(run, name)) for name in _FIELDS}
    return about | {"stacks": {stack.letter: stack.to_json() for stack in stacks}}


def run_of(part: Mapping[str, Any]) -> Capture:
    """The run that `run_document` wrote; weights differ by the stated error at most.

    `settings["stored"]` says so, as of a run that was saved in fewer bits. Points of the stream and logits are not in
    a report, and heads that it left out are not held.

    Raises:
        ValueError: the parts do not fit together; the message says which.
    """
    known: dict[str, Any] = {name: read_as(hint, part[name], f"run.{name}") for name, hint in _FIELDS.items()}
    bare = Capture(**known, patterns=(), stream={})
    stacks, error, bits = {}, 0.0, 0
    for letter, stack in part["stacks"].items():
        stacks[letter] = _patterns(bare, letter, stack)
        error, bits = max(error, stack["error"]), stack["bits"]
    expected = {ENCODER, DECODER, CROSS} if bare.anatomy.is_encoder_decoder else {""}
    if not set(stacks) <= expected or bare.anatomy.main_stack not in stacks:
        raise ValueError(f"the run has stacks {sorted(stacks)}, expected {sorted(expected)}")
    before = known["settings"].get("stored") or {}
    lost = before.get("largest_difference", 0.0) if isinstance(before, Mapping) else 0.0
    stored = {"dtype": f"{bits} bits", "largest_difference": error + lost, "rows_compared": len(known["tokens"])}
    known["settings"] = {**known["settings"], "stored": stored}
    return Capture(
        **known,
        patterns=stacks[bare.anatomy.main_stack],
        stream={},
        encoder=stacks.get(ENCODER, ()),
        cross=stacks.get(CROSS, ()),
    )


def check_document(document: Any) -> None:
    """Find out whether a decoded document is a report's.

    Raises:
        BundleError: another schema or version, or a part is missing or of the wrong type.
    """
    found = document.get("schema") if isinstance(document, Mapping) else None
    if found != SCHEMA:
        family, _, version = str(found).rpartition("/")
        if family == SCHEMA.rpartition("/")[0] and version.isdecimal() and int(version) > 1:
            raise BundleError(f"it is written as {str(found)[:40]}, this attnlens reads {SCHEMA}: upgrade attnlens.")
        raise BundleError(f"it holds no {SCHEMA} but {str(found)[:40]!r}; write the report again with attnlens report.")
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error: Any = best_match(Draft202012Validator(_schema()).iter_errors(document))
    if error is not None:
        raise BundleError(f"it is not as {SCHEMA} says, at {error.json_path}: {error.message[:160]}")


@cache
def _schema() -> Any:
    return json.loads(files("attnlens.report").joinpath("schema", "report-1.json").read_text(encoding="utf-8"))


def _patterns(run: Capture, letter: str, stack: Mapping[str, Any]) -> Patterns:
    """One pattern per layer of a stack; None where the report holds no head of it."""
    n_queries, n_keys = (len(tokens) for tokens in tokens_of(run, letter))
    weights, masks = unpack_stack(stack, n_queries, n_keys)
    by_layer: dict[int, dict[int, Tensor]] = {}
    for name, values in weights.items():
        head = Head.parse(name)
        by_layer.setdefault(head.layer, {})[head.head] = torch.from_numpy(values)
    found: list[DensePattern | None] = []
    for layer in range(stack["n_layers"]):
        held = by_layer.get(layer)
        if held is None:
            found.append(None)
            continue
        heads = tuple(sorted(held))
        whole = len(heads) == stack["n_heads"]
        seen = torch.from_numpy(masks[layer].copy())  # type: ignore[union-attr]
        found.append(DensePattern(torch.stack([held[head] for head in heads]), seen, None if whole else heads))
    return tuple(found)
