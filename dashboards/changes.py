"""What a visitor does to a model: heads switched off, edges cut, a second text's values patched in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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

__all__ = ["OTHER", "Changes", "Cut", "corpus_of", "given_text", "heads_in", "read_cuts"]

OTHER = "other"  # as a way to switch a head off: it passes on what it does in the second text
MOST_CUTS = 64

_CUT = re.compile(r"(?P<query>\d{1,6})-(?P<key>\d{1,6})(?:@(?P<head>[A-Za-z0-9.:]+))?", re.ASCII)


@dataclass(frozen=True)
class Cut:
    """An edge that is cut: the positions of query and key, and the head; None for every head."""

    query: int
    key: int
    head: Head | None

    def __str__(self) -> str:
        return f"{self.query}-{self.key}" + (f"@{self.head}" if self.head is not None else "")


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
        from attnlens.interventions.edits import ablation, knock_out, patching

        edits: list[Edit] = []
        if self.off and self.how == OTHER:
            edits.append(patching(lens, self._second(desk, run), point="z", heads=self.off))
        elif self.off:
            source = "corpus" if self.how == "zero" else corpus_of(desk, run)
            edits.append(ablation(lens, self.off, how=self.how, source=source))
        for cut in self.cuts:
            edits.append(knock_out(lens, [(cut.query, cut.key)], () if cut.head is None else (cut.head,)))
        if self.layer is not None:
            second = self._second(desk, run)
            edits.append(patching(lens, second, point="resid_post", layers=self.layer, positions=self.place))
        return reduce(add, edits) if edits else None

    def _second(self, desk: Desk, run: Mapping[str, Any]) -> Capture:
        if not self.other.strip():
            raise UsageError("there is no second text to take values from; type one under “Patch from a second text”.")
        second = desk.runs.open(RunRequest(str(run["model"]), self.other), points=True)
        first = desk.run(run)
        if self.place is None and len(second.tokens) != len(first.tokens):
            raise UsageError(
                f"the text has {len(first.tokens)} tokens and the second one {len(second.tokens)}; values are put in "
                "position by position, so give a second text of as many tokens, or patch one position of the stream."
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

    >>> [str(cut) for cut in read_cuts("5-2@L0H1,x,4-0")]
    ['5-2@L0H1', '4-0']
    """
    found = []
    for part in text.split(",")[:MOST_CUTS]:
        if match := _CUT.fullmatch(part.strip()):
            try:
                head = Head.parse(match["head"]) if match["head"] else None
            except HeadAddressError:
                continue
            found.append(Cut(int(match["query"]), int(match["key"]), head))
    return tuple(dict.fromkeys(found))


def given_text(lens: Lens, run: Mapping[str, Any], capture: Capture) -> Any:
    """What the model is given to run a request again: its text, or its pair.

    Raises:
        UsageError: the tokenizer cuts the text into other tokens than the run has, as of one that was generated.
    """
    asked = RunRequest.from_json(run)
    text: Any = asked.texts if asked.kind in (PAIR, TARGET) else capture.text
    if asked.kind != TARGET and (n_tokens := lens.n_tokens(text)) != len(capture.tokens):
        raise UsageError(
            f"by itself this text is cut into {n_tokens} tokens, and the run has {len(capture.tokens)}; run it as a "
            "single text to change the model on it."
        )
    return text


def corpus_of(desk: Desk, run: Mapping[str, Any]) -> list[Capture]:
    """Runs of the embedded corpus, which means and resampled values are taken from; kept for the next change."""
    from attnlens.interventions.sources import corpus_runs

    lens = desk.runs.lens(str(run["model"]))
    return desk.memo.get(("corpus", run["model"], desk.stamp(run)[1]), lambda: corpus_runs(lens))
