"""Two texts of different length as the one batch that a model runs: the shorter one padded, the padding hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.recorders import Extents
from attnlens.capture.run import Capture
from attnlens.capture.sites import ENCODER
from attnlens.capture.tokens import EncodedText, Token, printable
from attnlens.errors import CaptureError
from attnlens.models.encode import encode
from attnlens.models.inputs import Batch, batch_of_pairs, batch_of_texts, encode_target
from attnlens.models.planning import Planner
from attnlens.models.running import check_batch, run_batch

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["PaddedPair", "padded_pair"]


@dataclass(frozen=True)
class PaddedPair:
    """A batch of two texts, as its first layer saw them.

    Attributes:
        labels: per text, of its tokens and of the padding behind them.
        lengths: per text, how many tokens are its own.
        visible: per text, True where the query sees the key.
        on_padding: the largest weight that a token of the shorter text gives to padding, in any layer and head.
        difference: the largest difference between a weight of the shorter text here and where it runs alone.
    """

    labels: tuple[tuple[str, ...], tuple[str, ...]]
    lengths: tuple[int, int]
    visible: tuple[Visibility, Visibility]
    on_padding: float
    difference: float


def padded_pair(lens: Lens, first: str, second: str) -> PaddedPair:
    """Run two texts as one batch and keep what is usually cut away: the padding of the shorter one.

    An encoder-decoder reads both with its encoder.

    Raises:
        CaptureError: the model reads no text.
        TextError: an empty text, or one that is too long.
    """
    if lens.tokenizer is None:
        raise CaptureError(f"{lens.anatomy.model} reads no text, so nothing is padded.")
    texts = [encode(lens.tokenizer, text) for text in (first, second)]
    letter = ENCODER if lens.anatomy.is_encoder_decoder else None
    check_batch(lens.anatomy, texts, letter)
    lengths = len(texts[0].tokens), len(texts[1].tokens)
    runs = _runs(lens, texts, max(lengths))
    shorter = int(lengths[1] < lengths[0])
    alone = _runs(lens, [texts[shorter]], lengths[shorter])[0]
    n = lengths[shorter]
    on_padding = difference = 0.0
    for there, here in zip(runs[shorter].patterns_of(stack=letter), alone.patterns_of(stack=letter), strict=True):
        if there is not None and here is not None:
            weights = there.weights(queries=slice(0, n))
            on_padding = max(on_padding, _largest(weights[..., n:]))
            difference = max(difference, _largest((weights[..., :n] - here.weights()).abs()))
    seen = [next(pattern for pattern in run.patterns_of(stack=letter) if pattern).visible() for run in runs]
    labels = [tuple(token.label for token in (run.tokens if letter is None else run.source.tokens)) for run in runs]  # type: ignore[union-attr]
    return PaddedPair(
        labels=(labels[0], labels[1]),
        lengths=lengths,
        visible=(seen[0], seen[1]),
        on_padding=on_padding,
        difference=difference,
    )


def _runs(lens: Lens, texts: list[EncodedText], length: int) -> list[Capture]:
    """The texts as one batch whose padding counts as tokens."""
    pad_id = lens.tokenizer.pad_token_id or 0
    batch = _batch(lens, texts, pad_id)
    mark = printable(
        str(lens.tokenizer.convert_ids_to_tokens(pad_id)) if lens.tokenizer.pad_token_id is not None else "(padding)"
    )
    padded = tuple(_filled(text, length, Token(pad_id, mark, None, None, True)) for text in texts)
    everything = Extents.everything(len(texts))
    if lens.anatomy.is_encoder_decoder:
        batch = replace(batch, extents=everything, sources=padded)
    else:
        batch = replace(batch, extents=everything, texts=padded)
    plan = Planner(lens.opened).plan(None, False, None, None, (), False)
    return list(run_batch(lens.opened, batch, plan, {}))


def _batch(lens: Lens, texts: list[EncodedText], pad_id: int) -> Batch:
    if not lens.anatomy.is_encoder_decoder:
        return batch_of_texts(lens.model, texts, pad_id)
    target = encode_target(lens.model, lens.tokenizer, texts[0].text)
    return batch_of_pairs(lens.model, texts, [target] * len(texts), pad_id)


def _filled(text: EncodedText, length: int, padding: Token) -> EncodedText:
    missing = length - len(text.tokens)
    return replace(text, tokens=(*text.tokens, *[padding] * missing), segments=(*text.segments, *[0] * missing))


def _largest(weights: Tensor) -> float:
    """The largest of some weights; 0 of none."""
    return float(weights.max()) if weights.numel() else 0.0
