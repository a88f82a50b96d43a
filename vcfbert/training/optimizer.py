"""The optimiser and the schedule of its learning rate."""

from __future__ import annotations

import math

import torch

from vcfbert.config import TrainConfig
from vcfbert.model.base import Variant


def optimizer_of(model: Variant, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only: biases, norms, rates and temperatures are not meant to be near 0."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))


def learning_rate(step: int, total: int, *, peak: float, warmup_steps: int) -> float:
    """The learning rate of ``step`` (from 0) of ``total``.

    It rises linearly over ``warmup_steps`` to ``peak`` and then follows a cosine down to a tenth of it.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total - warmup_steps, 1)
    return peak * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))
