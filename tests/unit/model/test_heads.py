from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vcfbert.model.heads import GenotypeHead, HaplotypeHead, couple

probability = st.floats(0, 1, width=32)


@given(probability, probability, st.floats(-1, 1, width=32))
def test_coupled_genotypes_sum_to_one_and_keep_dosage(p: float, q: float, coupling: float) -> None:
    law = couple(torch.tensor(p), torch.tensor(q), torch.tensor(coupling))
    assert (law >= 0).all()
    assert law.sum().item() == pytest.approx(1, abs=1e-6)
    assert (law[1] + 2 * law[2]).item() == pytest.approx(p + q, abs=1e-6)


@pytest.mark.parametrize("coupling", [-1.0, 0.3, 1.0])
def test_coupled_genotypes_are_not_negative_after_rounding(coupling: float) -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 200_000, generator=generator)
    for law in (couple(p, q, torch.full_like(p, coupling)), couple(p**8, q**8, torch.full_like(p, coupling))):
        assert law.min() >= 0


def test_coupling_zero_gives_independent_haplotypes() -> None:
    law = couple(torch.tensor(0.2), torch.tensor(0.5), torch.tensor(0.0))
    assert law.tolist() == pytest.approx([0.4, 0.5, 0.1])


def test_coupling_of_one_and_minus_one_by_hand() -> None:
    """1: the haplotypes carry the same allele as often as the marginals allow; -1: as rarely."""
    p, q = torch.tensor([0.2, 0.2]), torch.tensor([0.5, 0.5])
    law = couple(p, q, torch.tensor([1.0, -1.0]))
    assert law[0].tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert law[1].tolist() == pytest.approx([0.3, 0.7, 0.0], abs=1e-7)


def test_untrained_heads_leave_base_logit_and_independence() -> None:
    haplotype, genotype = HaplotypeHead(8), GenotypeHead(8)
    haplotype.init_weights()
    genotype.init_weights()
    hidden = torch.randn(3, 2, 5, 8)
    assert torch.equal(haplotype(hidden), torch.zeros(3, 2, 5))
    p = torch.rand(3, 2, 5)
    torch.testing.assert_close(genotype(hidden, p, torch.rand(5)), couple(p[:, 0], p[:, 1], torch.zeros(3, 5)))


def test_genotype_head_is_symmetric_in_haplotypes() -> None:
    head = GenotypeHead(8)
    hidden, p, af = torch.randn(3, 2, 5, 8), torch.rand(3, 2, 5), torch.rand(5)
    torch.testing.assert_close(head(hidden, p, af), head(hidden.flip(1), p.flip(1), af))
