from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.tiny import haploid_panel, panel_from_alleles, random_panel

ALLELES = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 1]], dtype=np.uint8)


def test_panel_properties_equal_values_by_hand() -> None:
    panel = panel_from_alleles(ALLELES, validation=(1,))
    assert (panel.n_sites, panel.n_haplotypes, len(panel.samples)) == (3, 6, 3)
    assert panel.af.tolist() == pytest.approx([1 / 6, 5 / 6, 0.5])
    assert panel.maf.tolist() == pytest.approx([1 / 6, 1 / 6, 0.5])
    assert panel.training_haplotypes.tolist() == [0, 1, 4, 5]
    assert panel.validation_haplotypes.tolist() == [2, 3]


def test_some_validation_haplotypes_are_evenly_spaced() -> None:
    panel = panel_from_alleles(np.zeros((20, 3), dtype=np.uint8), validation=(0, 2, 3, 7, 9))
    assert panel.some_validation_haplotypes(3).tolist() == [0, 1, 6, 7, 18, 19]
    assert panel.some_validation_haplotypes(3, shift=1).tolist() == [0, 1, 4, 5, 14, 15]
    assert panel.some_validation_haplotypes(9).tolist() == panel.validation_haplotypes.tolist()
    assert panel_from_alleles(np.zeros((4, 3), dtype=np.uint8)).some_validation_haplotypes(3).tolist() == []


def test_alleles_of_any_sites_and_haplotypes_are_unpacked() -> None:
    panel = random_panel(5, 17, seed=1)
    everything = panel.alleles(slice(None))
    assert (everything.shape, everything.dtype) == ((10, 17), np.uint8)
    sites, haplotypes = np.array([16, 0, 3]), np.array([9, 2, 2])
    assert np.array_equal(panel.alleles(sites), everything[:, sites])
    assert np.array_equal(panel.alleles(slice(4, 9), haplotypes), everything[haplotypes, 4:9])
    assert np.array_equal(panel.alleles(slice(4, 9), np.array([9, 8])), everything[[9, 8], 4:9])
    assert panel.alleles(sites, np.array([], dtype=np.int64)).shape == (0, 3)
    assert panel.alleles(slice(4, 9)).flags.c_contiguous
    assert panel.alleles(np.array([], dtype=np.int64)).shape == (10, 0)


def test_sites_take_keeps_the_chosen_sites() -> None:
    sites = random_panel(2, 6).sites
    assert sites.take(slice(2, 4)).pos.tolist() == [300, 400]
    assert sites.take(np.array([5, 0])).pos.tolist() == [600, 100]
    assert len(sites) == 6


def test_haplotypes_of_samples_are_in_the_order_asked() -> None:
    panel = random_panel(3, 6)
    assert panel.haplotypes_of([2, 0]).tolist() == [4, 5, 0, 1]
    assert panel.haplotypes_of([]).tolist() == []


def test_panel_with_a_haploid_sample_counts_its_one_haplotype() -> None:
    panel = haploid_panel(validation=(1, 4))
    assert panel.n_haplotypes == 10
    assert panel.pairs.tolist() == [[0, 1], [2, 2], [3, 4], [5, 5], [6, 7], [8, 9]]
    assert panel.haplotypes_of([3, 2]).tolist() == [5, 5, 3, 4]
    assert panel.training_haplotypes.tolist() == [0, 1, 3, 4, 5, 8, 9]
    assert panel.af == pytest.approx(panel.alleles(slice(None)).mean(axis=0))
