"""What a head looks for and writes, token by token: its circuits as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnlens.capture.run import Capture
from attnlens.capture.tokens import printable
from attnlens.heads import Head
from attnlens.report.tables import Table
from attnlens.report.text import shortened

if TYPE_CHECKING:
    from attnlens.models.head_tokens import TopTokens
    from attnlens.models.lens import Lens

__all__ = ["TokenRow", "TokensView", "tokens_view"]

MOST = 12  # tokens of a text that are asked about
_TWO_STACKS = "These tables are told for models of one stack; this one reads with one stack and writes with another."


@dataclass(frozen=True)
class TokenRow:
    """One token of the text; its strongest keys and the tokens that it raises, empty where the model does not tell."""

    token: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class TokensView:
    """What one head does to the tokens of a text, as they stand in the embedding.

    Attributes:
        rows: one per distinct token.
        absent: sentences on what the model does not tell.
        caption: how to read it, and its limits.
    """

    rows: tuple[TokenRow, ...]
    absent: tuple[str, ...]
    caption: str

    def table(self) -> Table:
        """One row per token, with the columns that the model tells."""
        columns = [("reads", "looks for"), ("writes", "writes when attended to")]
        told = [(name, title) for name, title in columns if any(getattr(row, name) for row in self.rows)]
        rows = tuple((row.token, *(" · ".join(getattr(row, name)) for name, _ in told)) for row in self.rows)
        return Table(self.caption, ("token", *(title for _, title in told)), rows if told else ())


def tokens_view(lens: Lens, run: Capture, head: Head | str) -> TokensView:
    """The tokens that a head looks for and writes, for the first distinct tokens of a run.

    Raises:
        HeadAddressError: the model has no such head.
    """
    from attnlens.models.head_tokens import head_tokens

    if run.anatomy.is_encoder_decoder:
        return TokensView((), (_TWO_STACKS,), "")
    labels = {token.id: token.label for token in reversed(run.tokens) if not token.special}
    asked = tuple(dict.fromkeys(token.id for token in run.tokens if not token.special))[:MOST]
    if not asked or lens.tokenizer is None:
        return TokensView((), ("There are no tokens to ask about.",), "")
    found = head_tokens(lens, run.text, Head.parse(head), asked)
    reads, writes = (_words(lens.tokenizer, top, len(asked)) for top in (found.reads, found.writes))
    rows = tuple(TokenRow(labels[token], reads[i], writes[i]) for i, token in enumerate(asked))
    absent = [
        f"What it {verb} is not told: {reason}."
        for verb, reason in (("looks for", found.reads_absent), ("writes", found.writes_absent))
        if reason
    ]
    return TokensView(rows, tuple(absent), _caption(found.rotated))


def _words(tokenizer: Any, top: TopTokens | None, n: int) -> list[tuple[str, ...]]:
    if top is None:
        return [()] * n
    return [tuple(_word(tokenizer, token) for token in row) for row in top.ids.tolist()]


def _word(tokenizer: Any, token: int) -> str:
    """A token as text; one that is a part of a character as the tokenizer spells it."""
    text = tokenizer.decode([token])
    if "\ufffd" in text:
        text = str(tokenizer.convert_ids_to_tokens(token))
    return shortened(printable(text).strip())


def _caption(rotated: bool) -> str:
    turned = " Positions turn queries and keys in this model: the scores are those of neighbours." if rotated else ""
    return (
        "From the weights alone: the keys that each token scores highest as a query (embedding, QK circuit, "
        "embedding), and the tokens whose logits it raises when the head attends to it (embedding, OV circuit, "
        "unembedding). "
        f"Layers in between are left out, so this says less the later the layer is.{turned}"
    )
