"""Forms of a label, and conditions that a family states itself, on sums made by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from stub_family import StubFamily

from probes.baselines import RandomBest
from probes.conditions import Conditions, Margin, Need
from probes.confidence import grade
from probes.family import Rule, Wording
from probes.findings import Settings, find
from probes.positional import nearest_key
from probes.positions import PatternFacts
from probes.split import split_units
from probes.tally import UNIT, Cell, Key, Tally

N = 60
SPLIT = split_units("document", [f"d{index}" for index in range(N)])
RULES = (Rule("offset -1", "offset"), Rule("nearest VERB left", "pos"), Rule("second VERB left", "pos"), Rule("twin"))
KEY, OTHER = Key("x"), Key("y")


@dataclass(frozen=True)
class Family(StubFamily):
    """A family whose conditions the test states."""

    asked: Conditions = field(default_factory=Conditions)
    name: str = "mine"
    rules: tuple[Rule, ...] = RULES

    def conditions(self, key):
        return self.asked

    def wording(self, key):
        return Wording("label", "consistent with x") if key == KEY else None


def amounts(share, n=10):
    """A share of `n` trials in every cluster: exact in the sum of either half, with noise between clusters."""
    values = np.zeros(N, dtype=np.int64)
    for half in (SPLIT.confirm, ~SPLIT.confirm):
        noise = np.random.default_rng(0).uniform(-0.05, 0.05, int(half.sum()))
        values[half] = np.rint((share + noise - noise.mean()) * n * UNIT)
    return values


def cell(score=0.8, *, mass=0.5, offset=0.3, pos=0.0, second=0.0, twin=0.0, both=(0.0, 0.0), control=0.1, chance=0.1):
    """One head; `both`: what the offset and the nearest verb hit together with it; the twin hits nothing else."""
    rules = np.column_stack([amounts(offset), amounts(pos) * (pos > 0), amounts(second) * (second > 0), amounts(twin)])
    together = np.array([*both, 0.0, twin]) * 10 * N // 2 * UNIT
    return replace(
        Cell.empty(N, 1, len(RULES)),
        trials=np.full(N, 10),
        asked=np.full(N, 10),
        chance=amounts(chance),
        mass_chance=amounts(chance),
        hits=amounts(score)[:, None],
        mass=amounts(mass)[:, None],
        control_trials=np.full(N, 10),
        control_hits=amounts(control)[:, None],
        paired_hits=amounts(score)[:, None],
        rules=rules,
        rule_hits=np.stack([together, together]).astype(np.int64)[:, :, None],
    )


def judged(cells, asked=None, **options):
    tally = Tally(N, 1, [rule.name for rule in RULES])
    tally.cells = dict(cells) if isinstance(cells, dict) else {KEY: cells}
    return find([Family(asked=Conditions() if asked is None else asked)], {"mine": tally}, SPLIT, Settings(), **options)


def test_without_parts_of_speech_a_label_says_consistent_with():
    (label,) = judged(cell()).labels()

    assert (label.tier, label.wording.label, label.wording.text) == ("plain", "label", "consistent with x")


def test_beating_the_nearest_by_part_of_speech_makes_it_strong():
    (label,) = judged(cell(0.8, pos=0.6, both=(0.2, 0.5))).labels()

    assert (label.tier, label.wording.label, label.wording.text) == ("strong", "label-strong", "tracks x")


@pytest.mark.parametrize("pos", [0.72, 0.8, 0.95])
def test_a_head_that_does_not_beat_it_by_the_margin_is_not_strong(pos):
    (label,) = judged(cell(0.8, pos=pos, both=(0.2, 0.5))).labels()

    assert label.tier == "plain"


def test_a_lead_over_it_that_chance_explains_is_not_strong():
    """60 trials in a half: the margin is there in every document, but trial by trial it is 48 (rounded: 47) to 41."""
    few = cell(0.8, pos=0.68)
    counts = {name: getattr(few, name) // 5 for name in ("trials", "asked", "control_trials")}
    sums = ("chance", "mass_chance", "hits", "mass", "control_hits", "paired_hits", "rules", "rule_hits")
    few = replace(few, **counts, **{name: getattr(few, name) // 5 for name in sums})

    found = judged(few)

    (label,) = found.labels()
    assert label.tier == "plain"
    assert found.scores[0].strong.confirm[0] > 0.1
    assert found.scores[0].strong.low[0] > 0
    ways = [math.comb(88, more) for more in range(47, 89)]
    assert found.q[0].strong[0] == pytest.approx((sum(ways) - ways[0] / 2) / 2**88)


def test_the_better_of_the_rules_by_part_of_speech_has_to_be_beaten():
    (label,) = judged(cell(0.8, pos=0.5, second=0.75, both=(0.2, 0.3))).labels()

    assert label.tier == "plain"


@pytest.mark.parametrize(("determined", "tier"), [(0.79, "strong"), (0.8, "explained"), (math.nan, "strong")])
def test_a_head_whose_pattern_offsets_give_is_explained_by_position_however_strong(determined, tier):
    strong = cell(0.8, pos=0.6, both=(0.2, 0.5))

    (label,) = judged(strong, facts=PatternFacts(determined=np.array([determined]))).labels()

    assert label.tier == tier
    if tier == "explained":
        assert label.wording.label == "explained-by-position"
        assert label.wording.text == "consistent with x, but offsets alone give 80 % of its pattern"
        assert label.explanation.share == 0.8


def test_offsets_do_not_explain_a_label_that_asks_for_no_explanation():
    (label,) = judged(
        cell(0.8, pos=0.6, both=(0.2, 0.5)),
        Conditions(explicable=False),
        facts=PatternFacts(determined=np.array([0.95])),
    ).labels()

    assert label.tier == "strong"


def test_a_label_that_the_heads_own_rule_reproduces_is_explained_by_it():
    (by_pos,) = judged(cell(0.8, pos=0.9, both=(0.2, 0.7))).labels()
    (by_place,) = judged(cell(0.8, offset=0.66, both=(0.66, 0.0))).labels()
    (just_not,) = judged(cell(0.8, pos=0.9, both=(0.2, 0.63))).labels()

    assert (by_pos.tier, by_pos.wording.label) == ("explained", "explained-by-POS")
    assert by_pos.wording.text == "consistent with x, but its own rule 'nearest VERB left' gives 87 % of these hits"
    assert (by_place.tier, by_place.wording.label) == ("explained", "explained-by-position")
    assert (just_not.tier, just_not.explanation.rule) == ("plain", "nearest VERB left")
    assert just_not.explanation.share == pytest.approx(0.63 / 0.8, abs=0.001)


def test_the_rule_of_a_head_is_the_one_it_follows_everywhere_where_that_is_known():
    """Its hits would be explained by the nearest verb, but over all words the head follows the second verb."""
    positional = Tally(N, 1, ())
    for name, share in (("nearest VERB left", 1), ("second VERB left", 6)):
        for cluster in range(N):
            follows = np.array([share * UNIT])
            positional.add(
                Key(name), cluster, int(SPLIT.confirm[cluster]), trials=10, asked=10, hits=follows, mass=follows
            )
    mine = Tally(N, 1, [rule.name for rule in RULES])
    mine.cells = {KEY: cell(0.8, pos=0.9, both=(0.2, 0.7))}
    other = Family(name="positional", rules=(), contrast=False)

    found = find([Family(), other], {"mine": mine, "positional": positional}, SPLIT, Settings())

    (label,) = (each for each in found.labels() if each.family == "mine")
    assert nearest_key("VERB", "left") in positional.cells
    assert label.tier == "plain"


def test_a_strong_label_is_not_explained_away():
    (label,) = judged(cell(0.95, offset=0.8, pos=0.8, both=(0.79, 0.79))).labels()

    assert label.tier == "strong"
    assert label.explanation.share > 0.8


def test_the_best_head_of_random_weights_has_to_be_beaten_by_the_margin():
    under, over = (judged(cell(0.8), random={("mine", KEY): RandomBest(score, 0.0, 80)}) for score in (0.65, 0.75))
    (without,) = judged(cell(0.8)).labels()

    (label,) = under.labels()
    assert (label.baseline, label.baseline_name) == (pytest.approx(0.65), "random weights")
    assert label.missing == ()
    assert over.labels() == ()
    assert without.missing == ("random",)


def test_every_baseline_has_to_be_beaten_not_only_the_last_one():
    found = judged(cell(0.8, offset=0.75), random={("mine", KEY): RandomBest(0.3, 0.0, 80)})

    assert found.judgements == ()
    assert found.scores[0].margin[0] == pytest.approx(0.05)


def test_margins_may_differ_by_what_they_are_over():
    """`.05` above the twin rule, `.10` above offsets; the near miss names the margin that it misses."""
    asked = Conditions(
        margins=(Margin(("chance", "offset", "random"), 0.10), Margin(("twin",), 0.05)), selectivity=None, strong=None
    )

    (enough,) = judged(cell(0.8, twin=0.74), asked).labels()
    neither = judged(cell(0.8, twin=0.76), asked)

    assert enough.failed is None
    assert neither.judgements == ()
    assert not neither.scores[0].tested.any()


def test_a_score_of_mass_has_limits_of_its_own_and_a_multiple_of_chance():
    """The induction row: at least .40 and three times chance, without a test."""
    asked = Conditions(
        value="mass",
        margins=(Margin(("random",), 0.0),),
        least=0.40,
        times_chance=3.0,
        selectivity=None,
        target_mass=None,
        significant=False,
        strong=None,
        explicable=False,
    )

    found = {
        name: judged(cell(0.0, mass=mass, chance=chance), asked, random={("mine", KEY): RandomBest(0.9, best, 80)})
        for name, (mass, chance, best) in {
            "enough": (0.5, 0.1, 0.3),
            "too little": (0.38, 0.1, 0.3),
            "near chance": (0.5, 0.2, 0.3),
            "as random": (0.5, 0.1, 0.5),
        }.items()
    }

    labelled = {name: [(each.score, each.q) for each in result.labels()] for name, result in found.items()}
    assert labelled["enough"] == [(pytest.approx(0.5), pytest.approx(np.nan, nan_ok=True))]
    assert [labelled[name] for name in ("too little", "near chance", "as random")] == [[], [], []]
    assert found["near chance"].judgements[0].failed.startswith("score, for 3 times chance 0.5")
    assert found["enough"].n_tested == 0


def test_a_lower_bound_is_asked_of_the_interval():
    asked = Conditions(margins=(Margin(("chance",), 0.10),), low=0.60, selectivity=None, strong=None)

    (sure,) = judged(cell(0.65), asked).labels()
    (barely,) = judged(cell(0.601), asked).judgements

    assert sure.ci[0] > 0.60
    assert barely.failed.startswith("lower bound of the score 0.")


def test_another_question_may_have_to_hold_as_well():
    asked = Conditions(needs=(Need(OTHER, low=0.0),), selectivity=None, strong=None)

    (with_it,) = judged({KEY: cell(), OTHER: cell(0.3)}, asked).labels()
    (without,) = judged({KEY: cell(), OTHER: cell(0.0)}, asked).judgements
    (unmeasured,) = judged({KEY: cell()}, asked).judgements

    assert with_it.confidence == 1.0
    assert without.failed.startswith("lower bound of y")
    assert unmeasured.failed == "y was not measured"
    assert unmeasured.confidence == 0.0


def test_nothing_is_asked_about_control_words_of_a_family_without_any():
    tally = Tally(N, 1, [rule.name for rule in RULES])
    tally.cells = {KEY: cell(control=0.8)}

    found = find([Family(controlled=False)], {"mine": tally}, SPLIT, Settings())

    assert [each.failed for each in found.judgements] == [None]


def test_confidence_counts_the_replicates_in_which_all_conditions_hold():
    """The margin hangs by a thread in every resampling: about half of them."""
    rng = np.random.default_rng(1)
    hits = np.rint((0.402 + rng.permutation(np.linspace(-0.4, 0.4, N))) * 10 * UNIT).astype(np.int64)
    for half in (SPLIT.confirm, ~SPLIT.confirm):
        hits[half] += round(0.402 * 10 * UNIT) - int(hits[half].mean())
    thread = replace(cell(0.402), hits=hits[:, None])

    (near,) = judged(thread, Conditions(selectivity=None)).judgements
    (sure,) = judged(cell(0.8), Conditions(selectivity=None)).judgements

    alone = Conditions(value="mass", margins=(), least=0.40, selectivity=None, significant=False, strong=None)
    (by_limit,) = judged(replace(cell(0.0), mass=thread.hits), alone).judgements

    assert 0.35 < near.confidence < 0.7
    assert 0.35 < by_limit.confidence < 0.7
    assert sure.confidence == 1.0


@pytest.mark.parametrize(
    ("value", "word"),
    [(0.49, None), (0.5, "low"), (0.79, "low"), (0.8, "medium"), (0.95, "medium"), (0.951, "high"), (1.0, "high")],
)
def test_confidence_in_a_word(value, word):
    assert grade(value) == word


def test_questions_that_are_reported_only_take_nothing_from_the_others():
    both = judged({KEY: cell(), OTHER: cell()})
    alone = judged({KEY: cell()})

    assert both.n_tested == alone.n_tested == 1
    assert {each.scores.key: each.verdict for each in both.best} == {KEY: "mine", OTHER: "above baseline"}


def test_the_same_input_gives_the_same_numbers():
    one, same = (judged(cell(0.8, pos=0.6, both=(0.2, 0.5))) for _ in range(2))

    assert repr(one.judgements) == repr(same.judgements)
