"""The label rule on simulated heads over real trees: who is found, and who is not mistaken for what.

Everything is simulated at the level of the strongest word, and counted here without the scoring of the product: heads
that follow one relation with a planted accuracy, heads that look at one offset or at a mixture of offsets, heads that
look for the nearest verb or noun, and heads that look anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from stub_family import StubFamily

from probes.corpora.sources import open_corpus
from probes.family import Rule
from probes.findings import Settings, find
from probes.positional import NEAREST, WORD_OFFSETS, PositionalProbe, nearest_key, word_offset_key
from probes.simple_rules import everywhere
from probes.split import split_corpus
from probes.syntax import SyntaxProbe
from probes.tally import UNIT, Cell, Key, Tally

RELATIONS = ("nsubj", "obj", "det", "case", "advmod", "nmod", "obl", "amod", "conj", "mark", "ccomp", "xcomp")
PLANTED = ("nsubj", "obj", "det", "case", "advmod", "nmod")
MARGINS = (0.0, 0.05, 0.10, 0.15, 0.20, 0.40)
TAGS = ("NOUN", "VERB", "PROPN", "AUX", "ADP", "ADJ", "PRON", "DET")
OFFSETS = tuple(offset for offset in range(-10, 11) if offset)
SIDES = (("left", -1), ("right", 1))
RULES = (
    *(Rule(f"offset {offset:+d}", "offset") for offset in OFFSETS),
    *(Rule(f"{nth} {tag} {side}", "pos") for tag in TAGS for side, _ in SIDES for nth in ("nearest", "second")),
)


class Trial(NamedTuple):
    relation: str
    direction: str
    query: int
    targets: tuple[int, ...]


RELATIONS_ASKED = StubFamily(name="syntax", rules=RULES)


def trials_of(sentence):
    found, sets = [], defaultdict(list)
    for word, (head, relation) in enumerate(zip(sentence.heads, sentence.relations, strict=True)):
        if head >= 0 and relation in RELATIONS:
            found.append(Trial(relation, "d2h", word, (head,)))
            sets[relation, head].append(word)
    return found + [Trial(relation, "h2d", head, tuple(words)) for (relation, head), words in sets.items()]


def answers_of(sentence):
    """What every rule answers to every word: `[rule word]`, -1 for nothing."""
    n = len(sentence)
    answers = np.full((len(RULES), n), -1)
    for row, offset in enumerate(OFFSETS):
        at = np.arange(n) + offset
        answers[row] = np.where((at >= 0) & (at < n), at, -1)
    row = len(OFFSETS)
    for tag in TAGS:
        places = [word for word in range(n) if sentence.upos[word] == tag]
        for _, sign in SIDES:
            for nth in (0, 1):
                for word in range(n):
                    beside = sorted((at for at in places if (at - word) * sign > 0), key=lambda at: abs(at - word))
                    answers[row, word] = beside[nth] if len(beside) > nth else -1
                row += 1
    return answers


def best_offsets(sentences):
    """(relation, direction) -> share of the trials that the best offset gets."""
    counts, totals = defaultdict(lambda: np.zeros(len(OFFSETS))), defaultdict(int)
    for sentence in sentences:
        for trial in trials_of(sentence):
            key = (trial.relation, trial.direction)
            totals[key] += 1
            counts[key] += np.isin(np.array(OFFSETS) + trial.query, trial.targets)
    return {key: counts[key].max() / totals[key] for key in totals}


class Simulation:
    """Strongest words of all heads, sentence by sentence, and the sums that follow."""

    def __init__(self, sentences, clusters, split):
        self.rng = np.random.default_rng(7)
        self.split = split
        best = best_offsets(sentences)
        self.pointers = [(r, d, m, best[r, d] + m) for r in PLANTED for d in ("d2h", "h2d") for m in MARGINS]
        self.offsets = [(offset,) for offset in (-3, -2, -1, 1, 2, 3)] + [(-1, 1), (-1, 2), (1, 2), (-2, -1)] * 3
        self.nearest = [("VERB", -1), ("VERB", 1), ("NOUN", -1), ("NOUN", 1)]
        self.n_heads = len(self.pointers) + len(self.offsets) + len(self.nearest) + 30
        self.syntax = Tally(len(split.confirm), self.n_heads, [rule.name for rule in RULES])
        self.positional = Tally(len(split.confirm), self.n_heads, [])
        for sentence, cluster in zip(sentences, clusters, strict=True):
            self.count(sentence, cluster)

    @property
    def first_offset_head(self):
        return len(self.pointers)

    @property
    def first_nearest_head(self):
        return len(self.pointers) + len(self.offsets)

    @property
    def first_random_head(self):
        return self.first_nearest_head + len(self.nearest)

    def winners(self, trials, answers):
        """The strongest word of every head and word, never the word itself."""
        n, rng = answers.shape[1], self.rng
        own = np.arange(n)
        won = rng.integers(0, n - 1, (self.n_heads, n))
        won += won >= own
        for head, (relation, direction, _, accuracy) in enumerate(self.pointers):
            for trial in trials:
                if (trial.relation, trial.direction) == (relation, direction):
                    others = [at for at in range(n) if at != trial.query and at not in trial.targets]
                    right = rng.random() < accuracy or not others
                    won[head, trial.query] = rng.choice(trial.targets if right else others)
        for head, offsets in enumerate(self.offsets, self.first_offset_head):
            at = own + rng.choice(offsets, n)
            won[head] = np.where((at >= 0) & (at < n), at, won[head])
        for head, (tag, sign) in enumerate(self.nearest, self.first_nearest_head):
            side = "left" if sign < 0 else "right"
            row = [rule.name for rule in RULES].index(f"nearest {tag} {side}")
            won[head] = np.where(answers[row] >= 0, answers[row], won[head])
        return won

    def count(self, sentence, cluster):
        n = len(sentence)
        if n < 3:
            return
        trials, answers = trials_of(sentence), answers_of(sentence)
        won, half = self.winners(trials, answers), int(self.split.confirm[cluster])
        for trial in trials:
            hit = np.isin(won[:, trial.query], trial.targets)
            rule = np.isin(answers[:, trial.query], trial.targets)
            same = (answers[:, trial.query][:, None] == won[:, trial.query]) & hit
            control = self.control(sentence, trial, won)
            self.syntax.add(
                Key(trial.relation, trial.direction),
                cluster,
                half,
                trials=1,
                asked=1,
                chance=round(len(trial.targets) / (n - 1) * UNIT),
                hits=hit * UNIT,
                mass=np.rint(hit * 0.9 * UNIT).astype(np.int64),
                rules=rule * UNIT,
                rule_hits=same * UNIT,
                **(
                    {} if control is None else {"control_trials": 1, "paired_hits": hit * UNIT, "control_hits": control}
                ),
            )
        keys = [word_offset_key(offset) for offset in WORD_OFFSETS] + [
            nearest_key(*place) for place in NEAREST.values()
        ]
        names = [rule.name for rule in RULES]
        for key in keys:
            name = key.relation.removeprefix("word ")
            if name in names:
                answer = answers[names.index(name)]
                follows = ((won == answer) & (answer >= 0)).sum(axis=1) * UNIT
                self.positional.add(key, cluster, half, trials=n, asked=n, hits=follows, mass=follows)

    def control(self, sentence, trial, won):
        """Mean hit of the trial's offsets at up to five other words, in parts of UNIT; None without such a word."""
        n = len(sentence)
        offsets = np.array(trial.targets) - trial.query
        usable = []
        for word in self.rng.permutation(n):
            at = word + offsets
            if word == trial.query or at.min() < 0 or at.max() >= n:
                continue
            arcs = [(word, to) if trial.direction == "d2h" else (to, word) for to in at]
            if all((sentence.heads[a], sentence.relations[a]) != (b, trial.relation) for a, b in arcs):
                usable.append((word, at))
        usable = usable[:5]
        if not usable:
            return None
        share = np.mean([np.isin(won[:, word], at) for word, at in usable], axis=0)
        return np.rint(share * UNIT).astype(np.int64)


@pytest.fixture(scope="module")
def simulated(shared_data):
    corpus = open_corpus(shared_data("en_ewt-ud-dev.conllu"))
    split = split_corpus(corpus)
    sentences, clusters = [], []
    for document in corpus.documents():
        for index, sentence in enumerate(document.sentences):
            sentences.append(sentence)
            clusters.append(split.cluster(document.id, document.key(index)))
    simulation = Simulation(sentences, clusters, split)
    tallies = {"syntax": simulation.syntax, "positional": simulation.positional}
    return simulation, find([RELATIONS_ASKED, PositionalProbe()], tallies, split, Settings())


def of_relations(found, tiers=("plain", "strong", "explained")):
    return [each for each in found.labels() if each.family == "syntax" and each.tier in tiers]


def test_heads_that_follow_a_relation_are_found_from_a_tenth_above_the_best_offset(simulated):
    simulation, found = simulated
    labelled = {(each.head, each.scores.key.relation, each.scores.key.direction) for each in of_relations(found)}
    recall = {
        margin: np.mean(
            [(head, r, d) in labelled for head, (r, d, m, _) in enumerate(simulation.pointers) if m == margin]
        )
        for margin in MARGINS
    }

    assert recall[0.0] == recall[0.05] == 0
    assert 0.1 < recall[0.10] < 0.9
    assert recall[0.15] >= 0.9
    assert recall[0.20] == recall[0.40] == 1


def test_heads_of_position_and_random_heads_earn_no_relation(simulated):
    simulation, found = simulated
    places = range(simulation.first_offset_head, simulation.first_nearest_head)
    anywhere = range(simulation.first_random_head, simulation.n_heads)

    assert {each.head for each in of_relations(found)}.isdisjoint([*places, *anywhere])


def test_heads_that_look_for_the_nearest_verb_or_noun_are_said_to_do_that(simulated):
    simulation, found = simulated
    heads = range(simulation.first_nearest_head, simulation.first_random_head)
    forms = {(each.tier, each.wording.label) for each in of_relations(found) if each.head in heads}
    own = {each.head: each.explanation.rule for each in of_relations(found) if each.head in heads}

    assert forms == {("explained", "explained-by-POS")}
    assert own
    for head, (tag, sign) in zip(heads, simulation.nearest, strict=True):
        assert own.get(head, f"nearest {tag}").startswith(f"nearest {tag}")
        assert own.get(head, "left" if sign < 0 else "right").endswith("left" if sign < 0 else "right")


def test_pointers_earn_no_relation_but_their_own(simulated):
    simulation, found = simulated
    others = [
        (each.head, each.scores.key)
        for each in of_relations(found)
        if each.head < len(simulation.pointers)
        and (each.scores.key.relation, each.scores.key.direction) != simulation.pointers[each.head][:2]
    ]

    assert others == []


def test_rules_of_syntax_are_asked_of_all_words_by_the_positional_family():
    """The two families agree on names, so that what explains a relation is a rule that the head follows everywhere."""
    asked = {everywhere(rule) for rule in SyntaxProbe.rules}

    assert {word_offset_key(offset) for offset in WORD_OFFSETS} <= asked
    assert set(NEAREST) - {nearest_key("PUNCT", side) for side, _ in SIDES} <= asked


def test_an_empty_cell_changes_nothing(simulated):
    """A question that never occurs is no test and no label."""
    simulation, found = simulated
    tally = Tally(len(simulation.split.confirm), simulation.n_heads, [rule.name for rule in RULES])
    tally.cells = dict(simulation.syntax.cells)
    tally.cells[Key("never", "d2h")] = Cell.empty(tally.n_clusters, tally.n_heads, len(RULES))

    again = find([RELATIONS_ASKED], {"syntax": tally}, simulation.split, Settings())

    assert again.n_tested == found.n_tested
    assert next(each.verdict for each in again.best if each.scores.key.relation == "never") == "insufficient data"
