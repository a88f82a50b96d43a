"""The protocol by which a variant defines its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.retrieval.refresh import RefreshReport
from vcfbert.training.data import Example, ExampleNoise, Step, TrainingData, TrainingPanel


class Recipe(Protocol):
    """All that differs between variants in training. The trainer calls the methods in this order:

    1. ``training_panel`` once per panel, then ``attach`` once with the data of all panels.
    2. ``start`` once, before the first epoch of a run that is not resumed.
    3. Each epoch: ``refresh``, ``plan``, ``noise``; each batch ``loss_weight``; each step ``learning_rate``.
    4. After each epoch: ``validation_windows`` once per panel, then ``validation_metrics``.

    Every method but ``start`` and ``refresh`` leaves the model unchanged. A resumed run calls the same methods with the
    same arguments and gets the same answers.
    """

    def training_panel(self, reference: ReferenceSubset, encoding: Encoding, device: torch.device) -> TrainingPanel:
        """The training split of one panel, with the variant's windows and masks. ``encoding``: that of the panel."""

    def attach(self, data: TrainingData, k: int) -> None:
        """Takes the data that the run trains on, and the number of haplotypes retrieved."""

    def start(self) -> Mapping[str, float] | None:
        """Sets the model to its starting point and returns the figures to log; None if initial weights stay."""

    def refresh(self, epoch: int, version: int, *, rank: int, world: int) -> RefreshReport | None:
        """Brings learned retrievers up to date before ``epoch``, as index ``version``; None if no refresh is due.

        All ranks must call it.
        """

    def plan(self, n_samples: Sequence[int], epoch: int) -> list[Step]:
        """All batches of ``epoch``, of all ranks. ``n_samples`` [n_windows]: samples available in each window."""

    def noise(self) -> ExampleNoise | None:
        """The errors that examples show; None for examples without errors."""

    def loss_weight(self, weight: Tensor, example: Example) -> Tensor:
        """The loss weights of the example's alleles, from ``weight`` [l] of its sites: [l] or [b, 1, l]."""

    def learning_rate(self, step: int, total: int) -> float:
        """The learning rate of optimiser step ``step`` (from 0) of ``total``."""

    def validation_windows(self, windows: list[Window]) -> tuple[list[Window], list[Window]]:
        """Chooses, of one rank's ``windows``, those for the masked protocol and those scored as typed by an array."""

    def validation_metrics(self) -> dict[str, float]:
        """Further figures of the model as it is now. 'val/genotype_loss', if present, chooses the best epoch."""
