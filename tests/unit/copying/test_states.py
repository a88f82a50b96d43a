"""States by IBS segments, on panels made by hand and against a slow search site by site."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcfbert.copying.pbwt import PanelOrder
from vcfbert.copying.states import packed_alleles, unphased_states
from vcfbert.kernels import Alleles, Calls, Doubles, Indices, Numbers

Ints = npt.NDArray[np.int64]


def phased_states(
    observed: Calls, alleles: Alleles, cm: Doubles, k: int, exclude: Indices | None = None, **options: int
) -> Numbers:
    """The states of a panel that is searched whole."""
    order = PanelOrder.build(packed_alleles(alleles), cm, max_searched=1000)
    return order.phased_states(observed, k, exclude, **options)


def sites(text: str) -> npt.NDArray[np.uint8]:
    """[t, h] from a row of digits a haplotype."""
    return np.array([[int(c) for c in row] for row in text.split()], dtype=np.uint8).T


def searched(conflict: npt.NDArray[np.bool_], cm: npt.NDArray[np.float64], longest: int) -> list[int]:
    """All haplotypes by score, best first, from ``conflict`` [t, h], by walking along each segment."""
    t, h = conflict.shape
    scores = np.zeros(h)
    number = conflict.sum(axis=0)
    for l in range(t):
        length = np.zeros(h)
        for j in range(h):
            if conflict[l, j]:
                continue
            left = right = l
            while left > 0 and not conflict[left, j]:
                left -= 1
            while right < t - 1 and not conflict[right, j]:
                right += 1
            length[j] = cm[right] - cm[left]
        ranked = sorted(range(h), key=lambda j: (-length[j], number[j], j))
        for rank, j in enumerate(ranked[:longest]):
            if length[j] > 0:
                scores[j] += 1.0 / (rank + 1)
    return sorted(range(h), key=lambda j: (-scores[j], number[j], j))


def random_case(seed: int, t: int = 150, n: int = 5, h: int = 40) -> tuple[Ints, npt.NDArray[np.uint8], Ints]:
    """Targets [t, n] with missing alleles that are mosaics of the panel [t, h], and cM [t] in dyadic steps, so that
    sums of steps are exact whatever their order."""
    rng = np.random.default_rng(seed)
    alleles = (rng.random((t, h)) < rng.choice([0.1, 0.3, 0.5], size=(t, 1))).astype(np.uint8)
    source = rng.integers(h, size=(1 + t // 12, n)).repeat(12, axis=0)[:t]
    observed = np.take_along_axis(alleles, source, axis=1).astype(np.int8)
    observed[rng.random((t, n)) < 0.05] = -1
    return observed, alleles, np.cumsum(rng.integers(0, 4, size=t)) / 64.0


def conflicts(observed: Ints, alleles: npt.NDArray[np.uint8], target: int) -> npt.NDArray[np.bool_]:
    seen = observed[:, target][:, None]
    return np.asarray((seen >= 0) & (seen != alleles))


def test_long_segment_ranks_above_fewer_mismatches() -> None:
    # The target is 0 throughout. The first haplotype has one segment over six sites, the second segments of two sites.
    alleles = sites("0000001111 0010010010 1111111111")
    observed = np.zeros((10, 1), np.int8)
    cm = np.arange(10) / 10
    assert phased_states(observed, alleles, cm, 1).tolist() == [[0]]
    assert phased_states(observed, alleles, cm, 2).tolist() == [[0, 1]]


def test_segments_are_measured_in_centimorgans() -> None:
    alleles = sites("0000001111 1111000000")  # six sites each; two lie in both
    observed = np.zeros((10, 1), np.int8)
    widening = np.arange(10.0) ** 2
    assert phased_states(observed, alleles, widening, 1).tolist() == [[1]]
    assert phased_states(observed, alleles, (81.0 - widening)[::-1], 1).tolist() == [[0]]


def test_missing_allele_does_not_end_segment() -> None:
    alleles = sites("0001000 0100010")
    observed = np.zeros((7, 1), np.int8)
    cm = np.arange(7.0)
    observed[3] = -1
    assert phased_states(observed, alleles, cm, 1).tolist() == [[0]]
    observed[3], observed[1], observed[5] = 0, -1, -1
    assert phased_states(observed, alleles, cm, 1).tolist() == [[1]]


def test_unphased_segments_end_at_opposite_homozygotes() -> None:
    panel = packed_alleles(sites("0101 1010 0000 1111"))
    cm = np.arange(4.0)
    heterozygous = np.ones((4, 1), np.int8)
    assert unphased_states(heterozygous, panel, cm, 2).tolist() == [[0, 1]]  # all equal: the panel's order
    genotypes = np.array([[1], [2], [1], [-1]], np.int8)
    assert unphased_states(genotypes, panel, cm, 2).tolist() == [[0, 3]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("longest", [1, 4, 10])
def test_phased_states_equal_slow_search(seed: int, longest: int) -> None:
    observed, alleles, cm = random_case(seed)
    for k in (1, 7, 40):
        found = phased_states(observed, alleles, cm, k, segments_per_site=longest)
        for target, states in enumerate(found):
            assert states.tolist() == sorted(searched(conflicts(observed, alleles, target), cm, longest)[:k])


@pytest.mark.parametrize("seed", range(3))
def test_unphased_states_equal_slow_search(seed: int) -> None:
    observed, alleles, cm = random_case(seed, n=6)
    genotypes = np.where((observed[:, ::2] < 0) | (observed[:, 1::2] < 0), -1, observed[:, ::2] + observed[:, 1::2])
    found = unphased_states(genotypes.astype(np.int8), packed_alleles(alleles), cm, 8)
    for target, states in enumerate(found):
        seen = genotypes[:, [target]]
        conflict = ((seen == 0) & (alleles == 1)) | ((seen == 2) & (alleles == 0))
        assert states.tolist() == sorted(searched(conflict, cm, 10)[:8])


def test_excluded_haplotypes_equal_smaller_panel() -> None:
    observed, alleles, cm = random_case(3)
    exclude = np.array([[0, 5], [1, -1], [2, 3], [-1, -1], [39, 38]])
    found = phased_states(observed, alleles, cm, 12, exclude)
    for target, own in enumerate(exclude):
        left = np.setdiff1d(np.arange(40), own)
        expected = phased_states(observed[:, [target]], alleles[:, left], cm, 12)[0]
        assert found[target].tolist() == left[expected].tolist()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 40), t=st.integers(1, 200), threads=st.integers(1, 3))
def test_states_do_not_depend_on_other_targets(seed: int, k: int, t: int, threads: int) -> None:
    observed, alleles, cm = random_case(seed, t=t)
    together = phased_states(observed, alleles, cm, k, threads=threads)
    assert all((np.diff(row) > 0).all() for row in together)
    for target in range(observed.shape[1]):
        alone = phased_states(observed[:, [target]], alleles, cm, k)
        assert together[target].tolist() == alone[0].tolist()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), start=st.integers(0, 90), length=st.integers(40, 60), h=st.integers(2, 60))
def test_haplotype_of_longest_segment_is_selected(seed: int, start: int, length: int, h: int) -> None:
    """It conflicts outside its one segment, and ranks first at each site of it, which scores 1 a site. All others
    together score at most 1 + 1/2 + ... + 1/10 a site."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, size=(150, 1)).astype(np.int8)
    alleles = rng.integers(0, 2, size=(150, h)).astype(np.uint8)
    alleles[:, -1] = 1 - target[:, 0]
    alleles[start : start + length, -1] = target[start : start + length, 0]
    k = min(1 + int(150 * 2.93 / length), h)
    assert h - 1 in phased_states(target, alleles, np.arange(150) / 128.0, k)[0]


def test_no_sites_or_no_targets_give_empty_or_first_states() -> None:
    alleles = sites("01 10 11")
    assert phased_states(np.empty((0, 2), np.int8), alleles[:0], np.empty(0), 2).tolist() == [[0, 1], [0, 1]]
    assert phased_states(np.empty((2, 0), np.int8), alleles, np.arange(2.0), 2).shape == (0, 2)


def test_inconsistent_arguments_raise_value_error() -> None:
    observed, alleles, cm = random_case(1)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.40"):
        phased_states(observed, alleles, cm, 41)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.39"):
        phased_states(observed, alleles, cm, 40, np.zeros((5, 1), np.int64))
    with pytest.raises(ValueError, match="excluded haplotypes"):
        phased_states(observed, alleles, cm, 4, np.full((5, 1), 40))
    with pytest.raises(ValueError, match="targets at"):
        unphased_states(observed, packed_alleles(alleles[:64]), cm, 4)
