"""States by sorted orders, against orders that are sorted anew at each site, and the contract of selection."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcfbert.copying.pbwt import PanelOrder
from vcfbert.copying.states import packed_alleles

Alleles = npt.NDArray[np.uint8]
Calls = npt.NDArray[np.int8]
Doubles = npt.NDArray[np.float64]


def case(seed: int, t: int = 90, n: int = 4, h: int = 50, missing: float = 0.05) -> tuple[Calls, Alleles, Doubles]:
    """Targets [t, n] that are mosaics of the panel [t, h], with errors and missing alleles, and cM [t].

    The steps of cM are dyadic, so that their sums are exact in any order.
    """
    rng = np.random.default_rng(seed)
    founders = (rng.random((t, 8)) < rng.choice([0.1, 0.3, 0.5], size=(t, 1))).astype(np.uint8)
    alleles = np.take_along_axis(founders, rng.integers(8, size=(1 + t // 9, h)).repeat(9, axis=0)[:t], axis=1)
    alleles ^= rng.random((t, h)) < 0.03
    observed = np.take_along_axis(alleles, rng.integers(h, size=(1 + t // 12, n)).repeat(12, axis=0)[:t], axis=1)
    observed = (observed ^ (rng.random((t, n)) < 0.02)).astype(np.int8)
    observed[rng.random((t, n)) < missing] = -1
    return observed, alleles, np.cumsum(rng.integers(0, 4, size=t)) / 64.0


def sorted_panel(alleles: Alleles, cm: Doubles) -> PanelOrder:
    """The order of a panel that is sorted although it is small."""
    return PanelOrder.build(packed_alleles(alleles), cm, max_searched=0)


def sorted_distances(target: Calls, alleles: Alleles, width: int) -> dict[int, int]:
    """The least distance in places of each haplotype within ``width`` places of the target at any site, in the order
    that is sorted by the alleles up to this site, the nearest first."""
    distance: dict[int, int] = {}
    t, h = alleles.shape
    filled = target.copy()
    near: list[int] = []
    for site in range(t):
        if filled[site] < 0:
            filled[site] = 2 * sum(int(alleles[site, j]) for j in near) > len(near)
        keys = [alleles[site::-1, j].tolist() for j in range(h)]
        order = sorted(range(h), key=lambda j: (keys[j], j))
        place = sum(key < filled[site::-1].tolist() for key in keys)
        before, after = order[max(place - width, 0) : place][::-1], order[place : place + width]
        near = before + after
        for side in (before, after):
            for places, j in enumerate(side, start=1):
                distance[j] = min(distance.get(j, places), places)
    return distance


def slow_states(target: Calls, alleles: Alleles, cm: Doubles, k: int, width: int) -> list[int]:
    """The k states of one target [t], ascending, by sorting at each site and walking along each segment."""
    distance: dict[int, int] = {}
    while len(distance) < k:
        distance = sorted_distances(target, alleles, width)
        for j, places in sorted_distances(target[::-1], alleles[::-1], width).items():
            distance[j] = min(distance.get(j, places), places)
        width *= 2
    order = sorted(distance, key=lambda j: (distance[j], j))
    scores = dict.fromkeys(order, 0.0)
    for site in range(len(cm)):
        length = {j: segment(target, alleles[:, j], cm, site) for j in order}
        for rank, j in enumerate(sorted(order, key=lambda j: -length[j])[:10]):
            scores[j] += 1.0 / (rank + 1) if length[j] > 0 else 0.0
    return sorted(sorted(order, key=lambda j: -scores[j])[:k])


def segment(target: Calls, haplotype: Alleles, cm: Doubles, site: int) -> float:
    """Length in cM between the conflicts around a site, 0 where target and haplotype conflict."""
    conflict = (target >= 0) & (target != haplotype)
    if conflict[site]:
        return 0.0
    broken = np.flatnonzero(conflict)
    left = max((b for b in broken if b < site), default=0)
    right = min((b for b in broken if b > site), default=len(cm) - 1)
    return float(cm[right] - cm[left])


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    t=st.integers(1, 70),
    h=st.integers(2, 140),
    width=st.integers(1, 5),
    bytes_kept=st.integers(1, 60_000),
    data=st.data(),
)
def test_states_equal_slow_search(seed: int, t: int, h: int, width: int, bytes_kept: int, data: st.DataObject) -> None:
    observed, alleles, cm = case(seed, t=t, n=2, h=h, missing=0.1)
    k = data.draw(st.integers(1, h))
    order = PanelOrder.build(packed_alleles(alleles), cm, max_bytes=bytes_kept, max_searched=0)
    found = order.phased_states(observed, k, neighbours=width)
    for target, states in enumerate(found):
        assert states.tolist() == slow_states(observed[:, target], alleles, cm, k, width)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 50), t=st.integers(1, 200), threads=st.integers(1, 3))
def test_states_do_not_depend_on_other_targets(seed: int, k: int, t: int, threads: int) -> None:
    observed, alleles, cm = case(seed, t=t)
    order = PanelOrder.build(packed_alleles(alleles), cm, threads=threads, max_searched=0)
    together = order.phased_states(observed, k, threads=threads)
    assert together.shape == (4, k)
    assert all((np.diff(row) > 0).all() for row in together)
    for target in range(observed.shape[1]):
        assert together[target].tolist() == order.phased_states(observed[:, [target]], k)[0].tolist()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 47), width=st.integers(1, 20))
def test_excluded_haplotypes_equal_smaller_panel(seed: int, k: int, width: int) -> None:
    observed, alleles, cm = case(seed)
    exclude = np.random.default_rng(seed).integers(-1, 50, size=(4, 3))
    found = sorted_panel(alleles, cm).phased_states(observed, k, exclude, neighbours=width)
    for target, own in enumerate(exclude):
        left = np.setdiff1d(np.arange(50), own)
        smaller = sorted_panel(alleles[:, left], cm)
        expected = smaller.phased_states(observed[:, [target]], k, neighbours=width)[0]
        assert found[target].tolist() == left[expected].tolist()


def test_small_panel_is_searched_whole() -> None:
    _, alleles, cm = case(3)
    assert PanelOrder.build(packed_alleles(alleles), cm).sweeps is None
    assert PanelOrder.build(packed_alleles(alleles), cm, max_searched=49).sweeps is not None


@pytest.mark.parametrize("bytes_kept", [1, 5_000, 50_000])
def test_states_do_not_depend_on_which_orders_are_kept(bytes_kept: int) -> None:
    observed, alleles, cm = case(5, t=150, h=130)
    whole = sorted_panel(alleles, cm)
    sparse = PanelOrder.build(whole.panel, cm, max_bytes=bytes_kept, max_searched=0)
    assert sparse.nbytes < whole.nbytes
    assert (sparse.phased_states(observed, 40) == whole.phased_states(observed, 40)).all()


def test_haplotype_that_matches_everywhere_is_selected_first() -> None:
    observed, alleles, cm = case(7, n=1, missing=0.0)
    alleles[:, 31] = observed[:, 0]
    assert sorted_panel(alleles, cm).phased_states(observed, 1).tolist() == [[31]]


def test_missing_call_keeps_target_beside_its_source() -> None:
    _, alleles, cm = case(11, n=1, h=200)
    observed = alleles[:, [57]].astype(np.int8)
    observed[20:23] = -1
    assert sorted_panel(alleles, cm).phased_states(observed, 1, neighbours=4).tolist() == [[57]]


def test_mismatches_by_hand() -> None:
    """Three sites, four haplotypes. The second target's first call is missing."""
    alleles = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]], np.uint8)
    calls = np.array([[0, -1], [1, 1], [0, 0]], np.int8)
    order = PanelOrder.build(packed_alleles(alleles), np.arange(3.0))
    found = order.mismatches(calls, np.array([[0, 1, 2], [3, 2, 0]], np.int32))
    assert (found.tolist(), found.dtype) == ([[1, 2, 0], [1, 0, 1]], np.int32)


def test_mismatches_equal_counts_site_by_site() -> None:
    observed, alleles, cm = case(4, t=150)
    order = PanelOrder.build(packed_alleles(alleles), cm)
    states = order.phased_states(observed, 9)
    known = observed.T[:, None] >= 0
    expected = (known & (alleles.T[states] != observed.T[:, None])).sum(axis=2)
    np.testing.assert_array_equal(order.mismatches(observed, states), expected)


def test_target_without_calls_gets_states() -> None:
    _, alleles, cm = case(1)
    states = sorted_panel(alleles, cm).phased_states(np.full((90, 1), -1, np.int8), 50)
    assert states.tolist() == [list(range(50))]


def test_no_sites_or_no_targets_give_first_states_or_none() -> None:
    _, alleles, cm = case(1)
    empty = sorted_panel(alleles[:0], cm[:0])
    assert empty.phased_states(np.empty((0, 2), np.int8), 2, np.array([[0], [4]])).tolist() == [[1, 2], [0, 1]]
    assert sorted_panel(alleles, cm).phased_states(np.empty((90, 0), np.int8), 2).shape == (0, 2)


def test_order_of_a_million_haplotypes_stays_in_memory_limit() -> None:
    """One site instead of 500, whose alleles and counts grow with the sites; the kept orders do not."""
    order = PanelOrder.build(np.zeros((1_000_000, 1), np.uint64), np.zeros(1), max_bytes=1 << 20)
    assert order.sweeps is not None
    a_site = order.nbytes - order.panel.nbytes - sum(sweep.kept.nbytes for sweep in order.sweeps)
    assert a_site < 0.4e6
    assert [sweep.kept.shape for sweep in order.sweeps] == [(2, 1_000_000)] * 2


def test_inconsistent_arguments_raise_value_error() -> None:
    observed, alleles, cm = case(1)
    order = sorted_panel(alleles, cm)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.50"):
        order.phased_states(observed, 51)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.49"):
        order.phased_states(observed, 50, np.zeros((4, 1), np.int64))
    with pytest.raises(ValueError, match="excluded haplotypes"):
        order.phased_states(observed, 4, np.full((4, 1), 50))
    with pytest.raises(ValueError, match="targets at"):
        order.phased_states(observed[1:], 4)
    with pytest.raises(ValueError, match="64 cM"):
        sorted_panel(alleles, cm[:64])
