"""Arguments for the kernels that select states, to compare their two implementations with each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.kernel_cases import Arguments, KernelCase
from vcfbert.copying import pbwt, states


def haplotypes(rng: np.random.Generator, t: int, h: int, n: int) -> tuple[Any, ...]:
    """Alleles bool [t, h] of related haplotypes, bits of n targets where they are REF and ALT, and cM [t].

    The targets are mosaics of the panel with errors and missing calls. Some sites share a position.
    """
    founders = rng.random((t, 5)) < rng.choice([0.05, 0.3, 0.5], size=(t, 1))
    alleles = np.take_along_axis(founders, rng.integers(5, size=(1 + t // 9, h)).repeat(9, axis=0)[:t], axis=1)
    alleles ^= rng.random((t, h)) < 0.03
    calls = np.take_along_axis(alleles, rng.integers(h, size=(1 + t // 20, n)).repeat(20, axis=0)[:t], axis=1)
    calls ^= rng.random((t, n)) < 0.02
    known = rng.random((t, n)) < 0.9
    cm = np.cumsum(rng.integers(0, 4, size=t)) / 64.0
    return alleles, states.packed_alleles(~calls & known), states.packed_alleles(calls & known), cm


def whole_search(t: int, h: int, k: int, n_longest: int = 10) -> Arguments:
    def made(rng: np.random.Generator) -> tuple[Any, ...]:
        alleles, refs, alts, cm = haplotypes(rng, t, h, 4)
        exclude = np.stack([rng.permutation(np.arange(-2, h).clip(min=-1))[: min(h - k, 3)] for _ in range(4)])
        of_targets = (states.packed_alleles(alleles), refs, alts, cm, exclude, n_longest)
        return *of_targets, np.array([0, 2, 3]), np.zeros((4, k), np.int32)

    made.__name__ = f"whole_search_{t}_sites_{h}_haplotypes_{k}_states_{n_longest}_segments"
    return made


def counting(t: int, h: int, k: int) -> Arguments:
    def made(rng: np.random.Generator) -> tuple[Any, ...]:
        alleles, refs, alts, _ = haplotypes(rng, t, h, 4)
        chosen = rng.integers(h, size=(4, k)).astype(np.int32)
        return states.packed_alleles(alleles), refs, alts, chosen, np.empty((4, k), np.int32)

    made.__name__ = f"counting_{t}_sites_{h}_haplotypes_{k}_states"
    return made


def sorting(t: int, h: int, every: int, backwards: bool) -> Arguments:
    def made(rng: np.random.Generator) -> tuple[Any, ...]:
        alleles, *_ = haplotypes(rng, t, h, 1)
        return states.packed_alleles(alleles), backwards, every, pbwt.empty_sweep(t, h, every)

    made.__name__ = f"sorting_{t}_sites_{h}_haplotypes_every_{every}_{backwards=}"
    return made


def sorted_search(t: int, h: int, k: int, every: int, width: int) -> Arguments:
    def made(rng: np.random.Generator) -> tuple[Any, ...]:
        alleles, refs, alts, cm = haplotypes(rng, t, h, 4)
        order = pbwt.PanelOrder.build(states.packed_alleles(alleles), cm, max_bytes=8 * t * h // every, max_searched=0)
        assert order.sweeps is not None
        exclude = rng.integers(-1, h, size=(4, min(h - k, 3)))
        of_targets = (order.panel, refs, alts, cm, exclude, width, 10)
        return *order.sweeps, order.every, *of_targets, np.array([3, 0, 1]), np.zeros((4, k), np.int32)

    made.__name__ = f"sorted_search_{t}_sites_{h}_haplotypes_{k}_states_every_{every}_width_{width}"
    return made


STATE_CASES: list[KernelCase] = [
    (states.fill_states, whole_search(200, 333, 77)),
    (states.fill_states, whole_search(64, 70, 70)),
    (states.fill_states, whole_search(65, 40, 3, n_longest=1)),
    (states.fill_states, whole_search(128, 9, 5)),
    (states.fill_states, whole_search(1, 1, 1)),
    (states.fill_states, whole_search(0, 8, 5)),
    (states.count_mismatches, counting(130, 30, 9)),
    (states.count_mismatches, counting(0, 3, 2)),
    (pbwt.sort_haplotypes, sorting(70, 130, 1, False)),
    (pbwt.sort_haplotypes, sorting(70, 128, 4, True)),
    (pbwt.sort_haplotypes, sorting(1, 1, 3, True)),
    (pbwt.sort_haplotypes, sorting(0, 3, 1, False)),
    (pbwt.fill_sorted_states, sorted_search(90, 150, 40, 1, 3)),
    (pbwt.fill_sorted_states, sorted_search(128, 64, 61, 5, 1)),
    (pbwt.fill_sorted_states, sorted_search(1, 2, 1, 1, 16)),
]
