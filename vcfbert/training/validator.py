"""Validation of a network after an epoch. Each rank scores some of the windows, and the scores are merged."""

from __future__ import annotations

from typing import Any

import torch.distributed

from vcfbert.config import Config
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.network_predictor import held_out_predictor
from vcfbert.retrieval.base import Retriever
from vcfbert.training.assembly import Assembly
from vcfbert.training.data import TrainingPanel
from vcfbert.training.failures import check_finite
from vcfbert.training.validation import (
    MAX_VALIDATED,
    Scores,
    TypedSites,
    array_typing,
    figures,
    masked_typing,
    score_windows,
)


class Validator:
    """Scores a network on the panels' validation samples."""

    def __init__(self, parts: Assembly, config: Config) -> None:
        self.parts = parts
        self.config = config

    def validate(self, epoch: int) -> dict[str, float]:
        """The figures to log of the network as it is now, after ``epoch`` (from 0).

        All ranks must call it. Raises VcfbertError('diverged') and InputError('too_few_sites').
        """
        masked, array = self._scores()
        check_finite(masked.loss + array.loss, f"validation after epoch {epoch + 1}")
        return figures(masked, array)

    def _scores(self) -> tuple[Scores, Scores]:
        """Scores by the masked protocol, and at sites typed as by an array, of all ranks' windows.

        Every other window is for each, so that a window is scored once. Both score the only window of a small panel.
        """
        fabric, data, seed = self.parts.fabric, self.parts.data, self.config.train.seed
        masked, array = Scores(), Scores()
        for panel, retriever in zip(data.panels, data.retrievers, strict=True):
            own = panel.windows[fabric.global_rank :: fabric.world_size]
            of_masked = [window for window in own if window.index % 2 == 0]
            of_array = own if len(panel.windows) == 1 else [window for window in own if window.index % 2 == 1]
            masked_sites = masked_typing(panel.reference, self.config.evaluate, seed)
            array_sites = array_typing(panel.reference, self.config.masks, seed)
            masked.merge(self._of_windows(panel, retriever, of_masked, masked_sites))
            array.merge(self._of_windows(panel, retriever, of_array, array_sites))
        return self._gathered(masked), self._gathered(array)

    def _of_windows(
        self, panel: TrainingPanel, retriever: Retriever, windows: list[Window], typed: TypedSites
    ) -> Scores:
        predict = held_out_predictor(
            self.parts.model,
            retriever,
            panel.reference,
            panel.features,
            self.parts.k,
            batch_size=self.config.evaluate.batch_size,
        )
        whole = panel.reference.panel
        return score_windows(predict, whole, windows, whole.some_validation_haplotypes(MAX_VALIDATED), typed)

    def _gathered(self, scores: Scores) -> Scores:
        if self.parts.fabric.world_size == 1:
            return scores
        parts: list[Any] = [None] * self.parts.fabric.world_size
        torch.distributed.all_gather_object(parts, scores)
        joined = Scores()
        for part in parts:
            joined.merge(part)
        return joined
