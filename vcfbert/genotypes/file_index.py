"""Compares the index of a VCF.gz or BCF with its file. An index that does not cover all records would hide some.

An index names the virtual offsets of the first and last record of each chromosome (tabix and CSI specifications of
hts-specs). They must follow each other from the end of the header to the end of the file.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from vcfbert.genotypes.bgzf import BGZF_MAGIC, GZIP_MAGIC
from vcfbert.genotypes.vcf_file import VcfFile

# In the order in which htslib looks for them. It reads a BCF by a CSI index alone.
_ENDINGS: Final = (".csi", ".tbi")
_TABIX_DEPTH: Final = 5
_SHORTEST_BLOCK: Final = 26  # bytes of an empty BGZF block's header and end


@dataclass(frozen=True)
class IndexedChromosome:
    """A chromosome with records. ``name`` is None in a BCF's index; ``number``: its place in the index.

    ``start`` and ``stop`` are the virtual offsets of its first record and of the end of its last one.
    """

    name: str | None
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class FileIndex:
    """The index of a file; ``chromosomes`` in the file's order. ``fault``: why it cannot be used, or None."""

    path: Path
    chromosomes: tuple[IndexedChromosome, ...]
    fault: str | None

    def names(self, declared: Sequence[str]) -> list[str] | None:
        """The names of chromosomes with records, in the file's order. ``declared``: those of the header, in its order.

        A BCF's index has no names: there a chromosome's number is its place in the header. None if the header has no
        such place.
        """
        if any(one.name is None and one.number >= len(declared) for one in self.chromosomes):
            return None
        return [declared[one.number] if one.name is None else one.name for one in self.chromosomes]


def index_of(file: VcfFile) -> FileIndex | None:
    """The index that htslib uses for ``file``; None if there is none."""
    if file.container != "bgzf":
        return None
    endings = _ENDINGS[:1] if file.is_bcf else _ENDINGS
    path = next((path for end in endings if (path := Path(f"{file.path}{end}")).is_file()), None)
    if path is None:
        return None
    try:
        chromosomes = tuple(sorted(_chromosomes(path), key=lambda one: one.start))
    except (OSError, EOFError, ValueError, IndexError, struct.error, zlib.error):
        return FileIndex(path, (), "is damaged")
    try:
        with file.path.open("rb") as handle:
            covers = _covers(chromosomes, handle, _header_bytes(file))
    except (OSError, EOFError, ValueError, struct.error, zlib.error):
        covers = False
    return FileIndex(path, chromosomes, None if covers else "does not cover the file's records (it may be older)")


def _chromosomes(path: Path) -> list[IndexedChromosome]:
    """The chromosomes with records. Raises ValueError, IndexError, struct.error or an error of gzip if damaged."""
    content = path.read_bytes()
    view = _Reader(gzip.decompress(content) if content[:2] == GZIP_MAGIC else content)
    magic = view.take(4)
    names: list[str] = []
    if magic == b"TBI\x01":
        n_chromosomes, names, depth, is_csi = view.number(), _names(view), _TABIX_DEPTH, False
    elif magic == b"CSI\x01":
        view.number()
        depth, is_csi = view.number(), True
        extra = view.take(view.number())
        names = _names(_Reader(extra)) if extra else []
        n_chromosomes = view.number()
    else:
        raise ValueError(magic)
    statistics = ((1 << 3 * (depth + 1)) - 1) // 7 + 1  # number of the bin that has counts instead of chunks
    if names and len(names) != n_chromosomes:
        raise ValueError(n_chromosomes)
    found = []
    for number in range(n_chromosomes):
        start, stop = _extent(view, statistics, is_csi=is_csi)
        if start is not None and stop is not None:
            found.append(IndexedChromosome(names[number] if names else None, number, start, stop))
    return found


def _names(view: _Reader) -> list[str]:
    """The names after the five numbers of columns and comments in the header of a tabix index."""
    view.take(24)
    return [name.decode() for name in view.take(view.number()).split(b"\x00")[:-1]]


def _extent(view: _Reader, statistics: int, *, is_csi: bool) -> tuple[int | None, int | None]:
    """Reads one chromosome; returns the lowest start and the highest end of its chunks."""
    starts, stops = [], []
    for _ in range(view.number()):
        number = view.number()
        if is_csi:
            view.take(8)  # the first offset of the bin
        chunks = view.offsets(2 * view.number())
        if number != statistics and chunks:
            starts.append(min(chunks[::2]))
            stops.append(max(chunks[1::2]))
    if not is_csi:
        view.offsets(view.number())  # of the intervals
    return min(starts, default=None), max(stops, default=None)


class _Reader:
    """Reads little-endian numbers one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, n_bytes: int) -> bytes:
        if n_bytes < 0 or self._at + n_bytes > len(self._content):
            raise ValueError(n_bytes)
        self._at += n_bytes
        return self._content[self._at - n_bytes : self._at]

    def number(self) -> int:
        (value,) = struct.unpack("<i", self.take(4))
        return int(value)

    def offsets(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self.take(8 * count))


def _covers(chromosomes: tuple[IndexedChromosome, ...], handle: BinaryIO, n_header: int) -> bool:
    """Whether the chromosomes' records follow each other from the header's end to the file's.

    ``n_header``: bytes of the header before compression. Raises ValueError or struct.error where no block begins.
    """
    at = _after_text(handle, n_header)
    for one in chromosomes:
        if _next_byte(handle, one.start) != at or not _begins(one, handle, at):
            return False
        at = _next_byte(handle, one.stop)
    return at >> 16 == handle.seek(0, 2)


def _begins(one: IndexedChromosome, handle: BinaryIO, offset: int) -> bool:
    """Whether a record of the chromosome begins at ``offset``."""
    handle.seek(offset >> 16)
    # The lengths of a BCF's record, 8 bytes, precede the number of its chromosome.
    expected, skipped = (struct.pack("<i", one.number), 8) if one.name is None else (f"{one.name}\t".encode(), 0)
    within = (offset & 0xFFFF) + skipped
    with gzip.GzipFile(fileobj=handle) as text:
        return text.read(within + len(expected))[within:] == expected


def _header_bytes(file: VcfFile) -> int:
    """Bytes of the file's header before compression."""
    with gzip.open(file.path) as stream:
        if file.is_bcf:
            magic, length = struct.unpack("<5sI", stream.read(9))
            return len(magic) + 4 + int(length)
        n_bytes = 0
        for line in stream:
            if not line.startswith(b"#"):
                break
            n_bytes += len(line)
        return n_bytes


def _after_text(handle: BinaryIO, n_bytes: int) -> int:
    """The virtual offset of the byte after the first ``n_bytes`` of the file's text."""
    address = 0
    while True:
        size, n_text = _block(handle, address)
        if n_bytes < n_text or size == 0:
            return address << 16 | n_bytes
        address, n_bytes = address + size, n_bytes - n_text


def _next_byte(handle: BinaryIO, offset: int) -> int:
    """The virtual offset of the byte at ``offset``: of two that stand for the end of a block, the next block's."""
    address, within = offset >> 16, offset & 0xFFFF
    while True:
        size, n_text = _block(handle, address)
        if within > n_text:
            raise ValueError(offset)
        if within < n_text or size == 0:
            return address << 16 | within
        address, within = address + size, 0


def _block(handle: BinaryIO, address: int) -> tuple[int, int]:
    """Bytes of the block at ``address``, compressed and before compression; 0 and 0 at the end of the file."""
    handle.seek(address)
    head = handle.read(18)
    if not head:
        return 0, 0
    magic, size = struct.unpack("<4s12xH", head)
    if magic != BGZF_MAGIC or size + 1 < _SHORTEST_BLOCK:
        raise ValueError(address)
    handle.seek(address + size + 1 - 4)
    (n_text,) = struct.unpack("<I", handle.read(4))
    return size + 1, n_text
