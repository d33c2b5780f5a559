"""The induction family: previous-token, duplicate-token and induction heads of models that read from left to right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from attnlens.models.anatomy import Anatomy
from probes.conditions import Conditions, Margin, Need
from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.induction.keys import COPYING, DUPLICATE, INDUCTION, PREVIOUS, RULE_OF
from probes.induction.measures import measure
from probes.induction.stimuli import stimuli
from probes.questions import OptionTrials, RowTrials
from probes.tally import Key
from probes.texts import Kind, Stimulus
from probes.view import LayerView, Sums
from probes.words import Reading

if TYPE_CHECKING:
    from attnlens.models.lens import Lens
    from probes.inspecting import Inspected

__all__ = ["InductionProbe"]

LEAST, TIMES_CHANCE = 0.40, 3.0  # ours

_WORDINGS = {
    PREVIOUS: Wording("previous", "attends to the token before, also on random tokens"),
    DUPLICATE: Wording("duplicate-token", "attends to earlier copies of the same token"),
    INDUCTION: Wording("induction", "attends to what followed earlier copies of the token, and copies it"),
}


@dataclass(frozen=True)
class InductionProbe:
    """Where heads attend on random tokens that repeat, and whether they copy what they attend to.

    Source: Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv:2209.11895.

    Attributes:
        seed: of the random tokens.
    """

    seed: int = 0
    name: ClassVar[str] = "induction"
    reads: ClassVar[tuple[Kind, ...]] = ("stimulus",)
    rules: ClassVar[tuple[Rule, ...]] = ()
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = False

    def refusal(self, corpus: Corpus) -> str | None:
        """Any corpus will do, since it is not read."""
        return None

    def unsuited(self, anatomy: Anatomy) -> str | None:
        """Why this model cannot be asked, or None.

        In a model that also sees later tokens, whoever looks at the next token "follows" a copy that has not come yet,
        so the scores would not mean what they say.
        """
        if anatomy.causal:
            return None
        return (
            f"induction needs a model that reads from left to right, and {anatomy.model} sees later tokens too: a "
            "head that looks at the next token would pass for an induction head"
        )

    def stimuli(self, anatomy: Anatomy, tokenizer: Any, seed: int) -> Iterable[Stimulus]:
        """Random tokens that repeat; none for a model that sees later tokens."""
        return iter(()) if self.unsuited(anatomy) else stimuli(anatomy, tokenizer, seed)

    def ask(self, reading: Reading) -> tuple[RowTrials | OptionTrials, ...]:
        """Nothing: weights are measured as they are."""
        return ()

    def measure(self, view: LayerView) -> Iterator[Sums]:
        """Weight on the keys that each rule names."""
        return measure(view)

    def inspect(self, lens: Lens, seed: int) -> Iterator[Inspected]:
        """Copying, which takes more than attention: what heads write, read through the model's own output."""
        from probes.induction.copying import inspect

        return inspect(lens, tuple(self.stimuli(lens.anatomy, lens.tokenizer, seed)))

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Nothing of sentences."""
        return set()

    def wording(self, key: Key) -> Wording | None:
        """The three labels; copying is a condition of one of them."""
        return _WORDINGS.get(key)

    def conditions(self, key: Key) -> Conditions:
        """Enough weight, well above chance and above every head of copies with random weights; induction copies too."""
        return Conditions(
            value="mass",
            margins=(Margin(("chance", "random"), 0.0),),
            least=LEAST,
            times_chance=TIMES_CHANCE,
            selectivity=None,
            target_mass=None,
            significant=False,
            needs=(Need(COPYING, low=0.0),) if key == INDUCTION else (),
            strong=None,
            explicable=False,
        )

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The first query for which the rule names a key."""
        from attnlens.measures.induction import RULES

        if key not in RULE_OF or not reading.ids:
            return None
        targets = RULES[RULE_OF[key]](torch.tensor(reading.ids))
        for query, row in enumerate(targets.tolist()):
            at = tuple(k for k, is_target in enumerate(row) if is_target and not reading.special[k])
            if at and not reading.special[query]:
                return Pointer(query, at, tuple(range(query + 1)), "token")
        return None
