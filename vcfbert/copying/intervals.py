"""The intervals between typed sites, and the distinct alleles that reference haplotypes carry in each.

Between two typed sites, haplotypes that carry the same alleles are interchangeable (Howie et al. 2012, Nat. Genet.
44:955). A panel's blocks of sites already say which haplotypes are alike (``genotypes/site_blocks.py``). An interval is
put together from the parts of blocks that it covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from vcfbert.genotypes.site_blocks import RowNumbers, Rows, SiteBlocks
from vcfbert.kernels import Alleles, Indices, Numbers, compiled, divide_among_threads

WORD_SITES: Final = 64
# A haplotype's row numbers in so many intervals lie in one line of the processor's cache. A target reads the numbers of
# its K states, interval after interval. Among many haplotypes each of them would otherwise be a line of its own.
GROUP: Final = 16


@dataclass(frozen=True)
class Intervals:
    """The l sites of a window, cut after each of t typed sites, and the distinct rows of each interval.

    Interval s holds the sites after typed site s - 1, up to and including typed site s. Interval 0 begins at the
    window's first site and interval t ends at its last. Typed sites may lie outside the window. A row's alleles at an
    interval of m sites are ceil(m / 64) words.
    """

    bounds: Indices  # [t + 2], each interval's first site, and l
    # [ceil((t + 1) / GROUP), r, GROUP], the distinct row that each of r reference haplotypes has in each interval of a
    # group.
    number: Numbers
    counts: Indices  # [t + 1], distinct rows of each interval
    first_word: Indices  # [t + 1], each interval's first word; those of a row are next to each other
    words: Rows  # bit i of a row's words is 1 where it has ALT at the interval's site i

    @classmethod
    def cut(
        cls, blocks: SiteBlocks, sites: slice | Indices, place: Indices, haplotypes: Indices, *, threads: int = 1
    ) -> Intervals:
        """Cuts ``sites`` (panel site indices, ascending) for ``haplotypes`` int64 [r].

        ``place`` int64 [t], ascending: the index of each typed site among ``sites``, or of the last one before it.
        """
        site = np.arange(blocks.n_sites)[sites]
        bounds = np.concatenate([[0], place + 1, [len(site)]]).clip(0, len(site))
        parts = block_parts(blocks, site, bounds)
        count = len(bounds) - 1
        number = np.zeros((-(-count // GROUP), len(haplotypes), GROUP), dtype=np.int32)
        counts = np.ones(count, dtype=np.int64)
        stored = (blocks.first_row, blocks.rows, blocks.number)
        chosen = np.ascontiguousarray(haplotypes, dtype=np.int64)

        def number_groups(groups: Indices) -> None:  # two threads must not write to one line
            some = (groups[:, None] * GROUP + np.arange(GROUP)).reshape(-1)
            number_alike(some[some < count], *stored, *parts, chosen, number, counts)

        divide_among_threads(number_groups, len(number), threads)
        width = -(-np.diff(bounds) // WORD_SITES)  # words of a row
        first_word = np.concatenate([[0], np.cumsum(width * counts)])
        words = np.zeros(int(first_word[-1]), dtype=np.uint64)
        divide_among_threads(
            lambda some: fill_words(some, *stored, *parts, chosen, number, width, first_word, words),
            count,
            threads,
        )
        return cls(bounds, number, counts, first_word[:-1], words)

    def numbers(self, s: int) -> Numbers:
        """The row [r] of each reference haplotype in interval ``s``."""
        return self.number[s // GROUP, :, s % GROUP]

    def alleles(self, s: int) -> Alleles:
        """Alleles uint8 [rows, sites] of the distinct rows of interval ``s``."""
        return row_alleles(self.bounds, self.counts, self.first_word, self.words, s)


def row_alleles(bounds: Indices, counts: Indices, first_word: Indices, words: Rows, s: int) -> Alleles:
    """``Intervals.alleles``, from its arrays."""
    n_sites = int(bounds[s + 1] - bounds[s])
    width = -(-n_sites // WORD_SITES)
    own = np.ascontiguousarray(words[first_word[s] :][: counts[s] * width]).reshape(counts[s], width)
    return np.unpackbits(own.astype("<u8").view(np.uint8), axis=1, count=n_sites, bitorder="little")


def block_parts(blocks: SiteBlocks, site: Indices, bounds: Indices) -> tuple[Indices, Indices, Indices, Indices]:
    """Cuts ``site`` (panel site indices [l]) wherever an interval or a block begins, or a site is left out.

    Returns each part's block, its first site in the block and its number of sites [p], and each interval's first part
    [t + 2].
    """
    block = np.searchsorted(blocks.first_site, site, side="right") - 1
    begins = np.ones(len(site), dtype=bool)
    begins[1:] = (np.diff(site) != 1) | (np.diff(block) != 0)
    begins[bounds[(bounds > 0) & (bounds < len(site))]] = True
    start = np.flatnonzero(begins)
    length = np.diff(np.append(start, len(site)))
    own = block[start]
    return own, site[start] - blocks.first_site[own], length, np.searchsorted(start, bounds)


@compiled
def number_alike(
    intervals: Indices, first_row: Indices, rows: Rows, row_number: RowNumbers, block: Indices, shift: Indices,
    length: Indices, first_part: Indices, haplotypes: Indices, number: Numbers, counts: Indices,
) -> None:  # fmt: skip
    """Fills ``number``, as in ``Intervals``, and ``counts`` [t + 1] for ``intervals``, rows in the order of alleles.

    The order of two rows does not depend on the other haplotypes. Neither does the order in which their probabilities
    are added.
    """
    for s in intervals:
        alleles = [np.zeros((1, len(haplotypes)), np.uint64)]
        for part in range(first_part[s], first_part[s + 1]):
            own = rows[first_row[block[part]] + row_number[block[part], haplotypes].astype(np.int64)]
            place = np.arange(shift[part], shift[part] + length[part], dtype=np.uint64)
            alleles.append(own >> place[:, None] & np.uint64(1))
        distinct, inverse = np.unique(np.concatenate(alleles), axis=1, return_inverse=True)
        counts[s] = max(distinct.shape[1], 1)
        number[s // GROUP, :, s % GROUP] = inverse.reshape(-1)


@compiled
def fill_words(
    intervals: Indices, first_row: Indices, rows: Rows, row_number: RowNumbers, block: Indices, shift: Indices,
    length: Indices, first_part: Indices, haplotypes: Indices, number: Numbers, width: Indices, first_word: Indices,
    words: Rows,
) -> None:  # fmt: skip
    """Fills the ``words`` of each distinct row of ``intervals``, all 0 before. ``width`` [t + 1]: words of a row.

    ``first_word`` [t + 2]: each interval's first word, and their number.
    """
    for s in intervals:
        _, one_of_each = np.unique(number[s // GROUP, :, s % GROUP], return_index=True)
        own = words[first_word[s] : first_word[s + 1]].reshape(len(one_of_each), width[s])
        site = 0
        for part in range(first_part[s], first_part[s + 1]):
            whole = rows[first_row[block[part]] + row_number[block[part], haplotypes[one_of_each]].astype(np.int64)]
            for place in range(shift[part], shift[part] + length[part]):
                own[:, site // WORD_SITES] |= (whole >> np.uint64(place) & np.uint64(1)) << np.uint64(site % WORD_SITES)
                site += 1
