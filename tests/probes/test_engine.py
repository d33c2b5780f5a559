"""One pass over a corpus with a real forward pass: what comes out, and that it can be recounted."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from probe_arrays import write_conllu

from attnlens.errors import CorpusError, OutputError, PluginError, ProbeDataError, TextError, UsageError
from attnlens.models.lens import load
from attnlens.report.results import load_results
from probes.corpora.sources import open_corpus
from probes.engine import run
from probes.family import Wording
from probes.syntax import SyntaxProbe

FEW = {"bootstrap": 50, "permutations": 199, "random_models": 1}
SMALL = """
# newdoc id = d{i}
# text = the keys to </script><img src=x onerror=alert(1)> are on the table
1 the _ DET _ _ 2 det
2 keys _ NOUN _ _ 6 nsubj
3 to _ ADP _ _ 4 case
4 </script><img _ X _ _ 2 nmod
5 src=x _ X _ _ 4 flat
6 onerror=alert(1)> _ X _ _ 0 root
7 are _ AUX _ _ 6 cop
8 on _ ADP _ _ 10 case
9 the _ DET _ _ 10 det
10 table _ NOUN _ _ 6 obl
"""


@pytest.fixture
def lens(random_bert):
    return load(model=random_bert.model, tokenizer=random_bert.tokenizer)


@pytest.fixture(scope="module")
def everything():
    """A run of all families."""
    from random_models import BUILDERS

    model, tokenizer = BUILDERS["bert"]()
    return run(load(model=model, tokenizer=tokenizer), "all", limit=60, **FEW)


@pytest.fixture
def causal_lens(random_llama):
    return load(model=random_llama.model, tokenizer=random_llama.tokenizer)


@pytest.fixture
def small(tmp_path):
    """Twenty documents of one sentence without coreference, with a token that would like to be markup."""
    return write_conllu(tmp_path / "small.conllu", "\n".join(SMALL.format(i=i) for i in range(20)))


def test_the_same_input_gives_the_same_bytes(lens, tmp_path):
    files = []
    for name in ("one", "two"):
        paths = run(lens, "all", limit=40, seed=3, **FEW).save(tmp_path / name)
        files.append([path.read_bytes() for path in paths])

    assert files[0] == files[1]


def test_the_beginning_of_sequence_token_is_recorded_as_it_was(lens, causal_lens):
    """BERT's tokenizer has none; the other has one, which was in front of every text."""
    without, with_it = (run(each, "positional", limit=4).to_json()["scope"]["bos"] for each in (lens, causal_lens))

    assert causal_lens.tokenizer.bos_token_id is not None
    assert (without, with_it) == (None, True)


def test_the_seed_changes_the_controls_and_nothing_that_is_counted(lens):
    """Nor the words that are masked: the seed chooses among them, so that questions asked there are left out here."""
    frames = [run(lens, "syntax", limit=60, seed=seed, **FEW).to_frame() for seed in (0, 1)]
    one, other = (frame[frame["at"] == "word"].reset_index() for frame in frames)

    pd.testing.assert_series_equal(one["hits_confirm"], other["hits_confirm"])
    assert (one["control_hits_confirm"] != other["control_hits_confirm"]).any()


def test_the_batch_size_changes_nothing_that_is_counted(lens):
    one, other = (run(lens, "all", limit=40, batch_size=size, **FEW).to_frame() for size in (1, 16))

    np.testing.assert_allclose(one["hits_confirm"], other["hits_confirm"], atol=1e-4)
    np.testing.assert_allclose(one["target_mass"], other["target_mass"], atol=1e-5)


def test_saved_results_are_read_back_by_the_report(everything, tmp_path):
    report = everything
    report.save(tmp_path)

    results = load_results(tmp_path)

    assert len(results.heads) == 12
    assert len(results.relations) == len(report.relations)
    assert {str(each.head): len(each.labels) for each in results.heads} == {
        head: len(labels) for head, labels in report.labels.items()
    }


def test_every_cell_can_be_recomputed_from_its_counts(everything, tmp_path):
    report = everything
    report.save(tmp_path)

    frame = pd.read_parquet(tmp_path / "cells.parquet")

    scored = frame[frame["n_confirm"] > 0]
    np.testing.assert_allclose(scored["score_confirm"], scored["hits_confirm"] / scored["n_confirm"])
    np.testing.assert_allclose(scored["baseline_score_confirm"], scored["baseline_hits_confirm"] / scored["n_confirm"])
    assert len(frame) == report.to_json()["scope"]["n_cells"]
    assert not frame.duplicated(["family", "relation", "direction", "at", "head"]).any()
    assert json.loads((tmp_path / "heads.json").read_text()) == report.to_json()


def test_counts_agree_with_a_recount_sentence_by_sentence(lens):
    """Another way to the same numbers: one text at a time, word maps from the run itself, plain loops."""
    corpus = open_corpus(limit=25)
    hits, trials = Counter(), Counter()
    for document in corpus.documents():
        for sentence in document.sentences:
            try:
                capture = lens.capture(sentence.text, word_spans=sentence.spans, points=())
            except TextError:
                continue  # longer than the model's context
            maps = capture.attention(words=True).numpy()
            unit_of = {unit.word: row for row, unit in enumerate(capture.units) if unit.word is not None}
            for word, (head, relation) in enumerate(zip(sentence.heads, sentence.relations, strict=True)):
                if relation != "det":
                    continue
                others = [unit_of[other] for other in range(len(sentence)) if other != word]
                trials["det"] += 1
                for layer in range(3):
                    for index in range(4):
                        row = maps[layer, index, unit_of[word]]
                        hits[f"L{layer}H{index}"] += max(others, key=lambda at: row[at]) == unit_of[head]

    frame = run(lens, "syntax", corpus).to_frame()

    asked = (frame["relation"] == "det") & (frame["direction"] == "d2h") & (frame["at"] == "word")
    ours = frame[asked].set_index("head")
    total = ours["hits_select"] + ours["hits_confirm"]
    assert trials["det"] > 10
    assert (ours["n_select"] + ours["n_confirm"] == trials["det"]).all()
    assert {head: round(total[head], 6) for head in total.index} == {head: hits[head] for head in total.index}


def test_sentences_beyond_the_context_are_skipped_and_counted(lens, tmp_path):
    long = "\n".join(f"{i} word _ X _ _ {i - 1} {'dep' if i > 1 else 'root'}" for i in range(1, 61))
    short = "1 the _ DET _ _ 2 det\n2 keys _ NOUN _ _ 0 root"
    path = write_conllu(tmp_path / "long.conllu", f"{long}\n\n{short}\n\n{short}")

    document = run(lens, "all", path).to_json()

    assert document["corpus"]["n_skipped_sentences"] == 1
    assert document["corpus"]["n_sentences"] == 3


def test_a_corpus_that_does_not_fit_at_all_is_refused(lens, tmp_path):
    long = "\n".join(f"{i} word _ X _ _ {i - 1} {'dep' if i > 1 else 'root'}" for i in range(1, 61))
    path = write_conllu(tmp_path / "long.conllu", long)

    with pytest.raises(ProbeDataError, match=r"no sentence of long\.conllu fits .*48 tokens"):
        run(lens, "positional", path)


def test_words_without_a_token_are_counted(lens, tmp_path):
    """`du` spells neither of its words: the second has no characters, so no token."""
    rows = "1-2 du _\n1 de _ ADP _ _ 3 case\n2 le _ DET _ _ 3 det\n3 table _ NOUN _ _ 0 root"
    path = write_conllu(tmp_path / "c.conllu", rows)

    report = run(lens, "syntax", path)

    assert report.to_json()["corpus"]["n_dropped_words"] == 1
    assert set(report.to_frame()["relation"]) == {"case", "any arc"}


def test_all_leaves_out_what_the_corpus_cannot_serve_and_says_why(lens, small):
    scope = run(lens, "all", small).to_json()["scope"]

    assert {"positional", "syntax"} <= set(scope["families"])
    assert "coreference" not in scope["families"]
    assert "no coreference" in scope["left_out"]["coreference"]


def test_a_family_that_the_corpus_cannot_serve_is_refused_with_the_way_out(lens, small, tmp_path):
    plain = write_conllu(tmp_path / "plain.conllu", "1 a\n2 b\n\n1 c")

    with pytest.raises(CorpusError, match=r"small\.conllu has no coreference.*`positional` or .*`syntax`.*, or use"):
        run(lens, "coreference", small)
    with pytest.raises(CorpusError, match=r"plain\.conllu has no dependency arcs.*run .*`positional`.*, or use"):
        run(lens, "syntax", plain)


def test_unknown_families_are_refused_with_those_that_there_are(lens):
    with pytest.raises(PluginError, match=r"coreference, .*positional, .*syntax"):
        run(lens, "sintax")


class EvenWords(SyntaxProbe):
    """A family of somebody else: syntax under another name, with another wording."""

    name = "even"

    def wording(self, key):
        return Wording(f"even {key.relation}", "someone else's words")


@pytest.mark.parametrize(
    ("made", "reason"),
    [(lambda seed: object(), "is no probe: it lacks"), (lambda: None, "cannot be made with seed=0: TypeError")],
)
def test_what_is_no_probe_is_refused(lens, monkeypatch, made, reason):
    monkeypatch.setattr("probes.families.load_plugin", lambda group, name: made)

    with pytest.raises(PluginError, match=reason):
        run(lens, "mine", limit=5)


def test_families_of_others_run_like_the_built_in_ones(minilm, shared_data, monkeypatch):
    monkeypatch.setattr("probes.families.load_plugin", lambda group, name: EvenWords)

    report = run(load(minilm), "mine", shared_data("en_gum-ud-dev.conllu"), limit=100, **FEW)

    labels = [label for labels in report.labels.values() for label in labels]
    assert {label["family"] for label in labels} == {"even"}
    assert {label["label"] for label in labels} >= {"even det"}
    assert all(label["examples"] for label in labels)


def test_a_batch_size_below_one_is_a_usage_error(lens):
    with pytest.raises(UsageError, match="batch size"):
        run(lens, "positional", batch_size=0)


def test_hostile_words_are_text_in_the_document_and_in_the_page(lens, small):
    report = run(lens, ["positional", "syntax"], small)

    page = report.to_html()

    assert "<img src=x" not in page
    assert "</script><img" not in page


def test_a_causal_model_reports_reach_and_speaks_from_the_last_piece(causal_lens):
    document = run(causal_lens, "syntax", limit=60).to_json()

    reach = {(row["relation"], row["direction"]): row["reach"] for row in document["relations"]}
    assert document["scope"]["aggregation"] == {"from": "last", "to": "sum"}
    assert reach["det", "h2d"] == 1.0
    assert reach["det", "d2h"] == 0.0


def test_the_lens_reaches_the_engine(lens, small):
    report = lens.probe("positional", corpus=small)

    assert report.labels["L0H0"] is not None
    assert report.to_json()["scope"]["families"] == ["positional"]


def test_progress_ends_where_the_corpus_does(lens):
    calls = []

    run(lens, "all", limit=30, progress=lambda done, total: calls.append((done, total)), **FEW)

    assert calls == sorted(calls)
    assert calls[-1] == (30, 30)


def test_results_replace_older_ones_and_are_refused_where_nothing_can_be_written(lens, small, tmp_path):
    report = run(lens, "positional", small)
    (tmp_path / "file").write_text("x")

    report.save(tmp_path / "out")
    report.save(tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cells.parquet", "heads.json"]
    with pytest.raises(OutputError, match="file"):
        report.save(tmp_path / "file")


@pytest.fixture(scope="module")
def minilm_on_gum(minilm, shared_data):
    return run(load(minilm), "all", shared_data("en_gum-ud-dev.conllu"), limit=250, **FEW | {"permutations": 1999})


def test_minilm_has_its_previous_token_head_and_one_that_leans_to_the_next(minilm_on_gum):
    names = {head: [label["label"] for label in labels] for head, labels in minilm_on_gum.labels.items()}

    assert "previous-token" in names["L0H2"]
    assert "leans-next" in names["L1H8"]
    assert sum("previous-token" in labels for labels in names.values()) == 1


def test_minilms_head_for_direct_objects_is_far_above_any_offset_and_looks_for_the_nearest_verb(minilm_on_gum):
    row = next(row for row in minilm_on_gum.relations if (row["relation"], row["direction"]) == ("obj", "d2h"))

    assert row["verdict"] == "explained-by-POS"
    assert row["score"] > row["baseline"] + 0.25


def test_examples_are_confirming_sentences_whose_indices_fit(minilm_on_gum):
    labels = [label for labels in minilm_on_gum.labels.values() for label in labels]

    examples = [example for label in labels for example in label["examples"]]
    assert examples
    assert all(len(label["examples"]) <= 20 for label in labels)  # ten best, ten worst
    for example in examples:
        n = len(example["tokens"])
        assert max(example["query"], example["target"], example["argmax"]) < n
        assert example["hit"] == (example["argmax"] == example["target"])
    previous = next(label for label in minilm_on_gum.labels["L0H2"] if label["label"] == "previous-token")
    assert all(example["target"] == example["query"] - 1 for example in previous["examples"])
