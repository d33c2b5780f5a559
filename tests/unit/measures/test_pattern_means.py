"""Measures over a corpus are the means over the rows of its runs, whatever the padding and the tiles."""

from __future__ import annotations

import math

import pytest
import torch
from family_models import FAMILIES

TEXTS = [
    "The keys to the cabinet.",
    "See it",
    "are on the table",
    "the old doors near the cabinet are on the table here",
]


def open_family(name):
    import attnlens

    family = FAMILIES[name]
    return attnlens.load(model=family.build(), tokenizer=family.tokenizer())


def rows_by_loop(weights, visible):
    """name -> values over queries `[head query]`, each a loop over the definition."""
    n_heads, n_queries, n_keys = weights.shape
    found = {name: torch.full((n_heads, n_queries), math.nan, dtype=torch.float64) for name in NAMES}
    for head in range(n_heads):
        for query in range(n_queries):
            row = [float(w) for w in weights[head, query]]
            seen = [bool(s) for s in visible[query]]

            def at(key, row=row, seen=seen):
                return row[key] if 0 <= key < n_keys and seen[key] else math.nan

            mean = sum(w * abs(query - key) for key, w in enumerate(row))
            entropy = -sum(w * math.log(w) for w in row if w > 0)
            near = [at(query + step) for step in (-1, 0, 1)]
            values = {
                "entropy": entropy,
                "breadth": entropy / math.log(sum(seen)) if sum(seen) > 1 else math.nan,
                "distance": mean,
                "distance-variance": sum(w * (abs(query - key) - mean) ** 2 for key, w in enumerate(row)),
                "self": at(query),
                "previous": at(query - 1),
                "next": at(query + 1),
                "first": at(0),
                "max-weight": max(row),
                "diagonal": sum(w for w in near if not math.isnan(w)),
                "offset-3": at(query - 3),
            }
            for name, value in values.items():
                found[name][head, query] = value
    return found


NAMES = "entropy breadth distance distance-variance self previous next first max-weight diagonal offset-3".split()


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "mistral"])
def test_means_over_a_padded_corpus_are_those_over_the_rows_of_its_runs(name):
    from attnlens.measures.pattern_means import pattern_means

    lens = open_family(name)
    per_row: dict[str, list[torch.Tensor]] = {one: [] for one in NAMES}
    for run in lens.captures(TEXTS):
        layer = lens.anatomy.n_layers - 1
        for one, values in rows_by_loop(run.attention(layer).double(), run.visible(layer)).items():
            per_row[one].append(values)

    (found,) = lens.reduce(TEXTS, pattern_means(*NAMES[:-1], offsets=(-3,)))

    site = max(found.value(), key=lambda site: site.layer)
    assert set(found.value()[site]) == set(NAMES)
    for one, parts in per_row.items():
        expected = torch.cat(parts, 1).nanmean(1)
        torch.testing.assert_close(found.value()[site][one], expected, atol=1e-5, rtol=2e-6, equal_nan=True)


def test_the_summary_is_the_same_by_the_short_way():
    from attnlens.measures.pattern_means import pattern_means
    from attnlens.measures.running import SUMMARY

    lens = open_family("gpt2")

    long, short = lens.reduce(TEXTS, pattern_means(*SUMMARY, offsets=(-2,)), pattern_means())

    for site, values in short.value().items():
        for name in SUMMARY:
            torch.testing.assert_close(values[name].double(), long.value()[site][name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["toeplitz-share", "delimiters", "no-such"])
def test_what_needs_a_whole_map_or_tokens_is_refused_with_what_there_is(name):
    from attnlens.errors import UsageError
    from attnlens.measures.pattern_means import pattern_means

    with pytest.raises(UsageError, match=f"'{name}' is not taken while weights pass by; choose some of entropy, bre"):
        pattern_means("entropy", name)
