"""Minimal pairs (BLiMP's files, or cut from our grammar) and how much more likely a model finds the right text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.capture.edits import HeadEdit, Replacement
from attnlens.capture.tokens import EncodedText, Token
from attnlens.errors import CorpusError, UsageError
from attnlens.heads import Head
from attnlens.interventions.blocks import Edit
from attnlens.interventions.edits import masks_of
from attnlens.interventions.effects import logits_at
from attnlens.models.encode import encode
from attnlens.models.inputs import batch_of_texts

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = [
    "Pair",
    "PairItem",
    "choice_item",
    "grammar_pairs",
    "log_probabilities",
    "pair_items",
    "preferences",
    "read_blimp",
]

_ROWS = 64


@dataclass(frozen=True)
class Pair:
    """Two texts of which a speaker accepts the first only.

    Attributes:
        good, bad: the texts.
        whole: compare the texts as wholes; else the words in which they differ, given what stands before (and, for a
            model that fills in masks, behind).
    """

    good: str
    bad: str
    whole: bool = False


@dataclass(frozen=True)
class _Question:
    """What a model is asked: the log-probability of `targets`, read at `places` of `ids`."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class PairItem:
    """A pair as questions to one model."""

    good: _Question
    bad: _Question


def read_blimp(path: str | Path, limit: int | None = None) -> tuple[Pair, ...]:
    """Pairs of a BLiMP file (Warstadt et al. 2020, arXiv:1912.00582), one JSON object per line.

    Paradigms with `one_prefix_method` compare the word after the common prefix, others the whole sentences.

    Raises:
        CorpusError: a line that is no such object.
    """
    pairs = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error
    for number, line in enumerate(islice(filter(str.strip, lines), limit), 1):
        try:
            found = json.loads(line)
            good, bad = found["sentence_good"], found["sentence_bad"]
        except (ValueError, TypeError, KeyError) as error:
            raise CorpusError(
                f"line {number} of {path} is no minimal pair; expected JSON with sentence_good and sentence_bad."
            ) from error
        if not isinstance(good, str) or not isinstance(bad, str):
            raise CorpusError(f"line {number} of {path} has a sentence that is no text.")
        pairs.append(Pair(good, bad, whole=not found.get("one_prefix_method", False)))
    return tuple(pairs)


def grammar_pairs(kind: str, n: int = 200) -> tuple[Pair, ...]:
    """Minimal pairs of the embedded models' grammar, from documents that none of them was trained on.

    Args:
        kind: "agreement", "agreement with attractors", "reflexive" or "pronoun".
        n: at most so many.

    Raises:
        UsageError: another kind.
    """
    from attnlens.zoo.grammar import documents
    from attnlens.zoo.pairs import KINDS, minimal_pairs
    from attnlens.zoo.recipes import PAIRS_DOCUMENTS, PAIRS_SEED

    if kind not in KINDS:
        raise UsageError(f"there are no pairs of kind {kind!r}; expected one of {', '.join(KINDS)}.")
    found = (
        pair for pair in minimal_pairs(documents(PAIRS_DOCUMENTS, seed=PAIRS_SEED, prefix="pairs")) if pair.kind == kind
    )
    return tuple(
        Pair(pair.before + pair.good + pair.after, pair.before + pair.bad + pair.after) for pair in islice(found, n)
    )


def choice_item(ids: Sequence[int], place: int, right: int, wrong: int) -> PairItem:
    """The question which of two tokens is likelier at an output: of the next token, or of a mask that stands there.

    Args:
        ids: the text as the model gets it, mask token included where there is one.
        place: position whose output is read.
        right: id of the token that should be likelier.
        wrong: id of the other.
    """
    text = tuple(int(token) for token in ids)
    return PairItem(_Question(text, (place,), (right,)), _Question(text, (place,), (wrong,)))


def pair_items(lens: Lens, pairs: Iterable[Pair | PairItem]) -> tuple[PairItem, ...]:
    """Pairs as questions; those that the model cannot be asked (too long, no token of difference) are left out.

    Questions are returned as they are.

    Raises:
        UsageError: an encoder-decoder, or a model that neither predicts next tokens nor fills in masks.
    """
    anatomy, tokenizer = lens.anatomy, lens.tokenizer
    causal = anatomy.stack(anatomy.main_stack).causal
    if tokenizer is None or anatomy.is_encoder_decoder or (not causal and tokenizer.mask_token_id is None):
        raise UsageError(
            f"{anatomy.model} cannot be asked minimal pairs: they need a model that predicts next tokens or fills in "
            "masks."
        )
    items = []
    for pair in pairs:
        if isinstance(pair, PairItem):
            items.append(pair)
            continue
        good, bad = encode(tokenizer, pair.good), encode(tokenizer, pair.bad)
        room = anatomy.max_length or max(len(good.tokens), len(bad.tokens))
        if max(len(good.tokens), len(bad.tokens)) > room or good.ids == bad.ids:
            continue
        item = _causal_item(good, bad, pair.whole) if causal else _masked_item(good, bad, tokenizer.mask_token_id)
        if item is not None:
            items.append(item)
    return tuple(items)


def _difference(good: EncodedText, bad: EncodedText) -> tuple[range, range]:
    """The tokens of the words in which two texts differ, as wholes: "sketch" and "sketch##es" differ in the word."""
    one, other = good.text, bad.text
    most = min(len(one), len(other))
    start = next((i for i in range(most) if one[i] != other[i]), most)
    while start and not one[start - 1].isspace():
        start -= 1
    most -= start
    end = next((i for i in range(most) if one[-1 - i] != other[-1 - i]), most)
    while end and (one[-end].isalnum() or one[-end] in "'’"):
        end -= 1
    return _tokens_at(good, start, len(one) - end), _tokens_at(bad, start, len(other) - end)


def _tokens_at(text: EncodedText, start: int, end: int) -> range:
    """Tokens that have a character between `start` and `end`."""
    places = [
        place
        for place, token in enumerate(text.tokens)
        if token.span is not None and token.span[0] < end and token.span[1] > start and not token.special
    ]
    return range(places[0], places[-1] + 1) if places else range(0)


def _causal_item(good: EncodedText, bad: EncodedText, whole: bool) -> PairItem | None:
    spans = _difference(good, bad)
    if whole or spans[0].start == 0 or not all(spans):
        spans = range(1, len(good.ids)), range(1, len(bad.ids))
    if not all(spans):
        return None

    def ask(ids: Sequence[int], span: range) -> _Question:
        return _Question(tuple(ids[: span.stop - 1]), tuple(i - 1 for i in span), tuple(ids[i] for i in span))

    return PairItem(ask(good.ids, spans[0]), ask(bad.ids, spans[1]))


def _masked_item(good: EncodedText, bad: EncodedText, mask: int) -> PairItem | None:
    """All pieces of the differing words are masked together (pseudo-log-likelihood of the words)."""
    spans = _difference(good, bad)
    if not all(spans):
        return None

    def ask(ids: Sequence[int], span: range) -> _Question:
        masked = [mask if place in span else token for place, token in enumerate(ids)]
        return _Question(tuple(masked), tuple(span), tuple(ids[i] for i in span))

    return PairItem(ask(good.ids, spans[0]), ask(bad.ids, spans[1]))


def preferences(
    lens: Lens,
    items: Sequence[PairItem],
    heads: Sequence[Head] = (),
    values: Any = None,
    seed: int = 0,
) -> Float64[Tensor, " pair"]:
    """Log-probability of the right words minus that of the wrong ones, in nats, per pair: above 0 is a hit.

    The arguments are those of `log_probabilities`.
    """
    right, wrong = log_probabilities(lens, items, heads, values, seed).unbind(1)
    return right - wrong


def log_probabilities(
    lens: Lens,
    items: Sequence[PairItem],
    heads: Sequence[Head] = (),
    values: Any = None,
    seed: int = 0,
    edit: Edit | None = None,
) -> Float64[Tensor, "pair 2"]:
    """Log-probability of the right and of the wrong words of each pair, in nats.

    Args:
        lens: the model.
        items: the pairs.
        heads: heads to ablate, all at once.
        values: (number of pairs, number of positions, seed) -> site -> `[pair|1 position|1 head d_head]`, what is put
            in their place; both texts of a pair get the same.
        seed: of what is drawn.
        edit: another change of the model, the same for every text, where no heads are ablated.
    """
    order = sorted(range(len(items)), key=lambda i: len(items[i].good.ids))
    found = torch.zeros(len(items), 2, dtype=torch.float64)
    per_batch = _ROWS // 2
    for start in range(0, len(order), per_batch):
        chosen = order[start : start + per_batch]
        rows: dict[tuple[int, ...], int] = {}
        asked = [  # the two questions of a pair that differs in one next token share a row
            (rows.setdefault((place, *question.ids), len(rows)), question)
            for place, i in enumerate(chosen)
            for question in (items[i].good, items[i].bad)
        ]
        owners, ids = [key[0] for key in rows], [key[1:] for key in rows]
        change = _edit(lens, heads, values, owners, max(map(len, ids)), seed + start) if heads else edit
        found[chosen] = _log_probabilities(lens, ids, asked, change).view(-1, 2)
    return found


def _edit(lens: Lens, heads: Sequence[Head], values: Any, owners: Sequence[int], n_positions: int, seed: int) -> Edit:
    drawn = values(max(owners) + 1, n_positions, seed)
    replacements = {}
    for site, where in masks_of(lens.anatomy, heads, None).items():
        value = drawn[site]
        replacements[site] = Replacement(where, value if len(value) == 1 else value[list(owners)])
    return Edit("ablation of pairs", (HeadEdit(replacements),))


def _log_probabilities(
    lens: Lens, ids: Sequence[Sequence[int]], asked: Sequence[tuple[int, _Question]], edit: Edit | None
) -> Float64[Tensor, " question"]:
    """Log-probability of each question's targets together, in nats; each question stands beside its row."""
    texts = [
        EncodedText("", tuple(Token(i, "", None, None, False) for i in row), (), (0,) * len(row), False) for row in ids
    ]
    pad = lens.tokenizer.pad_token_id
    logits = logits_at(lens, batch_of_texts(lens.model, texts, 0 if pad is None else pad), (), edit)
    rows = [row for row, question in asked for _ in question.places]
    places = [place for _, question in asked for place in question.places]
    targets = torch.tensor([target for _, question in asked for target in question.targets])
    spread = logits[rows, places].double().log_softmax(-1).cpu()
    each = spread.gather(1, targets[:, None])[:, 0]
    return torch.stack([part.sum() for part in torch.split(each, [len(question.places) for _, question in asked])])
