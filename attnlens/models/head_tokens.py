"""What a head reads and writes in terms of tokens: its circuits between the model's tables of tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from jaxtyping import Float, Int
from torch import Tensor

from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.heads import Head
from attnlens.measures.circuits import FactoredMatrix
from attnlens.models.circuits import HeadCircuits, circuits_of, known, token_embedding, token_unembedding

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["HeadTokens", "TopTokens", "head_tokens"]

LARGEST = 2**28  # numbers of a table of tokens that is still multiplied out, 1 GiB of float32
_FOUND: WeakKeyDictionary[Lens, dict[int, HeadCircuits]] = WeakKeyDictionary()


@dataclass(frozen=True)
class TopTokens:
    """The strongest tokens for each of some tokens.

    Attributes:
        ids: `[token top]`, of the strongest first.
        values: `[token top]`, how strong they are, in the circuit's own unit: compare within a row only.
    """

    ids: Int[Tensor, "token top"]
    values: Float[Tensor, "token top"]


@dataclass(frozen=True)
class HeadTokens:
    """For some tokens, what a head looks for and what it says; None with the reason where the model does not tell.

    Attributes:
        asked: ids of the tokens.
        reads: keys that a query token scores highest, W_E W_QK W_E^T.
        writes: output tokens whose logits a token raises when the head attends to it, W_E W_OV W_U.
        reads_absent, writes_absent: why there is none.
        rotated: the model turns queries and keys by position, so that `reads` is what is scored at distance 0.
    """

    asked: tuple[int, ...]
    reads: TopTokens | None
    writes: TopTokens | None
    reads_absent: str = ""
    writes_absent: str = ""
    rotated: bool = False


def head_tokens(lens: Lens, text: str, head: Head, asked: tuple[int, ...], *, top: int = 6) -> HeadTokens:
    """What one head of the main stack looks for and says, for some tokens as they stand in the embedding.

    Layers in between, the norms' division and biases are left out: the further from the embedding a head is, the less
    these tables say about what it does in a text.
    Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".

    Args:
        lens: the opened model.
        text: any text; it is run once, to prove the unembedding.
        head: which head.
        asked: ids of the tokens, at least one.
        top: how many tokens for each.

    Raises:
        HeadAddressError: the model has no such head.
    """
    stack = lens.anatomy.stack(lens.anatomy.main_stack)
    head.within(stack.n_layers, stack.n_heads)
    reads = writes = None
    reads_absent = writes_absent = ""
    rotated = False
    try:
        circuits = _circuits(lens)[head.layer]
        embedding = _bounded(token_embedding(lens.opened))
        rows = embedding[list(asked)]
        rotated = circuits.rotated
    except KeyError:
        reads_absent = writes_absent = "this layer has no attention"
    except (CaptureError, UnsupportedModelError) as error:
        reads_absent = writes_absent = str(error)
    else:
        reads, reads_absent = _trying(
            lambda: _strongest(known(circuits.qk, circuits.qk_absent), head, rows, embedding, top)
        )
        writes, writes_absent = _trying(
            lambda: _strongest(known(circuits.ov, circuits.ov_absent), head, rows, _read_out(lens, text), top)
        )
    return HeadTokens(asked, reads, writes, reads_absent, writes_absent, rotated)


def _circuits(lens: Lens) -> dict[int, HeadCircuits]:
    """The circuits of all heads; kept as long as the model is, for finding them takes a run and seconds."""
    if lens not in _FOUND:
        _FOUND[lens] = circuits_of(lens.opened, lens.anatomy.main_stack)
    return _FOUND[lens]


def _bounded(table: Float[Tensor, "vocab d_model"]) -> Float[Tensor, "vocab d_model"]:
    if table.numel() > LARGEST:
        raise CaptureError(f"its table of {len(table):,} tokens is too large to be multiplied out")
    return table


def _read_out(lens: Lens, text: str) -> Float[Tensor, "vocab d_model"]:
    return token_unembedding(lens.opened, lens.capture(text, points=("resid_post", "final")))


def _trying(compute: Callable[[], TopTokens]) -> tuple[TopTokens | None, str]:
    try:
        return compute(), ""
    except (CaptureError, UnsupportedModelError) as error:
        return None, str(error)


def _strongest(
    circuit: FactoredMatrix,
    head: Head,
    rows: Float[Tensor, "token d_model"],
    table: Float[Tensor, "vocab d_model"],
    top: int,
) -> TopTokens:
    values, ids = (circuit[head.head].apply(rows) @ table.mT).topk(min(top, len(table)), dim=-1)
    return TopTokens(ids, values)
