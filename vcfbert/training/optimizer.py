"""The optimiser and its learning rate."""

from __future__ import annotations

import math

import torch

from vcfbert.config import TrainConfig
from vcfbert.model.base import Variant


def optimizer_of(model: Variant, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices alone (biases, norms and temperatures have a scale that means something)."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))


def learning_rate(step: int, total: int, config: TrainConfig, *, copies: bool = False) -> float:
    """Linear warm-up over ``warmup_steps``, then a cosine from ``lr`` down to a tenth of it. A copying variant starts
    from a model that works: no warm-up, and ``copy_lr``."""
    lr, warmup = (config.copy_lr, 0) if copies else (config.lr, config.warmup_steps)
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return lr * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))
