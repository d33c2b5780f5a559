"""One shard of a corpus through the model: every family that reads a kind of text is fed from the same pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.corpora.data import Sentence
from probes.family import Probe, rule_names
from probes.plain import observe
from probes.seeing import Eyes
from probes.shards import Shard, ShardResult
from probes.split import Split
from probes.tally import Tally
from probes.texts import Kind, texts_of

__all__ = ["run_shard"]


def run_shard(eyes: Eyes, shard: Shard, probes: Sequence[Probe], split: Split) -> ShardResult:
    """Read one shard and add up what every family asks of every head.

    Args:
        eyes: the model.
        shard: the sentences; no batch holds a text of another shard, so the result depends on these alone.
        probes: the families.
        split: of the whole corpus.
    """
    skipped: set[str] = set()

    def skip(sentence: Sentence) -> None:
        skipped.add(f"{sentence.line} {sentence.id}")

    n_heads = eyes.lens.anatomy.n_layers * eyes.lens.anatomy.n_heads
    whole = {probe.name: Tally(len(split.confirm), n_heads, rule_names(probe)) for probe in probes}
    kinds: list[Kind] = sorted({kind for probe in probes for kind in probe.reads})
    dropped: dict[str, int] = {}
    clusters: set[int] = set()
    for kind in kinds:
        if kind not in ("sentence", "window"):
            continue
        readers = [probe for probe in probes if kind in probe.reads]
        texts = list(texts_of(shard.documents, split, kind, eyes.fits, skip))
        for text, seen in eyes.look(texts):
            for probe in readers:
                observe(probe, whole[probe.name], seen)
            clusters.add(text.cluster)
            dropped[kind] = dropped.get(kind, 0) + int((~seen.kept).sum())
    local = np.array(sorted(clusters), dtype=np.int64)
    return ShardResult(
        number=shard.number,
        clusters=local,
        tallies={name: _cut(tally, local) for name, tally in whole.items()},
        skipped=tuple(sorted(skipped)),
        dropped_words=dropped,
        bos=eyes.bos,
    )


def _cut(tally: Tally, clusters: np.ndarray) -> Tally:
    """The clusters that occur."""
    from dataclasses import fields

    from probes.tally import Cell

    cut = Tally(len(clusters), tally.n_heads, tally.rules)
    for key, cell in tally.cells.items():
        parts = {part.name: getattr(cell, part.name) for part in fields(Cell)}
        cut.cells[key] = Cell(**{name: v if name == "rule_hits" else v[clusters] for name, v in parts.items()})
    return cut
