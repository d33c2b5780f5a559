"""Ensembles, the parser over all heads, and the sample that they are given."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from probe_arrays import documents_of, pointing, seen, sentence, uniform

from probes.close_reading import CloseReading, Matrices, ReadingClosely, close_sample, look
from probes.corpora.data import Corpus
from probes.split import split_corpus
from probes.statistics import Resampling
from probes.syntax import SyntaxProbe, parser
from probes.syntax.closely import keep
from probes.syntax.ensembles import LARGEST, Rows, ensembles, grow
from probes.tally import Key
from probes.texts import texts_of

RNG = np.random.default_rng(0)
CONFIRM = np.arange(20) >= 10
OBJ = Key("obj", "d2h")


def random_tree(n, rng):
    heads = [0, *(int(rng.integers(1, word + 1)) for word in range(1, n))]
    return sentence("x " * n, heads, "root " + "obj " * (n - 1))


def read(tree, attention, cluster, **how):
    return keep(matrices(seen(tree, attention, cluster=cluster, confirm=bool(CONFIRM[cluster]), **how)))


def matrices(observation):
    return Matrices.of(observation, observation.words, observation.attention)


def pointing_at_heads(tree, right, weight=0.5):
    """A head that looks at the gold head of the words in `right`, and from the others and the root at all alike."""
    n = len(tree)
    knows = [word in right and head >= 0 for word, head in enumerate(tree.heads)]
    return np.where(np.array(knows)[:, None], pointing(tree.heads, weight), 1 / n)


def corpus_of_texts(n_texts=60, n=8):
    """Head 0 knows the heads of even words, head 1 those of odd words, head 2 nothing; both halves alike."""
    rng = np.random.default_rng(1)
    texts = []
    for index in range(n_texts):
        tree = random_tree(n, rng)
        even, odd = (pointing_at_heads(tree, set(range(start, n, 2))) for start in (0, 1))
        texts.append(read(tree, np.concatenate([even, odd, uniform(n)]), index % 20))
    return texts


TEXTS = corpus_of_texts()


def by_hand(texts, heads):
    """Share of obj dependents whose gold head is the strongest other word in the mean of some heads."""
    hits, n = 0.0, 0
    for text in texts:
        for query, target in zip(text.trials.targets.query, text.trials.targets.key, strict=True):
            trial = text.trials.targets.of[(text.trials.targets.query == query) & (text.trials.targets.key == target)]
            if OBJ not in {text.trials.keys[text.trials.question[each]] for each in trial}:
                continue
            row = [sum(float(text.words[head, query, word]) for head in heads) for word in range(8)]
            row[query] = -1.0
            best = [word for word in range(8) if row[word] == max(row)]
            hits += (int(target) in best) / len(best)
            n += 1
    return hits / n


def test_two_heads_that_know_half_each_become_an_ensemble():
    resampling = Resampling.draw(10, bootstrap=200, permutations=1)
    alone = {OBJ: np.array([0.5, 0.4, 0.1])}

    (found,) = ensembles(TEXTS, alone, CONFIRM, resampling)

    assert found.key == OBJ
    assert set(found.heads) == {0, 1}
    confirming = [text for text in TEXTS if text.confirm]
    assert found.score == pytest.approx(by_hand(confirming, found.heads))
    assert found.single == pytest.approx(by_hand(confirming, found.heads[:1]))
    assert found.gain == pytest.approx(found.score - found.single)
    assert found.score == 1.0 == found.ci[0]
    assert found.gain_ci[0] > 0
    assert found.n_confirm == 7 * len(confirming)


def test_selection_looks_at_select_only():
    spoilt = [replace(text, words=text.words[::-1]) if text.confirm else text for text in TEXTS]
    alone, resampling = {OBJ: np.array([0.5, 0.4, 0.1])}, Resampling.draw(10, bootstrap=50, permutations=1)

    (found,), (other,) = (ensembles(texts, alone, CONFIRM, resampling) for texts in (TEXTS, spoilt))

    assert (found.heads, found.steps) == (other.heads, other.steps)
    assert found.score != other.score


def test_heads_are_added_while_each_adds_half_a_point():
    select = Rows.of([text for text in TEXTS if not text.confirm], OBJ)

    heads, steps = grow(select, [0, 1, 2])

    assert 2 <= len(heads) <= LARGEST
    assert all(after - before >= 0.005 for before, after in itertools.pairwise(steps))
    alone = [by_hand([text for text in TEXTS if not text.confirm], [head]) for head in range(3)]
    assert steps[0] == pytest.approx(max(alone))
    assert grow(select, [2])[0] == [2]


def test_questions_with_few_trials_have_no_ensemble():
    few = [text for text in TEXTS if text.cluster in (0, 10)]

    assert not ensembles(few, {OBJ: np.zeros(3)}, CONFIRM, Resampling.draw(10, bootstrap=10, permutations=1))


def parser_by_hand(arcs, weights, penalty):
    """The loss with plain loops: mean negative log-likelihood and the penalty."""
    total = 0.0
    ends = [*arcs.starts[1:].tolist(), len(arcs.features)]
    for start, end, gold in zip(arcs.starts, ends, arcs.gold, strict=True):
        scores = [float(row @ weights) for row in arcs.features[start:end].astype(float)]
        total -= scores[gold - start] - np.log(sum(np.exp(scores)))
    return total / len(arcs.starts) + penalty / 2 * float(weights @ weights)


def test_the_parser_minimises_its_loss():
    arcs = parser.attention_arcs(TEXTS[:20])

    fitted = parser.fit(arcs)

    assert fitted.converged
    assert fitted.loss == pytest.approx(parser_by_hand(arcs, fitted.weights, parser.PENALTY), abs=1e-5)
    for direction in RNG.standard_normal((10, len(fitted.weights))):
        nearby = parser_by_hand(arcs, fitted.weights + 0.05 * direction, parser.PENALTY)
        assert nearby > fitted.loss - 1e-7


def test_features_are_attention_in_both_directions_and_the_root_competes_by_special_tokens():
    """CLS a b SEP, where `b` is the root and `a` hangs on it."""
    attention = np.random.default_rng(2).dirichlet(np.ones(4), (2, 4)).astype(np.float32)
    text = read(sentence("a b", [2, 0], "obj root"), attention, 0, specials=(0, 3))

    arcs = parser.attention_arcs([text])

    a, b = 1, 2
    assert arcs.starts.tolist() == [0, 2]
    assert arcs.gold.tolist() == [0, 3]
    np.testing.assert_allclose(arcs.features[0], [*attention[:, b, a], *attention[:, a, b], 0, 0, 0, 0, 0])
    of_special = attention[:, [0, 3], b].mean(axis=1)
    on_special = attention[:, b, [0, 3]].sum(axis=1)
    np.testing.assert_allclose(arcs.features[3], [0, 0, 0, 0, *of_special, *on_special, 1], rtol=1e-6)


def test_the_parser_finds_a_head_that_knows_the_tree_and_distance_does_not():
    rng = np.random.default_rng(3)
    texts = []
    for index in range(60):
        tree = random_tree(8, rng)
        oracle = pointing_at_heads(tree, set(range(8)))
        noise = rng.dirichlet(np.ones(8), (3, 8))
        texts.append(read(tree, np.concatenate([noise, oracle]), index % 20))
    select, confirm = ([text for text in texts if text.confirm is half] for half in (False, True))

    fitted = parser.fit(parser.attention_arcs(select))
    found = fitted.found(parser.attention_arcs(confirm)).mean()
    by_distance = parser.fit(parser.distance_arcs(select)).found(parser.distance_arcs(confirm)).mean()

    assert found > 0.95
    assert by_distance < 0.6
    assert int(fitted.weights[:8].argmax()) == 4 + 3  # the last head, from a word to its head


def test_ties_of_the_parser_are_split():
    arcs = parser.distance_arcs([read(random_tree(5, RNG), uniform(5), 0)])

    assert parser.Fitted(np.zeros(22), 0.0, True).found(arcs).tolist() == [pytest.approx(1 / 5)] * 5


def test_everything_together_is_json_by_name_and_says_what_it_is_held_against():
    observations = []
    for index in range(40):
        tree = random_tree(8, RNG)
        attention = np.concatenate([pointing_at_heads(tree, set(range(8))), uniform(8)])
        cluster = index % 20
        observations.append(matrices(seen(tree, attention, cluster=cluster, confirm=bool(CONFIRM[cluster]))))
    probe = SyntaxProbe()
    reading = CloseReading(
        heads=("L0H0", "L0H1"),
        confirm=CONFIRM,
        alone={OBJ: np.array([1.0, 0.1])},
        look=lambda: observations,
        look_random=lambda: observations,
        seed=0,
        bootstrap=50,
    )

    found = probe.read_closely(reading)

    assert isinstance(probe, ReadingClosely)
    assert set(found) == {"trees", "ensembles", "parser"}
    assert found["trees"]["uas"]["best_head"] == "L0H0"
    assert found["trees"]["uas"]["score"] == 1.0
    assert len(found["trees"]["uuas"]["baselines"]) == 3
    assert [each["heads"] for each in found["ensembles"]] == [["L0H0"]]
    assert found["parser"]["weights"][0]["head"] == "L0H0"
    assert len(found["parser"]["baselines"]) == 2
    assert probe.read_closely(replace(reading, look=lambda: observations[:1])) == {}


class AllFit:
    def fits(self, sentences):
        return True


def test_the_sample_is_the_same_however_long_documents_come():
    trees = [replace(random_tree(5, RNG), id=str(index)) for index in range(700)]
    corpus = Corpus.of("x", documents_of([*trees, sentence("no tree here")], per_document=7))
    split = split_corpus(corpus)

    texts = close_sample(corpus, split, AllFit(), seed=0)

    assert len(texts) == 512
    assert sum(text.confirm for text in texts) == 256
    assert all(text.sentences[0].heads for text in texts)
    assert {text.key for text in texts} != {text.key for text in close_sample(corpus, split, AllFit(), seed=1)}


@pytest.mark.parametrize("model", ["attnlens/tiny-bert", "attnlens/tiny-gpt2"])
def test_matrices_are_those_of_a_text_that_is_looked_at_by_itself(model):
    import attnlens
    from probes.corpora.sources import open_corpus
    from probes.seeing import Eyes

    corpus = open_corpus(None, limit=6)
    eyes = Eyes(attnlens.load(model), 4)
    texts = list(texts_of(corpus.documents(), split_corpus(corpus), "sentence", eyes.fits, lambda _: None))

    found = look(eyes, texts)

    for each, (text, alone) in zip(found, eyes.look(texts), strict=True):
        assert each.reading.key == text.key
        np.testing.assert_allclose(each.words, alone.words, atol=1e-6)
        for word in range(len(alone.kept)):
            pieces = np.flatnonzero(alone.word_of_token == word)
            rows = pieces[-1:] if alone.causal else pieces
            to_special = alone.attention[:, rows][:, :, alone.special].sum(axis=2).mean(axis=1)
            from_special = alone.attention[:, alone.special][:, :, pieces].mean(axis=1).sum(axis=1)
            np.testing.assert_allclose(each.to_special[:, word], to_special, atol=1e-6)
            np.testing.assert_allclose(each.from_special[:, word], from_special, atol=1e-6)
