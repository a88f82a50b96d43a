"""Writes and reads BGZF, the blocked gzip format of VCF.gz and BCF files, and its indexes. Threads compress the blocks.

The formats are those of the SAM (section 4.1), tabix and CSI specifications of hts-specs. All blocks but the last have
the same number of bytes before compression. A record's virtual offset therefore follows from its offset in these bytes,
and indexing needs no second pass over the file.
"""

from __future__ import annotations

import io
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from vcfbert.errors import InputError

_MAX_TEXT: Final = 1 << 16  # bytes of a block, of any writer
BLOCK_BYTES: Final = 0xFF00  # text of a block; incompressible text of this size still fits into 64 KiB
# The empty block that ends every complete BGZF file.
EOF_BLOCK: Final = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
GZIP_MAGIC: Final = b"\x1f\x8b"
BGZF_MAGIC: Final = b"\x1f\x8b\x08\x04"  # of gzip with an extra field
# Magic, deflate, FEXTRA, no time, and an extra field of 6 bytes: "BC", its length 2, and the block's size.
_BLOCK_HEAD: Final = bytes.fromhex("1f8b08040000000000ff060042430200")
_BLOCK_OVERHEAD: Final = len(_BLOCK_HEAD) + 2 + 8

_BLOCKS_PER_TASK: Final = 16
_TASK_BYTES: Final = _BLOCKS_PER_TASK * BLOCK_BYTES
_BLOCKS_READ: Final = 64  # of 4 MB of text, decompressed by one task
# Measured on imputed VCF text, MB/s on one core and ratio: ISA-L level 1 820, 7.3; libdeflate level 1 340, 7.8;
# zlib-ng level 2 360, 7.4; zlib level 1 230, 7.0; bgzip's default 50, 9.0.
_LEVEL: Final = 1

# log2 of the positions of the smallest bin, and the levels of wider bins, each of eight narrower ones.
_MIN_SHIFT: Final = 14
_TABIX_DEPTH: Final = 5
_CSI_DEPTH: Final = 6  # as htslib's, for chromosomes of unknown length
# Largest 1-based position that a tabix index can hold.
MAX_TABIX_POSITION: Final = 1 << 29


def compress_block(text: bytes | memoryview) -> bytes:
    """Compresses at most ``BLOCK_BYTES`` bytes of text to one BGZF block."""
    body = isal_zlib.compress(text, _LEVEL, -15)
    size = struct.pack("<H", len(body) + _BLOCK_OVERHEAD - 1)
    return b"".join((_BLOCK_HEAD, size, body, struct.pack("<II", isal_zlib.crc32(text), len(text))))


def _compress_task(*pieces: bytes | memoryview) -> list[bytes]:
    text = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    view = memoryview(text)
    return [compress_block(view[i : i + BLOCK_BYTES]) for i in range(0, len(text), BLOCK_BYTES)]


def compress(text: bytes) -> bytes:
    """Compresses text to the bytes of a whole BGZF file."""
    return b"".join((*_compress_task(text), EOF_BLOCK))


class BgzfWriter:
    """A context manager that compresses written text into ``handle`` on ``threads`` threads.

    On exit without an error it writes the remaining text and the end-of-file block. The handle stays open.
    """

    def __init__(self, handle: BinaryIO, *, threads: int = 1) -> None:
        self._handle = handle
        self._pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="bgzf")
        self._pending: deque[Future[list[bytes]]] = deque()
        self._max_pending = 2 * max(threads, 1)
        self._waiting: list[memoryview] = []  # text not yet submitted to the pool
        self._waiting_bytes = 0
        self._block_sizes: list[int] = []  # compressed

    def write(self, text: bytes | memoryview) -> None:
        """Adds text of any length. The caller must not change it afterwards."""
        rest = memoryview(text)
        while len(rest):
            piece = rest[: _TASK_BYTES - self._waiting_bytes]
            self._waiting.append(piece)
            self._waiting_bytes += len(piece)
            rest = rest[len(piece) :]
            if self._waiting_bytes == _TASK_BYTES:
                self._submit()

    def _submit(self) -> None:
        self._pending.append(self._pool.submit(_compress_task, *self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        if len(self._pending) > self._max_pending:
            self._take_first()

    def _take_first(self) -> None:
        blocks = self._pending.popleft().result()
        self._block_sizes += map(len, blocks)
        self._handle.write(b"".join(blocks))

    def __enter__(self) -> BgzfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._pool:
            if error is not None:
                self._pool.shutdown(cancel_futures=True)
                return
            if self._waiting:
                self._submit()
            while self._pending:
                self._take_first()
        self._handle.write(EOF_BLOCK)

    def virtual_offsets(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Virtual offsets of the given offsets in the text. Call it after the context is left."""
        block_starts = np.concatenate([[0], np.cumsum(self._block_sizes, dtype=np.int64)])
        block, within = np.divmod(offsets, BLOCK_BYTES)
        return (block_starts[block] << 16) | within


@dataclass(frozen=True)
class RecordOffsets:
    """The records of one chromosome in a VCF.gz, sorted by position.

    ``start``, ``stop`` [r]: 0-based half-open intervals on the reference. ``offsets`` [r + 1]: virtual offsets of the
    records' lines, and of the end of the last line.
    """

    chrom: str
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]


def tabix_index(chromosomes: Sequence[RecordOffsets]) -> bytes:
    """The bytes of the .tbi file of a VCF.gz. ``chromosomes`` has each chromosome once, in the file's order."""
    names = b"".join(records.chrom.encode() + b"\0" for records in chromosomes)
    # Columns of a VCF (format 2, CHROM 1, POS 2, no END), comments start with '#', no line skipped.
    parts = [b"TBI\1", struct.pack("<8i", len(chromosomes), 2, 1, 2, 0, ord("#"), 0, len(names)), names]
    for records in chromosomes:
        linear = _linear_index(records)
        chunks = _chunks_of_bins(records, _TABIX_DEPTH)
        parts.append(struct.pack("<i", len(chunks)))
        for bin_, of_bin in chunks.items():
            parts += [struct.pack("<Ii", bin_, len(of_bin)), *(struct.pack("<2Q", *chunk) for chunk in of_bin)]
        parts += [struct.pack("<i", len(linear)), linear.astype("<u8").tobytes()]
    return compress(b"".join(parts))


def csi_index(chromosomes: Sequence[RecordOffsets]) -> bytes:
    """The bytes of the .csi file of a BCF. ``chromosomes`` has each chromosome of the header once, in its order."""
    parts = [b"CSI\1", struct.pack("<3i", _MIN_SHIFT, _CSI_DEPTH, 0), struct.pack("<i", len(chromosomes))]
    for records in chromosomes:
        linear = _linear_index(records)
        chunks = _chunks_of_bins(records, _CSI_DEPTH)
        parts.append(struct.pack("<i", len(chunks)))
        for bin_, of_bin in chunks.items():
            statistics = bin_ == _statistics_bin(_CSI_DEPTH)
            smallest = 0 if statistics else int(linear[_first_interval(bin_, _CSI_DEPTH)])
            parts += [struct.pack("<IQi", bin_, smallest, len(of_bin))]
            parts += [struct.pack("<2Q", *chunk) for chunk in of_bin]
    return compress(b"".join(parts))


def _first_bin(level: int) -> int:
    """The number of the first bin of a level; level 0 is one bin for all positions."""
    return ((1 << 3 * level) - 1) // 7


def _statistics_bin(depth: int) -> int:
    """The number that stands for the counts of a chromosome: one after that of the last bin."""
    return _first_bin(depth + 1) + 1


def _first_interval(bin_: int, depth: int) -> int:
    """The first interval of the smallest bins' size in a bin."""
    level = max(level for level in range(depth + 1) if _first_bin(level) <= bin_)
    return (bin_ - _first_bin(level)) << 3 * (depth - level)


def _bins(records: RecordOffsets, depth: int) -> npt.NDArray[np.int64]:
    """The smallest bin that contains each record (reg2bin of the SAM specification)."""
    start, last = records.start, records.stop - 1
    bins = np.zeros(len(start), dtype=np.int64)
    for level in range(1, depth + 1):  # from wide to narrow: the narrowest stays
        shift = _MIN_SHIFT + 3 * (depth - level)
        same = start >> shift == last >> shift
        bins[same] = _first_bin(level) + (start[same] >> shift)
    return bins


def _chunks_of_bins(records: RecordOffsets, depth: int) -> dict[int, list[tuple[int, int]]]:
    """The binning index, with one chunk of the file for each run of consecutive records in the same bin."""
    if len(records.start) == 0:
        return {}
    bins, offsets = _bins(records, depth), records.offsets
    run = np.flatnonzero(np.diff(bins, prepend=-1))
    chunks: dict[int, list[tuple[int, int]]] = {}
    ends = offsets[np.append(run[1:], len(bins))].tolist()
    for bin_, first, last in zip(bins[run].tolist(), offsets[run].tolist(), ends, strict=True):
        chunks.setdefault(bin_, []).append((first, last))
    chunks[_statistics_bin(depth)] = [(int(offsets[0]), int(offsets[-1])), (len(bins), 0)]
    return chunks


def _linear_index(records: RecordOffsets) -> npt.NDArray[np.int64]:
    """For each 16 kb interval the offset of the first record that overlaps it or begins after it."""
    first, last = records.start >> _MIN_SHIFT, (records.stop - 1) >> _MIN_SHIFT
    linear = np.full(int(last.max(initial=-1)) + 1, records.offsets[-1])
    np.minimum.at(linear, first, records.offsets[:-1])
    for i in np.flatnonzero(last > first):
        intervals = slice(first[i], last[i] + 1)
        linear[intervals] = np.minimum(linear[intervals], records.offsets[i])
    return np.minimum.accumulate(linear[::-1])[::-1]


def read_blocks(handle: BinaryIO) -> Iterator[bytes]:
    """Yields the text of each block from the handle's position on. An incomplete last block is skipped.

    Raises InputError: not_bgzf, damaged_bgzf.
    """
    for block, complete in _compressed_blocks(handle):
        if complete:
            yield _text_of(block, handle)


def read_text(handle: BinaryIO, *, threads: int = 2) -> Iterator[bytes]:
    """Yields the text of a whole file, that of several blocks at once. ``threads`` decompress blocks in advance.

    A single one is the caller's, which decompresses what it needs next.

    Raises InputError as ``read_blocks``, and damaged_bgzf for an incomplete last block too.
    """
    blocks = (block for block, _ in _compressed_blocks(handle))

    def text_of(some: list[bytes]) -> bytes:
        return b"".join([_text_of(block, handle) for block in some])

    if threads == 1:
        while some := list(islice(blocks, _BLOCKS_READ)):
            yield text_of(some)
        return
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="bgzf") as pool:
        while some := list(islice(blocks, _BLOCKS_READ)):
            pending.append(pool.submit(text_of, some))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _compressed_blocks(handle: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Each block, and whether it is complete."""
    while head := handle.read(len(_BLOCK_HEAD) + 2):
        if len(head) < len(_BLOCK_HEAD) + 2:
            yield head, False
            return
        if head[:4] != _BLOCK_HEAD[:4] or head[12:16] != _BLOCK_HEAD[12:16]:
            raise InputError("not_bgzf", "not a BGZF file", where=_name(handle))
        size = int.from_bytes(head[-2:], "little") + 1
        block = head + handle.read(max(size - len(head), 0))
        yield block, len(block) == size


def _text_of(block: bytes, handle: BinaryIO) -> bytes:
    stream = isal_zlib.decompressobj(31)  # 31: with gzip's header and checksum
    try:
        text = stream.decompress(block, _MAX_TEXT)
    except isal_zlib.error as error:  # type: ignore[misc]  # its type stub calls it an instance
        raise _damaged(handle, str(error)) from error
    if not stream.eof or stream.unused_data:
        raise _damaged(handle, "its sizes do not match")
    return text


def _damaged(handle: BinaryIO, detail: str) -> InputError:
    return InputError("damaged_bgzf", f"a block is damaged ({detail})", where=_name(handle))


def _name(handle: BinaryIO) -> str | None:
    return getattr(handle, "name", None)


class OffsetSpan(NamedTuple):
    """Virtual offsets in a tabix-indexed file: of its first record, and of the requested records' begin and end."""

    first_record: int
    begin: int
    end: int


def locate(index: bytes, chrom: str, start: int, stop: int) -> OffsetSpan | None:
    """Looks up the records that overlap [start, stop) (0-based) in the bytes of a .tbi; None if there are none.

    Raises InputError: index_invalid, not_bgzf, damaged_bgzf.
    """
    data = b"".join(read_blocks(io.BytesIO(index)))
    if data[:4] != b"TBI\1":
        raise InputError("index_invalid", "not a tabix index")
    n_chroms, *_, names_bytes = struct.unpack_from("<8i", data, 4)
    names = data[36 : 36 + names_bytes].split(b"\0")[:n_chroms]
    bins_wanted = {
        bin_
        for level in range(_TABIX_DEPTH + 1)
        for shift in (_MIN_SHIFT + 3 * (_TABIX_DEPTH - level),)
        for bin_ in range(_first_bin(level) + (start >> shift), _first_bin(level) + ((stop - 1) >> shift) + 1)
    }
    place = 36 + names_bytes
    first_record, begin, end = 1 << 62, 1 << 62, 0
    for name in names:
        (n_bins,) = struct.unpack_from("<i", data, place)
        place += 4
        for _ in range(n_bins):
            bin_, n_chunks = struct.unpack_from("<Ii", data, place)
            chunks = struct.unpack_from(f"<{2 * n_chunks}Q", data, place + 8)
            place += 8 + 16 * n_chunks
            if bin_ == _statistics_bin(_TABIX_DEPTH):
                continue
            first_record = min(first_record, *chunks)
            if name == chrom.encode() and bin_ in bins_wanted:
                begin, end = min(begin, *chunks), max(end, *chunks)
        (n_intervals,) = struct.unpack_from("<i", data, place)
        linear = struct.unpack_from(f"<{n_intervals}Q", data, place + 4)
        place += 4 + 8 * n_intervals
        if name == chrom.encode() and start >> _MIN_SHIFT < n_intervals:
            begin = max(begin, linear[start >> _MIN_SHIFT])
    return OffsetSpan(first_record, begin, end) if begin < end else None
