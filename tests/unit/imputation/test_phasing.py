"""Phasings of unphased targets: what they agree with, what they depend on, and how windows are joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.tiny import panel_from_alleles, target_of
from vcfbert.constants import MISSING
from vcfbert.copying.diploid import heterozygous_calls
from vcfbert.copying.mixture import FIRST_RATES
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.imputation.phasing import PhasingMode, join_windows, orientation, phase_alleles

Calls = npt.NDArray[np.int8]
MODE = PhasingMode(states=20, phasings=5)
N_SITES = 160


def mosaics(seed: int = 0) -> Panel:
    """14 samples that are mosaics of six founders, in pieces of half a centimorgan."""
    rng = np.random.default_rng(seed)
    founders = (rng.random((6, N_SITES)) < 0.5).astype(np.uint8)
    source = rng.integers(6, size=(28, 1 + N_SITES // 50)).repeat(50, axis=1)[:, :N_SITES]
    return panel_from_alleles(np.take_along_axis(founders, source, axis=0))


PANEL = mosaics()


def unphased(samples: list[int], *, every: int = 1, missing: float = 0.0, panel: Panel = PANEL) -> MatchedTarget:
    """The panel's own samples with the order of every heterozygous call sampled anew; of the ``missing`` alleles many
    leave a half call."""
    rng = np.random.default_rng(3)
    target = target_of(panel, samples, np.arange(0, N_SITES, every), phased=False)
    flipped = rng.random(target.alleles.shape[:2]) < 0.5
    alleles = np.where(flipped[..., None], target.alleles[..., ::-1], target.alleles)
    alleles[rng.random(alleles.shape) < missing] = MISSING
    return dataclasses.replace(target, alleles=alleles)


def phasings_of(
    target: MatchedTarget, mode: PhasingMode, panel: Panel = PANEL, check: Callable[[], None] | None = None
) -> Calls:
    reference = ReferenceSubset(panel, np.arange(panel.n_haplotypes))
    return phase_alleles(FIRST_RATES, reference, target.panel_site, target.alleles, mode, check=check)


def switches(phasing: Calls, truth: Calls) -> int:
    """Number of switch errors of a phase [t, 2] against ``truth`` [t, 2]."""
    heterozygous = truth[:, 0] != truth[:, 1]
    return int(np.count_nonzero(np.diff(phasing[heterozygous, 0] == truth[heterozygous, 0])))


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_phasings_have_the_genotypes_of_the_target(missing: float) -> None:
    target = unphased([0, 3, 9], missing=missing)
    sampled = phasings_of(target, MODE)
    assert (sampled.shape, sampled.dtype) == ((5, N_SITES, 3, 2), np.int8)
    assert (target.alleles == MISSING).any() == (missing > 0)
    wanted = np.broadcast_to(np.sort(target.alleles, axis=2), sampled.shape)
    np.testing.assert_array_equal(np.sort(sampled, axis=3), wanted)


def test_known_allele_of_a_half_call_goes_to_the_haplotype_that_carries_it() -> None:
    """Own samples of the panel; one of the two haplotypes carries the known allele."""
    truth = target_of(PANEL, [0, 3, 9], np.arange(N_SITES)).alleles
    target = unphased([0, 3, 9])
    half = np.zeros(truth.shape[:2], dtype=bool)
    half[::5] = truth[::5, :, 0] != truth[::5, :, 1]
    assert half.sum() > 20
    target.alleles[half, 1] = MISSING
    sampled = phasings_of(target, MODE)
    assert (np.sort(sampled[:, half], axis=2)[..., 0] == MISSING).all()
    place = np.arange(N_SITES)
    flipped = orientation(sampled, np.where(half[..., None], MISSING, truth), place.astype(np.float64))  # [5, t, n]
    along = np.where(flipped[..., None], sampled[..., ::-1], sampled)
    known = along[:, half]
    agree = (known == np.broadcast_to(truth[half], known.shape)) | (known == MISSING)
    assert agree.all(axis=2).mean() > 0.9


def test_order_of_alleles_does_not_change_the_phasings() -> None:
    target = unphased([0, 3])
    flipped = dataclasses.replace(target, alleles=target.alleles[..., ::-1].copy())
    one, other = (phasings_of(t, MODE) for t in (target, flipped))
    np.testing.assert_array_equal(one, other)


def test_phasings_are_deterministic_and_fewer_are_the_first_of_more() -> None:
    target = unphased([0, 3], missing=0.1)
    sampled = phasings_of(target, MODE)
    np.testing.assert_array_equal(phasings_of(target, MODE), sampled)
    few = phasings_of(target, PhasingMode(states=20, phasings=2))
    np.testing.assert_array_equal(few, sampled[:2])


@pytest.mark.parametrize("samples", [[2], [1, 0], [2, 1, 0]])
def test_phasings_of_a_sample_do_not_depend_on_others(samples: list[int]) -> None:
    target = unphased([0, 3, 9], missing=0.05)
    together = phasings_of(target, MODE)
    alone = phasings_of(target.of_samples(np.array(samples)), MODE)
    np.testing.assert_array_equal(alone, together[:, :, samples])


def test_states_are_limited_to_the_panel() -> None:
    target = unphased([0])
    all_states = phasings_of(target, PhasingMode(states=28, phasings=2))
    more = phasings_of(target, PhasingMode(states=640, phasings=2))
    np.testing.assert_array_equal(more, all_states)


def test_own_samples_of_the_panel_get_their_true_phase() -> None:
    truth = target_of(PANEL, [0, 3, 9], np.arange(N_SITES)).alleles
    sampled = phasings_of(unphased([0, 3, 9]), MODE)
    heterozygous = truth[..., 0] != truth[..., 1]
    assert heterozygous.sum() > 100
    assert max(switches(p[:, s], truth[:, s]) for p in sampled for s in range(3)) <= 2


def in_windows(target: MatchedTarget, window: int, overlap: int) -> tuple[Calls, int]:
    """The phasings joined from windows of ``window`` typed sites, and the number of windows."""
    checks: list[int] = []  # one before each window
    mode = dataclasses.replace(MODE, window_sites=window, overlap_sites=overlap)
    sampled = phasings_of(target, mode, check=lambda: checks.append(1))
    return sampled, len(checks)


def test_joined_windows_keep_shape_genotypes_and_phase() -> None:
    target = unphased([0, 3, 9], missing=0.02)
    truth = target_of(PANEL, [0, 3, 9], np.arange(N_SITES)).alleles
    called = heterozygous_calls(truth) & (target.alleles >= 0).all(axis=2)
    sampled, number = in_windows(target, 60, 30)
    assert number == 5  # starts at 0, 30, 60, 90 and 120
    assert sampled.shape == (5, N_SITES, 3, 2)
    for one in sampled:
        np.testing.assert_array_equal(np.sort(one, axis=2), np.sort(target.alleles, axis=2))
    for sample in range(3):
        seen = called[:, sample]
        assert max(switches(p[seen, sample], truth[seen, sample]) for p in sampled) <= 2


@pytest.mark.parametrize(("t", "expected"), [(1, 1), (30, 1), (60, 1), (61, 2), (90, 2), (91, 3)])
def test_windows_reach_the_last_site(t: int, expected: int) -> None:
    whole = unphased([0, 3])
    target = dataclasses.replace(whole, panel_site=whole.panel_site[:t], alleles=whole.alleles[:t])
    sampled, number = in_windows(target, 60, 30)
    assert number == expected
    np.testing.assert_array_equal(sampled.sum(axis=3), np.broadcast_to(target.alleles.sum(axis=2), (5, t, 2)))


def test_phase_flipped_window_is_flipped_back() -> None:
    rng = np.random.default_rng(1)
    whole = rng.integers(0, 2, (3, 50, 4, 2)).astype(np.int8)
    whole[:, rng.random((50, 4)) < 0.1] = MISSING
    flips = rng.random((3, 4)) < 0.5
    right = np.where(flips[:, None, :, None], whole[:, 20:, :, ::-1], whole[:, 20:])
    np.testing.assert_array_equal(join_windows(whole[:, :32], right, 20), whole)


def test_calls_nearest_to_the_seam_decide_the_flip() -> None:
    """Of four heterozygous calls in the overlap, the far two call for a flip and the two at the seam do not."""
    left = np.zeros((1, 8, 1, 2), np.int8)
    left[0, :, 0, 0] = 1
    right = left[:, 2:].copy()  # its first six sites are shared: weights 1/4 1/3 1/2 1 1/2 1/3
    right[0, [0, 1], 0] = [0, 1]
    assert join_windows(left, right, 2)[0, :, 0].tolist() == left[0, :, 0].tolist()
    right = left[:, 2:, :, ::-1].copy()
    right[0, [0, 1], 0] = [1, 0]
    joined = join_windows(left, right, 2)[0, :, 0]
    assert joined.tolist() == left[0, :, 0].tolist()


def test_windows_without_shared_heterozygous_call_are_not_flipped() -> None:
    left, right = np.zeros((1, 6, 1, 2), np.int8), np.zeros((1, 6, 1, 2), np.int8)
    left[0, 0, 0], right[0, 5, 0] = [1, 0], [0, 1]
    joined = join_windows(left, right, 3)
    assert joined.shape == (1, 9, 1, 2)
    assert joined[0, [0, 8], 0].tolist() == [[1, 0], [0, 1]]


def test_orientation_of_a_small_example() -> None:
    """Sites at 0, 1, 2, 4, 5: heterozygous at 1 and 4. The first phasing is flipped at the second of them alone."""
    reference = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [-1, -1]], np.int8)[:, None]
    first, second = reference.copy(), reference[..., ::-1].copy()
    first[3] = [0, 1]
    found = orientation(np.stack([first, second]), reference, np.array([0.0, 1.0, 2.0, 4.0, 5.0]))
    assert found.shape == (2, 5, 1)
    assert found[0, :, 0].tolist() == [False, False, False, True, True]
    assert found[1, :, 0].tolist() == [True] * 5


def test_orientation_of_a_homozygous_sample_is_never_flipped() -> None:
    reference = np.zeros((4, 2, 2), np.int8)
    reference[1, 1] = [0, 1]
    found = orientation(reference[None, ..., ::-1], reference, np.arange(4.0))
    assert found[0].T.tolist() == [[False] * 4, [True] * 4]
