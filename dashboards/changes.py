"""What a visitor does to a model: heads switched off, edges cut, a second text's values patched in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from attnlens.errors import HeadAddressError, UsageError
from attnlens.heads import Head
from dashboards.request import PAIR, TARGET, RunRequest

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.interventions.blocks import Edit
    from attnlens.models.lens import Lens
    from dashboards.desk import Desk

__all__ = ["OTHER", "STACKS", "Changes", "Cut", "corpus_of", "given_text", "heads_in", "read_cuts"]

OTHER = "other"  # as a way to switch a head off: it passes on what it does in the second text
MOST_CUTS = 64

STACKS = {"E": "the encoder", "D": "the decoder", "X": "cross-attention"}

_CUT = re.compile(r"(?P<query>\d{1,6})-(?P<key>\d{1,6})(?:@(?P<head>[A-Za-z0-9.:]+))?", re.ASCII)


@dataclass(frozen=True)
class Cut:
    """An edge that is cut: the positions of query and key, and the head; None for every head of a stack.

    `stack` is the letter of that stack; empty for the main one.
    """

    query: int
    key: int
    head: Head | None
    stack: str = ""

    def __str__(self) -> str:
        where = self.stack if self.head is None else str(self.head)
        return f"{self.query}-{self.key}" + (f"@{where}" if where else "")

    @property
    def letter(self) -> str:
        """Letter of the stack whose positions these are; empty for the main one."""
        return self.stack if self.head is None else self.head.stack

    @property
    def where(self) -> str:
        """The head, or which heads, in words."""
        if self.head is not None:
            return str(self.head)
        return f"every head of {STACKS[self.stack]}" if self.stack else "every head"

    def edit(self, lens: Lens) -> Edit:
        """The intervention.

        Raises:
            AttnlensError: a head or an edge that the model does not have.
        """
        from attnlens.interventions.edits import knock_out

        edge = [(self.query, self.key)]
        if self.head is not None or not self.stack:
            return knock_out(lens, edge, () if self.head is None else (self.head,))
        cut = knock_out(lens, edge, lens.anatomy.stack(self.stack).heads())
        return replace(cut, label=f"knock out {self.query}->{self.key} in {self.where}")


@dataclass(frozen=True)
class Changes:
    """Everything that is done to a model at once; two equal ones do the same.

    Attributes:
        off: heads that are switched off.
        how: "zero", "mean", "resample" or `OTHER`.
        cuts: edges that are cut.
        other: the second text.
        layer: the layer behind which the stream is that of the second text; None for none.
        place: at which position; None for all.
    """

    off: tuple[Head, ...] = ()
    how: str = "zero"
    cuts: tuple[Cut, ...] = ()
    other: str = ""
    layer: int | None = None
    place: int | None = None

    def edit(self, desk: Desk, run: Mapping[str, Any], lens: Lens) -> Edit | None:
        """The intervention; None where nothing is done.

        Raises:
            AttnlensError: a head, an edge, a layer or a position that this model or text does not have; no second text,
                or one of another length.
        """
        from attnlens.interventions.edits import ablation, patching

        edits: list[Edit] = []
        if self.off and self.how == OTHER:
            edits.append(patching(lens, self._second(desk, run), point="z", heads=self.off))
        elif self.off:
            source = "corpus" if self.how == "zero" else corpus_of(desk, run)
            edits.append(ablation(lens, self.off, how=self.how, source=source))
        edits += [cut.edit(lens) for cut in self.cuts]
        if self.layer is not None:
            second = self._second(desk, run)
            edits.append(patching(lens, second, point="resid_post", layers=self.layer, positions=self.place))
        return reduce(add, edits) if edits else None

    def _second(self, desk: Desk, run: Mapping[str, Any]) -> Capture:
        """The run that values are taken from; an encoder-decoder reads the second text, and writes the same."""
        if not self.other.strip():
            raise UsageError("there is no second text to take values from; type one under “Patch from a second text”.")
        first, model = desk.run(run), str(run["model"])
        if first.source is None:
            second = desk.runs.open(RunRequest(model, self.other), points=True)
            n_first, n_second = len(first.tokens), len(second.tokens)
        else:
            second = desk.runs.open(RunRequest(model, self.other, TARGET, first.text), points=True)
            reads = self.how == OTHER and any(head.stack == "E" for head in self.off)
            one, two = (first.source, second.source) if reads else (first, second)
            n_first, n_second = (len(part.tokens) if part is not None else 0 for part in (one, two))
        if self.place is None and n_second != n_first:
            raise UsageError(
                f"the text has {n_first} tokens and the second one {n_second}; values are put in position by position, "
                "so give a second text of as many tokens, or patch one position of the stream."
            )
        return second


def heads_in(text: str) -> tuple[Head, ...]:
    """The heads that an address names, in order; what is no head is left out.

    >>> [str(head) for head in heads_in("L1H2,L0H3,nonsense,L1H2")]
    ['L0H3', 'L1H2']
    """
    found = set()
    for part in text.split(","):
        try:
            found.add(Head.parse(part))
        except HeadAddressError:
            continue
    return tuple(sorted(found))


def read_cuts(text: str) -> tuple[Cut, ...]:
    """The edges that an address names; what is none is left out.

    >>> [str(cut) for cut in read_cuts("5-2@L0H1,x,4-0,1-1@E")]
    ['5-2@L0H1', '4-0', '1-1@E']
    """
    found = []
    for part in text.split(",")[:MOST_CUTS]:
        if match := _CUT.fullmatch(part.strip()):
            query, key, where = int(match["query"]), int(match["key"]), match["head"] or ""
            try:
                found.append(
                    Cut(query, key, None, where) if where in ("", *STACKS) else Cut(query, key, Head.parse(where))
                )
            except HeadAddressError:
                continue
    return tuple(dict.fromkeys(found))


def given_text(lens: Lens, run: Mapping[str, Any], capture: Capture) -> Any:
    """What the model is given to run a request again: its text, or its pair (what is read and what is written).

    Raises:
        UsageError: the tokenizer cuts the text into other tokens than the run has, as of one that was generated.
    """
    asked = RunRequest.from_json(run)
    if capture.source is not None:
        text: Any = (capture.source.text, capture.text)
        n_tokens, instead = _n_written(lens, text), "a text to read and one to write"
    else:
        text = asked.texts if asked.kind == PAIR else capture.text
        n_tokens, instead = lens.n_tokens(text), "a single text"
    if n_tokens != len(capture.tokens):
        raise UsageError(
            f"by itself this text is cut into {n_tokens} tokens, and the run has {len(capture.tokens)}; run it as "
            f"{instead} to change the model on it."
        )
    return text


def _n_written(lens: Lens, pair: tuple[str, str]) -> int:
    """Tokens of what an encoder-decoder is given as written, the one that it starts from included."""
    from attnlens.interventions.effects import one_text

    written = one_text(lens, pair).texts[0]
    return 0 if written is None else len(written.tokens)


def corpus_of(desk: Desk, run: Mapping[str, Any]) -> list[Capture]:
    """Runs of the embedded corpus, which means and resampled values are taken from; kept for the next change."""
    from attnlens.interventions.sources import corpus_runs

    lens = desk.lens(run)
    return desk.memo.get(("corpus", run["model"], desk.stamp(run)[1]), lambda: corpus_runs(lens))
