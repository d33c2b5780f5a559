"""A section of reports: text and tables; the report sets and escapes them."""

from collections import Counter
from collections.abc import Sequence

from attnlens.capture.run import Capture
from attnlens.report.results import HeadResults
from attnlens.report.sections import Part, Section
from attnlens.report.tables import Table

SURE = 0.9


def of_run(run: Capture) -> Sequence[Part]:
    """How many tokens each layer's heads are sure of."""
    weights = run.attention()  # [layer head query key]
    n_sure = (weights.amax(-1) > SURE).sum(-1)
    rows = tuple((f"L{layer}", *(int(count) for count in counts)) for layer, counts in enumerate(n_sure.tolist()))
    columns = ("layer", *(f"H{head}" for head in range(run.n_heads)))
    return [
        f"How many of the {len(run.tokens)} tokens give one key more than {SURE:.0%} of their weight.",
        Table("Tokens that are sure, by head.", columns, rows),
    ]


def of_results(results: HeadResults) -> Sequence[Part]:
    """How many labelled heads each layer has."""
    counts = Counter(result.head.layer for result in results.labelled)
    rows = tuple((f"L{layer}", counts[layer]) for layer in range(results.anatomy.n_layers))
    return [Table("Heads with a label, by layer.", ("layer", "heads"), rows)]


SURE_HEADS = Section(title="Sure heads", of_run=of_run, of_results=of_results)
