"""What a batch of texts asks, laid out as arrays once: cells of the attention and the sums that each of them enters.

All cells are addressed in one flat array of a batch, `[text query key]` (`[text head query key]` where weights are
looked up); trials, options and questions are numbered through the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.family import Probe
from probes.questions import Cells, OptionTrials, RowTrials
from probes.scoring.ledger import COUNTED, PER_HEAD_SUMS, Ledger, code_of
from probes.tally import UNIT, in_units
from probes.words import Reading

__all__ = ["Hits", "Layout", "Masses", "Options", "Segments", "lay_out"]

Index = Int64[np.ndarray, " _"]
_HITS, _MASS, _RIVAL, _CONTROL, _PAIRED, _SHUFFLED, _RULE_HITS = map(
    PER_HEAD_SUMS.index,
    ("hits", "mass", "rival_mass", "control_hits", "paired_hits", "shuffled_hits", "rule_hits"),
)
_CONTROL_MASS, _PAIRED_MASS = map(PER_HEAD_SUMS.index, ("control_mass", "paired_mass"))


@dataclass(frozen=True)
class Hits:
    """Sums that a winning cell enters.

    Attributes:
        of_cell: index of a cell's run of entries; -1 where the cell answers nothing.
        starts: where each run begins, and where the last one ends.
        weight: share of a win that each entry counts.
        row: of the sums.
    """

    of_cell: Int64[np.ndarray, " cell"]
    starts: Int64[np.ndarray, " run"]
    weight: Float64[np.ndarray, " entry"]
    row: Index

    @classmethod
    def of(cls, cell: Index, weight: Float64[np.ndarray, " entry"], row: Index, n_cells: int) -> Hits:
        """From entries in any order."""
        order = np.argsort(cell, kind="stable")
        cell = cell[order]
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        of_cell = np.full(n_cells, -1, np.int64)
        of_cell[cell[starts]] = np.arange(len(starts))
        return cls(of_cell, np.append(starts, len(cell)), weight[order], row[order])


@dataclass(frozen=True)
class Segments:
    """Entries that are added up by row.

    Attributes:
        index: of each entry in what is added up, ordered by row.
        starts: where each row's entries begin.
        row: of each run of entries, each once.
    """

    index: Index
    starts: Int64[np.ndarray, " run"]
    row: Int64[np.ndarray, " run"]

    @classmethod
    def of(cls, index: Index, row: Index) -> Segments:
        """From entries in any order."""
        order = np.argsort(row, kind="stable")
        starts = np.flatnonzero(np.diff(row[order], prepend=-1))
        return cls(index[order], starts, row[order][starts])

    def add(self, amounts: Int64[np.ndarray, "entry head"], into: Int64[np.ndarray, "row head"]) -> None:
        """Add up the amounts of every row."""
        if len(self.starts):
            into[self.row] += np.add.reduceat(amounts[self.index], self.starts, axis=0)


@dataclass(frozen=True)
class Masses:
    """Cells whose weight is summed.

    Attributes:
        text, place: the text of each cell, and query * n + key.
        weight: factor of each, None where all are 1.
        sums: which rows they enter.
    """

    text: Index
    place: Index
    weight: Float64[np.ndarray, " entry"] | None
    sums: Segments


@dataclass(frozen=True)
class Options:
    """Options that compete within trials; those of one trial stand together.

    Attributes:
        text, place, weight: of the cells.
        steps: cells that are added to an option of their own each, in order: (cells, options) of the first cells of all
            options, of the second ones, and so on.
        n_options: number of options.
        starts: where each trial's options begin.
        trial: of each option, counted over trials that have any.
        hits: right options, by the rows that a win enters.
        right, wrong: rows of their mass.
    """

    text: Index
    place: Index
    weight: Float64[np.ndarray, " entry"]
    steps: tuple[tuple[Index, Index], ...]
    n_options: int
    starts: Int64[np.ndarray, " trial"]
    trial: Int64[np.ndarray, " option"]
    hits: Segments
    masses: Segments


@dataclass(frozen=True)
class Layout:
    """All that a batch asks.

    Attributes:
        rows: of the ledger, for the rows that the parts count from 0.
        hits: by level ("word", "token", "column").
        masses, options: by what their cells count ("word", "token").
    """

    rows: Int64[np.ndarray, " row"]
    hits: dict[str, Hits]
    masses: dict[str, Masses]
    options: dict[str, Options]


@dataclass
class _Entries:
    """Entries of one sort that wait to be put together."""

    parts: list[tuple[np.ndarray, ...]]

    def joined(self, n_columns: int) -> list[np.ndarray]:
        if not self.parts:
            return [np.zeros(0, np.int64) for _ in range(n_columns)]
        return [np.concatenate(column) for column in zip(*self.parts, strict=True)]


def lay_out(readings: Sequence[Reading], probes: Sequence[Probe], ledger: Ledger, sizes: dict[str, int]) -> Layout:
    """Ask every family about every text, count what does not depend on heads, and lay the rest out.

    Args:
        readings: the texts of a batch.
        probes: the families that read this kind of text.
        ledger: what counts.
        sizes: words and tokens of the longest text, by "word" and "token".
    """
    desk = _Desk(readings, ledger, sizes)
    for probe in probes:
        rows: dict[str, list[tuple[int, RowTrials]]] = {}
        options: dict[str, list[tuple[int, OptionTrials]]] = {}
        for at, reading in enumerate(readings):
            for trials in probe.ask(reading):
                if isinstance(trials, RowTrials):
                    rows.setdefault(trials.level, []).append((at, trials))
                else:
                    options.setdefault(trials.level, []).append((at, trials))
        for level, asked in rows.items():
            desk.add_rows(probe, level, asked)
        for level, offered in options.items():
            desk.add_options(probe, level, offered)
    return desk.layout()


class _Desk:
    """Where a batch is laid out; codes of sums become rows at the end, when all are known."""

    def __init__(self, readings: Sequence[Reading], ledger: Ledger, sizes: dict[str, int]) -> None:
        self.ledger, self.sizes, self.n_texts = ledger, sizes, len(readings)
        self.clusters = np.array([reading.cluster for reading in readings], dtype=np.int64)
        self.halves = np.array([reading.confirm for reading in readings], dtype=np.int64)
        self._hits: dict[str, _Entries] = {}
        self._masses: dict[str, _Entries] = {}
        self._options: dict[str, list[_Contest]] = {}

    def add_rows(self, probe: Probe, level: str, asked: list[tuple[int, RowTrials]]) -> None:
        """Trials of one family that ask for the strongest of a row."""
        space = "token" if level == "token" else "word"
        n, n_rules = self.sizes[space], len(probe.rules)
        table = _Trials.of(self.ledger, probe, asked)
        cluster = self.clusters[table.text]
        chance = in_units(table.chance)
        given = [trials.chance if trials.mass_chance is None else trials.mass_chance for _, trials in asked]
        paired = np.concatenate([trials.paired for _, trials in asked]).astype(bool)
        self._count(table, cluster, chance, in_units(np.concatenate(given)), paired)
        hits = self._hits.setdefault(level, _Entries([]))

        def enter(of: Index, place: Index, weight: np.ndarray, field: int) -> None:
            code = code_of(table.question[of], field, cluster[of])
            hits.parts.append((table.text[of] * (n * n) + place, weight, code))

        of, place, weight = _cells([trials.targets for _, trials in asked], table.firsts, n)
        enter(of, place, weight, _HITS)
        enter(of[paired[of]], place[paired[of]], weight[paired[of]], _PAIRED)
        masses = self._masses.setdefault(space, _Entries([]))

        def weigh(of: Index, place: Index, weight: np.ndarray, field: int) -> None:
            masses.parts.append((table.text[of], place, weight, code_of(table.question[of], field, cluster[of])))

        weigh(of, place, weight, _MASS)
        weigh(of[paired[of]], place[paired[of]], weight[paired[of]], _PAIRED_MASS)
        entry, rule = np.nonzero(np.concatenate([trials.points for _, trials in asked]))
        of_rule = of[entry]
        code = code_of(table.question[of_rule], _RULE_HITS, self.halves[table.text[of_rule]] * n_rules + rule)
        hits.parts.append((table.text[of_rule] * (n * n) + place[entry], weight[entry], code))
        self._count_rules(table, cluster, of_rule, rule, n_rules, _guessed(asked, chance))
        controls = _cells([trials.controls for _, trials in asked], table.firsts, n)
        enter(*controls, _CONTROL)
        weigh(*controls, _CONTROL_MASS)
        enter(*_cells([trials.shuffled for _, trials in asked], table.firsts, n), _SHUFFLED)

    def add_options(self, probe: Probe, level: str, asked: list[tuple[int, OptionTrials]]) -> None:
        """Trials of one family that ask for the strongest of a few options."""
        n, n_rules = self.sizes["token" if level == "token" else "word"], len(probe.rules)
        table = _Trials.of(self.ledger, probe, asked)
        cluster = self.clusters[table.text]
        chance = in_units(table.chance)
        self._count(table, cluster, chance, chance, np.zeros(len(chance), dtype=bool))
        n_options = np.array([len(trials.right) for _, trials in asked], dtype=np.int64)
        firsts = np.cumsum(n_options) - n_options
        trial = np.concatenate([trials.option_trial for _, trials in asked]) + np.repeat(table.firsts, n_options)
        right = np.concatenate([trials.right for _, trials in asked]).astype(bool)
        of, place, weight = _cells([trials.cells for _, trials in asked], firsts, n)
        option, rule = np.nonzero(np.concatenate([trials.points for _, trials in asked]) & right[:, None])
        self._count_rules(table, cluster, trial[option], rule, n_rules, _guessed(asked, chance))
        question, where = table.question[trial], cluster[trial]
        rule_code = code_of(question[option], _RULE_HITS, self.halves[table.text[trial[option]]] * n_rules + rule)
        won = np.flatnonzero(right)
        self._options.setdefault(level, []).append(
            _Contest(
                trial=trial,
                of=of,
                text=table.text[trial[of]],
                place=place,
                weight=weight,
                hit_option=np.concatenate([won, option]),
                hit_code=np.concatenate([code_of(question[won], _HITS, where[won]), rule_code]),
                mass_code=np.where(right, code_of(question, _MASS, where), code_of(question, _RIVAL, where)),
                n_trials=len(table.question),
            )
        )

    def _count(
        self, table: _Trials, cluster: Index, chance: Index, mass_chance: Index, paired: Bool[np.ndarray, " trial"]
    ) -> None:
        ones = np.ones(len(cluster), np.int64)
        parts = [("trials", ones), ("chance", chance), ("mass_chance", mass_chance)]
        if paired.any():
            parts.append(("control_trials", paired.astype(np.int64)))
        codes = [code_of(table.question, COUNTED.index(name), cluster) for name, _ in parts]
        codes.append(code_of(table.key_question, COUNTED.index("asked"), self.clusters[table.key_text]))
        self.ledger.count(np.concatenate(codes), np.concatenate([*(amount for _, amount in parts), table.asked]))

    def _count_rules(
        self,
        table: _Trials,
        cluster: Index,
        trial: Index,
        rule: Index,
        n_rules: int,
        guessed: Int64[np.ndarray, "trial rule"] | None,
    ) -> None:
        """Trials at which rules are right, and what they get where they have no answer."""
        n_trials = len(table.question)
        right = np.bincount(trial * n_rules + rule, minlength=n_trials * n_rules).reshape(n_trials, n_rules) * UNIT
        amounts = right if guessed is None else right + guessed
        self.ledger.count_rules(code_of(table.question, COUNTED.index("rules"), cluster), amounts)

    def layout(self) -> Layout:
        """Everything that was added; codes become rows."""
        hits = {level: entries.joined(3) for level, entries in self._hits.items()}
        masses = {space: entries.joined(4) for space, entries in self._masses.items()}
        options = {level: _join_contests(contests) for level, contests in self._options.items()}
        codes = [columns[-1] for columns in (*hits.values(), *masses.values())]
        codes += [part for contest in options.values() for part in (contest.hit_code, contest.mass_code)]
        unique, row = np.unique(np.concatenate([np.zeros(0, np.int64), *codes]), return_inverse=True)
        parts = iter(np.split(row, np.cumsum([len(part) for part in codes])[:-1]) if codes else [])
        laid_hits = {}
        for level, (cell, weight, _) in hits.items():
            n = self.sizes["token" if level == "token" else "word"]
            laid_hits[level] = Hits.of(cell, weight, next(parts), self.n_texts * n * n)
        laid_masses = {}
        for space, (text, place, weight, _) in masses.items():
            sums = Segments.of(np.arange(len(text)), next(parts))
            laid_masses[space] = Masses(text, place, weight if (weight != 1).any() else None, sums)
        laid_options = {level: contest.options(next(parts), next(parts)) for level, contest in options.items()}
        return Layout(self.ledger.rows(unique), laid_hits, laid_masses, laid_options)


@dataclass(frozen=True)
class _Trials:
    """Trials of many texts of one family, numbered through.

    Attributes:
        firsts: number of each part's first trial.
        text, question, chance: of each trial.
        key_question, key_text, asked: of each question of each part.
    """

    firsts: Int64[np.ndarray, " part"]
    text: Int64[np.ndarray, " trial"]
    question: Int64[np.ndarray, " trial"]
    chance: Float64[np.ndarray, " trial"]
    key_question: Int64[np.ndarray, " key"]
    key_text: Int64[np.ndarray, " key"]
    asked: Int64[np.ndarray, " key"]

    @classmethod
    def of(cls, ledger: Ledger, probe: Probe, parts: Sequence[tuple[int, RowTrials | OptionTrials]]) -> _Trials:
        at = np.array([text for text, _ in parts], dtype=np.int64)
        n_trials = np.array([len(trials.question) for _, trials in parts], dtype=np.int64)
        n_keys = np.array([len(trials.keys) for _, trials in parts], dtype=np.int64)
        keys = np.array([q for _, trials in parts for q in ledger.questions(probe.name, trials.keys)], dtype=np.int64)
        local = np.concatenate([trials.question for _, trials in parts])
        return cls(
            firsts=np.cumsum(n_trials) - n_trials,
            text=np.repeat(at, n_trials),
            question=keys[local + np.repeat(np.cumsum(n_keys) - n_keys, n_trials)],
            chance=np.concatenate([trials.chance for _, trials in parts]),
            key_question=keys,
            key_text=np.repeat(at, n_keys),
            asked=np.concatenate([trials.asked for _, trials in parts]),
        )


@dataclass(frozen=True)
class _Contest:
    """Options of one family, or of several: `trial` and `of` count through; codes are not rows yet."""

    trial: Int64[np.ndarray, " option"]
    of: Index
    text: Index
    place: Index
    weight: Float64[np.ndarray, " entry"]
    hit_option: Index
    hit_code: Index
    mass_code: Int64[np.ndarray, " option"]
    n_trials: int

    def options(self, hit_row: Index, mass_row: Index) -> Options:
        """With options ordered by trial, and cells by their place among those of their option."""
        order = np.argsort(self.trial, kind="stable")
        moved = np.empty(len(order), np.int64)
        moved[order] = np.arange(len(order))
        trial = self.trial[order]
        starts = np.flatnonzero(np.diff(trial, prepend=-1))
        of = moved[self.of]
        by_option = np.argsort(of, kind="stable")
        first = np.searchsorted(of[by_option], np.arange(len(order)))
        nth = np.empty(len(of), np.int64)
        nth[by_option] = np.arange(len(of)) - first[of[by_option]]
        steps = []
        for step in range(int(nth.max(initial=-1)) + 1):
            cells = np.flatnonzero(nth == step)
            steps.append((cells, of[cells]))
        return Options(
            text=self.text,
            place=self.place,
            weight=self.weight,
            steps=tuple(steps),
            n_options=len(order),
            starts=starts,
            trial=np.repeat(np.arange(len(starts)), np.diff(starts, append=len(trial))),
            hits=Segments.of(moved[self.hit_option], hit_row),
            masses=Segments.of(moved, mass_row),
        )


def _join_contests(contests: list[_Contest]) -> _Contest:
    """The options of several families as one."""
    n_options = np.cumsum([0, *(len(contest.trial) for contest in contests)])
    n_trials = np.cumsum([0, *(contest.n_trials for contest in contests)])
    numbered = list(zip(contests, n_options.tolist(), n_trials.tolist(), strict=False))
    return _Contest(
        trial=np.concatenate([contest.trial + first for contest, _, first in numbered]),
        of=np.concatenate([contest.of + first for contest, first, _ in numbered]),
        text=np.concatenate([contest.text for contest in contests]),
        place=np.concatenate([contest.place for contest in contests]),
        weight=np.concatenate([contest.weight for contest in contests]),
        hit_option=np.concatenate([contest.hit_option + first for contest, first, _ in numbered]),
        hit_code=np.concatenate([contest.hit_code for contest in contests]),
        mass_code=np.concatenate([contest.mass_code for contest in contests]),
        n_trials=int(n_trials[-1]),
    )


def _guessed(
    asked: Sequence[tuple[int, RowTrials]] | Sequence[tuple[int, OptionTrials]], chance: Index
) -> Int64[np.ndarray, "trial rule"] | None:
    """What rules get where they have no answer; None where every rule answers everywhere."""
    if all(trials.silent is None for _, trials in asked):
        return None
    return np.asarray(np.concatenate([_silent(trials) for _, trials in asked]) * chance[:, None])


def _silent(trials: RowTrials | OptionTrials) -> Bool[np.ndarray, "trial rule"]:
    shape = (len(trials.question), trials.points.shape[1])
    return np.zeros(shape, dtype=bool) if trials.silent is None else trials.silent


def _cells(
    cells: Sequence[Cells], firsts: Int64[np.ndarray, " part"], n: int
) -> tuple[Index, Index, Float64[np.ndarray, " entry"]]:
    """Trial (or option) numbered through, query * n + key, and weight of every cell."""
    counts = np.array([len(part.of) for part in cells], dtype=np.int64)
    of = np.concatenate([part.of for part in cells]) + np.repeat(firsts, counts)
    place = np.concatenate([part.query for part in cells]) * n + np.concatenate([part.key for part in cells])
    return of, place, np.concatenate([part.weight for part in cells])
