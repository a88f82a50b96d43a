"""The batches of an epoch: pure functions of seed and epoch, the same on every rank and after a resume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.artifacts import sha256_json
from vcfbert.config import MaskConfig, TrainConfig
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.masks import window_mask
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import WindowBatch
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext, reference_features

# Streams of the seed sequence (genotypes/masks.py).
PLAN_STREAM = 2
NOISE_STREAM = 3


def data_digest(panels: Sequence[Panel]) -> str:
    """Digest of the training data. It covers the validation split and the genetic map, which ``Panel.digest`` omits."""
    maps = [hashlib.sha256(np.ascontiguousarray(panel.cm).tobytes()).hexdigest() for panel in panels]
    return sha256_json([[panel.digest, panel.validation, cm] for panel, cm in zip(panels, maps, strict=True)])


@dataclass(frozen=True)
class Step:
    """One batch: some of the training samples in one window."""

    window: int  # numbered over all panels
    samples: npt.NDArray[np.int64]  # numbered within the window's reference subset
    number: int  # place in the epoch, counted over all ranks


@dataclass(frozen=True)
class Example:
    """A batch and the alleles to predict."""

    batch: WindowBatch
    alleles: Tensor  # uint8 [b, 2, l]
    masked: Tensor  # bool [l], sites whose alleles are to be predicted
    n_haplotypes: int  # of the reference subset


@dataclass(frozen=True)
class ExampleNoise:
    """Errors of the examples' typed alleles. ``MaskConfig`` sets the fractions of wrong and missing calls."""

    switches_per_cm: float  # phase errors: a sample's two haplotypes are exchanged this often, as in an inferred phase


def plan_epoch(n_samples: Sequence[int], config: TrainConfig, epoch: int) -> list[Step]:
    """All batches of an epoch, shuffled: ``samples_per_epoch`` (0: all) of the ``n_samples`` of each window."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM, epoch])
    batches = []
    for window, available in enumerate(n_samples):
        size = min(config.samples_per_epoch or available, available)
        chosen = rng.choice(available, size=size, replace=False)
        batches += [(window, chosen[i : i + config.batch_size]) for i in range(0, size, config.batch_size)]
    shuffled = [batches[i] for i in rng.permutation(len(batches))]
    return [Step(window, samples, number) for number, (window, samples) in enumerate(shuffled)]


def plan_hmm_epoch(n_samples: Sequence[int], config: TrainConfig, epoch: int) -> list[Step]:
    """``copy_steps`` batches, each of random samples in a random window. The HMM has few parameters and needs few."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM, epoch])
    steps = []
    for number in range(config.copy_steps):
        window = int(rng.integers(len(n_samples)))
        available = n_samples[window]
        samples = rng.choice(available, size=min(config.batch_size, available), replace=False)
        steps.append(Step(window, samples, number))
    return steps


def shard(steps: list[Step], rank: int, world: int) -> list[Step]:
    """The steps of one rank. All ranks get the same number, because they wait for each other at every step."""
    return steps[rank : len(steps) - len(steps) % world : world]


class TrainingPanel:
    """The training split of one panel on a device. Its haplotypes are both the queries and the reference subset."""

    def __init__(
        self,
        reference: ReferenceSubset,
        windows: list[Window],
        encoding: Encoding | None,
        masks: MaskConfig,
        device: torch.device,
    ) -> None:
        """``encoding``: the windows' distinct rows, if prepared; else a window's are found when it is used."""
        self.reference = reference
        self.windows = windows
        self.encoding = encoding
        self.masks = masks
        self.device = device
        self.features = reference_features(reference, device)
        self.maf = np.minimum(reference.af, 1.0 - reference.af)

    def context(self, window: Window, typed: npt.NDArray[np.bool_]) -> WindowContext:
        """``window`` as tensors; ``typed`` bool [sites of the retrieval window]."""
        key = np.flatnonzero(typed).astype(np.int64) + window.retrieval[0]
        rows = None if self.encoding is None else self.encoding.rows(window, self.reference.haplotypes)
        return WindowContext.build(self.reference, self.features, window, key, self.device, rows)

    def example(
        self,
        context: WindowContext,
        samples: npt.NDArray[np.int64],
        retriever: Retriever,
        k: int,
        noise: np.random.Generator | None = None,
        switches_per_cm: float = 0.0,
    ) -> Example:
        """The example of ``samples`` int64 [b] in a window, with ``k`` rows retrieved for each haplotype.

        ``noise``: generator of errors in the typed alleles, None for no errors. ``switches_per_cm``: phase errors.
        """
        rows_of = torch.from_numpy(self.reference.pairs[samples]).to(self.device)  # [b, 2]
        own = rows_of.view(-1)
        queries, known = context.key_alleles[own], None  # [2b, t]
        alleles = context.alleles(own).view(len(samples), 2, -1)
        if noise is not None:
            sites = context.sites
            at_key, at_sites = phase_flipped(sites.key_offset_cm, sites.offset_cm, len(samples), switches_per_cm, noise)
            pairs = queries.view(len(samples), 2, -1)
            queries = torch.where(at_key[:, None], pairs.flip(1), pairs).flatten(0, 1)
            alleles = torch.where(at_sites[:, None], alleles.flip(1), alleles)
            wrong = torch.from_numpy(noise.random(queries.shape) < self.masks.typing_error)
            known = torch.from_numpy(noise.random(queries.shape) >= self.masks.missing).to(self.device)
            queries = queries ^ wrong.to(self.device).to(queries.dtype)
        rows = retriever.retrieve(
            context.key,
            context.sites.key_distance_cm,
            queries,
            k,
            known=known,
            exclude=rows_of.repeat_interleave(2, dim=0),
        )
        kept, renumbered = context.keeping(rows)
        return Example(kept.batch(queries, renumbered, known), alleles, ~context.typed, len(self.reference))


def phase_flipped(
    key_cm: Tensor, sites_cm: Tensor, n: int, per_cm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Where each of n samples is phase-flipped: bool [n, t] at ``key_cm`` [t] and bool [n, l] at ``sites_cm`` [l].

    Both are in cM, the first ascending. The phase flips at random positions, on average ``per_cm`` times per cM.
    """
    low, high = float(key_cm[0]), float(key_cm[-1])
    count = rng.poisson(per_cm * (high - low), size=n)
    points = rng.uniform(low, high, size=(n, count.max()))
    points[np.arange(count.max()) >= count[:, None]] = np.inf
    places = torch.from_numpy(np.sort(points, axis=1).astype(np.float32)).to(key_cm.device)

    def odd(cm: Tensor) -> Tensor:
        return torch.searchsorted(places, cm.expand(n, -1).contiguous()) % 2 == 1

    return odd(key_cm), odd(sites_cm)


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

    def examples(self, steps: list[Step], epoch: int, k: int, noise: ExampleNoise | None = None) -> Iterator[Example]:
        """Yields the examples of ``steps`` of ``epoch`` (from 0), with ``k`` rows retrieved for each haplotype.

        ``noise``: errors in the typed alleles; None for no errors.
        """
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
            context, retriever = panel.context(window, typed), self.retrievers[place]
            if noise is None:
                yield panel.example(context, step.samples, retriever, k)
            else:
                rng = np.random.default_rng([self.train.seed, NOISE_STREAM, epoch, step.number])
                yield panel.example(context, step.samples, retriever, k, rng, noise.switches_per_cm)
