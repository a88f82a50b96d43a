"""A panel's alleles, in blocks of up to 64 consecutive sites.

In a block many haplotypes carry the same alleles. The block has each distinct *row* of alleles once, as 64 bits, and
each haplotype's row as a number of 16 bits. For 64 sites, h haplotypes take 2 h bytes, and a distinct row takes 8.
Single bits would take 8 h bytes. Imputation reads rows and numbers from the memory-mapped file as they are. What
haplotypes with the same row have in common is computed once for the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Alleles, Bits, Indices, compiled

Rows = npt.NDArray[np.uint64]
RowNumbers = npt.NDArray[np.uint16]

BLOCK_SITES: Final = 64
MAX_ROWS: Final = 1 << 16  # distinct rows of a block; a block with more is cut after half of its sites


@dataclass(frozen=True)
class SiteBlocks:
    """The alleles of h haplotypes at l sites, in b blocks. Arrays may be memory-mapped."""

    first_site: Indices  # [b + 1], each block's first site, and l
    first_row: Indices  # [b + 1], each block's first row, and the number of rows
    rows: Rows  # [rows]: bit i is 1 where the row has ALT at the block's site i
    number: RowNumbers  # [b, h]: each haplotype's row in a block, from 0

    @classmethod
    def of(cls, packed: Alleles, n_haplotypes: int) -> SiteBlocks:
        """Cuts ``packed`` uint8 [l, ceil(h / 8)]: bit h of row l, big-endian, is 1 where haplotype h carries ALT."""
        counts, rows, numbers = [0], [np.empty(0, np.uint64)], [np.empty((0, n_haplotypes), np.uint16)]
        for n_sites, own_rows, number in cut_blocks(packed, n_haplotypes):
            counts.append(n_sites)
            rows.append(own_rows)
            numbers.append(number[None])
        first_row = np.cumsum([len(own) for own in rows], dtype=np.int64)
        return cls(np.cumsum(counts, dtype=np.int64), first_row, np.concatenate(rows), np.concatenate(numbers))

    @classmethod
    def of_alleles(cls, alleles: Alleles) -> SiteBlocks:
        """Cuts ``alleles`` uint8 [h, l]."""
        return cls.of(np.packbits(alleles.T, axis=1), len(alleles))

    def __len__(self) -> int:
        return len(self.number)

    @property
    def n_sites(self) -> int:
        return int(self.first_site[-1])

    @property
    def n_haplotypes(self) -> int:
        return int(self.number.shape[1])

    def alleles(self, sites: slice | Indices, haplotypes: Indices | None = None) -> Alleles:
        """Alleles uint8 [n chosen haplotypes, n chosen sites], 0 = REF, 1 = ALT. None means all haplotypes."""
        chosen = np.arange(self.n_haplotypes) if haplotypes is None else haplotypes
        site = np.arange(self.n_sites)[sites]
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < self.n_haplotypes:
            raise IndexError(f"haplotypes must lie in 0..{self.n_haplotypes - 1}")
        block = np.searchsorted(self.first_site, site, side="right") - 1
        out = np.empty((len(chosen), len(site)), dtype=np.uint8)
        unpack(
            self.first_row, self.rows, self.number, block, site - self.first_site[block],
            np.ascontiguousarray(chosen, dtype=np.int64), out,
        )  # fmt: skip
        return out

    def bits(self, sites: Indices, haplotypes: Indices) -> Bits:
        """Alleles uint64 [n ``haplotypes``, ceil(n sites / 64)]: bit i of word j is 1 where the haplotype has ALT at
        ``sites[64 * j + i]``. ``sites``: site indices, ascending.
        """
        block = np.searchsorted(self.first_site, sites, side="right") - 1
        out = np.zeros((len(haplotypes), -(-len(sites) // 64)), dtype=np.uint64)
        gather_bits(self.first_row, self.rows, self.number, block, sites - self.first_site[block], haplotypes, out)
        return out

    def packed(self, sites: slice) -> Alleles:
        """Consecutive ``sites`` as ``of`` takes them."""
        start, stop, _ = sites.indices(self.n_sites)
        out = np.empty((max(stop - start, 0), -(-self.n_haplotypes // 8)), dtype=np.uint8)
        pack(self.first_site, self.first_row, self.rows, self.number, start, out)
        return out

    def allele_counts(self, haplotypes: Indices) -> Indices:
        """Number [l] of ``haplotypes`` that carry ALT at each site."""
        counts = np.empty(self.n_sites, dtype=np.int64)
        count_alleles(self.first_site, self.first_row, self.rows, self.number, haplotypes, counts)
        return counts

    def in_memory(self) -> SiteBlocks:
        """A copy that is not memory-mapped."""
        return SiteBlocks(self.first_site, self.first_row, np.array(self.rows), np.array(self.number))

    def is_consistent(self) -> bool:
        """Whether types, shapes and order are as above, every number is that of a row, and bits beyond a block are 0.

        The kernels rely on all of it: they read and write where these arrays say.
        """
        starts = (self.first_site, self.first_row)
        kinds: list[tuple[npt.NDArray[Any], npt.DTypeLike, int]] = [(first, np.int64, 1) for first in starts]
        kinds += [(self.rows, np.uint64, 1), (self.number, np.uint16, 2)]
        if any(array.dtype != kind or array.ndim != n or not array.flags.c_contiguous for array, kind, n in kinds):
            return False
        if any(len(first) != len(self) + 1 or first[0] != 0 for first in starts) or self.first_row[-1] != len(
            self.rows
        ):
            return False
        if not all((first[1:] > first[:-1]).all() for first in starts):  # a difference could overflow
            return False
        n_sites, n_rows = (np.diff(first) for first in starts)
        if (n_sites > BLOCK_SITES).any() or (self.number.max(axis=1, initial=0) >= n_rows).any():
            return False
        partial = n_sites < BLOCK_SITES
        used = np.bitwise_or.reduceat(self.rows, self.first_row[:-1])[partial]
        return not (used >> n_sites[partial].astype(np.uint64)).any()


def cut_blocks(packed: Alleles, n_haplotypes: int, *, last: bool = True) -> Iterator[tuple[int, Rows, RowNumbers]]:
    """Cuts ``packed``, as in ``SiteBlocks.of``, and gives each block's number of sites, rows and row numbers [h].

    If more sites will follow (not ``last``), sites that do not fill a block are left over.
    """
    packed = np.ascontiguousarray(packed)
    start, room = 0, np.empty(min(MAX_ROWS, max(n_haplotypes, 1)), np.uint64)
    while len(packed) - start >= (1 if last else BLOCK_SITES):
        number = np.empty(n_haplotypes, np.uint16)
        n_sites = min(BLOCK_SITES, len(packed) - start)
        while (n_rows := number_rows(packed[start : start + n_sites], number, room)) > len(room):
            n_sites = max(n_sites // 2, 1)
        yield n_sites, room[:n_rows].copy(), number
        start += n_sites


@compiled
def number_rows(packed: Alleles, number: RowNumbers, rows: Rows) -> int:
    """Fills the ``number`` [h] of each haplotype's row and the distinct ``rows``, in the order of their first use.

    ``packed`` [s, ceil(h / 8)] as in ``SiteBlocks.of``, of at most 64 sites. Returns the number of rows. If there are
    more than ``rows`` has room for, it returns that room and 1, and what it filled is of no use.
    """
    bits = np.zeros((BLOCK_SITES, len(number)), np.uint8)
    bits[: len(packed)] = np.unpackbits(packed, axis=1, count=len(number))
    words = np.packbits(bits, axis=0, bitorder="little").T.copy().view("<u8").reshape(-1)
    found, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    if len(found) <= len(rows):
        order = np.argsort(first)
        rows[: len(found)] = found[order]
        number[:] = np.argsort(order)[inverse]
    return min(len(found), len(rows) + 1)


@compiled
def unpack(
    first_row: Indices, rows: Rows, number: RowNumbers, block: Indices, place: Indices, haplotypes: Indices,
    out: Alleles,
) -> None:  # fmt: skip
    """Fills alleles ``out`` [n, l] of n ``haplotypes`` at l sites, given by ``block`` and ``place`` within it."""
    for site in range(len(block)):
        words = rows[first_row[block[site]] + number[block[site], haplotypes].astype(np.int64)]
        out[:, site] = words >> np.uint64(place[site]) & np.uint64(1)


@compiled
def pack(first_site: Indices, first_row: Indices, rows: Rows, number: RowNumbers, start: int, out: Alleles) -> None:
    """Fills ``out`` [l, ceil(h / 8)] with the alleles at l sites from ``start`` on, as ``SiteBlocks.of`` takes them."""
    for place, site in enumerate(range(start, start + len(out))):
        block = np.searchsorted(first_site, site, side="right") - 1
        words = rows[first_row[block] + number[block].astype(np.int64)]
        out[place] = np.packbits(words >> np.uint64(site - first_site[block]) & np.uint64(1) == 1)


@compiled
def gather_bits(
    first_row: Indices, rows: Rows, number: RowNumbers, block: Indices, place: Indices, haplotypes: Indices,
    out: Bits,
) -> None:  # fmt: skip
    """Sets the bits of ``out`` [n, ceil(l / 64)], all 0 before, where n ``haplotypes`` have ALT.

    The l sites are given as in ``unpack``.
    """
    for site in range(len(block)):
        words = rows[first_row[block[site]] + number[block[site], haplotypes].astype(np.int64)]
        out[:, site // 64] |= (words >> np.uint64(place[site]) & np.uint64(1)) << np.uint64(site % 64)


@compiled
def count_alleles(
    first_site: Indices, first_row: Indices, rows: Rows, number: RowNumbers, haplotypes: Indices, counts: Indices
) -> None:
    """Fills ``counts`` [l]: how many of ``haplotypes`` have ALT at each site."""
    for block in range(len(number)):
        own = rows[first_row[block] : first_row[block + 1]]
        of_row = np.bincount(number[block, haplotypes], minlength=len(own))
        for site in range(first_site[block], first_site[block + 1]):
            has_alt = own >> np.uint64(site - first_site[block]) & np.uint64(1)
            counts[site] = of_row @ has_alt.astype(np.int64)
