"""What a reader sees of one head at one query: a row per key, a column per step, and a plain sentence for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from attnlens.errors import UsageError
from attnlens.report.inside.words import gap_words, written
from attnlens.report.tables import Table
from attnlens.steps.head import Check, HeadSteps

__all__ = ["Column", "HeadStep", "HeadStepsView", "Vector", "find_query", "head_steps_view", "plain", "reach_of"]

MOST_KEYS = 40  # rows that a picture has
_USUAL = 0.99  # share of the numbers that colours tell apart; the rest has the strongest colour
_ADDED = {
    "alibi": (
        "ALiBi",
        "A penalty is added that grows with the distance of the two tokens; each head has its own slope.",
    ),
    "relative bias": ("Relative bias", "A learned number is added for the distance of the two tokens."),
}


@dataclass(frozen=True)
class Column:
    """One step's numbers of every key.

    Attributes:
        key: by which steps name it.
        name: over the column.
        kind: "vector", "number", "weight" (0 to 1) or "seen" (1 or 0).
        values: one row per key; NaN where the key is hidden.
    """

    key: str
    name: str
    kind: str
    values: Float[np.ndarray, "key ..."]

    @property
    def reach(self) -> float:
        """The size that has the strongest colour: what all but one in a hundred numbers stay below."""
        return reach_of(self.values)


@dataclass(frozen=True)
class Vector:
    """A vector of the query: its name, and its numbers.

    Attributes:
        name: what it is.
        values: the numbers.
        column: key of the column over or under which it stands; empty for none.
        below: it is what the column adds up to, and stands below it.
    """

    name: str
    values: Float[np.ndarray, " width"]
    column: str = ""
    below: bool = False


@dataclass(frozen=True)
class HeadStep:
    """One step.

    Attributes:
        key: by which the page's address names it.
        title, sentence: what happens.
        formula: the same as a formula.
        facts: named numbers.
        gap: how far it is from what the model computed, in words; empty where nothing is compared.
        columns: keys of the columns that it makes.
        vectors: vectors of the query that it makes.
    """

    key: str
    title: str
    sentence: str
    formula: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    gap: str = ""
    columns: tuple[str, ...] = ()
    vectors: tuple[Vector, ...] = ()


@dataclass(frozen=True)
class HeadStepsView:
    """A head at one query.

    Attributes:
        title: which head and token.
        query: label of the query.
        summary: how far the steps are from what the model computed.
        exact: whether that is within what the model's precision allows.
        sharing: who shares its keys and values; empty where nobody does.
        positions: of the keys, those with the most weight where there are many.
        labels: of the keys.
        left_out: what is said of the keys that have no row; empty where all have.
        columns: in the order of the steps.
        steps: in the order in which they are computed.
        absent: steps that the model has and does not show, and why.
    """

    title: str
    query: str
    summary: str
    exact: bool
    sharing: str
    positions: tuple[int, ...]
    labels: tuple[str, ...]
    left_out: str
    columns: tuple[Column, ...]
    steps: tuple[HeadStep, ...]
    absent: tuple[str, ...]

    def table(self) -> Table:
        """One row per key, one column per step that makes a number of it."""
        chosen = [column for column in self.columns if column.values.ndim == 1]
        rows = tuple(
            (place, label, *(_cell(column, row) for column in chosen))
            for row, (place, label) in enumerate(zip(self.positions, self.labels, strict=True))
        )
        return Table(f"{self.title}: numbers of each key.", ("position", "key", *(c.name for c in chosen)), rows)

    def to_json(self, digits: int = 7) -> dict[str, Any]:
        """Everything as JSON values of so many digits; what is hidden or not finite is null."""
        return {
            "title": self.title,
            "query": self.query,
            "summary": self.summary,
            "exact": self.exact,
            "sharing": self.sharing,
            "positions": list(self.positions),
            "labels": list(self.labels),
            "left_out": self.left_out,
            "absent": list(self.absent),
            "columns": [
                {"key": c.key, "name": c.name, "kind": c.kind, "reach": c.reach, "values": plain(c.values, digits)}
                for c in self.columns
            ],
            "steps": [
                vars(step) | {"vectors": [_vector_json(vector, digits) for vector in step.vectors]}
                for step in self.steps
            ],
        }


def find_query(labels: Sequence[str], given: str) -> int:
    """The position that a number or the text of a token names.

    >>> find_query(("The", "keys", "5"), "keys"), find_query(("The", "keys"), "-1"), find_query(("a", "b"), "1")
    (1, 1, 1)

    Raises:
        UsageError: no such position or token, or several.
    """
    if given.removeprefix("-").isdecimal():
        if not -len(labels) <= int(given) < len(labels):
            raise UsageError(f"there is no token {given}: the text has tokens 0 to {len(labels) - 1}.")
        return int(given) % len(labels)
    exact = [place for place, label in enumerate(labels) if label == given]
    found = exact or [place for place, label in enumerate(labels) if _bare(label) == _bare(given)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(map(str, found))
        raise UsageError(f"{given!r} is there more than once, at {listed}; give the position.")
    raise UsageError(f"no token is {given!r}; the tokens are {' '.join(labels[:40])}. Give one of them or a position.")


def _bare(label: str) -> str:
    """A token without the marks that stand for a blank or for the middle of a word, in small letters."""
    return label.strip(" ·▁Ġ#").casefold()


def head_steps_view(
    steps: HeadSteps, query_labels: Sequence[str], key_labels: Sequence[str], most: int | None = MOST_KEYS
) -> HeadStepsView:
    """Steps in words, with the rows that a picture has room for.

    Args:
        steps: of one head at one query.
        query_labels: of all tokens that ask.
        key_labels: of all tokens that are asked.
        most: rows at most, those with the most weight; None for all.
    """
    n_keys = len(steps.weights)
    chosen = list(range(n_keys))
    if most is not None and n_keys > most:
        order = steps.weights.numpy().argsort(kind="stable")[::-1]
        chosen = sorted(order[:most].tolist())
    rest = 1.0 if n_keys == len(chosen) else float(steps.weights.sum() - steps.weights[chosen].sum())
    others = n_keys - len(chosen)
    label = query_labels[steps.query]
    made = tuple(_steps(steps, label))
    checked = [check for check in steps.checks if check.key in ("torch", "output", "layer")]
    return HeadStepsView(
        title=f"{steps.head} at {label!r}, token {steps.query}",
        query=label,
        summary="; ".join(f"{check.name} ({_gap(steps, check)})" for check in checked),
        exact=steps.gap <= steps.limit,
        sharing=_sharing(steps),
        positions=tuple(chosen),
        labels=tuple(key_labels[place] for place in chosen),
        left_out=f"{others} more tokens, {rest:.1%} of the weight together" if others else "",
        columns=tuple(_columns(steps, chosen)),
        steps=made,
        absent=tuple(f"{name}: {why}" for name, why in steps.absent.items()),
    )


def _sharing(steps: HeadSteps) -> str:
    if len(steps.shared_by) == 1:
        return ""
    names = ", ".join(f"H{head}" for head in steps.shared_by)
    return f"{names} share key-value head {steps.kv_head}: the same keys and values, each with queries of its own."


def _gap(steps: HeadSteps, check: Check | None) -> str:
    return "" if check is None else gap_words(check.gap, steps.limit, steps.dtype)


def _check(steps: HeadSteps, key: str) -> str:
    return _gap(steps, next((check for check in steps.checks if check.key == key), None))


def _columns(steps: HeadSteps, chosen: list[int]) -> Iterator[Column]:
    given: tuple[tuple[str, str, str, Tensor | None], ...] = (
        ("keys-before", "key before", "vector", steps.keys_before),
        ("keys", "key", "vector", steps.keys),
        ("products", "query × key", "vector", steps.products),
        ("raw", "sum", "number", steps.raw),
        ("scaled", "scaled", "number", None if steps.scaling == 1 else steps.scaled),
        ("unscaled", "softmax if unscaled", "weight", steps.unscaled),
        ("capped", "softcap", "number", steps.capped),
        ("added", "score" if steps.raw is None else "added", "number", steps.added),
        ("logits", "score", "number", steps.logits if steps.raw is not None and steps.added is not None else None),
        ("seen", "visible", "seen", None if bool(steps.visible.all()) else steps.visible.double()),
        ("weights", "softmax", "weight", steps.weights),
        ("values", "value", "vector", steps.values),
        ("weighted", "weight × value", "vector", steps.weighted),
    )
    for key, name, kind, tensor in given:
        if tensor is None:
            continue
        values = tensor[chosen].numpy().copy()
        if kind in ("number", "weight") and key in ("added", "logits", "weights", "unscaled"):
            values[~steps.visible[chosen].numpy()] = np.nan
        yield Column(key, name, kind, values)


def _steps(steps: HeadSteps, label: str) -> Iterator[HeadStep]:
    if steps.q is not None and steps.keys is not None:
        yield from _to_scores(steps, label)
        yield from _scaled(steps)
    yield from _terms(steps)
    yield _softmax(steps, label)
    yield from _to_output(steps, label)


def _to_scores(steps: HeadSteps, label: str) -> Iterator[HeadStep]:
    assert steps.q is not None
    first = steps.q if steps.q_before is None else steps.q_before
    d_head = len(steps.q)
    yield HeadStep(
        "query", "Query", f"{label!r} asks: through the head's matrix W_Q its state becomes the query.",
        "q = state · W_Q", (("dimensions", str(d_head)), ("length", written(float(first.norm())))),
        vectors=(Vector("query", first.numpy(), "keys" if steps.q_before is None else "keys-before"),),
    )  # fmt: skip
    shared = f" {_sharing(steps)}" if len(steps.shared_by) > 1 else ""
    yield HeadStep(
        "keys", "Keys", f"Every token offers a key, made of its state by W_K.{shared}", "k = state · W_K",
        columns=("keys" if steps.keys_before is None else "keys-before",),
    )  # fmt: skip
    if steps.rotation is not None:
        yield HeadStep(
            "rotation", "Rotation (RoPE)",
            "Query and keys are turned pair by pair, by an angle that grows with the token's position: so their "
            "product depends on how far apart they are.", "q ← R(position) q,  k ← R(position) k",
            (("pairs that turn", str(len(steps.rotation.frequencies))),), columns=("keys",),
            vectors=(Vector("query, turned", steps.q.numpy(), "keys"),),
        )  # fmt: skip
    yield HeadStep(
        "products", "Products", "The query is multiplied with each key, dimension by dimension: above "
        "0 where both have the same sign, below where they differ.", "q_i · k_i", columns=("products",),
    )  # fmt: skip
    yield HeadStep(
        "raw", "Scores", "The products of a key are added up: how well the key fits the query.", "q · k = Σ q_i k_i",
        columns=("raw",),
    )  # fmt: skip


def _scaled(steps: HeadSteps) -> Iterator[HeadStep]:
    if steps.scaling == 1 or steps.q is None or steps.unscaled is None:
        return
    d_head = len(steps.q)
    usual = math.isclose(steps.scaling, d_head**-0.5, rel_tol=1e-6)
    how = f"÷ √{d_head} = {written(d_head**0.5)}" if usual else f"× {written(steps.scaling)}, this model's own factor"
    why = "so that sums over many dimensions do not push softmax to its ends"
    yield HeadStep(
        "scaled", "Scaling", f"The scores are made smaller, {why}. Without it, softmax would give another row.",
        f"score {how}",
        (
            ("largest weight, scaled", written(float(steps.weights.max()))),
            ("largest weight, unscaled", written(float(steps.unscaled.max()))),
            ("entropy, scaled", f"{written(_entropy(steps.weights))} nats"),
            ("entropy, unscaled", f"{written(_entropy(steps.unscaled))} nats"),
        ), columns=("scaled", "unscaled"),
    )  # fmt: skip


def _terms(steps: HeadSteps) -> Iterator[HeadStep]:
    if steps.softcap is not None:
        cap = written(steps.softcap)
        yield HeadStep(
            "capped", "Softcap", f"Scores are bent so that none is beyond ±{cap}.", f"{cap} · tanh(score / {cap})",
            columns=("capped",),
        )  # fmt: skip
    if steps.added is not None:
        known = _ADDED.get(steps.position, ("Added", "The model adds a number of its own to the score of each key."))
        title, sentence = known
        if steps.raw is None:
            title, sentence = (
                "Scores",
                f"This model's softmax is given these scores. Its products are not shown: {_why(steps)}.",
            )
        elif steps.added_is_rest:
            sentence += " It is what the model's scores hold beyond the products, and was not seen by itself."
        columns = ("added",) if steps.raw is None else ("added", "logits")
        yield HeadStep("added", title, sentence, "" if steps.raw is None else "score + added", columns=columns)
    if not bool(steps.visible.all()):
        n_hidden = int((~steps.visible).sum())
        yield HeadStep(
            "seen", "Mask", f"{n_hidden} of {len(steps.visible)} tokens are hidden from this one: their score "
            "is set to minus infinity.", "score ← −∞ where hidden", columns=("seen",),
        )  # fmt: skip


def _softmax(steps: HeadSteps, label: str) -> HeadStep:
    total = float(steps.weights.sum())
    facts = [("the row sums to", written(total))]
    sentence = f"Softmax turns the scores into weights: how much {label!r} takes from each token."
    if steps.sink is not None:
        sentence += " This head has a sink, a score of its own that belongs to no token: what it takes is missing here."
        facts += [("score of the sink", written(steps.sink)), ("its weight", written(1 - total))]
    formula = "exp(score) / Σ exp(score)"
    return HeadStep("weights", "Softmax", sentence, formula, tuple(facts), _check(steps, "attention"), ("weights",))


def _to_output(steps: HeadSteps, label: str) -> Iterator[HeadStep]:
    if steps.values is not None:
        yield HeadStep(
            "values", "Values", "Every token also offers a value, made of its state by W_V: what is passed on.",
            "v = state · W_V", columns=("values",),
        )  # fmt: skip
        yield HeadStep(
            "weighted", "Weighted sum", "Each value times its weight, added up: what the head puts out.",
            "z = Σ weight · v", (("length", written(float(steps.z.norm()))),),
            _check(steps, "torch") or _check(steps, "output"), ("weighted",),
            (Vector("sum z", steps.z.numpy(), "weighted", below=True),),
        )  # fmt: skip
    if steps.output is not None and steps.write is not None:
        n_value, d_model = steps.output.shape
        yield HeadStep(
            "write", "Write", f"The head's part of W_O turns its {n_value} numbers into {d_model}, which it adds "
            f"to the stream at {label!r}.", "z · W_O", (("length", written(float(steps.write.norm()))),),
            vectors=(Vector("write", steps.write.numpy()),),
        )  # fmt: skip
    if steps.layer_output is not None:
        bias = " and the bias" if steps.bias is not None else ""
        yield HeadStep(
            "layer", "All heads", f"The writes of the layer's {steps.n_heads} heads{bias} add up to its output.",
            "Σ write + b" if bias else "Σ write", (("length", written(float(steps.layer_output.norm()))),),
            _check(steps, "layer"), vectors=(Vector("output", steps.layer_output.numpy()),),
        )  # fmt: skip


def _why(steps: HeadSteps) -> str:
    return steps.absent.get("query") or steps.absent.get("key") or "they were not found"


def _entropy(weights: Tensor) -> float:
    known = weights[weights > 0]
    return float(-(known * known.log()).sum())


def _cell(column: Column, row: int) -> float | str | None:
    value = float(column.values[row])
    if column.kind == "seen":
        return "yes" if value else "hidden"
    return value if math.isfinite(value) else None


def _vector_json(vector: Vector, digits: int) -> dict[str, Any]:
    return vars(vector) | {"values": plain(vector.values, digits), "reach": reach_of(vector.values)}


def reach_of(values: np.ndarray) -> float:
    """The size that has the strongest colour: what all but one in a hundred numbers stay below."""
    known = np.abs(values[np.isfinite(values)])
    return float(np.quantile(known, _USUAL)) if known.size and known.any() else 1.0


def plain(values: np.ndarray, digits: int) -> list[Any]:
    """Numbers with so many digits that count, as JSON; null where one is not finite."""
    if values.ndim == 2:
        return [plain(row, digits) for row in values]
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values.tolist()]
