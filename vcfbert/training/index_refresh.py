"""Refreshes the learned retrievers of V18 as training goes on."""

from __future__ import annotations

import torch

from vcfbert.config import Config
from vcfbert.genotypes.windows import distance_from
from vcfbert.model.base import Variant
from vcfbert.retrieval.base import usable_k
from vcfbert.retrieval.refresh import Probe, RefreshReport, joint_report, refresh
from vcfbert.training.data import TrainingData, TrainingPanel
from vcfbert.training.validation import MAX_VALIDATED, array_typing

PROBE_WINDOWS = 4  # windows per panel by which refreshes are compared
PROBE_K = 8  # rows retrieved for each probe


class IndexRefresher:
    """Brings the retrievers up to date every ``retrieval.refresh_every`` epochs (0: never)."""

    def __init__(self, model: Variant, config: Config, data: TrainingData) -> None:
        self.model = model
        self.config = config
        self.data = data

    def refresh(self, epoch: int, version: int, *, rank: int, world: int) -> RefreshReport | None:
        """Refreshes before ``epoch``, as index ``version``; None if no refresh is due. All ranks must call it."""
        every = self.config.retrieval.refresh_every
        if not (epoch and every and epoch % every == 0):
            return None
        panels = self.data.panels
        k = usable_k(PROBE_K, [len(panel.reference) for panel in panels], n_excluded=2)
        reports = [
            refresh(
                self.model, retriever, panel.features, self._probes(panel), k=k, version=version, rank=rank, world=world
            )
            for retriever, panel in zip(self.data.retrievers, panels, strict=True)
            if retriever.is_learned  # a study may train with retrievers that are not
        ]
        return joint_report(reports) if reports else None

    def _probes(self, split: TrainingPanel) -> list[Probe]:
        """Validation haplotypes typed as by an array in a few windows, the same at every refresh."""
        panel = split.reference.panel
        typed = array_typing(split.reference, self.config.masks, self.config.train.seed)
        queries_of = panel.some_validation_haplotypes(MAX_VALIDATED)
        probes = []
        for window in split.windows[:: max(len(split.windows) // PROBE_WINDOWS, 1)]:
            key = typed(window).nonzero()[0] + window.retrieval[0]
            distance = torch.from_numpy(distance_from(window, key, panel.cm)).float()
            queries = torch.from_numpy(panel.alleles(key, queries_of))
            probes.append(
                Probe(torch.from_numpy(key).to(split.device), distance.to(split.device), queries.to(split.device))
            )
        return probes
