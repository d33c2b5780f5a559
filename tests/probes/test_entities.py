"""Coreference annotation: brackets, heads, anaphors; the counts of a real corpus."""

from __future__ import annotations

from collections import Counter

import pytest
from probe_arrays import write_conllu

from attnlens.errors import CorpusError
from probes.coreference import RULES, anaphors_in
from probes.corpora.conllu import read_documents
from probes.corpora.sources import open_corpus
from probes.texts import pack

HEADER = "# newdoc id = d\n# global.Entity = GRP-etype-infstat-salience-centering-minspan-link-identity\n"
FIELDS = "person-new-nnnnn-cf1"


def mentions_of(tmp_path, rows):
    path = write_conllu(tmp_path / "e.conllu", HEADER + rows)
    return [m for document in read_documents(path, path.name) for s in document.sentences for m in s.mentions]


def test_brackets_give_words_head_and_fields(tmp_path):
    found = mentions_of(
        tmp_path,
        f"1 the _ DET _ _ 2 det _ Entity=(1-{FIELDS}-2-coref-A-B\n"
        "2 king _ NOUN _ _ 3 nsubj _ Entity=1)\n3 sleeps _ VERB _ _ 0 root",
    )

    (mention,) = found
    assert (mention.entity, mention.start, mention.end, mention.head) == ("1", 0, 2, 1)
    assert (mention.kind, mention.link) == ("person", "coref")


def test_nested_mentions_of_one_entity_close_the_last_opened_first(tmp_path):
    found = mentions_of(
        tmp_path,
        f"1 the _ DET _ _ 2 det _ Entity=(1-{FIELDS}-1-coref\n"
        f"2 king _ NOUN _ _ 4 nsubj _ Entity=(1-{FIELDS}-1-ana\n"
        "3 self _ NOUN _ _ 2 appos _ Entity=1)\n4 sleeps _ VERB _ _ 0 root _ Entity=1)",
    )

    assert [(m.start, m.end, m.link) for m in found] == [(0, 4, "coref"), (1, 3, "ana")]


def test_one_word_mentions_and_several_brackets_in_one_cell(tmp_path):
    found = mentions_of(
        tmp_path,
        f"1 his _ PRON _ _ 2 nmod:poss _ Entity=(1-{FIELDS}-2-new(2-{FIELDS}-1-ana)\n"
        "2 dog _ NOUN _ _ 3 nsubj _ Entity=1)\n3 barks _ VERB _ _ 0 root",
    )

    assert [(m.entity, m.start, m.end) for m in found] == [("1", 0, 2), ("2", 0, 1)]


def test_head_falls_back_on_minspan_where_two_words_hang_outside(tmp_path):
    found = mentions_of(
        tmp_path,
        f"1 a _ X _ _ 3 dep _ Entity=(1-{FIELDS}-2-coref\n2 b _ X _ _ 3 dep _ Entity=1)\n3 c _ X _ _ 0 root",
    )

    assert found[0].head == 1


def test_anaphors_need_an_earlier_mention_and_a_backward_link(tmp_path):
    rows = [
        f"1 he _ PRON _ _ 0 root _ Entity=(1-{FIELDS}-1-coref)",
        f"2 he _ PRON _ _ 1 dep _ Entity=(1-{FIELDS}-1-ana)",
        f"3 king _ NOUN _ _ 1 dep _ Entity=(1-{FIELDS}-1-appos)",
        f"4 they _ PRON _ _ 1 dep _ Entity=(2-{FIELDS}-1-coref)",
        f"5 they _ PRON _ _ 1 dep _ Entity=(2-{FIELDS}-1-ana)|SplitAnte=1<2,3<2",
        f"6 they _ PRON _ _ 1 dep _ Entity=(2-{FIELDS}-1-ana)",
    ]
    path = write_conllu(tmp_path / "e.conllu", HEADER + "\n".join(rows))
    (document,) = read_documents(path, path.name)

    found = [(each.head, each.targets) for each in anaphors_in(document.sentences)]

    assert found == [(1, (0,)), (5, (3, 4))]


@pytest.mark.parametrize(("head_of_first", "kept"), [(4, (0, 1)), (3, (2, 3))])
def test_parts_of_a_discontinuous_mention_are_one_mention_where_its_head_is(tmp_path, head_of_first, kept):
    """`call ... up` in two parts; then a second mention of the entity, in one part."""
    other = {4: 1, 3: 4}[head_of_first]
    found = mentions_of(
        tmp_path,
        f"1 call _ X _ _ {head_of_first} dep _ Entity=(e1[1/2]-{FIELDS}-1-)\n"
        + f"2 him _ X _ _ 4 obj\n3 up _ X _ _ {other} dep _ Entity=(e1[2/2]-{FIELDS}-1-)\n"
        f"4 now _ X _ _ 0 root\n5 it _ X _ _ 4 dep _ Entity=(e1-{FIELDS}-1-ana)",
    )

    assert [(each.entity, each.start, each.end) for each in found] == [("e1", *kept), ("e1", 4, 5)]


def test_two_discontinuous_mentions_of_one_entity_stay_two(tmp_path):
    row = "{} a _ X _ _ {} dep _ Entity=(e1[{}/2]-" + FIELDS + "-1-)"
    rows = [row.format(*each) for each in ((1, 0, 1), (2, 1, 2), (3, 1, 1), (4, 3, 2))]

    found = mentions_of(tmp_path, "\n".join(rows))

    assert [(each.entity, each.start) for each in found] == [("e1", 0), ("e1", 2)]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (f"Entity=(1-{FIELDS}-1-coref", "opened and not closed"),
        ("Entity=1)", "closes what was not opened"),
        ("Entity=person", "cannot read Entity=person"),
    ],
)
def test_brackets_that_do_not_fit_are_refused_with_the_line(tmp_path, cell, reason):
    with pytest.raises(CorpusError, match=rf"e\.conllu, line \d+: .*{reason}"):
        mentions_of(tmp_path, f"1 a _ X _ _ 0 root _ {cell}\n2 b _ X _ _ 1 dep")


def test_entities_without_their_header_are_refused(tmp_path):
    path = write_conllu(tmp_path / "e.conllu", f"1 a _ X _ _ 0 root _ Entity=(1-{FIELDS}-1-coref)")

    with pytest.raises(CorpusError, match=r"line 1: .*global\.Entity"):
        list(read_documents(path, path.name))


@pytest.fixture(scope="module")
def gum(shared_data):
    return list(open_corpus(shared_data("en_gum-ud-dev.conllu")).documents())


def test_gum_has_the_published_number_of_mentions_and_anaphors(gum):
    """Counted pair by pair: links to an earlier mention, and those left when nested and split ones do not count."""
    mentions = [[m for s in document.sentences for m in s.mentions] for document in gum]

    def apart(one, other):
        across = one.sentence != other.sentence
        return across or not set(range(one.start, one.end)) & set(range(other.start, other.end))

    linked = [
        (mention, [other for other in document[:i] if other.entity == mention.entity])
        for document in mentions
        for i, mention in enumerate(document)
        if mention.link in ("ana", "coref")
    ]
    points_back = [(mention, earlier) for mention, earlier in linked if earlier]
    counted = [
        mention
        for mention, earlier in points_back
        if not mention.split and any(apart(mention, other) for other in earlier)
    ]
    found = [anaphor for document in gum for anaphor in anaphors_in(document.sentences)]
    answerable = [anaphor for anaphor in found if anaphor.targets]

    assert sum(map(len, mentions)) == 7897
    assert len(points_back) == 3769
    assert len(found) == 3769 - 2  # two of them have split antecedents
    assert len(answerable) == len(counted)
    assert 3769 - 50 < len(answerable) <= len(found)  # the others are nested with all their antecedents


def test_gum_windows_and_baselines_are_the_published_ones(gum):
    """Published for windows of 100 words: 2,414 anaphors; random 21.7, nearest 27.3, same word 66.6, same type 63.3 %.

    Two of them have split antecedents, which do not count here.
    """
    windows = [
        [s for _, s in group]
        for document in gum
        for group in pack(list(enumerate(document.sentences)), lambda sentences: True)
    ]

    every = [anaphor for window in windows for anaphor in anaphors_in(window)]
    found = [anaphor for anaphor in every if anaphor.targets]
    chance, nearest, same, same_type = (
        sum(values) / len(found)
        for values in (
            [len(a.targets) / len(a.candidates) for a in found],
            [a.candidates[-1] in a.targets for a in found],
            [a.guesses[RULES.index("same word")] in a.targets for a in found],
            [a.guesses[RULES.index("same type")] in a.targets for a in found],
        )
    )

    assert all(sum(map(len, window)) <= 100 or len(window) == 1 for window in windows)
    assert len(every) == 3769 - 2
    assert len(found) == 2412
    assert chance == pytest.approx(0.217, abs=0.0005)
    assert nearest == pytest.approx(0.273, abs=0.0005)
    assert same == pytest.approx(0.666, abs=0.0005)
    assert same_type == pytest.approx(0.633, abs=0.0005)
    kinds = Counter(anaphor.kind for anaphor in found)
    assert kinds == {"pronoun": 1528 - 1, "proper": 244, "nominal": 642 - 1}  # less the two split ones


def test_gum_anaphors_with_another_form_and_their_nearest_mention(gum):
    """Published: 1,136 anaphors, 34.5 %; the definition leaves room for three anaphors more or less."""
    found = [
        anaphor
        for document in gum
        for group in pack(list(enumerate(document.sentences)), lambda sentences: True)
        for anaphor in anaphors_in([s for _, s in group])
        if anaphor.targets and not anaphor.identical
    ]

    nearest = sum(anaphor.guesses[0] in anaphor.targets for anaphor in found) / len(found)

    assert abs(len(found) - 1136) <= 3
    assert nearest == pytest.approx(0.345, abs=0.001)
