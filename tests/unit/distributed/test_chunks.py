"""Division of a job into chunks of sites and groups of samples."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcfbert.distributed.chunks import cut_samples, cut_sites
from vcfbert.genotypes.windows import tile

CM = np.arange(1000) * 0.01
WINDOWS = tile(CM, length=100, flank=10, span_cm=0.5)
NONE_JOINED = np.zeros(1000, dtype=bool)


def test_cut_sites_equals_hand_computed_chunks() -> None:
    starts = [window.start for window in WINDOWS]  # cores of 77 sites, 100 with their flanks
    assert starts[:4] == [0, 65, 142, 219]
    assert cut_sites(WINDOWS, CM, NONE_JOINED, (0, 290), length_cm=0.0) == [(0, 65), (65, 142), (142, 219), (219, 290)]
    assert cut_sites(WINDOWS, CM, NONE_JOINED, (0, 300), length_cm=1.0) == [(0, 142), (142, 300)]  # not 296
    assert cut_sites(WINDOWS, CM, NONE_JOINED, (70, 300), length_cm=0.7) == [(70, 142), (142, 219), (219, 300)]
    assert cut_sites(WINDOWS, CM, NONE_JOINED, (0, 1000), length_cm=50.0) == [(0, 1000)]


def test_cut_sites_never_divides_a_multiallelic_record() -> None:
    joined = NONE_JOINED.copy()
    joined[[141, 142]] = True  # sites 140 to 142 are one record
    assert cut_sites(WINDOWS, CM, joined, (0, 300), length_cm=1.0) == [(0, 140), (140, 300)]


def test_cut_sites_prefers_cuts_between_disjoint_windows() -> None:
    windows = tile(CM[:399], length=100, flank=0, span_cm=0.5)
    assert [(window.start, window.stop) for window in windows] == [(0, 100), (100, 200), (199, 299), (299, 399)]
    cuts = [cut_sites(windows, CM, NONE_JOINED, (0, 399), length_cm=length) for length in (0.0, 0.9, 1.5)]
    assert cuts[0] == [(0, 100), (100, 199), (199, 299), (299, 399)]
    assert cuts[1] == [(0, 100), (100, 299), (299, 399)]
    assert cuts[2] == [(0, 299), (299, 399)]


@given(st.integers(0, 998), st.integers(1, 1000), st.floats(0.0, 12.0))
def test_chunks_tile_the_interval_and_have_the_minimum_length(first: int, length: int, length_cm: float) -> None:
    last = min(first + length, 1000)
    chunks = cut_sites(WINDOWS, CM, NONE_JOINED, (first, last), length_cm=length_cm)
    assert (chunks[0][0], chunks[-1][1]) == (first, last)
    assert all(before[1] == after[0] for before, after in pairwise(chunks))
    assert all(start < stop for start, stop in chunks)
    assert all(CM[stop] - CM[start] >= length_cm for start, stop in chunks[:-1])
    assert len(chunks) == 1 or CM[last - 1] - CM[chunks[-1][0]] >= length_cm / 2


@pytest.mark.parametrize(
    ("n", "max_samples", "sizes"), [(7, 7, [7]), (7, 3, [2, 3, 2]), (1, 500, [1]), (6, 2, [2, 2, 2])]
)
def test_cut_samples_gives_groups_of_nearly_equal_size(n: int, max_samples: int, sizes: list[int]) -> None:
    groups = cut_samples(n, max_samples)
    assert [last - first for first, last in groups] == sizes
    assert (groups[0][0], groups[-1][1]) == (0, n)
