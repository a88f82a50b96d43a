from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vcfbert.genotypes.sample_copies import CopyFinder, with_copies

N_SITES = 400


def random_alleles(n_samples: int, *, n_sites: int = N_SITES, seed: int = 1) -> npt.NDArray[np.uint8]:
    """Haplotypes [2 * n_samples, n_sites] drawn site by site."""
    rng = np.random.default_rng(seed)
    return (rng.random((2 * n_samples, n_sites)) < rng.uniform(0.05, 0.95, n_sites)).astype(np.uint8)


def copies(
    alleles: npt.NDArray[np.uint8], asked: list[int], *, haploid: tuple[int, ...] = (), block: int = N_SITES
) -> list[set[int]]:
    """The copies of the samples ``asked`` for, of haplotypes [haplotypes, sites] given in blocks of sites."""
    n_samples = (len(alleles) + len(haploid)) // 2
    finder = CopyFinder(n_samples, haploid)
    for start in range(0, alleles.shape[1], block):
        part = alleles[:, start : start + block]
        finder.add(np.packbits(part.T, axis=1), part.sum(axis=0, dtype=np.int64))
    return [set(group) for group in finder.copies_of(asked)]


def test_equal_samples_are_copies_in_either_order_of_haplotypes() -> None:
    alleles = random_alleles(6)
    alleles[[4, 5]] = alleles[[1, 0]]
    assert copies(alleles, [0, 1, 2]) == [{0, 2}, {1}, {0, 2}]


def test_copy_with_errors_is_found_and_sibling_is_not() -> None:
    alleles = random_alleles(5)
    alleles[[2, 3]] = alleles[[0, 1]] ^ (np.random.default_rng(2).random((2, N_SITES)) < 0.005)
    alleles[[4, 5]] = alleles[[0, 7]]  # shares one haplotype
    assert copies(alleles, [0]) == [{0, 1}]


def test_homozygous_sample_is_copy_of_haploid_one() -> None:
    alleles = random_alleles(5)[:9]
    alleles[[3, 4]] = alleles[0]
    assert copies(alleles, [0, 1], haploid=(0,)) == [{0, 2}, {1}]


@pytest.mark.parametrize("block", [1, 7, 5000])
def test_compared_sites_do_not_depend_on_blocks(block: int) -> None:
    alleles = random_alleles(4, n_sites=5000)
    alleles[[2, 3], :2500] = alleles[[0, 1], :2500]
    alleles[[6, 7]] = alleles[[4, 5]]
    assert copies(alleles, [0, 2], block=block) == [{0}, {2, 3}]


def test_samples_over_few_varying_sites_are_no_copies() -> None:
    alleles = np.repeat(random_alleles(1, n_sites=39), 8, axis=0)
    alleles[::2] ^= 1
    assert copies(alleles, [0]) == [{0}]


def test_copies_are_held_out_with_the_chosen() -> None:
    groups = [frozenset({1, 4}), frozenset({3})]
    assert with_copies([1, 3], groups, 10) == (1, 3, 4)


def test_sample_with_too_many_copies_is_not_held_out() -> None:
    groups = [frozenset(range(8)), frozenset({9})]
    assert with_copies([1, 9], groups, 10) == (9,)
    assert with_copies([1], groups[:1], 10) == (1,)
