"""Files as numbered lines of text: UTF-8 with or without a byte order mark, any line ends, gzip'd or not."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO, cast

from attnlens.errors import CorpusError

__all__ = ["Head", "Line", "Source", "fault_of", "numbered_lines", "read_head", "sha256_of"]

HEAD = 65_536  # characters that are looked at to recognise a format
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Source:
    """A file and the name it goes by in messages and results, which never holds the folder."""

    path: Path
    name: str


class Line(NamedTuple):
    """A line without its end; `number` counts from 1.

    `fault` says why its text cannot be used (what cannot stands there as U+FFFD then), else it is empty.
    """

    number: int
    text: str
    fault: str


@dataclass(frozen=True)
class Head:
    """The beginning of a file, from which its format is recognised: lines that are not blank.

    Attributes:
        name: of the file.
        lines: the first lines, without those that cannot be decoded; the last one may be cut.
    """

    name: str
    lines: tuple[str, ...]

    @property
    def extension(self) -> str:
        """The last extension in lower case (`.tsv`), that of the packed file where it is gzip'd; may be empty."""
        return Path(self.name.lower().removesuffix(".gz")).suffix


def numbered_lines(source: Source) -> Iterator[Line]:
    """Every line of the file. Bytes that are not UTF-8 and NUL characters are told line by line.

    Raises:
        CorpusError: the file cannot be read.
    """
    with _opened(source) as file:
        for number, line in enumerate(file, 1):
            text, fault = line.rstrip("\n"), fault_of(line)
            yield Line(number, _UNUSABLE.sub("\ufffd", text) if fault else text, fault)


def fault_of(text: str) -> str:
    """Why a text cannot be used (bytes that are not UTF-8, NUL), or ""."""
    found = _UNUSABLE.search(text)
    if found is None:
        return ""
    return "a NUL character; remove it." if found[0] == "\0" else "not UTF-8 text; save the file as UTF-8."


def read_head(source: Source) -> Head:
    """The first lines of the file.

    Raises:
        CorpusError: the file cannot be read, or is UTF-16.
    """
    with _reading(source), source.path.open("rb") as raw:
        if raw.read(2) in _UTF16:
            raise CorpusError(f"{source.name} is UTF-16, not UTF-8 text; save it as UTF-8.")
    with _opened(source) as file:
        lines = file.read(HEAD).split("\n")
    return Head(source.name, tuple(line for line in lines if line.strip() and not fault_of(line)))


def sha256_of(source: Source) -> str:
    """Of the file's bytes as they lie on the disk, in hexadecimal.

    Raises:
        CorpusError: the file cannot be read.
    """
    with _reading(source), source.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(source: Source) -> Iterator[TextIO]:
    """The file as text; a byte that is not UTF-8 becomes a lone surrogate, so that its line can be told."""
    with _reading(source):
        with source.path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
        # Universal line ends: "\n", "\r\n" and "\r" all arrive as "\n".
        opener = gzip.open if packed else open
        with opener(source.path, "rt", encoding="utf-8-sig", errors="surrogateescape") as file:
            yield cast("TextIO", file)


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    """Failures of the disk or of unpacking, as one line with the file's name."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"{source.name} is a damaged gzip file ({error}); unpack it, or get it again.") from error
    except OSError as error:
        what = error.strerror or error
        raise CorpusError(f"cannot read the corpus {source.name}: {what}; name a file that can be read.") from error
