"""Tests of a panel's alleles in blocks of sites."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vcfbert.genotypes import site_blocks
from vcfbert.genotypes.site_blocks import BLOCK_SITES, SiteBlocks, cut_blocks


def random_alleles(h: int, l: int, *, founders: int = 3, seed: int = 1) -> np.ndarray:
    """Alleles [h, l] of haplotypes that copy a few founders, with some errors."""
    rng = np.random.default_rng(seed)
    alleles = (rng.random((founders, l)) < 0.3)[rng.integers(founders, size=h)].astype(np.uint8)
    return alleles ^ (rng.random((h, l)) < 0.01).astype(np.uint8)


@pytest.mark.parametrize("l", [0, 1, 63, 64, 65, 200])
@pytest.mark.parametrize("h", [1, 7, 8, 9, 40])
def test_alleles_are_given_back(h: int, l: int) -> None:
    alleles = random_alleles(h, l)
    blocks = SiteBlocks.of_alleles(alleles)
    assert (blocks.n_haplotypes, blocks.n_sites, len(blocks)) == (h, l, -(-l // BLOCK_SITES))
    assert np.array_equal(blocks.alleles(slice(None)), alleles)
    assert np.array_equal(blocks.packed(slice(None)), np.packbits(alleles.T, axis=1))
    assert blocks.is_consistent()


def test_alleles_of_some_sites_and_haplotypes_come_in_the_order_asked_for() -> None:
    alleles = random_alleles(30, 300)
    blocks = SiteBlocks.of_alleles(alleles)
    sites, haplotypes = np.array([250, 3, 64, 65, 66, 127, 128, 3]), np.array([29, 0, 7, 7])
    assert np.array_equal(blocks.alleles(sites, haplotypes), alleles[np.ix_(haplotypes, sites)])
    assert np.array_equal(blocks.alleles(slice(37, 291), haplotypes), alleles[haplotypes, 37:291])
    assert blocks.alleles(slice(0, 0)).shape == (30, 0)
    with pytest.raises(IndexError):
        blocks.alleles(slice(None), np.array([30]))


@pytest.mark.parametrize("n_sites", [0, 1, 64, 65, 130])
def test_bits_are_the_alleles_of_the_sites_asked_for(n_sites: int) -> None:
    alleles = random_alleles(30, 300)
    sites = np.sort(np.random.default_rng(n_sites).permutation(300)[:n_sites])
    haplotypes = np.array([29, 0, 7, 7])
    bits = SiteBlocks.of_alleles(alleles).bits(sites, haplotypes)
    assert (bits.shape, bits.dtype) == ((4, -(-n_sites // 64)), np.uint64)
    octets = bits.astype("<u8").view(np.uint8)
    found = np.unpackbits(octets, axis=1, count=n_sites, bitorder="little")
    assert np.array_equal(found, alleles[np.ix_(haplotypes, sites)])


def test_haplotypes_alike_in_a_block_share_a_row() -> None:
    alleles = np.repeat(random_alleles(5, 100), 4, axis=0)
    blocks = SiteBlocks.of_alleles(alleles)
    assert len(blocks.rows) == sum(len(np.unique(alleles[:, part], axis=0)) for part in (slice(64), slice(64, None)))


def test_allele_counts_are_those_of_the_haplotypes() -> None:
    alleles = random_alleles(30, 150)
    some = np.array([2, 3, 11, 29])
    assert np.array_equal(SiteBlocks.of_alleles(alleles).allele_counts(some), alleles[some].sum(axis=0))


def test_block_of_too_many_rows_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_blocks, "MAX_ROWS", 4)
    alleles = random_alleles(50, 130, founders=20)
    blocks = SiteBlocks.of_alleles(alleles)
    assert len(blocks) > 3
    assert np.diff(blocks.first_row).max() <= 4
    assert np.array_equal(blocks.alleles(slice(None)), alleles)


def test_sites_that_fill_no_block_are_left_over_unless_they_are_the_last() -> None:
    packed = np.packbits(random_alleles(10, 100).T, axis=1)
    assert [n_sites for n_sites, _, _ in cut_blocks(packed, 10, last=False)] == [64]
    assert [n_sites for n_sites, _, _ in cut_blocks(packed, 10)] == [64, 36]


@pytest.mark.parametrize(
    "change",
    [
        {"number": np.full((2, 10), 60_000, np.uint16)},
        {"first_row": np.array([0, 5])},
        {"first_site": np.array([0, 65, 100])},
        {"first_site": np.array([0, 2**63 - 1, -(2**63) + 36])},
        {"first_site": np.array([0, 64, 100], np.int32)},
        {"first_site": np.array([[0], [64], [100]])},
        {"first_site": np.empty(0, np.int64)},
        {"first_row": np.array(0)},
        {"rows": np.zeros(1, np.uint64)},
        {"rows": np.zeros(0, np.int64)},
        {"number": np.zeros((2, 10), np.int32)},
        {"number": np.zeros((10, 2), np.uint16).T},
        {"number": np.zeros(2, np.uint16)},
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_noticed(change: dict[str, np.ndarray]) -> None:
    blocks = SiteBlocks.of_alleles(random_alleles(10, 100))
    assert not dataclasses.replace(blocks, **change).is_consistent()


def test_bits_beyond_the_sites_of_a_block_are_noticed() -> None:
    """A kernel would count them beyond the last site."""
    blocks = SiteBlocks.of_alleles(random_alleles(10, 100))
    assert blocks.is_consistent()
    blocks.rows[-1] |= np.uint64(1 << 36)
    assert not blocks.is_consistent()


def test_blocks_whose_first_rows_overflow_are_noticed() -> None:
    blocks = SiteBlocks.of_alleles(random_alleles(10, 150))
    last = blocks.first_row[-1]
    first_row = np.array([0, 2**63 - 1, -(2**63) + 2**16, last])
    assert not dataclasses.replace(blocks, first_row=first_row).is_consistent()
