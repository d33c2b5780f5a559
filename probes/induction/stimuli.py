"""Random tokens that repeat: the texts on which nothing but place and repetition can guide a head.

Source: Olsson et al. 2022 (arXiv:2209.11895), 25 tokens four times; Wang et al. 2022 (arXiv:2211.00593), twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attnlens.measures.induction import repeated_tokens
from attnlens.models.anatomy import Anatomy
from probes.texts import Stimulus

__all__ = ["SHAPES", "drawn_from", "stimuli"]

SHAPES = ((25, 4), (50, 2))  # (distinct tokens, times they stand there)
SEQUENCES = 16  # of each shape, half of them in each half of the corpus
SHORTEST = 4  # distinct tokens
COMMONEST = 100  # ids that are left out where enough others are there


def stimuli(anatomy: Anatomy, tokenizer: Any, seed: int) -> Iterator[Stimulus]:
    """The texts for one model, as long as it has room for; nothing where it has room or tokens for none.

    Each begins with the beginning-of-sequence token where the tokenizer has one.
    """
    start = None if tokenizer is None else tokenizer.bos_token_id
    vocabulary = drawn_from(anatomy, tokenizer)
    room = (anatomy.max_length or max(n * times for n, times in SHAPES) + 1) - (start is not None)
    for n, times in SHAPES:
        length = min(n, len(vocabulary), room // 2)
        repeats = min(times, room // length) if length else 0
        if length < SHORTEST or repeats < 2:
            continue
        texts = repeated_tokens(
            vocabulary, length=length, repeats=repeats, sequences=SEQUENCES, seed=seed + n, start=start
        )
        for number, ids in enumerate(texts.tolist()):
            yield Stimulus(f"{length}x{repeats}#{number}", tuple(ids), () if start is None else (0,))


def drawn_from(anatomy: Anatomy, tokenizer: Any) -> list[int]:
    """Ids of ordinary tokens of middling frequency.

    Tokenizers learn frequent pieces first, so ids stand for ranks: the hundred first ordinary ids are left out, and the
    last tenth, where that leaves enough to draw from. Special, added and reserved tokens never count.
    """
    if tokenizer is None:
        return list(range(anatomy.vocab_size or 0))
    barred = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    size = min(len(tokenizer), anatomy.vocab_size or len(tokenizer))
    pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
    ordinary = [i for i, piece in enumerate(pieces) if i not in barred and not _reserved(piece)]
    middle = ordinary[COMMONEST : len(ordinary) - len(ordinary) // 10]
    return middle if len(middle) >= 2 * max(n for n, _ in SHAPES) else ordinary


def _reserved(piece: str | None) -> bool:
    """Names in brackets that no text spells: `[unused7]`, `<extra_id_0>`, `<0x0A>`."""
    return not piece or (len(piece) > 2 and (piece[0], piece[-1]) in {("[", "]"), ("<", ">")})
