from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.tiny import panel_from_alleles, random_panel
from vcfbert.genotypes.reference_subset import ReferenceSubset

ALLELES = np.array([[0, 1], [1, 1], [0, 0], [0, 1], [1, 1], [1, 1]], dtype=np.uint8)


def test_reference_subset_rows_equal_values_by_hand() -> None:
    memory = ReferenceSubset(panel_from_alleles(ALLELES, validation=(1,)), np.array([0, 1, 4, 5]))
    assert len(memory) == 4
    assert memory.af.tolist() == [0.75, 1.0]
    assert memory.alleles(slice(0, 2)).tolist() == [[0, 1], [1, 1], [1, 1], [1, 1]]
    assert memory.alleles(np.array([1])).tolist() == [[1]] * 4
    assert memory.rows(np.array([5, 0, 2, 3, 4])).tolist() == [3, 0, -1, -1, 2]


@pytest.mark.parametrize("n_samples", [1, 3, 4, 5, 13])  # whole bytes and not
def test_reference_subset_frequencies_are_of_its_own_haplotypes(n_samples: int) -> None:
    panel = random_panel(n_samples, 20, seed=n_samples)
    haplotypes = np.arange(0, 2 * n_samples, 2)
    np.testing.assert_allclose(
        ReferenceSubset(panel, haplotypes).af, panel.alleles(slice(None))[haplotypes].mean(axis=0)
    )
    whole = ReferenceSubset(panel, np.arange(2 * n_samples))
    np.testing.assert_allclose(whole.af, panel.alleles(slice(None)).mean(axis=0))


def test_reference_subset_does_not_depend_on_other_haplotypes() -> None:
    changed = ALLELES.copy()
    changed[2:4] ^= 1
    kept = np.array([0, 1, 4, 5])
    one, other = (ReferenceSubset(panel_from_alleles(a, validation=(1,)), kept) for a in (ALLELES, changed))
    assert one.af.tolist() == other.af.tolist()
