from __future__ import annotations

import math

import pytest
import torch

from vcfbert.model.losses import allele_loss, genotype_loss, site_loss_weights


def test_cross_entropy_by_hand() -> None:
    logit = torch.tensor([[0.0, math.log(3.0)]])  # ALT probabilities 1/2 and 3/4
    loss = allele_loss(logit, torch.tensor([[1, 0]]), torch.tensor([1.0, 2.0]), gamma=0.0)
    assert loss.item() == pytest.approx((math.log(2) + 2 * math.log(4)) / 3)


def test_focal_loss_by_hand() -> None:
    loss = allele_loss(torch.tensor([math.log(3.0)]), torch.tensor([1]), torch.ones(1), gamma=2.0)
    assert loss.item() == pytest.approx(0.25**2 * math.log(4 / 3))


def test_sites_of_weight_zero_do_not_count() -> None:
    logit = torch.tensor([[0.3, 99.0]])
    alone = allele_loss(logit[:, :1], torch.tensor([[1]]), torch.ones(1), gamma=2.0)
    first = allele_loss(logit, torch.tensor([[1, 0]]), torch.tensor([1.0, 0.0]), gamma=2.0)
    assert first.item() == pytest.approx(alone.item())
    assert allele_loss(logit, torch.tensor([[1, 0]]), torch.zeros(2), gamma=2.0).item() == 0.0


def test_genotype_loss_by_hand() -> None:
    law = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]])
    loss = genotype_loss(law, torch.tensor([[1, 2]], dtype=torch.uint8), torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx(math.log(4) / 4)
    assert genotype_loss(law, torch.tensor([[1, 0]]), torch.ones(2)).isfinite()


def test_rare_sites_get_rare_weight() -> None:
    assert site_loss_weights(torch.tensor([0.0, 0.049, 0.05, 0.5]), 2.0).tolist() == [2, 2, 1, 1]
