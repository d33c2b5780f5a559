"""Both families from a model and a corpus to rows of a result: what comes out, the same twice, and in `heads.json`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from probe_arrays import documents_of, sentence
from random_models import BUILDERS, WORDS

from attnlens.errors import ProbeDataError
from attnlens.models.lens import load
from probes.corpora.data import Corpus
from probes.split import split_corpus
from probes.stream.family import StreamProbe
from probes.stream.linear import LinearProbe
from probes.stream.settings import StreamSettings
from probes.stream.structural import StructuralProbe

SETTINGS = StreamSettings(bootstrap=100)
PLAIN = [word for word in WORDS if not word.startswith("##")]
TAGS = dict(zip(PLAIN, "DET NOUN ADP NOUN AUX ADP NOUN PRON VERB PRON PRON NOUN NOUN VERB".split(), strict=True))


def made_up(n=90, length=8):
    """Sentences of words in random order, so that nothing tells a place but the place; a chain of arcs to the left."""
    rng = np.random.default_rng(0)
    sentences = []
    for number in range(n):
        words = [PLAIN[i] for i in rng.integers(len(PLAIN), size=length)]
        heads = [0, *range(1, length)]
        relations = ["root", *(f"to_{word}" for word in words[1:])]
        tags = " ".join(TAGS[word] for word in words)
        sentences.append(sentence(" ".join(words), heads, " ".join(relations), upos=tags, name=f"s{number}"))
    return Corpus.of("made up", documents_of(sentences, 3))


def run(probe, lens, corpus, **options):
    return probe.run(lens, corpus, split=split_corpus(corpus), settings=replace(SETTINGS, **options))


def opened(family):
    model, tokenizer = BUILDERS[family]()
    return load(model=model, tokenizer=tokenizer)


def by_depth(results, task, metric):
    return [score for score in results.scores if (score.task, score.metric) == (task, metric)]


@pytest.fixture(scope="module")
def linear():
    """Family -> results of the linear probes on random words."""
    return {family: run(LinearProbe(), opened(family), made_up()) for family in ("bert", "llama")}


def test_every_task_and_measure_has_a_row_per_depth_and_one_that_is_chosen(linear):
    results = linear["bert"]

    measures = {(score.task, score.metric) for score in results.scores}
    assert measures == {
        *((task, metric) for task in ("upos", "relation") for metric in ("accuracy", "compression", "bits per word")),
        ("position", "R2"),
        ("position", "accuracy"),
    }
    for task, metric in measures:
        rows = by_depth(results, task, metric)
        assert [row.depth for row in rows] == [0, 1, 2, 3]
        assert sum(row.chosen for row in rows) == 1
        assert all(row.ci[0] <= row.ci[1] for row in rows)


def test_rotated_positions_are_not_in_the_embeddings_and_learnt_ones_are(linear):
    rotated, learnt = (by_depth(linear[family], "position", "R2")[0] for family in ("llama", "bert"))

    assert abs(rotated.score) < 0.15
    assert abs(rotated.controls["shuffled words"]) < 0.15
    assert learnt.score > 0.9


def test_what_the_word_type_settles_is_read_off_the_embeddings(linear):
    row = by_depth(linear["bert"], "upos", "accuracy")[0]

    assert row.controls["word type"] == 1.0
    assert row.score > 0.95
    assert row.selectivity == pytest.approx(row.score - row.controls["random labels"])


def test_bits_and_compression_tell_the_same(linear):
    results = linear["bert"]
    for task in ("upos", "relation"):
        for bits, times in zip(
            by_depth(results, task, "bits per word"), by_depth(results, task, "compression"), strict=True
        ):
            uniform = bits.controls["uniform code"]

            assert uniform == pytest.approx(np.log2(len(results.about["classes"][task])))
            assert times.score == pytest.approx(uniform / bits.score)
            assert times.controls["random weights"] == pytest.approx(uniform / bits.controls["random weights"])


@pytest.mark.parametrize("probe", [LinearProbe, StructuralProbe])
def test_the_same_input_gives_the_same_bytes_and_another_seed_does_not(probe):
    lens, corpus = opened("gpt2"), made_up(45)

    one, again, other = (json.dumps(run(probe(seed=seed), lens, corpus).to_json()) for seed in (0, 0, 1))

    assert one == again
    assert one != other


def test_a_chain_of_arcs_is_the_chain_of_neighbours():
    results = run(StructuralProbe(), opened("gpt2"), made_up(45))

    for metric in ("UUAS", "DSpr"):
        assert all(
            row.controls["adjacent words"] == pytest.approx(1.0) for row in by_depth(results, "tree distance", metric)
        )
    for metric in ("root", "NSpr"):
        assert all(
            row.controls["adjacent words"] == pytest.approx(1.0) for row in by_depth(results, "tree depth", metric)
        )


def test_controls_are_of_the_same_measure():
    results = run(StructuralProbe(), opened("gpt2"), made_up(45))

    for task, metric in (("tree distance", "UUAS"), ("tree depth", "NSpr")):
        rows = by_depth(results, task, metric)
        assert {row.controls["embeddings"] for row in rows} == {rows[0].score}
        assert all(0 <= abs(row.controls["random weights"]) <= 1 for row in rows)


def test_the_rank_and_the_pieces_make_a_difference():
    lens, corpus = opened("gpt2"), made_up(45)

    plain, low, last = (
        run(StructuralProbe(), lens, corpus, **options) for options in ({}, {"rank": 1}, {"pieces": "last"})
    )

    assert (plain.about["rank"], low.about["rank"]) == (21, 1)
    assert plain.scores != low.scores
    assert plain.scores != last.scores
    assert last.about["pieces"] == "last"


def test_progress_ends_at_its_total_and_never_falls():
    for probe in (LinearProbe(), StructuralProbe()):
        told = []
        corpus = made_up(30)

        probe.run(
            opened("gpt2"), corpus, split=split_corpus(corpus), settings=SETTINGS,
            progress=lambda done, total, told=told: told.append((done, total)),
        )  # fmt: skip

        assert told[-1][0] == told[-1][1]
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_without_trees_only_the_structural_probe_refuses():
    plain = Corpus.of(
        "plain.txt", documents_of([sentence("the keys are on the table", name=f"s{i}") for i in range(30)])
    )

    assert "plain.txt has no trees" in StructuralProbe().refusal(plain)
    assert LinearProbe().refusal(plain) is None
    assert {score.task for score in run(LinearProbe(), opened("gpt2"), plain).scores} == {"position"}


def test_sentences_of_one_word_have_no_tree_to_find():
    lonely = Corpus.of("lonely", documents_of([sentence("bark", [0], "root", name=f"s{i}") for i in range(30)]))

    with pytest.raises(ProbeDataError, match="two words or more"):
        run(StructuralProbe(), opened("gpt2"), lonely)


@pytest.mark.parametrize("probe", [LinearProbe(), StructuralProbe()])
def test_both_keep_the_contract(probe):
    assert isinstance(probe, StreamProbe)
    assert probe.reads == "stream"
