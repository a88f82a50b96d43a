"""What an epoch trains on: pure functions of (seed, epoch), the same in every worker and after a resume."""

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
from vcfbert.retrieval.context import WindowContext, memory_features

# Streams of the seed sequence (see genotypes/masks.py).
PLAN_STREAM = 2
NOISE_STREAM = 3


def data_digest(panels: Sequence[Panel]) -> str:
    """Identity of what is trained on: the panels' own digests know neither the split nor the genetic map."""
    maps = [hashlib.sha256(np.ascontiguousarray(panel.cm).tobytes()).hexdigest() for panel in panels]
    return sha256_json([[panel.digest, panel.validation, cm] for panel, cm in zip(panels, maps, strict=True)])


@dataclass(frozen=True)
class Step:
    """One batch: some of the memory's samples (numbered within the memory) in one window, numbered over all panels.
    ``number``: its place in the epoch, of whichever rank it is."""

    window: int
    samples: npt.NDArray[np.int64]
    number: int


@dataclass(frozen=True)
class Example:
    """A batch and its answers: ``alleles`` uint8 [b, 2, l], to be predicted where ``masked`` bool [l]; drawn from
    ``n_haplotypes`` of the memory."""

    batch: WindowBatch
    alleles: Tensor
    masked: Tensor
    n_haplotypes: int


@dataclass(frozen=True)
class ExampleNoise:
    """Shown alleles are wrong or missing as often as ``masks`` says, and each sample's two haplotypes change places
    ``switches_per_cm`` times per cM, as those of an inferred phase do."""

    switches_per_cm: float


def plan_epoch(n_samples: Sequence[int], config: TrainConfig, epoch: int) -> list[Step]:
    """All batches of an epoch in their order, shuffled: ``samples_per_epoch`` of the ``n_samples`` of each window."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM, epoch])
    batches = []
    for window, there in enumerate(n_samples):
        size = min(config.samples_per_epoch or there, there)
        drawn = rng.choice(there, size=size, replace=False)
        batches += [(window, drawn[i : i + config.batch_size]) for i in range(0, size, config.batch_size)]
    shuffled = [batches[i] for i in rng.permutation(len(batches))]
    return [Step(window, samples, number) for number, (window, samples) in enumerate(shuffled)]


def plan_copying_epoch(n_samples: Sequence[int], config: TrainConfig, epoch: int) -> list[Step]:
    """``copy_steps`` batches, each of a window and of its ``n_samples`` drawn at random: few parameters need few."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM, epoch])
    steps = []
    for number in range(config.copy_steps):
        window = int(rng.integers(len(n_samples)))
        there = n_samples[window]
        steps.append(Step(window, rng.choice(there, size=min(config.batch_size, there), replace=False), number))
    return steps


def shard(steps: list[Step], rank: int, world: int) -> list[Step]:
    """One rank's part. All parts have one length, or ranks would wait for each other for ever."""
    return steps[rank : len(steps) - len(steps) % world : world]


class TrainingPanel:
    """The training split of one panel on a device: serves examples whose queries are the memory's own haplotypes."""

    def __init__(
        self,
        memory: ReferenceSubset,
        windows: list[Window],
        encoding: Encoding | None,
        masks: MaskConfig,
        device: torch.device,
    ) -> None:
        """``encoding``: the windows' distinct rows, where they were prepared; else found when a window is used."""
        self.memory = memory
        self.windows = windows
        self.encoding = encoding
        self.masks = masks
        self.device = device
        self.features = memory_features(memory, device)
        self.maf = np.minimum(memory.af, 1.0 - memory.af)

    def context(self, window: Window, typed: npt.NDArray[np.bool_]) -> WindowContext:
        """``typed`` bool [sites of the retrieval window]."""
        key = np.flatnonzero(typed).astype(np.int64) + window.retrieval[0]
        rows = None if self.encoding is None else self.encoding.rows(window, self.memory.haplotypes)
        return WindowContext.build(self.memory, self.features, window, key, self.device, rows)

    def example(
        self,
        context: WindowContext,
        samples: npt.NDArray[np.int64],
        retriever: Retriever,
        k: int,
        noise: np.random.Generator | None = None,
        switches_per_cm: float = 0.0,
    ) -> Example:
        rows_of = torch.from_numpy(self.memory.pairs[samples]).to(self.device)  # [b, 2]
        own = rows_of.view(-1)
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
            context.key,
            context.sites.key_distance_cm,
            queries,
            k,
            known=known,
            exclude=rows_of.repeat_interleave(2, dim=0),
        )
        kept, renumbered = context.keeping(rows)
        return Example(kept.batch(queries, renumbered, known), alleles, ~context.typed, len(self.memory))


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


class TrainingData:
    """All panels' training splits: their windows are numbered through, and each is searched by its own retriever."""

    def __init__(
        self, panels: Sequence[TrainingPanel], retrievers: Sequence[Retriever], masks: MaskConfig, train: TrainConfig
    ) -> None:
        self.panels = panels
        self.retrievers = retrievers
        self.masks = masks
        self.train = train
        # Of each window: the number of its panel, and what it is there.
        self.places = [(number, window) for number, panel in enumerate(panels) for window in panel.windows]

    @property
    def n_samples(self) -> list[int]:
        """[n_windows]: samples that may be drawn for each window."""
        return [len(self.panels[number].memory.pairs) for number, _ in self.places]

    def maf(self, step: Step) -> npt.NDArray[np.float64]:
        """Of the sites of a step's window."""
        number, window = self.places[step.window]
        return self.panels[number].maf[window.sites]

    def examples(self, steps: list[Step], epoch: int, k: int, noise: ExampleNoise | None = None) -> Iterator[Example]:
        """The batches of ``steps``, each with ``k`` haplotypes retrieved for each of its haplotypes."""
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
