from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vcfbert.model.heads import GenotypeHead, HaplotypeHead, couple

probability = st.floats(0, 1, width=32)


@given(probability, probability, st.floats(-1, 1, width=32))
def test_coupled_genotypes_are_a_law_with_the_haplotypes_dosage(p: float, q: float, share: float) -> None:
    law = couple(torch.tensor(p), torch.tensor(q), torch.tensor(share))
    assert (law >= 0).all()
    assert law.sum().item() == pytest.approx(1, abs=1e-6)
    assert (law[1] + 2 * law[2]).item() == pytest.approx(p + q, abs=1e-6)


@pytest.mark.parametrize("share", [-1.0, 0.3, 1.0])
def test_rounding_leaves_no_probability_below_zero(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 200_000, generator=generator)
    for law in (couple(p, q, torch.full_like(p, share)), couple(p**8, q**8, torch.full_like(p, share))):
        assert law.min() >= 0


def test_no_coupling_is_independence() -> None:
    law = couple(torch.tensor(0.2), torch.tensor(0.5), torch.tensor(0.0))
    assert law.tolist() == pytest.approx([0.4, 0.5, 0.1])


def test_the_bounds_of_coupling() -> None:
    """share 1: as often alike as the marginals allow; -1: as seldom."""
    p, q = torch.tensor([0.2, 0.2]), torch.tensor([0.5, 0.5])
    law = couple(p, q, torch.tensor([1.0, -1.0]))
    assert law[0].tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert law[1].tolist() == pytest.approx([0.3, 0.7, 0.0], abs=1e-7)


def test_untrained_heads_add_nothing() -> None:
    haplotype, genotype = HaplotypeHead(8), GenotypeHead(8)
    haplotype.init_weights()
    genotype.init_weights()
    hidden = torch.randn(3, 2, 5, 8)
    assert torch.equal(haplotype(hidden), torch.zeros(3, 2, 5))
    p = torch.rand(3, 2, 5)
    torch.testing.assert_close(genotype(hidden, p, torch.rand(5)), couple(p[:, 0], p[:, 1], torch.zeros(3, 5)))


def test_the_order_of_a_samples_haplotypes_does_not_matter() -> None:
    head = GenotypeHead(8)
    hidden, p, af = torch.randn(3, 2, 5, 8), torch.rand(3, 2, 5), torch.rand(5)
    torch.testing.assert_close(head(hidden, p, af), head(hidden.flip(1), p.flip(1), af))
