"""Chain files, which lead from the positions of one genome build to those of another.

Reads UCSC's format, https://genome.ucsc.edu/goldenPath/help/chain.html, plain or gzipped. A chain is a list of ungapped
blocks. docs/dev/decisions.md says why no library is used.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.errors import InputError
from vcfbert.genotypes.bgzf import GZIP_MAGIC
from vcfbert.genotypes.regions import Region, names_of, same_name

Index = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Of ``Lifted.block``, where there is no block.
NO_BLOCK: Final = -1
SEVERAL_BLOCKS: Final = -2
SPLIT: Final = -3

MAX_BASES: Final = 2**31 - 1


class Lifted(NamedTuple):
    """Where n intervals of bases are in the other build."""

    pos: Index  # [n], 1-based position of the first base; meaningless without a block
    block: Index  # [n], index in ``Blocks``; NO_BLOCK, SEVERAL_BLOCKS or SPLIT where the interval is not in one block


@dataclass(frozen=True)
class Blocks:
    """The blocks of one chromosome. Dims: block. Positions are 0-based."""

    start: Index  # of the first base in this build
    size: Index  # bases
    to_chrom: npt.NDArray[np.object_]  # chromosome in the other build
    to_start: Index  # of the first base in the other build
    reverse: Flags  # True where the block is on the other build's reverse strand: positions fall as ours rise
    chain: Index  # number of the block's chain

    @property
    def sign(self) -> Index:
        """[n_blocks]: 1, or -1 on the reverse strand."""
        return np.where(self.reverse, -1, 1)

    @property
    def _to_low(self) -> Index:
        """[n_blocks]: the block's first position on the other build's forward strand."""
        return self.to_start - np.where(self.reverse, self.size - 1, 0)

    def lift(self, pos: Index, length: Index) -> Lifted:
        """Lifts the intervals of ``length`` [n] bases from the 1-based positions ``pos`` [n] on.

        An interval is lifted if one block, and no other, has all of it.
        """
        edges, holders, holder = self._pieces()
        first = np.searchsorted(edges, pos - 1, side="right")
        last = np.searchsorted(edges, pos - 2 + np.maximum(length, 1), side="right")
        block = np.where(holders[first] == 1, holder[first], np.where(holders[first] == 0, NO_BLOCK, SEVERAL_BLOCKS))
        block[(block >= 0) & (last != first)] = SPLIT
        there = np.maximum(block, 0)
        if not len(self.start):
            return Lifted(np.zeros(len(pos), dtype=np.int64), block)
        return Lifted(self.to_start[there] + self.sign[there] * (pos - 1 - self.start[there]) + 1, block)

    def _pieces(self) -> tuple[Index, Index, Index]:
        """Cuts this chromosome at the blocks' ends. Piece i ends before ``edges[i]``, and the last has no end.

        Returns the edges, ascending, the number of blocks that hold each piece, and the block's index if it is one.
        """
        ends = self.start + self.size
        edges, place = np.unique(np.concatenate([self.start, ends]), return_inverse=True)
        first, last = place[: len(ends)] + 1, place[len(ends) :] + 1
        number = np.arange(len(ends))
        change, change_of_sum = np.zeros((2, len(edges) + 1), dtype=np.int64)
        np.add.at(change, first, 1)
        np.add.at(change, last, -1)
        np.add.at(change_of_sum, first, number)
        np.add.at(change_of_sum, last, -number)
        return edges, np.cumsum(change), np.cumsum(change_of_sum)

    def to(self, chrom: str) -> Flags:
        """[n_blocks]: True where a block leads to ``chrom``."""
        names = [name for name in set(self.to_chrom) if same_name(chrom, name)]
        return np.asarray(np.isin(self.to_chrom, names), dtype=bool)

    def sources(self, region: Region, pos: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """The 1-based positions that are lifted to one of ``pos``, ascending, in the region of the other build."""
        chosen = np.flatnonzero(self.to(region.chrom))
        low = self._to_low[chosen]
        first = np.searchsorted(pos, low + 1, side="left")
        count = np.searchsorted(pos, low + self.size[chosen], side="right") - first
        block = np.repeat(chosen, count)
        within = np.arange(len(block)) - np.repeat(np.cumsum(count) - count, count)
        there = pos[np.repeat(first, count) + within].astype(np.int64) - 1
        found = self.start[block] + self.sign[block] * (there - self.to_start[block]) + 1
        return np.unique(found).astype(np.int32)

    def source_region(self, region: Region) -> Region:
        """The region of this build that covers ``region`` of the other one, by the chain with most bases there."""
        if region == Region(region.chrom):
            return region
        low = self._to_low
        first = np.maximum(low, region.start - 1)
        last = np.minimum(low + self.size, MAX_BASES if region.stop is None else region.stop) - 1
        bases = np.where(self.to(region.chrom), np.maximum(last - first + 1, 0), 0)
        block = np.flatnonzero((bases > 0) & (self.chain == np.argmax(np.bincount(self.chain, bases))))
        if not len(block):
            return Region(region.chrom, MAX_BASES, MAX_BASES)
        ends = np.stack([first, last])[:, block]
        here = self.start[block] + self.sign[block] * (ends - self.to_start[block]) + 1
        forward = not self.reverse[block].any()
        start = 1 if forward and region.start == 1 else int(here.min())
        return Region(region.chrom, start, None if forward and region.stop is None else int(here.max()))


@dataclass(frozen=True)
class Chain:
    """A chain file: the blocks of each chromosome of the build that it leads from."""

    path: Path
    chromosomes: dict[str, Blocks]

    def blocks_of(self, chrom: str) -> Blocks | None:
        """The blocks from ``chrom``, with or without 'chr'; None if the file has none."""
        names = names_of(chrom, self.chromosomes)
        return self.chromosomes[names[0]] if names else None


def read_chain(path: Path) -> Chain:
    """Reads a chain file. Raises InputError: file_not_found, chain_invalid."""
    columns: dict[str, list[tuple[int, int, str, int, bool, int]]] = {}
    try:
        with path.open("rb") as handle:
            zipped = handle.read(2) == GZIP_MAGIC
        with gzip.open(path) if zipped else path.open("rb") as lines:
            for chrom, block in _blocks(path, enumerate((line.decode() for line in lines), start=1)):
                columns.setdefault(chrom, []).append(block)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise _invalid(path, f"the file is cut short, damaged or no text ({error})") from error
    except OSError as error:
        what = f"the chain file cannot be read ({error.strerror})"
        raise InputError("file_not_found", what, where=str(path), hint="check the path") from error
    if not columns:
        raise _invalid(path, "the file has no chain")
    return Chain(path, {chrom: _as_blocks(rows) for chrom, rows in columns.items()})


def _as_blocks(rows: list[tuple[int, int, str, int, bool, int]]) -> Blocks:
    start, size, to_chrom, to_start, reverse, chain = zip(*rows, strict=True)
    numbers = (np.array(column, dtype=np.int64) for column in (start, size, to_start, chain))
    first, bases, to_first, of_chain = numbers
    return Blocks(first, bases, np.array(to_chrom, dtype=object), to_first, np.array(reverse, dtype=bool), of_chain)


def _blocks(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[str, tuple[int, int, str, int, bool, int]]]:
    """The chromosome and the row of each block. ``lines`` have their numbers."""
    chain = -1
    for number, line in lines:
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        chain += 1
        head = _Head.parse(path, number, fields)
        here, there = head.start, head.to_start
        while True:
            number, line = next(lines, (number + 1, ""))
            sizes = _numbers(path, number, line.split(), (1, 3))
            if here + sizes[0] > head.stop or there + sizes[0] > head.to_stop:
                raise _invalid(path, "the blocks are longer than their chain", number)
            yield head.chrom, (here, sizes[0], head.to_chrom, head.forward(there), head.reverse, chain)
            if len(sizes) == 1:
                break
            here, there = here + sizes[0] + sizes[1], there + sizes[0] + sizes[2]
        if (here + sizes[0], there + sizes[0]) != (head.stop, head.to_stop):
            raise _invalid(path, "the blocks are shorter than their chain", number)


class _Head(NamedTuple):
    """The first line of a chain. Positions are 0-based and half-open; those ``to_`` the other build by its strand."""

    chrom: str
    start: int
    stop: int
    to_chrom: str
    to_bases: int
    reverse: bool
    to_start: int
    to_stop: int

    @classmethod
    def parse(cls, path: Path, number: int, fields: list[str]) -> _Head:
        """``fields``: 'chain', score, and name, length, strand, start and end in each build; then perhaps an ID."""
        if fields[0] != "chain" or len(fields) not in (12, 13):
            raise _invalid(path, "a chain does not begin with 'chain' and 11 or 12 fields", number)
        if fields[4] != "+" or fields[9] not in ("+", "-"):
            raise _invalid(path, f"the strands are {fields[4]!r} and {fields[9]!r}, not '+' and '+' or '-'", number)
        places = [fields[place] for place in (3, 5, 6, 8, 10, 11)]
        bases, start, stop, to_bases, to_start, to_stop = _numbers(path, number, places, (6,))
        if not (start < stop <= bases and to_start < to_stop <= to_bases):
            raise _invalid(path, "a chain is not within its chromosomes", number)
        return cls(fields[2], start, stop, fields[7], to_bases, fields[9] == "-", to_start, to_stop)

    def forward(self, there: int) -> int:
        """The position on the forward strand of the other build."""
        return self.to_bases - 1 - there if self.reverse else there


def _numbers(path: Path, number: int, fields: list[str], lengths: tuple[int, ...]) -> list[int]:
    valid = len(fields) in lengths and all(text.isdecimal() and len(text) <= 10 for text in fields)
    values = [int(text) for text in fields] if valid else []
    if not values or max(values) > MAX_BASES:
        expected = " or ".join(map(str, lengths))
        raise _invalid(path, f"{expected} whole numbers below 2^31 are expected, not {' '.join(fields)[:80]!r}", number)
    return values


def _invalid(path: Path, what: str, number: int | None = None) -> InputError:
    return InputError(
        "chain_invalid",
        f"not a chain file: {what}",
        where=str(path) if number is None else f"{path}, line {number}",
        hint="give a chain file of UCSC's format, such as hg19ToHg38.over.chain.gz",
    )
