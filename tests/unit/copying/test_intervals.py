"""Intervals between typed sites: by hand, and that they keep every allele."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tests.helpers.intervals import intervals_of
from vcfbert.copying.intervals import Intervals
from vcfbert.genotypes.site_blocks import SiteBlocks


def rows_of(intervals: Intervals, s: int) -> list[list[int]]:
    """The alleles that each reference haplotype has in interval ``s``."""
    return intervals.alleles(s)[intervals.numbers(s)].tolist()


def test_cut_by_hand() -> None:
    alleles = np.array([[0, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 1], [0, 1, 1, 0, 0, 1]], np.uint8)
    intervals = intervals_of(alleles, np.array([-2, 1, 1 + 3, 9]))
    # up to -2: empty | up to 1: two | up to 4: three | up to 9: the last one | beyond: empty
    assert intervals.bounds.tolist() == [0, 0, 2, 5, 6, 6]
    assert intervals.counts.tolist() == [1, 2, 2, 1, 1]
    assert intervals.numbers(1).tolist() == [0, 0, 1]
    assert rows_of(intervals, 0) == [[], [], []]
    assert rows_of(intervals, 1) == [[0, 0], [0, 0], [0, 1]]
    assert rows_of(intervals, 2) == [[1, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert rows_of(intervals, 3) == [[1], [1], [1]]


@pytest.mark.parametrize("place", [[0, 4, 30, 69], [], [150], [63], [64], list(range(300))])
def test_cut_keeps_every_allele(place: list[int]) -> None:
    rng = np.random.default_rng(2)
    alleles = rng.integers(0, 2, (3, 300))[rng.integers(3, size=12)].astype(np.uint8)
    intervals = intervals_of(alleles, np.array(place, np.int64))
    whole = np.concatenate([np.array(rows_of(intervals, s)) for s in range(len(place) + 1)], axis=1)
    np.testing.assert_array_equal(whole, alleles)
    parts = np.split(alleles, np.array(place, np.int64) + 1, axis=1)
    assert intervals.counts.tolist() == [max(len(np.unique(part, axis=0)), 1) for part in parts]


def test_some_sites_and_haplotypes_are_cut_as_if_there_were_no_others() -> None:
    rng = np.random.default_rng(3)
    alleles = rng.integers(0, 2, (20, 200)).astype(np.uint8)
    sites, haplotypes = np.sort(rng.permutation(200)[:90]), np.array([3, 4, 11, 19])
    place = np.array([2, 40, 41, 80])
    found = Intervals.cut(SiteBlocks.of_alleles(alleles), sites, place, haplotypes, threads=2)
    expected = intervals_of(alleles[np.ix_(haplotypes, sites)], place)
    for part in fields(expected):
        np.testing.assert_array_equal(getattr(found, part.name), getattr(expected, part.name), err_msg=part.name)


def test_two_rows_have_the_same_order_among_any_other_haplotypes() -> None:
    alleles = np.random.default_rng(4).integers(0, 2, (40, 9)).astype(np.uint8)
    whole = intervals_of(alleles, np.array([3]))
    for seed in range(5):
        some = np.random.default_rng(seed).permutation(40)[:10]
        part = intervals_of(alleles[some], np.array([3]))
        for s in range(2):
            np.testing.assert_array_equal(
                np.argsort(part.numbers(s), kind="stable"), np.argsort(whole.numbers(s)[some], kind="stable")
            )
