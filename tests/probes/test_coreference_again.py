"""Coreference counted a second time from its definitions: on random attention, and on texts that MiniLM has read."""

from __future__ import annotations

import numpy as np
import pytest
from probe_arrays import seen, sentence

import attnlens
from probes.coreference import CoreferenceProbe
from probes.corpora.data import Mention
from probes.corpora.sources import open_corpus
from probes.family import rule_names
from probes.plain import observe
from probes.seeing import Eyes
from probes.split import MOST_CLUSTERS, split_corpus
from probes.tally import UNIT, Key, Tally
from probes.texts import texts_of

PROBE = CoreferenceProbe()


def plain_counts(observation):
    """{(question, what): [hits per head]} with n, of closed and open questions, from loops over mentions."""
    placed, first = [], 0
    forms, upos = [], []
    for text in observation.sentences:
        for mention in text.mentions:
            placed.append((mention, first))
        forms += [form.lower() for form in text.forms]
        upos += list(text.upos)
        first += len(text)
    counts = {}

    def count(name, query, candidates, targets):
        candidates = [
            k
            for k in sorted(set(candidates))
            if k != query and observation.kept[k] and (not observation.causal or k < query)
        ]
        targets = set(targets) & set(candidates)
        if not targets:
            return
        hits = []
        for weights in observation.words[:, query]:
            best = max(weights[k] for k in candidates)
            tied = [k for k in candidates if weights[k] == best]
            hits.append(len(set(tied) & targets) / len(tied))
        n, before = counts.get(name, (0, 0))
        counts[name] = (n + 1, before + np.array(hits))

    for i, (mention, start) in enumerate(placed):
        if mention.link not in ("ana", "coref") or mention.split:
            continue
        span = set(range(start + mention.start, start + mention.end))
        head = start + mention.head
        earlier = []
        for other, at in placed[:i]:
            words = set(range(at + other.start, at + other.end))
            if not (words <= span or span <= words) and at + other.head != head:
                earlier.append((other, at + other.head))
        coreferent = [word for other, word in earlier if other.entity == mention.entity]
        if not coreferent or not observation.kept[head]:
            continue
        names = ["antecedent"]
        kind = "pronoun" if upos[head] in ("PRON", "DET") else "proper" if upos[head] == "PROPN" else "nominal"
        names.append(f"antecedent ({kind})")
        different = all(forms[word] != forms[head] for word in coreferent)
        if different:
            names += ["antecedent (other form)", f"antecedent (other form, {kind})"]
        for name in names:
            count(name, head, [word for _, word in earlier], coreferent)
        before = range(start + mention.start)
        for name in ["antecedent, open", *(["antecedent, open (other form)"] if different else [])]:
            count(name, head, before, coreferent)
    return counts


def compare(observations):
    """The same trials and hits for every question that both count."""
    tally = Tally(MOST_CLUSTERS, len(observations[0].attention), rule_names(PROBE))
    expected = {}
    for observation in observations:
        observe(PROBE, tally, observation)
        for name, (n, hits) in plain_counts(observation).items():
            before = expected.get(name, (0, 0))
            expected[name] = (before[0] + n, before[1] + hits)
    found = {key.relation: cell for key, cell in tally.cells.items() if key.at == "word" and cell.trials.sum()}
    assert {name for name in found if "third person" not in name} == expected.keys()
    for name, (n, hits) in expected.items():
        assert found[name].trials.sum() == n
        assert found[name].hits.sum(axis=0) / UNIT == pytest.approx(hits, abs=1e-6)
    return expected


def random_window(rng):
    """Two sentences of 10 words with six mentions of three entities each, spans of one to three words."""
    window = []
    for _ in range(2):
        mentions = []
        for _ in range(6):
            start = int(rng.integers(0, 8))
            end = start + int(rng.integers(1, 4))
            end = min(end, 10)
            link = str(rng.choice(["ana", "coref", "appos"]))
            entity = str(rng.integers(3))
            head = int(rng.integers(start, end))
            mentions.append(Mention(entity, 0, start, end, head, link=link, split=bool(rng.random() < 0.1)))
        mentions.sort(key=lambda each: (each.start, -each.end))
        forms = " ".join(str(rng.choice(["he", "Ann", "she", "king", "the", "It"])) for _ in range(10))
        tags = " ".join(str(rng.choice(["PRON", "PROPN", "NOUN", "DET", "VERB"])) for _ in range(10))
        window.append(sentence(forms, mentions=mentions, upos=tags))
    return window


@pytest.mark.parametrize("causal", [False, True])
def test_random_attention_gives_the_counts_of_a_plain_implementation(causal):
    rng = np.random.default_rng(7)
    observations = []
    for number in range(20):
        pieces = np.repeat(np.arange(20), rng.integers(0, 3, 20)).tolist()
        raw = rng.integers(1, 4, (3, len(pieces), len(pieces))) * (np.tri(len(pieces)) if causal else 1.0)
        observations.append(
            seen(
                random_window(rng),
                raw / 64,
                word_of_token=pieces,
                causal=causal,
                aggregation="last" if causal else "mean",
                key=f"d#{number}",
            )
        )

    expected = compare(observations)

    assert expected["antecedent"][0] > 30
    assert expected["antecedent (other form)"][0] > 10


def observations_of(lens, path, n):
    corpus = open_corpus(path, limit=n)
    eyes = Eyes(lens, 8)
    texts = list(texts_of(corpus.documents(), split_corpus(corpus), "window", eyes.fits, lambda _: None))
    return [seen_text for _, seen_text in eyes.look(texts)]


def test_minilm_on_gum_gives_the_counts_of_a_plain_implementation(minilm, shared_data):
    expected = compare(observations_of(attnlens.load(minilm), shared_data("en_gum-ud-dev.conllu"), 40))

    assert expected["antecedent"][0] > 50


def test_permuted_heads_have_permuted_counts():
    rng = np.random.default_rng(8)
    window = random_window(rng)
    attention = rng.random((4, 20, 20))
    order = [3, 1, 0, 2]

    tallies = []
    for heads in (attention, attention[order]):
        tally = Tally(1, 4, rule_names(PROBE))
        observe(PROBE, tally, seen(window, heads))
        tallies.append(tally)

    straight, permuted = tallies
    assert Key("antecedent") in straight.cells
    for key, cell in straight.cells.items():
        assert (permuted.cells[key].hits == cell.hits[:, order]).all()


def test_entities_shuffled_among_mentions_leave_a_head_that_follows_them_with_chance():
    """A head that looks at each mention's antecedent, on annotation whose entities were drawn anew."""
    rng = np.random.default_rng(9)
    hits = trials = chance = 0
    for _ in range(150):
        window = random_window(rng)
        attention = np.full((1, 20, 20), 0.001)
        for own, other in rng.integers(0, 20, (40, 2)):
            attention[0, own, other] = 0.9  # antecedents under some other annotation
        tally = Tally(1, 1, rule_names(PROBE))
        observe(PROBE, tally, seen(window, attention))
        cell = tally.cells.get(Key("antecedent"))
        if cell is not None:
            hits, trials, chance = hits + cell.hits.sum(), trials + cell.trials.sum(), chance + cell.chance.sum()

    assert trials > 500
    assert hits / UNIT / trials == pytest.approx(chance / UNIT / trials, abs=0.05)
