"""What an epoch trains on: pure functions of (seed, epoch), the same in every worker and after a resume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.artifacts import sha256_json
from vcfbert.config import MaskConfig, TrainConfig
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.masks import window_mask
from vcfbert.genotypes.memory import Memory
from vcfbert.genotypes.panel import Panel, haplotypes_of
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import WindowBatch
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext, memory_features

# Streams of the seed sequence (see genotypes/masks.py).
PLAN_STREAM = 2
NOISE_STREAM = 3


def data_digest(panel: Panel) -> str:
    """Identity of what is trained on: the panel's own digest knows neither the split nor the genetic map."""
    cm = hashlib.sha256(np.ascontiguousarray(panel.cm).tobytes()).hexdigest()
    return sha256_json([panel.digest, panel.validation, cm])


@dataclass(frozen=True)
class Step:
    """One batch: some of the memory's samples (numbered within the memory) in one window. ``number``: its place in the
    epoch, of whichever rank it is."""

    window: int
    samples: npt.NDArray[np.int64]
    number: int


@dataclass(frozen=True)
class Example:
    """A batch and its answers: ``alleles`` uint8 [b, 2, l], to be predicted where ``masked`` bool [l]."""

    batch: WindowBatch
    alleles: Tensor
    masked: Tensor


def plan_epoch(n_windows: int, n_samples: int, config: TrainConfig, epoch: int) -> list[Step]:
    """All batches of an epoch in their order: every window, ``samples_per_epoch`` samples each, shuffled."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM, epoch])
    size = min(config.samples_per_epoch or n_samples, n_samples)
    batches = []
    for window in range(n_windows):
        drawn = rng.choice(n_samples, size=size, replace=False)
        batches += [(window, drawn[i : i + config.batch_size]) for i in range(0, size, config.batch_size)]
    shuffled = [batches[i] for i in rng.permutation(len(batches))]
    return [Step(window, samples, number) for number, (window, samples) in enumerate(shuffled)]


def plan_copying_epoch(n_windows: int, n_samples: int, config: TrainConfig, epoch: int) -> list[Step]:
    """``copy_steps`` batches, each of a window and of samples drawn at random: few parameters need few."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM, epoch])
    size = min(config.batch_size, n_samples)
    return [
        Step(int(rng.integers(n_windows)), rng.choice(n_samples, size=size, replace=False), number)
        for number in range(config.copy_steps)
    ]


def shard(steps: list[Step], rank: int, world: int) -> list[Step]:
    """One rank's part. All parts have one length, or ranks would wait for each other for ever."""
    return steps[rank : len(steps) - len(steps) % world : world]


class TrainingData:
    """The training split on a device: serves examples whose queries are the memory's own haplotypes."""

    def __init__(
        self,
        memory: Memory,
        windows: list[Window],
        encoding: Encoding | None,
        masks: MaskConfig,
        train: TrainConfig,
        device: torch.device,
    ) -> None:
        """``encoding``: the windows' distinct rows, where they were prepared; else found when a window is used."""
        self.memory = memory
        self.windows = windows
        self.encoding = encoding
        self.masks = masks
        self.train = train
        self.device = device
        self.features = memory_features(memory, device)
        self.maf = np.minimum(memory.af, 1.0 - memory.af)

    def context(self, window: Window, typed: npt.NDArray[np.bool_]) -> WindowContext:
        """``typed`` bool [sites of the key span]."""
        key = np.flatnonzero(typed).astype(np.int64) + window.span[0]
        rows = None if self.encoding is None else self.encoding.rows(window, self.memory.haplotypes)
        return WindowContext.build(self.memory, self.features, window, key, self.device, rows)

    def examples(
        self,
        steps: list[Step],
        epoch: int,
        retriever: Retriever,
        k: int,
        *,
        noisy: bool = False,
        switches_per_cm: float = 0.0,
    ) -> Iterator[Example]:
        """``noisy``: shown alleles are wrong or missing as often as ``masks`` says, and haplotypes switch from one of
        the sample to the other as those of an inferred phase do."""
        for step in steps:
            window = self.windows[step.window]
            typed = window_mask(
                self.maf[window.span_sites],
                seed=self.train.seed,
                epoch=epoch,
                epochs=self.train.epochs,
                window=step.window,
                config=self.masks,
            )
            noise = np.random.default_rng([self.train.seed, NOISE_STREAM, epoch, step.number]) if noisy else None
            yield self.example(self.context(window, typed), step.samples, retriever, k, noise, switches_per_cm)

    def example(
        self,
        context: WindowContext,
        samples: npt.NDArray[np.int64],
        retriever: Retriever,
        k: int,
        noise: np.random.Generator | None = None,
        switches_per_cm: float = 0.0,
    ) -> Example:
        own = torch.from_numpy(haplotypes_of(samples.tolist())).to(self.device)
        queries, known = context.key_alleles[own], None
        alleles = context.alleles(own).view(len(samples), 2, -1)
        if noise is not None:
            sites = context.sites
            at_key, at_sites = switched(sites.key_offset_cm, sites.offset_cm, len(samples), switches_per_cm, noise)
            pairs = queries.view(len(samples), 2, -1)
            queries = torch.where(at_key[:, None], pairs.flip(1), pairs).flatten(0, 1)
            alleles = torch.where(at_sites[:, None], alleles.flip(1), alleles)
            wrong = torch.from_numpy(noise.random(queries.shape) < self.masks.typing_error)
            known = torch.from_numpy(noise.random(queries.shape) >= self.masks.missing).to(self.device)
            queries = queries ^ wrong.to(self.device).to(queries.dtype)
        rows = retriever.retrieve(
            context.key, context.sites.key_distance_cm, queries, k, known=known, exclude=own_rows(own)
        )
        kept, renumbered = context.keeping(rows)
        return Example(kept.batch(queries, renumbered, known), alleles, ~context.typed)


def switched(
    key_cm: Tensor, sites_cm: Tensor, n: int, per_cm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """bool [n, t] and [n, l]: where each of n samples shows its haplotypes in the other order, at ``key_cm`` [t] and
    ``sites_cm`` [l], when the order changes ``per_cm`` times at random places."""
    low, high = float(key_cm[0]), float(key_cm[-1])
    count = rng.poisson(per_cm * (high - low), size=n)
    points = rng.uniform(low, high, size=(n, count.max()))
    points[np.arange(count.max()) >= count[:, None]] = np.inf
    places = torch.from_numpy(np.sort(points, axis=1).astype(np.float32)).to(key_cm.device)

    def odd(cm: Tensor) -> Tensor:
        return torch.searchsorted(places, cm.expand(n, -1).contiguous()) % 2 == 1

    return odd(key_cm), odd(sites_cm)


def own_rows(rows: Tensor) -> Tensor:
    """[n, 2]: each memory row and its sample's other haplotype, which a training query must never retrieve."""
    return torch.stack([rows, rows ^ 1], dim=1)
