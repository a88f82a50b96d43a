"""The batches of an epoch: pure functions of seed and epoch, the same on every rank and after a resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.config import MaskConfig, TrainConfig
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.masks import window_mask
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import WindowBatch
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext, reference_features

PLAN_STREAM = 2  # of the seed sequence (genotypes/masks.py)


@dataclass(frozen=True)
class Step:
    """One batch: some of the training samples in one window."""

    window: int  # numbered over all panels
    samples: npt.NDArray[np.int64]  # numbered within the window's reference subset


@dataclass(frozen=True)
class Example:
    """A batch and the alleles to predict."""

    batch: WindowBatch
    alleles: Tensor  # uint8 [b, 2, l]
    masked: Tensor  # bool [l], sites whose alleles are to be predicted


def plan_epoch(n_samples: Sequence[int], config: TrainConfig, epoch: int) -> list[Step]:
    """All batches of an epoch, shuffled: ``samples_per_epoch`` (0: all) of the ``n_samples`` of each window."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM, epoch])
    batches = []
    for window, available in enumerate(n_samples):
        size = min(config.samples_per_epoch or available, available)
        chosen = rng.choice(available, size=size, replace=False)
        batches += [(window, chosen[i : i + config.batch_size]) for i in range(0, size, config.batch_size)]
    shuffled = [batches[i] for i in rng.permutation(len(batches))]
    return [Step(window, samples) for window, samples in shuffled]


def shard(steps: list[Step], rank: int, world: int) -> list[Step]:
    """The steps of one rank. All ranks get the same number, because they wait for each other at every step."""
    return steps[rank : len(steps) - len(steps) % world : world]


class TrainingPanel:
    """The training split of one panel on a device. Its haplotypes are both the queries and the reference subset."""

    def __init__(
        self,
        reference: ReferenceSubset,
        encoding: Encoding,
        masks: MaskConfig,
        device: torch.device,
    ) -> None:
        self.reference = reference
        self.windows = encoding.windows
        self.encoding = encoding
        self.masks = masks
        self.device = device
        self.features = reference_features(reference, device)
        self.maf = np.minimum(reference.af, 1.0 - reference.af)
        self.symbolic = reference.panel.sites.symbolic  # never typed

    def context(self, window: Window, typed: npt.NDArray[np.bool_]) -> WindowContext:
        """``window`` as tensors; ``typed`` bool [sites of the retrieval window]."""
        key = np.flatnonzero(typed).astype(np.int64) + window.retrieval[0]
        rows = self.encoding.rows(window, self.reference.haplotypes)
        return WindowContext.build(self.reference, self.features, window, key, self.device, rows)

    def example(
        self,
        context: WindowContext,
        samples: npt.NDArray[np.int64],
        retriever: Retriever,
        k: int,
    ) -> Example:
        """The example of ``samples`` int64 [b] in a window, with ``k`` rows retrieved for each haplotype."""
        rows_of = torch.from_numpy(self.reference.pairs[samples]).to(self.device)  # [b, 2]
        own = rows_of.view(-1)
        queries = context.key_alleles[own]  # [2b, t]
        alleles = context.alleles(own).view(len(samples), 2, -1)
        rows = retriever.retrieve(
            context.key,
            context.sites.key_distance_cm,
            queries,
            k,
            exclude=rows_of.repeat_interleave(2, dim=0),
        )
        kept, renumbered = context.keeping(rows)
        return Example(kept.batch(queries, renumbered), alleles, ~context.typed)


class TrainingData:
    """The training splits of all panels. Windows are numbered over all panels; each panel has its own retriever."""

    def __init__(
        self, panels: Sequence[TrainingPanel], retrievers: Sequence[Retriever], masks: MaskConfig, train: TrainConfig
    ) -> None:
        self.panels = panels
        self.retrievers = retrievers
        self.masks = masks
        self.train = train
        # For each window, the number of its panel and the window.
        self.places = [(number, window) for number, panel in enumerate(panels) for window in panel.windows]

    @property
    def n_samples(self) -> list[int]:
        """[n_windows]: samples available in each window."""
        return [len(self.panels[number].reference.pairs) for number, _ in self.places]

    def maf(self, step: Step) -> npt.NDArray[np.float64]:
        """MAF [l] of the sites of a step's window."""
        number, window = self.places[step.window]
        return self.panels[number].maf[window.sites]

    def examples(self, steps: list[Step], epoch: int, k: int) -> Iterator[Example]:
        """Yields the examples of ``steps`` of ``epoch`` (from 0), with ``k`` rows retrieved for each haplotype."""
        for step in steps:
            place, window = self.places[step.window]
            panel = self.panels[place]
            typed = window_mask(
                panel.maf[window.retrieval_sites],
                seed=self.train.seed,
                epoch=epoch,
                epochs=self.train.epochs,
                window=step.window,
                config=self.masks,
            )
            typed &= ~panel.symbolic[window.retrieval_sites]
            yield panel.example(panel.context(window, typed), step.samples, self.retrievers[place], k)
