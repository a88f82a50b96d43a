"""Losses on masked alleles. None is on an estimated r2, which would reward over-confidence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vcfbert.constants import RARE_MAF


def site_loss_weights(maf: Tensor, rare_weight: float) -> Tensor:
    """[l]: ``rare_weight`` where MAF < 5%, else 1.

    Weights by site keep probabilities calibrated; weights by class would not.
    """
    return torch.where(maf < RARE_MAF, rare_weight, 1.0)


def allele_loss(logit: Tensor, allele: Tensor, weight: Tensor, *, gamma: float) -> Tensor:
    """Weighted mean focal loss of ALT logits (Lin et al. 2017, ICCV), in nats; ``gamma`` 0 gives cross-entropy.

    ``logit``, ``allele`` [..., l]. ``weight`` is broadcast to them and is 0 where the allele is not predicted.
    """
    target = allele.to(logit.dtype)
    loss = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    if gamma > 0:
        loss = loss * (1.0 - torch.exp(-loss)) ** gamma
    weight = weight.expand_as(loss)
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def genotype_loss(probability: Tensor, genotype: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean cross-entropy, in nats, of genotype probabilities [b, l, 3] against ALT counts [b, l]."""
    chosen = probability.gather(-1, genotype.long()[..., None]).squeeze(-1)
    loss = -torch.log(chosen.clamp(min=1e-6))
    weight = weight.expand_as(loss)
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)
