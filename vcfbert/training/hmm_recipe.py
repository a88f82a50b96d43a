"""How V19 is trained: a search for its rates, then a few gradient steps on examples typed as by an array."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vcfbert.config import Config, MaskConfig
from vcfbert.genotypes.encoding import Encoding, windows_of
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.model.v19 import V19
from vcfbert.retrieval.refresh import RefreshReport
from vcfbert.training.data import Example, ExampleNoise, Step, TrainingData, TrainingPanel, plan_hmm_epoch
from vcfbert.training.optimizer import learning_rate
from vcfbert.training.rate_search import RateSearch
from vcfbert.training.recipe import Recipe

MAX_DENSITY = 0.05  # greatest fraction of sites typed in an example


class HmmRecipe(Recipe):
    """V19: wide windows of its own, masks of sparse arrays only, examples with errors, no warm-up."""

    def __init__(self, model: V19, config: Config) -> None:
        self.model = model
        self.config = config
        self.masks = sparse_array(config.masks)
        self._search: RateSearch | None = None

    def training_panel(self, reference: ReferenceSubset, encoding: Encoding, device: torch.device) -> TrainingPanel:
        windows = windows_of(reference.panel, self.config.encode, is_hmm=True)
        return TrainingPanel(reference, windows, None, self.masks, device)

    def attach(self, data: TrainingData, k: int) -> None:
        self._search = RateSearch(self.model, data, k=k)

    def start(self) -> Mapping[str, float] | None:
        return self.search.search()

    def refresh(self, epoch: int, version: int, *, rank: int, world: int) -> RefreshReport | None:
        return None

    def plan(self, n_samples: Sequence[int], epoch: int) -> list[Step]:
        return plan_hmm_epoch(n_samples, self.config.train, epoch)

    def noise(self) -> ExampleNoise | None:
        return ExampleNoise(self.search.switches_per_cm)

    def loss_weight(self, weight: Tensor, example: Example) -> Tensor:
        """Weight 0 where no other sample carries ALT: a query cannot copy from its own sample."""
        carriers = (example.batch.sites.af * example.n_haplotypes).round()
        return weight * (example.alleles.sum(dim=1, keepdim=True) < carriers)  # [b, 1, l]

    def learning_rate(self, step: int, total: int) -> float:
        """A cosine without warm-up, because the search leaves a model that already imputes well."""
        return learning_rate(step, total, peak=self.config.train.copy_lr, warmup_steps=0)

    def validation_windows(self, windows: list[Window]) -> tuple[list[Window], list[Window]]:
        """Every other window by the masked protocol, all windows as typed by an array. There may be only one window."""
        return [w for w in windows if w.index % 2 == 0], windows

    def validation_metrics(self) -> dict[str, float]:
        return {"val/genotype_loss": self.search.loss()}

    @property
    def search(self) -> RateSearch:
        """The search on the attached data. Raises RuntimeError before ``attach``."""
        if self._search is None:
            raise RuntimeError("attach() comes first")
        return self._search


def sparse_array(masks: MaskConfig) -> MaskConfig:
    """``masks`` restricted to sparse arrays: denser ones take more time and leave fewer alleles to learn from."""
    low, high = masks.array_density
    density = (low, max(low, min(high, MAX_DENSITY)))
    return dataclasses.replace(masks, array_share=1.0, array_density=density)
