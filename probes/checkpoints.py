"""Finished shards on disk: one parquet file each, whole or not at all, beside a manifest that says of which run."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from attnlens.errors import OutputError, ResultsError
from attnlens.files import whole_file, write_text
from probes.shards import ShardResult, Totals
from probes.tally import PER_CLUSTER, PER_HEAD, Cell, Key, Tally

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FOLDER", "Checkpoints", "from_table", "remove", "to_table"]

FOLDER = ".shards"  # in the folder of the results, until they are written
MANIFEST = "manifest.json"
SUM = "sum.parquet"
MOST_FILES = 256  # of single shards, before they are put together
FORMAT = "attnlens.shard/1"
NUMBERS = "attnlens.shards"
COUNTS, RULES, RULE_HITS = "counts", "rules", "rule_hits"
_NUMBER = re.compile(r"-?\d+")
COLUMNS = ("family", "relation", "direction", "at", "part", "row")


class Checkpoints:
    """The finished shards of one run in a folder of their own."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """`manifest`: everything that a shard's result depends on; two runs that share it share their shards."""
        self.folder = folder
        self.manifest = json.loads(json.dumps(manifest))
        self._n_files = 0

    def begin(self, *, resume: bool) -> set[int]:
        """Make the folder ready and tell which shards are done; without `resume`, none is kept.

        Raises:
            ResultsError: `resume`, and the folder holds shards of another run; the message names what differs.
            OutputError: the folder cannot be written.
        """
        known = self._known() if resume else None
        if known is not None and known != self.manifest:
            raise ResultsError(
                f"cannot resume in {self.folder.parent}: the finished shards are of another run "
                f"({_difference(known, self.manifest)}); repeat its settings, or start anew without --resume."
            )
        for part in _unfinished(self.folder):
            part.unlink(missing_ok=True)
        if known is None:
            self.clear()
            write_text(self.folder / MANIFEST, json.dumps(self.manifest, indent=1, sort_keys=True))
        return {int(path.stem) for path in _finished(self.folder)}

    def save(self, result: ShardResult) -> None:
        """Write one shard, whole or not at all.

        Raises:
            OutputError: it cannot be written (the disk is full); the message says what is kept.
        """
        import pyarrow.parquet as pq

        try:
            with whole_file(self._path(result.number)) as part:
                pq.write_table(to_table(result), part, compression="zstd", compression_level=1)
        except OutputError as error:
            raise OutputError(
                f"{error} The shards that were finished before are kept there: when there is room, go on with --resume."
            ) from error
        self._n_files += 1

    def fold(self, totals: Totals) -> None:
        """Where many shards have a file each, write their sums as one file in the place of all.

        So the folder does not grow with the corpus. A kill at any moment leaves the old files, or the new one with some
        of the old, which count once all the same.

        Raises:
            OutputError: it cannot be written; the shards' own files stay.
        """
        import pyarrow.parquet as pq

        if self._n_files < MOST_FILES or not totals.tallies:
            return
        n_clusters = next(iter(totals.tallies.values())).n_clusters
        whole = ShardResult(
            0, np.arange(n_clusters), totals.tallies, tuple(sorted(totals.skipped)), totals.dropped_words, totals.bos
        )
        with whole_file(self.folder / SUM) as part:
            table = to_table(whole)
            numbers = json.dumps(sorted(totals.numbers)).encode()
            table = table.replace_schema_metadata({**table.schema.metadata, NUMBERS: numbers})
            pq.write_table(table, part, compression="zstd", compression_level=1)
        for path in _finished(self.folder):
            if int(path.stem) in totals.numbers:
                path.unlink(missing_ok=True)
        self._n_files = 0

    def take_up(self, totals: Totals) -> None:
        """Add everything that is kept; a shard that cannot be read, after a power cut, is left to be counted anew.

        Raises:
            ResultsError: the sums of many shards cannot be read.
        """
        import pyarrow.parquet as pq

        path = self.folder / SUM
        if path.exists():
            totals.absorb(self._read(path))
            totals.numbers = set(json.loads(pq.read_schema(path).metadata[NUMBERS.encode()]))
        for path in sorted(_finished(self.folder)):
            if int(path.stem) not in totals.numbers:
                self._n_files += 1
                with contextlib.suppress(ResultsError):
                    totals.absorb(self._read(path))

    def load(self, number: int) -> ShardResult:
        """Read one shard back.

        Raises:
            ResultsError: the file is not one that `save` wrote.
        """
        return self._read(self._path(number))

    def _read(self, path: Path) -> ShardResult:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return from_table(pq.read_table(path))
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise ResultsError(
                f"{path} is no finished shard ({error}); delete it and resume again, or start anew without --resume."
            ) from error

    def clear(self) -> None:
        """Remove the folder.

        Raises:
            OutputError: it cannot be removed.
        """
        remove(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def _known(self) -> dict[str, Any] | None:
        """The manifest on disk; None where there is none."""
        path = self.folder / MANIFEST
        if not path.exists():
            return None
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ResultsError(f"{path} cannot be read ({error}); start anew without --resume.") from error


def remove(folder: Path) -> None:
    """Remove the finished shards of a run and their folder; what others have put there stays, and so does the folder.

    The manifest goes first: without it, what is left of an interrupted removal belongs to no run.

    Raises:
        OutputError: they cannot be removed.
    """
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
        for path in (folder / SUM, *_finished(folder), *_unfinished(folder)):
            path.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise OutputError(f"cannot remove {folder}: {error.strerror or error}; delete it yourself.") from error


def _finished(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.parquet") if _NUMBER.fullmatch(path.stem)]


def _unfinished(folder: Path) -> list[Path]:
    """What a process that was killed while it wrote has left."""
    return list(folder.glob(".*.part"))


def _difference(known: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    names = sorted(name for name in known.keys() | ours.keys() if known.get(name) != ours.get(name))
    return ", ".join(f"{name}: {known.get(name)!r} then, {ours.get(name)!r} now" for name in names[:3])


def to_table(result: ShardResult) -> pa.Table:
    """One shard as a table: a row per question, sort of sum and cluster (or half and rule); rows of zeros are left out.

    The values of a row are per head, per rule, or the counts of `PER_CLUSTER`.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    values: list[Int64[np.ndarray, "row value"]] = []
    for family, tally in sorted(result.tallies.items()):
        for key in tally:
            for part, rows in _parts(tally.cells[key]):
                kept = np.flatnonzero(rows.any(axis=1))
                for name, value in zip(COLUMNS, (family, *key, part), strict=False):
                    columns[name] += [value] * len(kept)
                columns["row"] += kept.tolist()
                values.append(rows[kept])
    lengths = np.concatenate([np.full(len(rows), rows.shape[1]) for rows in values] or [np.zeros(0, np.int64)])
    flat = np.concatenate([rows.ravel() for rows in values] or [np.zeros(0, np.int64)])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))
    arrays = [pa.array(columns[name], pa.string()) for name in COLUMNS[:-1]]
    table = pa.table([*arrays, pa.array(columns["row"], pa.int64()), lists], names=[*COLUMNS, "values"])
    return table.replace_schema_metadata({FORMAT: json.dumps(_about(result))})


def from_table(table: pa.Table) -> ShardResult:
    """What `to_table` was given, exactly.

    Raises:
        KeyError, ValueError: the table is no shard.
    """
    about = json.loads((table.schema.metadata or {})[FORMAT.encode()])
    shapes = about["tallies"]
    clusters = np.array(about["clusters"], dtype=np.int64)
    tallies = {
        family: Tally(len(clusters), shape["n_heads"], shape["rules"]) for family, shape in sorted(shapes.items())
    }
    for family, tally in tallies.items():
        for named in shapes[family]["keys"]:
            tally.cell(Key(*named))
    for (family, *key, part), rows, values in _runs(table):
        cell = tallies[family].cell(Key(*key))
        dict(_parts(cell))[part][rows] = values
        if part == COUNTS:
            for i, name in enumerate(PER_CLUSTER):
                getattr(cell, name)[rows] = values[:, i]
    return ShardResult(
        number=about["number"],
        clusters=clusters,
        tallies=tallies,
        skipped=tuple(about["skipped"]),
        dropped_words=about["dropped_words"],
        bos=about["bos"],
    )


def _about(result: ShardResult) -> dict[str, Any]:
    return {
        "number": result.number,
        "clusters": result.clusters.tolist(),
        "tallies": {
            family: {"n_heads": tally.n_heads, "rules": tally.rules, "keys": list(tally)}
            for family, tally in result.tallies.items()
        },
        "skipped": result.skipped,
        "dropped_words": dict(result.dropped_words),
        "bos": result.bos,
    }


def _parts(cell: Cell) -> Iterable[tuple[str, Int64[np.ndarray, "row value"]]]:
    """The sums of a cell as matrices; all but the counts are views, so that writing to them writes to the cell."""
    yield COUNTS, np.stack([getattr(cell, name) for name in PER_CLUSTER], axis=1)
    for name in PER_HEAD:
        yield name, getattr(cell, name)
    yield RULES, cell.rules
    yield RULE_HITS, cell.rule_hits.reshape(-1, cell.rule_hits.shape[-1])


def _runs(table: pa.Table) -> Iterator[tuple[tuple[Any, ...], Int64[np.ndarray, " row"], np.ndarray]]:
    """Rows of the same question and sort of sum, which stand together."""
    names = [table.column(name).to_pylist() for name in COLUMNS[:-1]]
    rows = table.column("row").to_numpy()
    lists = table.column("values").combine_chunks()
    offsets, flat = lists.offsets.to_numpy(), lists.values.to_numpy()
    labels = list(zip(*names, strict=True))
    first = 0
    for at in range(1, len(labels) + 1):
        if at == len(labels) or labels[at] != labels[first]:
            values = flat[offsets[first] : offsets[at]].reshape(at - first, -1)
            yield labels[first], rows[first:at], values
            first = at
