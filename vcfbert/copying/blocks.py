"""Typed sites cut into blocks within which many haplotypes are alike: what the compiled passes over pairs stand on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, Numbers, compiled

Float = np.float32
Classes = npt.NDArray[np.uint32]  # unsigned: an index that cannot be negative is looked up a third faster
Seeds = npt.NDArray[np.uint64]


class Target(NamedTuple):
    """One target over t sites, cut into blocks, with room for what the blocks of a segment leave."""

    alleles: Alleles  # [t, k]: of the haplotypes it may copy
    calls: Calls  # [t]
    stay: Doubles  # [t + 1]: 0 at both ends
    mismatch: Doubles  # [t]
    prior: Floats  # [k]
    first: Indices  # [n_blocks + 1]: each block's first site
    classes: Classes  # [n_blocks, k]
    counts: Numbers  # [n_blocks]
    unswitched: Floats  # [sites and blocks of the longest segment, k]
    switched: Floats  # [the same, most classes]
    mass: Doubles  # [the same]


@compiled
def blocks(alleles: Alleles, max_classes: int, max_sites: int) -> tuple[Indices, Classes, Numbers]:
    """Cuts ``alleles`` [t, k] into blocks: first sites [n_blocks + 1], classes [n_blocks, k] and their counts."""
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
