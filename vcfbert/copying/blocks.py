"""Cuts typed sites into blocks within which many reference haplotypes carry the same alleles.

The compiled passes over pairs of haplotypes (``pair_forward.py``, ``pair_sampling.py``) work block by block. Haplotypes
with the same alleles in a block form a class and share their state there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, Numbers, jitted

Float = np.float32
Classes = npt.NDArray[np.uint32]  # unsigned: numba skips the check for negative indices, a third of a look-up's time
Seeds = npt.NDArray[np.uint64]


class Target(NamedTuple):
    """One target over t sites, cut into blocks, and buffers for what the forward pass keeps of a span of blocks."""

    alleles: Alleles  # [t, k]: of the haplotypes it may copy
    calls: Calls  # [t]: genotypes
    stay: Doubles  # [t + 1]: probability of no switch before each site, 0 at both ends
    mismatch: Doubles  # [t]: probability that the observed allele differs from the copied one
    prior: Floats  # [k]: probability of each haplotype after a switch
    first: Indices  # [n_blocks + 1]: each block's first site
    classes: Classes  # [n_blocks, k]: each haplotype's class
    counts: Numbers  # [n_blocks]: classes of each block
    unswitched: Floats  # [rows, k], with one row for each site and each block of the longest span
    switched: Floats  # [rows, maximum number of classes]
    mass: Doubles  # [rows]


class Block(NamedTuple):
    """A block of b sites whose k haplotypes form u classes, and what the forward pass keeps of it.

    ``stay`` has one more entry, for the site after the block. ``unswitched``, ``switched`` and ``mass`` are R, M and T
    of ``pair_forward.py``. Their first row is at the block's start, and each site has one more row. The mass of a site
    is the probability of its genotype given the genotypes before it.
    """

    alleles: Alleles  # [b, k]
    calls: Calls  # [b]
    stay: Doubles  # [b + 1]
    mismatch: Doubles  # [b]
    classes: Classes  # [k]
    member: Numbers  # [u]: one haplotype of each class
    prior: Floats  # [k]
    class_prior: Floats  # [u]
    unswitched: Floats  # [b + 1, k]
    switched: Floats  # [b + 1, u]
    mass: Doubles  # [b + 1]


@jitted
def blocks(alleles: Alleles, max_classes: int, max_sites: int) -> tuple[Indices, Classes, Numbers]:
    """Cuts ``alleles`` [t, k] into blocks of at most ``max_classes`` classes and ``max_sites`` sites.

    Returns the blocks' first sites, followed by t, [n_blocks + 1], each haplotype's class [n_blocks, k] and the number
    of classes [n_blocks].
    """
    t, k = alleles.shape
    first = np.empty(t + 1, np.int64)
    classes = np.empty((t, k), np.uint32)
    counts = np.empty(t, np.int32)
    renamed = np.empty(2 * max_classes, np.int32)
    n_blocks = 0
    site = 0
    while site < t:
        first[n_blocks] = site
        own = classes[n_blocks]
        own[:] = 0
        count = 1
        while site < t and site - first[n_blocks] < max_sites:
            # The site's alleles split each class into two parts at most. Parts without haplotypes get no number, so
            # only classes that occur count towards ``max_classes``.
            renamed[: 2 * count] = -1
            split = 0
            for j in range(k):
                name = 2 * own[j] + alleles[site, j]
                if renamed[name] < 0:
                    renamed[name] = split
                    split += 1
            if split > max_classes:
                break
            for j in range(k):
                own[j] = renamed[2 * own[j] + alleles[site, j]]
            count = split
            site += 1
        counts[n_blocks] = count
        n_blocks += 1
    first[n_blocks] = t
    return first[: n_blocks + 1], classes[:n_blocks], counts[:n_blocks]


@jitted
def block_of(target: Target, number: int, span_start: int) -> Block:
    """Block ``number`` of a target, with views of the buffers, which hold the span of blocks from ``span_start`` on."""
    start, stop = target.first[number], target.first[number + 1]
    classes, n_classes = target.classes[number], target.counts[number]
    member = np.empty(n_classes, np.int32)
    class_prior = np.zeros(n_classes, np.float32)
    for j in range(len(classes)):
        member[classes[j]] = j
        class_prior[classes[j]] += target.prior[j]
    low = start - target.first[span_start] + number - span_start
    rows = slice(low, low + stop - start + 1)
    return Block(
        target.alleles[start:stop],
        target.calls[start:stop],
        target.stay[start : stop + 1],
        target.mismatch[start:stop],
        classes,
        member,
        target.prior,
        class_prior,
        target.unswitched[rows],
        target.switched[rows, :n_classes],
        target.mass[rows],
    )
