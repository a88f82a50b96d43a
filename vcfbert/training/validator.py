"""Validation after an epoch, shared out among ranks."""

from __future__ import annotations

from typing import Any

import torch.distributed
from lightning_fabric import Fabric

from vcfbert.config import Config
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import Variant
from vcfbert.retrieval.base import Retriever
from vcfbert.training.data import TrainingData, TrainingPanel
from vcfbert.training.recipe import Recipe
from vcfbert.training.validation import MAX_VALIDATED, Scores, TypedSites, array_typing, masked_typing, score_windows


class Validator:
    """Scores a model on the panels' validation samples; each rank scores some of the windows."""

    def __init__(
        self, fabric: Fabric, model: Variant, recipe: Recipe, data: TrainingData, config: Config, k: int
    ) -> None:
        self.fabric = fabric
        self.model = model
        self.recipe = recipe
        self.data = data
        self.config = config
        self.k = k

    def scores(self) -> Scores:
        """Of all ranks and windows: F1 by the masked protocol, dosage r2 by an array's typing, loss by both."""
        seed = self.config.train.seed
        masked, array, both = Scores(), Scores(), Scores()
        for panel, retriever in zip(self.data.panels, self.data.retrievers, strict=True):
            own = panel.windows[self.fabric.global_rank :: self.fabric.world_size]
            for_masked, for_array = self.recipe.validation_windows(own)
            masked.merge(
                self._scores(panel, retriever, for_masked, masked_typing(panel.memory, self.config.evaluate, seed))
            )
            array.merge(self._scores(panel, retriever, for_array, array_typing(panel.memory, self.config.masks, seed)))
        for part in self._gathered(masked):
            both.f1.merge(part.f1)
            both.loss, both.count = both.loss + part.loss, both.count + part.count
        for part in self._gathered(array):
            both.r2.merge(part.r2)
            both.loss, both.count = both.loss + part.loss, both.count + part.count
        return both

    def metrics(self, scores: Scores) -> dict[str, float]:
        """The figures to log of these ``scores``, and the recipe's own."""
        r2 = {f"val/r2/{name.rstrip('%')}": value for name, value in scores.r2.values().items()}
        f1 = {f"val/{name}": value for name, value in scores.f1.values().items()}
        return {"val/loss": scores.mean_loss, **f1, **r2, **self.recipe.validation_metrics()}

    def _scores(self, panel: TrainingPanel, retriever: Retriever, windows: list[Window], typed: TypedSites) -> Scores:
        return score_windows(
            self.model,
            retriever,
            panel.memory,
            panel.features,
            windows,
            panel.memory.panel.some_validation_haplotypes(MAX_VALIDATED),
            typed,
            k=self.k,
            batch_size=self.config.evaluate.batch_size,
            min_maf=0.0,
        )

    def _gathered(self, scores: Scores) -> list[Scores]:
        if self.fabric.world_size == 1:
            return [scores]
        parts: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(parts, scores)
        return parts
