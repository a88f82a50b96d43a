"""The networks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vcfbert.model.base import Variant
from vcfbert.model.v17 import V17
from vcfbert.model.v18 import V18

if TYPE_CHECKING:
    from vcfbert.config import ModelConfig

VARIANT_CLASSES: dict[str, type[Variant]] = {cls.name: cls for cls in (V17, V18)}


def create(variant: str, config: ModelConfig) -> Variant:
    """A freshly initialised model. ``config.seed`` alone decides its weights; torch's global generator is unchanged."""
    with torch.random.fork_rng(devices=[]):
        model = VARIANT_CLASSES[variant](config)
        torch.manual_seed(config.seed)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm | torch.nn.Embedding):
                module.reset_parameters()
        model.init_weights()
    return model
