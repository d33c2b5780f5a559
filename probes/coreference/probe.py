"""The coreference family: what it reads, asks and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from probes.conditions import Conditions, Margin
from probes.coreference import antecedents, gap, results, winobias
from probes.coreference.anaphors import RULES, anaphors_in
from probes.coreference.contests import trials_of
from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.questions import OptionTrials
from probes.scores import Scores, Setting
from probes.tally import Key, Tally
from probes.texts import Kind
from probes.words import Reading

__all__ = ["CoreferenceProbe"]

SECOND = "second option"
_RULES = (
    *(Rule(name) for name in RULES),
    *(Rule(f"offset {offset:+d}", "offset") for offset in antecedents.OFFSETS),
    Rule(SECOND),
)
_REPORTED = Conditions(selectivity=None, target_mass=None, strong=None)
_COLUMNS = {rule.name: column for column, rule in enumerate(_RULES)}


@dataclass(frozen=True)
class CoreferenceProbe:
    """Antecedent accuracy of every head beside rules without a model; GAP and WinoBias where the corpus has them.

    `seed` draws the pronouns that are masked.
    """

    seed: int = 0
    name: ClassVar[str] = "coreference"
    reads: ClassVar[tuple[Kind, ...]] = ("window", "masked")
    rules: ClassVar[tuple[Rule, ...]] = _RULES
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = False

    def refusal(self, corpus: Corpus) -> str | None:
        """Mentions or choices are needed."""
        if corpus.n_mentions or any(name.startswith((gap.NAME, winobias.NAME)) for name in corpus.n_choices):
            return None
        return f"{corpus.name} has no coreference (no `Entity=` in MISC, no GAP and no WinoBias items)"

    def ask(self, reading: Reading) -> Iterator[OptionTrials]:
        """Every anaphor and every choice of one text."""
        contests = list(antecedents.contests(reading, len(_RULES)))
        if reading.masked is None:
            contests += gap.word_contests(reading, _COLUMNS, len(_RULES))
            contests += winobias.contests(reading, _COLUMNS, len(_RULES))
            tokens = list(gap.token_contests(reading, len(_RULES)))
            if tokens:
                yield trials_of(tokens, "token")
        if contests:
            yield trials_of(contests)

    def masks(self, sentences: Sequence[Sentence]) -> Iterable[int]:
        """One pronoun of the third person with an antecedent in its sentence."""
        return antecedents.masks(sentences, self.seed)

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every kind of anaphor in the text; GAP and WinoBias have no examples."""
        return {
            key for anaphor in anaphors_in(sentences) if anaphor.targets for key in antecedents.every_key_of(anaphor)
        }

    def wording(self, key: Key) -> Wording | None:
        """Only mentions whose antecedents all look different can earn the label."""
        text = "consistent with coreference (mention -> earlier mention of the same entity)"
        if key == antecedents.NON_IDENTICAL:
            return Wording("coreference", text)
        if key == antecedents.PREDICTED:
            return Wording("coreference", text.replace("mention ->", "where a pronoun is predicted ->"))
        return None

    def conditions(self, key: Key) -> Conditions:
        """For the label: above chance and any offset by .10, above the nearest compatible mention by .05.

        The smaller margin is over the harder rule; both thresholds are ours. What gives no label is held against all
        rules, the one that knows the gold types of entities too. WinoBias is reported and never tested.
        """
        if self.wording(key) is None:
            return replace(_REPORTED, significant=not key.relation.startswith(winobias.NAME))
        margins = (Margin(("chance", "offset", "random"), 0.10), Margin(("compatible mention",), 0.05))
        return Conditions(margins=margins, selectivity=None, strong=None)

    def is_count(self, key: Key) -> bool:
        """What GAP's F1 is made of."""
        return gap.is_count(key)

    def results(self, tally: Tally, setting: Setting, heads: Sequence[str]) -> dict[str, Any]:
        """`gap` and `bias` of `heads.json`."""
        return results.results(tally, setting, heads)

    def beside(self, scores: Mapping[Key, Scores], head: int) -> dict[str, Any]:
        """Beside a label: its figures by kind of mention, and whether GAP agrees."""
        return results.beside(scores, head)

    def pointer(self, key: Key, seen: Reading) -> Pointer | None:
        """The text's first anaphor of this kind."""
        return antecedents.pointer(key, seen)
