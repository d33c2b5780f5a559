"""From results of probes (`heads.json`) to one head of each kind and model, with its figures and one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probes.kinds.found import KINDS, Kind

__all__ = ["SCHEMA", "kinds_document"]

SCHEMA = "attnlens.kinds/1"
_FEWEST = 50
_RANDOM_MODELS = 5  # as many as `attnlens probe` takes by itself
_EXAMPLE = ("tokens", "query", "target", "argmax", "weight", "hit", "side")


def kinds_document(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The heads that fit each kind best, the ones with a label first, then by what they have over the best rule.

    Args:
        documents: results on the embedded corpus; several of one model are read as one.

    Raises:
        ValueError: results on different corpora.
    """
    corpora = {document["corpus"]["sha256"] for document in documents}
    if len(corpora) != 1:
        raise ValueError(f"{len(corpora)} corpora; expected results on the embedded one.")
    texts = _texts()
    heads: list[dict[str, Any]] = []
    for kind in KINDS:
        best: dict[str, dict[str, Any]] = {}
        for document in documents:
            for found in _candidates(kind, document, texts):
                known = best.get(found["model"])
                if known is None or _rank(found) > _rank(known):
                    best[found["model"]] = found
        heads += sorted(best.values(), key=_rank, reverse=True)
    models = {document["model"]["model"]: document["model"]["weights_sha256"] for document in documents}
    return {
        "schema": SCHEMA,
        "corpus": {"name": documents[0]["corpus"]["name"], "sha256": corpora.pop()},
        "models": models,
        "heads": heads,
    }


def _candidates(kind: Kind, document: Mapping[str, Any], texts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Labels of this kind, and of a kind that no head has, the best cell that was large enough to be judged."""
    model, command = document["model"]["model"], _command(document)
    for result in document["heads"]:
        for labelled, labels in ((True, result["labels"]), (False, result["weak"])):
            for label in filter(lambda each: kind.holds(_named(each)), labels):
                yield _found(kind, (model, command), result["head"], label, texts, labelled=labelled)
    for cell in document["relations"]:
        told = {**cell, "label": cell["relation"], "text": "", "examples": []}
        if cell["best_head"] and cell["n"] >= _FEWEST and kind.relations and kind.holds(told):
            yield _found(kind, (model, command), cell["best_head"], told, texts, labelled=False)


def _command(document: Mapping[str, Any]) -> str:
    """How the results were made."""
    scope = document["scope"]
    family = scope["families"][0] if len(scope["families"]) == 1 else "all"
    n_random = len(scope["random_models"]["seeds"])
    return f"attnlens probe {family} -m {document['model']['model']}" + (
        "" if n_random == _RANDOM_MODELS else f" --random-models {n_random}"
    )


def _named(label: Mapping[str, Any]) -> dict[str, Any]:
    return {**label, "relation": label["relation"] or ""}


def _found(
    kind: Kind,
    source: tuple[str, str],
    head: str,
    label: Mapping[str, Any],
    texts: Mapping[str, str],
    *,
    labelled: bool,
) -> dict[str, Any]:
    examples = [example for example in label["examples"] if example["side"] == "best" and example["hit"]]
    whole = [(example, text) for example in examples if (text := texts.get(_key(example["tokens"])))]
    example, sentence = whole[0] if whole else (None, kind.text)
    verdict = label.get("verdict") or label.get("failed") or label["label"]
    numbers = {name: label[name] for name in ("score", "ci", "n", "baseline", "baseline_name")}
    return {
        "kind": kind.name, "model": source[0], "command": source[1], "head": head, "labelled": labelled,
        "label": label["label"],
        "text": label["text"], "relation": label["relation"] or "", "direction": label["direction"], "at": label["at"],
        **numbers, "verdict": verdict, "sentence": sentence,
        "example": None if example is None else {name: example[name] for name in _EXAMPLE},
    }  # fmt: skip


def _rank(found: Mapping[str, Any]) -> tuple[bool, bool, bool, bool, float]:
    """Labelled, trained, of words (not of predictions) and not explained by a rule come first; then by margin."""
    explained, planted = found["label"].startswith("explained"), "planted" in found["model"]
    return (
        found["labelled"],
        not planted,
        found["at"] == "word",
        not explained,
        found["score"] - (found["baseline"] or 0.0),
    )


def _texts() -> dict[str, str]:
    """Sentences of the embedded corpus by their characters alone, since examples are cut into words or pieces."""
    from attnlens.zoo.registry import embedded_corpus

    lines = embedded_corpus().read_text(encoding="utf-8").splitlines()
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    return {_key([text]): text for text in texts}


def _key(tokens: Sequence[str]) -> str:
    """The characters of a sentence, without blanks and special tokens."""
    kept = [token for token in tokens if not (token.startswith(("<", "[")) and token.endswith((">", "]")))]
    return "".join("".join(kept).split()).lower()
