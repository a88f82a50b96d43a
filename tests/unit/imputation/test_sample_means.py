"""Means over sampled phasings, by hand and against their definition; and the values of a window's sites."""

from __future__ import annotations

import numpy as np

from vcfbert.imputation.sample_means import SampledPhasings, fill_means, sites_nearest
from vcfbert.imputation.window_prediction import WindowPrediction, of_independent


def test_sites_nearest_to_three_key_sites_by_hand() -> None:
    found = sites_nearest(np.array([0, 1, 1.4, 1.5, 1.6, 3, 9]), np.array([1.0, 2.0, 4.0]))
    assert found.tolist() == [0, 4, 6, 7]  # 1.5 and 3 are equally near to two


def test_sites_nearest_without_any_near_the_first_key_site() -> None:
    assert sites_nearest(np.array([5.0, 6.0]), np.array([1.0, 5.5])).tolist() == [0, 0, 2]


def random_phasings(*, s: int, n: int, l: int = 90, t: int = 5) -> SampledPhasings:
    rng = np.random.default_rng(s)
    flipped = rng.integers(0, 2, (s, t, n)).astype(np.uint8)
    number = rng.integers(0, 7, (s, n, 2))
    return SampledPhasings(rng.random((7, l), dtype=np.float32), number, flipped, rng.permutation(n + 2)[:n])


def test_means_equal_their_definition_at_every_site() -> None:
    given = random_phasings(s=3, n=4)
    first = np.array([0, 2, 2, 50, 51, 90])
    haplotype, genotype = np.full((90, 6, 2), -1, np.float32), np.full((90, 6, 3), -1, np.float32)
    fill_means(given, first, haplotype, genotype)
    for site in range(90):
        key = int(np.searchsorted(first, site, side="right")) - 1
        for sample, place in enumerate(given.samples):
            pairs = np.array(
                [
                    given.dosage[given.number[s, sample], site][:: -1 if given.flipped[s, key, sample] else 1]
                    for s in range(3)
                ]
            )
            np.testing.assert_allclose(haplotype[site, place], pairs.mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(genotype[site, place], of_independent(pairs).mean(axis=0), atol=1e-6)
    others = np.setdiff1d(np.arange(6), given.samples)
    assert (haplotype[:, others] == -1).all()
    assert (genotype[:, others] == -1).all()


def test_one_phasing_gives_its_own_dosages_with_any_threads() -> None:
    given = random_phasings(s=1, n=3)._replace(flipped=np.zeros((1, 5, 3), np.uint8))
    for threads in (1, 2, 8):
        haplotype = np.zeros((90, 5, 2), np.float32)
        fill_means(given, np.array([0, 20, 40, 60, 80, 90]), haplotype, None, threads=threads)
        np.testing.assert_array_equal(haplotype[:, given.samples], given.dosage[given.number[0]].transpose(2, 0, 1))


def two_sites_typed_of_six(*, coupled: bool = True) -> WindowPrediction:
    made = WindowPrediction.empty(6, 2, np.array([1, 4]), coupled=coupled)
    made.haplotype[:] = np.arange(6)[:, None, None]
    assert made.loo is not None
    made.loo[:] = np.array([10, 40])[:, None, None]
    if made.genotype is not None:
        made.genotype[:] = np.arange(6)[:, None, None]
    return made


def test_weights_multiply_every_value_of_a_site() -> None:
    made = two_sites_typed_of_six()
    made.weigh(np.array([0.5, 0.5, 1, 1, 0.25, 0.25], np.float32))
    assert made.haplotype[:, 1, 1].tolist() == [0, 0.5, 2, 3, 1, 1.25]
    assert made.genotype is not None
    assert made.genotype[:, 0, 2].tolist() == [0, 0.5, 2, 3, 1, 1.25]
    assert made.loo is not None
    assert made.loo[:, 0, 0].tolist() == [5, 10]


def test_sites_of_a_prediction_have_their_own_leave_one_out_values() -> None:
    part = two_sites_typed_of_six(coupled=False).sites(2, 6)
    assert part.haplotype[:, 0, 0].tolist() == [2, 3, 4, 5]
    assert part.genotype is None
    assert part.loo_of_sites is not None
    np.testing.assert_array_equal(part.loo_of_sites[:, 1, 0], [np.nan, np.nan, 40, np.nan])


def test_earlier_prediction_is_added_to_the_first_sites() -> None:
    made = two_sites_typed_of_six()
    made.add(two_sites_typed_of_six().sites(0, 3).copied())
    assert made.haplotype[:, 0, 0].tolist() == [0, 2, 4, 3, 4, 5]
    assert made.loo is not None
    assert made.loo[:, 0, 0].tolist() == [20, 40]
