"""Arguments of the kernels of intervals, for the contract suite."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.kernel_cases import KernelCase
from vcfbert.copying import intervals
from vcfbert.genotypes.site_blocks import SiteBlocks


def alike(rng: np.random.Generator) -> tuple[Any, ...]:
    blocks = SiteBlocks.of_alleles((rng.random((30, 150)) < 0.05).astype(np.uint8))
    site = np.delete(np.arange(3, 145), [5, 90, 91])
    bounds = np.array([0, 0, 1, 40, 111, 139, 139])
    parts, haplotypes = intervals.block_parts(blocks, site, bounds), rng.permutation(30)[:20]
    some, stored = rng.permutation(6), (blocks.first_row, blocks.rows, blocks.number)
    return some, *stored, *parts, haplotypes, np.zeros((1, 20, intervals.GROUP), np.int32), np.zeros(6, np.int64)


def words(rng: np.random.Generator) -> tuple[Any, ...]:
    some, *given, number, counts = alike(rng)
    intervals.number_alike.plain(some, *given, number, counts)
    width = np.array([0, 1, 1, 2, 1, 0])
    first_word = np.concatenate([[0], np.cumsum(width * counts)])
    return some, *given, number, width, first_word, np.zeros(first_word[-1], np.uint64)


INTERVAL_CASES: list[KernelCase] = [
    (intervals.number_alike, alike),
    (intervals.fill_words, words),
]
