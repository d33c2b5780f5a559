"""Named entities (measures E1 to E3): is more attention paid to them than to other words, and what happens inside them?

E1 asks for the mean attention on words inside named mentions (those that the corpus links to a known identity). Its
lift is that mean over the share of such words among the candidates. Whether it is more than chance is asked by turning
the labels around the sentence: the score of a sentence is the rank of the real labels among all turns (0 to 1, half of
the ties counted), which is 1/2 in the mean where it does not matter where the labels stand. A label needs a lift of 2:
attention less twice the share, summed over all queries, must not be negative.

E2 and E3 are reported only: from a mention's words to its head word, with and without the arcs that a tree calls
compound or flat, which syntax counts too; and whether the strongest of the other mentions' head words is of the same
type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from probes.coreference.contests import Contest, trials_of
from probes.corpora.data import Mention, Sentence
from probes.kept import kept_plans
from probes.marked import Marked, marked_trials
from probes.questions import OptionTrials, RowTrials
from probes.syntax.draws import Draws
from probes.syntax.rules import OFFSETS
from probes.tally import Key
from probes.view import LayerView, Sums, in_order
from probes.words import Reading

__all__ = ["ENTITY", "INSIDE", "INSIDE_BEYOND_TREE", "LIFT", "SAME_TYPE", "TWICE", "inside", "measure", "same_type"]

ENTITY = Key("named entity")
LIFT = Key("named entity, attention")
TWICE = Key("named entity, attention less twice the share")
INSIDE = Key("mention word -> head word")
INSIDE_BEYOND_TREE = Key("mention word -> head word (no compound or flat arc)")
SAME_TYPE = Key("mention of the same type")
LEAST_LIFT = 2.0
_IN_TREE = frozenset({"compound", "flat"})


@dataclass(frozen=True)
class Plan:
    """What a batch asks: only texts with named words and others.

    Attributes:
        texts: their indices in the batch.
        turned: named words after each turn of the labels around the words that the model saw; 0 is no turn.
        turns: how many there are, the words that the model saw.
        trials: queries.
        share: sum over the queries of the share of named words among the candidates.
    """

    texts: Int64[Tensor, " some_text"]
    turned: Float64[Tensor, "some_text turn word"]
    turns: Int64[Tensor, " some_text"]
    trials: Int64[Tensor, " some_text"]
    share: Float64[Tensor, " some_text"]


def named_words(sentence: Sentence) -> Bool[np.ndarray, " word"]:
    """Words inside named mentions."""
    named = np.zeros(len(sentence), dtype=bool)
    for mention in sentence.mentions:
        if mention.named:
            named[mention.start : mention.end] = True
    return named


def _plan(readings: tuple[Reading, ...], n_words: int) -> Plan:
    texts, named = [], []
    for index, reading in enumerate(readings):
        labels = np.concatenate([named_words(sentence) for sentence in reading.sentences])
        if labels[reading.kept].any() and not labels[reading.kept].all():
            texts.append(index)
            named.append(labels)
    chosen = [readings[index] for index in texts]
    candidates = torch.zeros(len(chosen), n_words, n_words, dtype=torch.bool)
    turned = torch.zeros(len(chosen), n_words, n_words, dtype=torch.float64)
    for i, (reading, labels) in enumerate(zip(chosen, named, strict=True)):
        n = len(labels)
        candidates[i, :n, :n] = torch.from_numpy(reading.candidates)
        places = np.flatnonzero(reading.kept)
        around = (np.arange(len(places)) - np.arange(len(places))[:, None]) % len(places)
        turned[i, : len(places), torch.from_numpy(places)] = torch.from_numpy(labels[places][around].astype(np.float64))
    n_candidates = candidates.sum(-1)
    share = torch.einsum("tqk,tk->tq", candidates.double(), turned[:, 0]) / n_candidates.clamp_min(1)
    return Plan(
        texts=torch.tensor(texts, dtype=torch.int64),
        turned=turned,
        turns=torch.tensor([int(reading.kept.sum()) for reading in chosen], dtype=torch.int64),
        trials=(n_candidates > 0).sum(-1),
        share=torch.from_numpy(in_order(share.numpy())),
    )


_plan_of = kept_plans(_plan)


def measure(view: LayerView) -> Iterator[Sums]:
    """E1 of the batch's texts."""
    plan = _plan_of(view.readings, view.words.shape[-1])
    if not len(plan.texts):
        return
    received = torch.from_numpy(view.received)[plan.texts]
    masses = received @ plan.turned.transpose(1, 2)
    real = masses[..., :1]
    is_turn = torch.arange(masses.shape[-1]) < plan.turns[:, None]
    below = ((masses < real) & is_turn[:, None]).sum(-1)
    equal = ((masses == real) & is_turn[:, None]).sum(-1)
    rank = (below + equal / 2).double() / plan.turns[:, None]
    mass = real[..., 0]
    queries = plan.trials[:, None].double()
    trials, chance = plan.trials, plan.share
    sums = Sums(
        keys=(ENTITY, LIFT, TWICE),
        trials=torch.stack([torch.ones_like(trials), trials, trials], dim=1),
        hits=torch.stack([rank, mass, mass - LEAST_LIFT * chance[:, None]], dim=1),
        mass=torch.stack([mass / queries, mass, mass], dim=1),
        chance=torch.stack([torch.full_like(chance, 0.5), chance, torch.zeros_like(chance)], dim=1),
        mass_chance=torch.stack([chance / queries[:, 0], chance, chance], dim=1),
    )
    yield sums.spread(len(view.readings), plan.texts)


def inside_arcs(sentence: Sentence) -> list[tuple[int, int, bool]]:
    """Word, head of the smallest mention in which it is not the head, whether a tree calls that compound or flat."""
    smallest: dict[int, Mention] = {}
    for mention in sorted(sentence.mentions, key=lambda each: each.end - each.start, reverse=True):
        smallest |= {word: mention for word in range(mention.start, mention.end) if word != mention.head}
    return [(word, smallest[word].head, _is_in_tree(sentence, word, smallest[word].head)) for word in sorted(smallest)]


def _is_in_tree(sentence: Sentence, word: int, head: int) -> bool:
    if not sentence.heads or sentence.heads[word] != head:
        return False
    return sentence.relations[word].partition(":")[0] in _IN_TREE


def inside(reading: Reading, seed: int, n_rules: int) -> RowTrials | None:
    """E2: every word of a mention that is not its head asks for the head; `n_rules`: columns of `points`."""
    marked = []
    for start, sentence in zip(reading.starts.tolist(), reading.sentences, strict=True):
        for word, head, is_known in inside_arcs(sentence):
            if reading.kept[start + word] and reading.kept[start + head]:
                keys = (INSIDE,) if is_known else (INSIDE, INSIDE_BEYOND_TREE)
                marked += [Marked(key, start + word, (start + head,)) for key in keys]
    return marked_trials(reading, marked, Draws(seed, reading.key), n_rules)


def same_type(reading: Reading, n_rules: int, nearest: int) -> OptionTrials | None:
    """E3: the head word of a mention, among those of the others that are no mention of its entity.

    Args:
        reading: the text.
        n_rules: columns of `points`, which begin with those of `probes.syntax.rules`.
        nearest: the column of "the nearest mention".
    """
    placed = [
        (start + mention.head, mention)
        for start, sentence in zip(reading.starts.tolist(), reading.sentences, strict=True)
        for mention in sentence.mentions
        if mention.kind and reading.kept[start + mention.head]
    ]
    contests = []
    for head, mention in placed:
        others = {at: other.kind for at, other in placed if at != head and other.entity != mention.entity}
        options = np.array(sorted(at for at in others if reading.candidates[head, at]), dtype=np.int64)
        right = np.array([others[at] == mention.kind for at in options.tolist()], dtype=bool)
        if right.any() and not right.all():
            contests.append(_contest(head, options, right, n_rules, nearest))
    return trials_of(contests) if contests else None


def _contest(
    head: int,
    options: Int64[np.ndarray, " option"],
    right: Bool[np.ndarray, " option"],
    n_rules: int,
    nearest: int,
) -> Contest:
    n = len(options)
    answers = np.zeros((n, n_rules), dtype=bool)
    answers[:, : len(OFFSETS)] = (options - head)[:, None] == np.array(OFFSETS)
    answers[np.abs(options - head).argmin(), nearest] = True
    return Contest((SAME_TYPE,), right, answers, np.arange(n), np.full(n, head), options, np.ones(n))
