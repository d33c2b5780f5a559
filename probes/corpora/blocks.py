"""The sentences of a CoNLL-U file as they stand there: lines between blank lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attnlens.errors import CorpusError
from probes.corpora.faults import at
from probes.corpora.files import Line, Source, numbered_lines

__all__ = ["Block", "blocks_of"]


@dataclass(frozen=True)
class Block:
    """The lines of one sentence as they stand in the file.

    Attributes:
        name: of the file.
        line: number of the first line.
        lines: without their ends.
        unusable: the first line that is not UTF-8 or holds NUL, with the reason; None where all can be read.
    """

    name: str
    line: int
    lines: tuple[str, ...]
    unusable: Line | None = None

    def fail(self, what: str, line: int | None = None) -> CorpusError:
        """An error that names the file and the line."""
        return at(self.name, self.line if line is None else line, what)

    @property
    def metadata(self) -> dict[str, str]:
        """The comments `# key = value`."""
        pairs = (line[1:].partition("=") for line in self.lines if line.startswith("#"))
        return {key.strip(): value.strip() for key, _, value in pairs}


def blocks_of(source: Source) -> Iterator[Block]:
    """The file's blocks, one in memory at a time.

    Raises:
        CorpusError: the file cannot be read.
    """
    held: list[Line] = []
    for line in numbered_lines(source):
        if line.text.strip():
            held.append(line)
        elif held:
            yield _block(source.name, held)
            held = []
    if held:
        yield _block(source.name, held)


def _block(name: str, lines: list[Line]) -> Block:
    unusable = next((line for line in lines if line.fault), None)
    return Block(name, lines[0].number, tuple(line.text for line in lines), unusable)
