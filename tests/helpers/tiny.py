"""Tiny panels of random haplotypes, configurations, models and bundles, and a tracker that keeps what it was told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vcfbert.bundle.contents import Bundle, save_copying_model
from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import save_network
from vcfbert.config import Config, ModelConfig, profile
from vcfbert.copying.mixture import CopyingModel, Mixture, Rates
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.genotypes.store import panel_digest
from vcfbert.model.base import Variant
from vcfbert.model.variants import create

TINY_MODEL = ModelConfig(dims=8, layers=1, heads=2, seed=3)


def panel_from_alleles(
    alleles: npt.NDArray[np.uint8], *, cm: npt.NDArray[np.float64] | None = None, validation: tuple[int, ...] = ()
) -> Panel:
    """A panel with these haplotypes [2 * samples, sites], 0.01 cM between sites where no positions are given."""
    n_sites = alleles.shape[1]
    sites = Sites(
        chrom="20",
        pos=np.arange(1, n_sites + 1, dtype=np.int32) * 100,
        ref=np.full(n_sites, "A", dtype=object),
        alt=np.full(n_sites, "G", dtype=object),
        id=np.full(n_sites, ".", dtype=object),
        continues=np.zeros(n_sites, dtype=bool),
    )
    panel = Panel(
        region=Region("20"),
        samples=tuple(f"S{i}" for i in range(len(alleles) // 2)),
        sites=sites,
        blocks=SiteBlocks.of_alleles(alleles),
        cm=np.arange(n_sites) * 0.01 if cm is None else cm,
        allele_count=alleles.sum(axis=0, dtype=np.int64),
        validation=validation,
        digest="",
    )
    return dataclasses.replace(panel, digest=panel_digest(panel))


def random_panel(n_samples: int, n_sites: int, *, seed: int = 0, validation: tuple[int, ...] = ()) -> Panel:
    """Haplotypes drawn site by site, with allele frequencies from rare to common."""
    rng = np.random.default_rng(seed)
    af = rng.uniform(0.02, 0.98, size=n_sites)
    alleles = (rng.random((2 * n_samples, n_sites)) < af).astype(np.uint8)
    return panel_from_alleles(alleles, validation=validation)


def haploid_panel(n_sites: int = 130, *, seed: int = 4, validation: tuple[int, ...] = ()) -> Panel:
    """Six samples, of which the second and the fourth are haploid."""
    panel = random_panel(5, n_sites, seed=seed, validation=validation)
    samples = tuple(f"S{i}" for i in range(6))
    panel = dataclasses.replace(panel, samples=samples, haploid=(1, 3))
    return dataclasses.replace(panel, digest=panel_digest(panel))


def tiny_config(sections: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """The CPU profile made small enough to train in a second; ``sections`` override it by section and name."""
    small: dict[str, dict[str, Any]] = {
        "encode": {"window": 64, "flank": 8, "span_cm": 0.05},
        "model": {"dims": 8, "layers": 1, "heads": 2, "seed": 3},
        "retrieval": {"k": {"v17": 2, "v18": 8, "v19": 12}},
        "train": {"epochs": 2, "batch_size": 8, "samples_per_epoch": 0, "lr": 5e-3, "warmup_steps": 2, "patience": 5},
        "evaluate": {"batch_size": 4},
    }
    config = profile("cpu")
    for values in (small, sections or {}):
        changed = {name: dataclasses.replace(getattr(config, name), **changes) for name, changes in values.items()}
        config = dataclasses.replace(config, **changed)
    return config


def perturbed(variant: str, config: ModelConfig = TINY_MODEL, *, seed: int = 5, size: float = 0.3) -> Variant:
    """A network as training may leave it: every weight moved, the zeroed last layers included."""
    model = create(variant, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def perturbed_bundle(
    folder: Path, panels: Sequence[Panel], variant: str, config: Config | None = None, *, size: float = 0.3
) -> Bundle:
    """Writes a bundle of a ``perturbed`` model to ``folder`` and opens it; ``tiny_config()`` by default."""
    config = tiny_config() if config is None else config
    if variant == "v19":
        save_copying_model(folder, perturbed_copying_model(size=size), panels, config, metrics={}, data={})
    else:
        save_network(folder, perturbed(variant, config.model, size=size), panels, config, metrics={}, data={})
    return load_bundle(folder)


def perturbed_copying_model(*, seed: int = 5, size: float = 0.3) -> CopyingModel:
    """V19 as a fit may leave it: all rates and mixture weights moved."""
    rng = np.random.default_rng(seed)

    def moved(rates: Rates) -> Rates:
        rate, mismatch = np.array([rates.switches_per_cm, rates.mismatch]) * np.exp(size * rng.standard_normal(2))
        return Rates(float(rate), float(mismatch))

    def mixture(first: Mixture) -> Mixture:
        weights = first.weights * np.exp(size * rng.standard_normal(first.weights.shape))
        return Mixture(moved(first.rates), weights / weights.sum(axis=1, keepdims=True))

    start = CopyingModel.first()
    return CopyingModel(mixture(start.phased), mixture(start.sampled), moved(start.pair))


def target_of(panel: Panel, samples: list[int], typed: npt.NDArray[np.int64], *, phased: bool = True) -> MatchedTarget:
    """Samples of the panel as a target that is typed at the sites ``typed`` [m], ascending."""
    haplotypes = panel.haplotypes_of(samples)
    alleles = panel.alleles(typed, haplotypes).T.reshape(len(typed), len(samples), 2).astype(np.int8)
    return MatchedTarget(
        panel_digest=panel.digest,
        samples=tuple(panel.samples[s] for s in samples),
        panel_site=typed,
        alleles=alleles,
        phased=np.full(alleles.shape[:2], phased),
        swapped=np.zeros(len(typed), dtype=bool),
        id=np.full(len(typed), ".", dtype=object),
    )


class MemoryTracker:
    """Keeps what a trainer logs. ``run_ids`` are those that a run was asked to continue with."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.run_ids: list[str | None] = []
        self.tags: dict[str, str] = {}
        self.bundles: list[Path] = []

    @contextmanager
    def start(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], *, run_id: str | None = None
    ) -> Iterator[str]:
        self.run_ids.append(run_id)
        self.tags = dict(tags)
        yield run_id or "run-1"

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        assert step == len(self.epochs)  # of V19, the steps of its search come first
        self.epochs.append(dict(metrics))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        assert path.is_file()

    def log_bundle(self, bundle: Path, variant: str) -> str:
        assert bundle.is_dir()
        self.bundles.append(bundle)
        return f"models:/{variant}"
