"""What a model must be able to do if a label's heads are to matter: choices between a right and a wrong continuation.

Agreement, determiners and anaphora are minimal pairs of BLiMP files (Warstadt et al. 2020, arXiv:1912.00582) or of the
embedded grammar; repetition is the second copy of random tokens (Olsson et al. 2022, arXiv:2209.11895); the next word
is text of the half of the corpus that labels are confirmed on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from attnlens.errors import CorpusError
from attnlens.interventions.pairs import Pair, PairItem, choice_item, grammar_pairs, read_blimp
from attnlens.interventions.sources import Source
from attnlens.measures.induction import repeated_tokens
from attnlens.models.encode import encode
from probes.induction.stimuli import drawn_from
from probes.sample import rank

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["AGREEMENT", "ANAPHORA", "DETERMINERS", "NEXT_WORD", "REPETITION", "Task", "Tasks", "impossible", "task_of"]

AGREEMENT, DETERMINERS, ANAPHORA = "subject-verb agreement", "determiner-noun agreement", "anaphor agreement"
REPETITION, NEXT_WORD = "second copy of random tokens", "next word of held-out text"

_PARADIGMS = {
    AGREEMENT: ("subject_verb_agreement", "distractor_agreement"),
    DETERMINERS: ("determiner_noun_agreement",),
    ANAPHORA: ("anaphor_", "principle_A_"),
}
_KIN = {AGREEMENT: (ANAPHORA,), ANAPHORA: (AGREEMENT,)}  # a reflexive, like a verb, takes the number of its subject
_PRONOUNS = "pronouns"
_GRAMMAR = {AGREEMENT: ("agreement with attractors",), ANAPHORA: ("reflexive", "pronoun")}
_UNRELATED = 3
_COPY = 25  # distinct tokens
_PER_COPY = 5  # of which are asked
_SOURCES = 32  # texts that values from elsewhere are taken from


@dataclass(frozen=True)
class Task:
    """Choices that need what a label says.

    Attributes:
        name: as it is printed.
        pairs: texts of which one is right, or questions.
        source: runs that values from elsewhere are taken from; the right texts of the pairs where None.
        of: where the choices come from.
        edges: (query, key) of each choice: where its answer is read, and the token that the label says is looked at.
    """

    name: str
    pairs: tuple[Pair | PairItem, ...]
    source: Source | None = None
    of: str = ""
    edges: tuple[tuple[int, int], ...] = ()


def task_of(family: str, relation: str) -> str | None:
    """The task that a label's heads should matter to; None where there is no test of it."""
    if family == "coreference":
        return ANAPHORA
    if family == "induction":
        return REPETITION if relation in ("induction", "previous") else None
    if family == "positional":
        return NEXT_WORD if relation.startswith("offset") else None
    if relation.startswith(("agreement", "nsubj")):
        return AGREEMENT
    return DETERMINERS if relation == "det" else None


def impossible(lens: Lens) -> str | None:
    """Why no head of this model can be tested for its effect on words, or None."""
    model, anatomy = lens.anatomy.model, lens.anatomy
    if anatomy.is_encoder_decoder:
        return f"{model} is an encoder-decoder, and the tests ask models of one stack"
    embeddings = getattr(lens.model, "get_output_embeddings", None)
    if embeddings is None or embeddings() is None:
        return f"{model} predicts no words (it has no language-model head), so nothing shows whether a head matters"
    if lens.tokenizer is None:
        return f"{model} has no tokenizer"
    if not anatomy.causal and lens.tokenizer.mask_token_id is None:
        return f"{model} neither predicts next words nor fills in masks"
    return None


@dataclass(frozen=True)
class Tasks:
    """The tasks of one model, each made when it is asked for.

    Attributes:
        lens: the model.
        held_out: (name, text) of the CONFIRM half.
        blimp: minimal pairs by file; the embedded grammar's stand in where a task has none.
        n: choices per task at most.
        seed: of everything drawn.
    """

    lens: Lens
    held_out: Iterable[tuple[str, str]] = ()
    blimp: Sequence[Path | str] = ()
    n: int = 100
    seed: int = 0

    def task(self, name: str) -> Task | None:
        """The task by its name; None where this model, or what was given, has nothing for it."""
        if name in _PARADIGMS:
            return self._minimal_pairs(name)
        if name == REPETITION:
            return self._repetition
        return self._next_word if name == NEXT_WORD else None

    def unrelated(self, name: str) -> dict[str, tuple[Pair | PairItem, ...]]:
        """Three other tasks at most, whatever this model has; none that needs the same of a text."""
        found: dict[str, tuple[Pair | PairItem, ...]] = {}
        for other, pairs in self._others(name):
            if pairs and len(found) < _UNRELATED:
                found[other] = pairs[: self.n // 2]
        return found

    def _others(self, name: str) -> Iterator[tuple[str, tuple[Pair | PairItem, ...]]]:
        for path in self.blimp:
            if not any(path in files for files in self._files.values()):
                yield _paradigm(path), read_blimp(path, limit=self.n // 2)
        kin = (name, *_KIN.get(name, ()))
        for other in (AGREEMENT, ANAPHORA, DETERMINERS, NEXT_WORD, REPETITION):
            task = None if other in kin else self.task(other)
            if task is not None:
                yield other, task.pairs
        if name == AGREEMENT:
            yield _PRONOUNS, tuple(pair for pair in grammar_pairs("pronoun", self.n // 2) if self._knows(pair))

    @cached_property
    def _files(self) -> dict[str, tuple[Path | str, ...]]:
        """Task -> its files."""
        found: dict[str, tuple[Path | str, ...]] = {}
        for path in self.blimp:
            paradigm = _paradigm(path)
            for name, parts in _PARADIGMS.items():
                if any(part in paradigm for part in parts):
                    found[name] = (*found.get(name, ()), path)
        return found

    def _minimal_pairs(self, name: str) -> Task | None:
        files = self._files.get(name, ())
        if files:
            share = -(-self.n // len(files))
            pairs = tuple(pair for path in files for pair in read_blimp(path, limit=share))
            return Task(name, pairs, of=", ".join(_paradigm(path) for path in files))
        kinds = _GRAMMAR.get(name, ())
        found = tuple(pair for kind in kinds for pair in grammar_pairs(kind, self.n // len(kinds)))
        known = tuple(pair for pair in found if self._knows(pair))
        return Task(name, known, of=f"attnlens/grammar ({', '.join(kinds)})") if known else None

    def _knows(self, pair: Pair) -> bool:
        """No word of the pair is unknown to the tokenizer."""
        unknown = self.lens.tokenizer.unk_token_id
        return not any(
            token.id == unknown and not token.special
            for text in (pair.good, pair.bad)
            for token in encode(self.lens.tokenizer, text).tokens
        )

    @cached_property
    def _repetition(self) -> Task | None:
        """Which token comes next in the second copy: the one that followed in the first, or another of the text."""
        lens, room = self.lens, self.lens.anatomy.max_length
        if not lens.anatomy.causal:
            return None
        vocabulary, start = drawn_from(lens.anatomy, lens.tokenizer), lens.tokenizer.bos_token_id
        length = min(_COPY, len(vocabulary), _COPY if room is None else (room - 1) // 2)
        if length < 2 * _PER_COPY:
            return None
        n_texts = -(-self.n // _PER_COPY)
        drawn = repeated_tokens(
            vocabulary, length=length, repeats=2, sequences=n_texts, seed=self.seed + 1, start=start
        )
        generator, first = torch.Generator().manual_seed(self.seed), drawn.shape[1] - length
        items, edges = [], []
        for after in torch.randperm(length - 2, generator=generator)[:_PER_COPY].add(1).tolist():
            place = first + after
            for text in drawn.tolist():
                others = [token for token in text[first:] if token != text[place + 1]]
                wrong = others[int(torch.randint(len(others), (1,), generator=generator))]
                items.append(choice_item(text[: place + 1], place, text[place + 1], wrong))
                edges.append((place, place + 1 - length))
        runs = self._runs(drawn.tolist()[:_SOURCES])
        return Task(REPETITION, tuple(items[: self.n]), runs, "random tokens", tuple(edges[: self.n]))

    @cached_property
    def _next_word(self) -> Task | None:
        """Which token stands there: the one of the text, or one from another place of the corpus."""
        lens, mask = self.lens, self.lens.tokenizer.mask_token_id
        chosen = sorted(self.held_out, key=lambda text: rank(self.seed, NEXT_WORD, text[0]))
        items: list[PairItem] = []
        texts = list(self._encoded(chosen))
        for index, (name, ids, places) in enumerate(texts):
            place = places[rank(self.seed, "place", name) % len(places)]
            other, elsewhere = texts[(index + 1) % len(texts)][1:]
            wrong = other[elsewhere[rank(self.seed, "foil", name) % len(elsewhere)]]
            if wrong == ids[place]:
                continue
            if lens.anatomy.causal:
                items.append(choice_item(ids[:place], place - 1, ids[place], wrong))
            else:
                items.append(choice_item([*ids[:place], mask, *ids[place + 1 :]], place, ids[place], wrong))
        if not items:
            return None
        return Task(NEXT_WORD, tuple(items), self._runs([ids for _, ids, _ in texts[:_SOURCES]]), of="held-out text")

    def _encoded(self, texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[int], list[int]]]:
        """Name, ids and the places of ordinary tokens behind another, of the first texts that fit the model."""
        room, found = self.lens.anatomy.max_length, 0
        for name, text in texts:
            encoded = encode(self.lens.tokenizer, text, bos=True)
            places = [i for i, token in enumerate(encoded.tokens) if i and not token.special]
            if places and (room is None or len(encoded.tokens) <= room):
                found += 1
                yield name, list(encoded.ids), places
            if found == self.n:
                return

    def _runs(self, texts: Sequence[Sequence[int]]) -> Source:
        """What heads pass on in these texts."""
        runs = []
        for text in texts:
            ids = torch.tensor([list(text)])
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            runs += list(self.lens.captures(inputs=given, points=("z",)))
        return runs


def _paradigm(path: Path | str) -> str:
    """The paradigm that a file says it holds, or its name."""
    try:
        with Path(path).open(encoding="utf-8") as lines:
            row = json.loads(next(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error
    except (ValueError, StopIteration):
        row = {}
    name = row.get("UID") if isinstance(row, dict) else None
    return str(name or Path(path).stem)
