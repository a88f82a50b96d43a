from __future__ import annotations

import numpy as np
import pytest

from vcfbert.genotypes.imputed import ImputedBlock, empirical_r2, estimated_r2


def test_typed_is_true_where_a_sample_has_a_call() -> None:
    calls = np.full((3, 2, 2), -1, dtype=np.int8)
    calls[1, 0] = [0, 1]
    calls[2] = 0
    block = ImputedBlock(5, 8, np.zeros((3, 2, 2), dtype=np.float32), calls)
    assert block.typed.tolist() == [False, True, True]


def test_estimated_r2_equals_values_by_hand() -> None:
    dosage = np.array([[[0, 1], [1, 0]], [[0.5, 0.5], [0.5, 0.5]], [[0, 0.5], [0.5, 1]], [[0, 0], [0, 0]]], np.float32)
    # Known haplotypes: 1. No information: 0. Variance 1/8 of 1/4: 1/2. A site that does not vary: 0.
    assert estimated_r2(dosage).tolist() == pytest.approx([1.0, 0.0, 0.5, 0.0])
    # Without the second haplotype of the second sample: 0, 1/2, 1/2 of mean 1/3 at the third site.
    haploid = np.array([False, True])
    third = np.var([0, 0.5, 0.5]) / (1 / 3 * 2 / 3)
    assert estimated_r2(dosage, haploid).tolist() == pytest.approx([1.0, 0.0, third, 0.0])
    assert estimated_r2(dosage, ~haploid)[2] == pytest.approx(np.var([0, 0.5, 1]) / 0.25)


def test_empirical_r2_is_the_squared_correlation_over_typed_haplotypes() -> None:
    rng = np.random.default_rng(4)
    loo_dosage = rng.random((4, 3, 2)).astype(np.float32)
    calls = rng.integers(0, 2, size=(4, 3, 2)).astype(np.int8)
    calls[:2] = [[0, 1], [1, 1], [0, 0]]
    calls[1, 2] = -1  # a sample without a call
    calls[2] = 1  # does not vary
    loo_dosage[3] = np.nan  # not typed
    found = empirical_r2(loo_dosage, calls)
    assert found[0] == pytest.approx(np.corrcoef(loo_dosage[0].ravel(), calls[0].ravel())[0, 1] ** 2, rel=1e-5)
    assert found[1] == pytest.approx(np.corrcoef(loo_dosage[1, :2].ravel(), calls[1, :2].ravel())[0, 1] ** 2, rel=1e-5)
    assert np.isnan(found[2:]).all()
    haploid = np.array([True, False, False])
    index = [0, 2, 3, 4, 5]
    expected = np.corrcoef(loo_dosage[0].ravel()[index], calls[0].ravel()[index])[0, 1] ** 2
    assert empirical_r2(loo_dosage, calls, haploid)[0] == pytest.approx(expected, rel=1e-5)
