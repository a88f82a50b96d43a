"""How the networks are trained: V17 with fixed retrieval, V18 with retrieval that is refreshed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vcfbert.config import Config
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.model.v18 import V18
from vcfbert.retrieval.base import usable_k
from vcfbert.retrieval.context import distance_from
from vcfbert.retrieval.refresh import Probe, RefreshReport, joint_report, refresh
from vcfbert.training.data import Example, ExampleNoise, Step, TrainingData, TrainingPanel, plan_epoch
from vcfbert.training.optimizer import learning_rate
from vcfbert.training.recipe import Recipe
from vcfbert.training.validation import MAX_VALIDATED, array_typing

PROBE_WINDOWS = 4  # windows per panel by which refreshes are compared
PROBE_K = 8  # rows retrieved for each probe


class NetworkRecipe(Recipe):
    """V17: the windows of the encoding, masks as configured, examples without errors, a warm-up."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def training_panel(self, reference: ReferenceSubset, encoding: Encoding, device: torch.device) -> TrainingPanel:
        return TrainingPanel(reference, encoding.windows, encoding, self.config.masks, device)

    def attach(self, data: TrainingData, k: int) -> None:
        """Does nothing: a network needs no data before its epochs."""

    def start(self) -> Mapping[str, float] | None:
        return None

    def refresh(self, epoch: int, version: int, *, rank: int, world: int) -> RefreshReport | None:
        return None

    def plan(self, n_samples: Sequence[int], epoch: int) -> list[Step]:
        return plan_epoch(n_samples, self.config.train, epoch)

    def noise(self) -> ExampleNoise | None:
        return None

    def loss_weight(self, weight: Tensor, example: Example) -> Tensor:
        return weight

    def learning_rate(self, step: int, total: int) -> float:
        train = self.config.train
        return learning_rate(step, total, peak=train.lr, warmup_steps=train.warmup_steps)

    def validation_windows(self, windows: list[Window]) -> tuple[list[Window], list[Window]]:
        """Every other window for each protocol, so that a window is scored once."""
        return [w for w in windows if w.index % 2 == 0], [w for w in windows if w.index % 2 == 1]

    def validation_metrics(self) -> dict[str, float]:
        return {}


class LearnedRetrievalRecipe(NetworkRecipe):
    """V18: as V17, with a refresh of the retrievers every ``retrieval.refresh_every`` epochs (0: never)."""

    def __init__(self, model: V18, config: Config) -> None:
        super().__init__(config)
        self.model = model
        self.data: TrainingData | None = None

    def attach(self, data: TrainingData, k: int) -> None:
        self.data = data

    def refresh(self, epoch: int, version: int, *, rank: int, world: int) -> RefreshReport | None:
        every = self.config.retrieval.refresh_every
        if self.data is None or not (epoch and every and epoch % every == 0):
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
