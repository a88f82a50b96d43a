"""Validation after an epoch. Each rank scores some of the windows, and the scores are merged."""

from __future__ import annotations

from typing import Any

import torch.distributed

from vcfbert.config import Config
from vcfbert.genotypes.windows import Window
from vcfbert.retrieval.base import Retriever
from vcfbert.training.assembly import Assembly
from vcfbert.training.data import TrainingPanel
from vcfbert.training.failures import check_finite
from vcfbert.training.validation import MAX_VALIDATED, Scores, TypedSites, array_typing, masked_typing, score_windows


class Validator:
    """Scores a model on the panels' validation samples."""

    def __init__(self, parts: Assembly, config: Config) -> None:
        self.parts = parts
        self.config = config

    def validate(self, epoch: int) -> dict[str, float]:
        """The figures to log of the model as it is now, after ``epoch`` (from 0), and the recipe's own.

        F1 is by the masked protocol, dosage r2 at sites typed as by an array, the loss by both. All ranks must call
        it. Raises VcfbertError('diverged').
        """
        scores = self._scores()
        check_finite(scores.loss, f"validation after epoch {epoch + 1}")
        r2 = {f"val/r2/{name.rstrip('%')}": value for name, value in scores.r2.values().items()}
        f1 = {f"val/{name}": value for name, value in scores.f1.values().items()}
        return {"val/loss": scores.mean_loss, **f1, **r2, **self.parts.recipe.validation_metrics()}

    def _scores(self) -> Scores:
        """Scores of all ranks' windows."""
        fabric, data, seed = self.parts.fabric, self.parts.data, self.config.train.seed
        masked, array, both = Scores(), Scores(), Scores()
        for panel, retriever in zip(data.panels, data.retrievers, strict=True):
            own = panel.windows[fabric.global_rank :: fabric.world_size]
            for_masked, for_array = self.parts.recipe.validation_windows(own)
            masked_sites = masked_typing(panel.reference, self.config.evaluate, seed)
            array_sites = array_typing(panel.reference, self.config.masks, seed)
            masked.merge(self._of_windows(panel, retriever, for_masked, masked_sites))
            array.merge(self._of_windows(panel, retriever, for_array, array_sites))
        for part in self._gathered(masked):
            both.f1.merge(part.f1)
            both.loss, both.count = both.loss + part.loss, both.count + part.count
        for part in self._gathered(array):
            both.r2.merge(part.r2)
            both.loss, both.count = both.loss + part.loss, both.count + part.count
        return both

    def _of_windows(
        self, panel: TrainingPanel, retriever: Retriever, windows: list[Window], typed: TypedSites
    ) -> Scores:
        return score_windows(
            self.parts.model,
            retriever,
            panel.reference,
            panel.features,
            windows,
            panel.reference.panel.some_validation_haplotypes(MAX_VALIDATED),
            typed,
            k=self.parts.k,
            batch_size=self.config.evaluate.batch_size,
            min_maf=0.0,
        )

    def _gathered(self, scores: Scores) -> list[Scores]:
        if self.parts.fabric.world_size == 1:
            return [scores]
        parts: list[Any] = [None] * self.parts.fabric.world_size
        torch.distributed.all_gather_object(parts, scores)
        return parts
