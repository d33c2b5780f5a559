"""S1 counted a second time in plain loops from its definitions; laws that need no second count; nearest words."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_arrays import pointing, seen, sentence, uniform

from probes.corpora.sources import open_corpus
from probes.family import rule_names
from probes.plain import observe
from probes.questions import RowTrials
from probes.split import split_corpus
from probes.syntax import SyntaxProbe
from probes.syntax.alignment import ALIGNMENT
from probes.tally import UNIT, Key, Tally
from probes.texts import texts_of

PROBE = SyntaxProbe()
RULES = rule_names(PROBE)
APART = {"nsubj:pass", "aux:pass", "nmod:poss", "acl:relcl", "compound:prt"}
KNOWN = {name.split()[1] for name in RULES if not name.startswith("offset")}
TAGS = ["NOUN", "VERB", "ADJ", "PUNCT", "DET", "_"]


def tally_of(*observations):
    tally = Tally(1, len(observations[0].attention), RULES)
    for observation in observations:
        observe(PROBE, tally, observation)
    return tally


class Counts:
    """(relation, direction, position) -> trials, arcs or heads asked about, hits of head 0, chance, hits of rules."""

    def __init__(self):
        self.trials, self.asked = defaultdict(int), defaultdict(int)
        self.hits, self.chance = defaultdict(Fraction), defaultdict(Fraction)
        self.rules = defaultdict(lambda: defaultdict(Fraction))


def names_of(relation):
    base = relation.split(":")[0]
    if base in ("root", "punct"):
        return []
    return [relation] if relation in APART or relation == base else [relation, base]


def won(scores, targets):
    """The share of a win of some targets among candidates {word: score}; ties are split."""
    best = max(scores.values())
    winners = [word for word, score in scores.items() if score == best]
    return Fraction(sum(word in winners for word in targets), len(winners))


def answer_of(name, asking, tags, present):
    """The word that a rule names when a word asks; None where it finds none."""
    ordinal, *rest = name.split()
    if ordinal == "offset":
        return asking + int(rest[0])
    tag, side = rest
    step = 1 if side == "right" else -1
    place, left = asking + step, {"nearest": 1, "second": 2}[ordinal]
    while 0 <= place < len(tags):
        left -= tags[place] == tag and present[place]
        if left == 0:
            return place
        place += step
    return None


def add_rules(counts, asking, targets, chance, tags, present):
    """Each rule's hits on one trial: 1 where it names a target, chance where it names nothing in a tagged sentence."""
    tagged = any(tag in KNOWN and there for tag, there in zip(tags, present, strict=True))
    for name in RULES:
        answer = answer_of(name, asking, tags, present)
        if answer is not None:
            counts[name] += answer in targets
        elif tagged:
            counts[name] += chance


def count(observation, counts):
    """Add one sentence, from the definitions."""
    (tree,) = observation.sentences
    weights, present, causal = observation.words[0], observation.kept, observation.causal
    words = [word for word in range(len(tree)) if present[word]]
    arcs = [
        (name, word, head)
        for word, (head, relation) in enumerate(zip(tree.heads, tree.relations, strict=True))
        if head >= 0 and present[word] and present[head]
        for name in names_of(relation)
    ]

    def row(query):
        return {word: weights[query, word] for word in words if (word < query if causal else word != query)}

    def ask(key, query, targets, scores, asking=None):
        counts.asked[key] += 1
        targets = [word for word in targets if word in scores]
        if not targets:
            return
        counts.trials[key] += 1
        counts.hits[key] += won(scores, targets)
        chance = Fraction(len(targets), len(scores))
        counts.chance[key] += chance
        add_rules(counts.rules[key], query if asking is None else asking, targets, chance, tree.upos, present)

    dependents = defaultdict(list)
    for name, word, head in arcs:
        dependents[name, head].append(word)
        ask((name, "d2h", "word"), word, [head], row(word))
        ask((name, "h2d_row", "word"), head, [word], row(head))
        column = {query: weights[query, word] for query in words if (query > word if causal else query != word)}
        if head in column:
            ask((name, "h2d_col", "word"), head, [head], column, asking=word)
        else:
            counts.asked[name, "h2d_col", "word"] += 1
        if causal:
            before = max((other for other in words if other < word), default=-1)
            ask((name, "d2h", "pred"), before, [head], row(before) if before >= 0 else {})
    for (name, head), own in dependents.items():
        ask((name, "h2d", "word"), head, own, row(head))
        if causal:
            before = max((other for other in words if other < head), default=-1)
            ask((name, "h2d", "pred"), before, own, row(before) if before >= 0 else {})


def assert_same(tally, counts):
    found = {(key.relation, key.direction, key.at): cell for key, cell in tally.cells.items() if key.direction}
    assert {key for key in found if found[key].asked[0]} == set(counts.asked)
    for key, n_asked in counts.asked.items():
        cell = found[key]
        assert (cell.asked[0], cell.trials[0]) == (n_asked, counts.trials[key]), key
        assert cell.hits[0, 0] == pytest.approx(counts.hits[key] * UNIT, abs=n_asked), key
        assert cell.chance[0] == pytest.approx(counts.chance[key] * UNIT, abs=n_asked), key
        expected = [float(counts.rules[key][name] * UNIT) for name in RULES]
        assert cell.rules[0].tolist() == pytest.approx(expected, abs=n_asked), key


def random_reading(rng, causal):
    """A sentence of random relations and tags; some words share tokens with none, and weights are often equal."""
    n = int(rng.integers(2, 13))
    order = rng.permutation(n)
    heads = np.zeros(n, dtype=int)
    for place in range(1, n):
        heads[order[place]] = order[rng.integers(place)] + 1
    relations = rng.choice(["nsubj", "obl:tmod", "obl", "aux:pass", "punct", "det"], n).astype(object)
    relations[order[0]] = "root"
    tree = sentence("x " * n, heads.tolist(), " ".join(relations), upos=" ".join(rng.choice(TAGS, n)))
    present = np.flatnonzero(rng.random(n) < 0.9)
    if len(present) < 2:
        present = np.arange(n)
    word_of_token = [None, *np.repeat(present, rng.integers(1, 3, len(present))).tolist(), None]
    m = len(word_of_token)
    attention = rng.integers(1, 4, (2, m, m)).astype(float)
    if causal:
        attention *= np.tri(m)
    attention /= 64  # equal sums stay equal
    return seen(tree, attention, word_of_token=word_of_token, specials=(0, m - 1), causal=causal,
                aggregation="last" if causal else "mean", key=str(rng.integers(1 << 30)))  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_all_directions_and_rules_are_counted_as_their_definitions_say(seed, causal):
    rng = np.random.default_rng(seed)
    observations = [random_reading(rng, causal) for _ in range(3)]
    counts = Counts()

    for observation in observations:
        count(observation, counts)

    assert_same(tally_of(*observations), counts)


@given(st.integers(0, 2**32 - 1))
def test_a_masked_text_asks_the_questions_of_its_mask(seed):
    """The same rows and targets as the word-level questions of that word, at the prediction position."""
    rng = np.random.default_rng(seed)
    observation = random_reading(rng, causal=False)
    masked = int(rng.choice(np.flatnonzero(observation.kept)))
    (tree,) = observation.sentences
    scores = {word: observation.words[0, masked, word] for word in np.flatnonzero(observation.kept) if word != masked}
    expected = defaultdict(list)
    for word, (head, relation) in enumerate(zip(tree.heads, tree.relations, strict=True)):
        if head >= 0 and observation.kept[word] and observation.kept[head]:
            for name in names_of(relation):
                if word == masked:
                    expected[name, "d2h"].append(head)
                if head == masked:
                    expected[name, "h2d"].append(word)

    tally = tally_of(replace(observation, kind="masked", masked=masked))

    found = {(key.relation, key.direction): cell for key, cell in tally.cells.items() if key.at == "pred"}
    assert len(found) == len(tally.cells)
    assert set(found) == set(expected)
    for key, targets in expected.items():
        assert found[key].trials[0] == 1
        assert found[key].hits[0, 0] == pytest.approx(won(scores, targets) * UNIT, abs=1)


def test_transposing_attention_swaps_the_dependents_row_and_its_column():
    rng = np.random.default_rng(5)
    for _ in range(20):
        observation = random_reading(rng, causal=False)
        n = len(observation.kept)
        if not observation.kept.all():
            continue
        attention = rng.random((3, n, n))
        straight, turned = (
            tally_of(seen(observation.sentences, each)) for each in (attention, attention.transpose(0, 2, 1))
        )
        for key, cell in straight.cells.items():
            if key.direction == "d2h":
                other = turned.cells[Key(key.relation, "h2d_col")]
                np.testing.assert_array_equal(cell.hits, other.hits)
                np.testing.assert_array_equal(cell.rules, other.rules)


def test_a_column_of_constant_attention_to_a_separator_changes_masses_only():
    rng = np.random.default_rng(6)
    observation = random_reading(rng, causal=False)
    n = len(observation.kept)
    attention = rng.dirichlet(np.ones(n), (2, n))
    with_separator = np.concatenate([attention / 2, np.full((2, n, 1), 0.5)], axis=2)
    with_separator = np.concatenate([with_separator, np.full((2, 1, n + 1), 1 / (n + 1))], axis=1)

    plain = tally_of(seen(observation.sentences, attention))
    separated = tally_of(seen(observation.sentences, with_separator, specials=(n,)))

    aligned = [tally.cells.pop(ALIGNMENT) for tally in (plain, separated)]  # its hits are a mass: their ratio stays
    np.testing.assert_allclose(*(cell.hits / cell.mass for cell in aligned), rtol=1e-6)
    for key, cell in plain.cells.items():
        for name in ("hits", "rules", "control_hits", "paired_hits", "shuffled_hits", "chance"):
            np.testing.assert_array_equal(getattr(cell, name), getattr(separated.cells[key], name))
        np.testing.assert_allclose(cell.mass, 2 * separated.cells[key].mass, rtol=1e-5, atol=4)


def test_words_cut_into_equal_pieces_score_the_same():
    """Every word becomes two pieces that share its weight and look alike."""
    rng = np.random.default_rng(7)
    observation = random_reading(rng, causal=False)
    n = len(observation.kept)
    attention = rng.integers(1, 64, (2, n, n)) / 1024
    pieces = np.repeat(np.repeat(attention / 2, 2, axis=1), 2, axis=2)

    whole = tally_of(seen(observation.sentences, attention))
    cut = tally_of(seen(observation.sentences, pieces, word_of_token=np.repeat(np.arange(n), 2).tolist()))

    for key, cell in whole.cells.items():
        np.testing.assert_array_equal(cell.hits, cut.cells[key].hits)
        np.testing.assert_array_equal(cell.mass, cut.cells[key].mass)


def test_reversing_a_sentence_flips_the_signs_of_offsets_and_sides():
    rng = np.random.default_rng(8)
    swapped = {"left": "right", "right": "left"}
    for _ in range(20):
        (tree,) = random_reading(rng, causal=False).sentences
        n = len(tree)
        back = replace(
            tree,
            heads=tuple(n - 1 - head if head >= 0 else -1 for head in reversed(tree.heads)),
            relations=tree.relations[::-1],
            upos=tree.upos[::-1],
        )

        straight, reversed_ = tally_of(seen(tree, uniform(n))), tally_of(seen(back, uniform(n)))

        for key, cell in straight.cells.items():
            mirrored = dict(zip(RULES, reversed_.cells[key].rules[0], strict=True))
            for name, hits in zip(RULES, cell.rules[0], strict=True):
                if name.startswith("offset"):
                    other = f"offset {-int(name.split()[1]):+d}"
                else:
                    other = " ".join(swapped.get(part, part) for part in name.split())
                assert hits == mirrored[other], (key, name)


@pytest.fixture(scope="module")
def real_trees(shared_data):
    """(key, tree) of sentences of 8 to 25 words."""
    documents = open_corpus(shared_data("en_ewt-ud-dev.conllu")).documents()
    every = [(document.key(index), tree) for document in documents for index, tree in enumerate(document.sentences)]
    return [(key, tree) for key, tree in every if 8 <= len(tree) <= 25][:400]


def knows_the_tree(tree, key, shown=None):
    """A head that looks at the head of every word, asked about this tree or the one that is shown instead."""
    targets = [head if head >= 0 else word for word, head in enumerate(tree.heads)]
    cells = tally_of(seen(shown or tree, pointing(targets, 0.4), key=key)).cells
    return [cell for name, cell in cells.items() if name.direction == "d2h"]


def test_gold_heads_that_are_exchanged_for_other_words_have_no_selectivity(real_trees):
    """A head that knows the true tree is no better at false arcs than at other words with the same offsets."""
    rng = np.random.default_rng(9)
    paired = control = trials = 0
    for key, tree in real_trees:
        exchanged = rng.permutation(len(tree))
        heads = [-1 if head < 0 or exchanged[head] == word else int(exchanged[head])
                 for word, head in enumerate(tree.heads)]  # fmt: skip
        for cell in knows_the_tree(tree, key, replace(tree, heads=tuple(heads))):
            paired += int(cell.paired_hits[0, 0])
            control += int(cell.control_hits[0, 0])
            trials += int(cell.control_trials[0])

    assert trials > 3000
    assert abs(paired - control) / UNIT / trials < 0.02


def test_shuffled_gold_is_hit_as_often_as_another_arc_has_the_same_head(real_trees):
    """Of the n arcs of a sentence, c have the same head as this one: c/n of the exchanges leave its answer right."""
    hits, expected, trials = 0.0, 0.0, 0
    for key, tree in real_trees:
        arcs = [(head, len(names_of(relation))) for head, relation in zip(tree.heads, tree.relations, strict=True)
                if head >= 0 and names_of(relation)]  # fmt: skip
        heads = [head for head, _ in arcs]
        expected += sum(n_labels * heads.count(head) / len(heads) for head, n_labels in arcs)
        for cell in knows_the_tree(tree, key):
            hits += cell.shuffled_hits[0, 0] / UNIT
            trials += int(cell.trials[0])

    assert hits / trials == pytest.approx(expected / trials, abs=0.02)


# Share of arcs that the nearest word of a part of speech answers, as published for the test part of EWT, which is not
# to be had here; the dev part lies within what sampling allows.
PUBLISHED = {
    "nsubj": 67.9, "obj": 94.4, "det": 76.3, "case": 52.5, "amod": 76.8, "nmod": 67.2, "nmod:poss": 85.0, "aux": 89.1,
    "aux:pass": 95.9, "cop": 49.3, "mark": 84.7, "compound": 64.8, "xcomp": 92.8, "ccomp": 77.6, "advcl": 51.5,
    "acl:relcl": 63.2, "obl": 72.8, "compound:prt": 98.9, "nsubj:pass": 89.8, "conj": 20.9, "cc": 36.5, "advmod": 41.6,
}  # fmt: skip


def test_nearest_words_on_a_treebank_are_near_the_published_ones(shared_data):
    """Published figures count a rule that finds no word as wrong, so its answers alone are counted here."""
    trials, answers = defaultdict(int), defaultdict(lambda: np.zeros(len(RULES)))
    for document in open_corpus(shared_data("en_ewt-ud-dev.conllu")).documents():
        for index, tree in enumerate(document.sentences):
            parts = PROBE.ask(seen(tree, uniform(len(tree)), key=document.key(index)))
            for part in (each for each in parts if isinstance(each, RowTrials)):
                for number, key in enumerate(part.keys):
                    trials[key] += int((part.question == number).sum())
                    answers[key] += part.points[part.question[part.targets.of] == number].sum(axis=0)

    for relation, published in PUBLISHED.items():
        key = Key(relation, "d2h")
        assert 100 * answers[key][20:].max() / trials[key] == pytest.approx(published, abs=6), relation


def test_minilm_on_real_sentences_is_counted_as_the_definitions_say(shared_data):
    import attnlens
    from probes.seeing import Eyes

    corpus = open_corpus(shared_data("en_ewt-ud-dev.conllu"), limit=25)
    eyes = Eyes(attnlens.load("attnlens/minilm"), 8)
    texts = list(texts_of(corpus.documents(), split_corpus(corpus), "sentence", eyes.fits, lambda _: None))
    for head in (0, 29, 32):
        counts = Counts()
        one = []
        for _, found in eyes.look(texts):
            part = replace(
                found, attention=found.attention[head, None], words=found.words[head, None],
                visible=found.visible[head, None], cluster=0
            )  # fmt: skip
            count(part, counts)
            one.append(part)
        assert_same(tally_of(*one), counts)
