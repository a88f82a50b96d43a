"""Builds what a training run works on: device, model, training splits, retrievers and optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric

from vcfbert.config import Config
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.base import Variant
from vcfbert.model.variants import create
from vcfbert.retrieval.base import KeyIndex, Retriever, usable_k
from vcfbert.retrieval.refresh import attach_retriever, build_index
from vcfbert.training.data import TrainingData, TrainingPanel
from vcfbert.training.device import fabric_of
from vcfbert.training.index_refresh import IndexRefresher
from vcfbert.training.optimizer import optimizer_of
from vcfbert.training.result import panel_too_small


@dataclass(frozen=True)
class Assembly:
    """The parts of one run, on the device of this rank."""

    fabric: Fabric
    model: Variant  # its weights are validated, saved and bundled
    wrapped: Any  # the same model as Fabric trains it: compiled where asked for, gradients averaged over ranks
    optimizer: Any  # torch.optim.Optimizer, as Fabric steps it
    data: TrainingData
    refresher: IndexRefresher | None  # None if the metric of retrieval is fixed
    k: int  # haplotypes retrieved for each haplotype


def assemble(
    panels: Sequence[Panel],
    encodings: Sequence[Encoding],
    config: Config,
    variant: str,
    *,
    accelerator: str,
    devices: int,
    indexes: Sequence[KeyIndex] | None,
    retrievers: Sequence[Retriever] | None,
) -> Assembly:
    """Builds the parts of a run that trains ``variant``. Starts the other ranks. Arguments: as for ``Trainer``."""
    fabric = fabric_of(config.train, accelerator, devices)
    fabric.launch()
    model = create(variant, config.model)
    splits = [
        TrainingPanel(ReferenceSubset(panel, panel.training_haplotypes), encoding, config.masks, fabric.device)
        for panel, encoding in zip(panels, encodings, strict=True)
    ]
    # A query never retrieves the two haplotypes of its own sample.
    k = usable_k(config.retrieval.k[variant], [len(split.reference) for split in splits], n_excluded=2)
    if k < 0:
        raise panel_too_small(min(len(split.reference) for split in splits))
    to_wrap: Any = torch.compile(model) if config.train.compile and fabric.device.type == "cuda" else model
    wrapped, optimizer = fabric.setup(to_wrap, optimizer_of(model, config.train))
    own = [
        _retriever(model, split, indexes[number] if indexes else None, config) for number, split in enumerate(splits)
    ]
    data = TrainingData(splits, retrievers or own, config.masks, config.train)
    refresher = None if model.retrieval_heads is None else IndexRefresher(model, config, data)
    return Assembly(fabric, model, wrapped, optimizer, data, refresher, k)


def _retriever(model: Variant, split: TrainingPanel, index: KeyIndex | None, config: Config) -> Retriever:
    """The variant's own retriever over ``index``, or over a new one."""
    if index is None:
        weights = torch.ones_like(split.features[:, 0])
        index = build_index(split.reference, weights, backend=config.retrieval.backend, device=split.device)
    return attach_retriever(model, index, split.features, update=True)
