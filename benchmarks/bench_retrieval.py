"""Measures the effect of retrieval: refresh frequency, choice of retriever, and retrieved, random or no haplotypes.

    python benchmarks/bench_retrieval.py --out reports/retrieval                      # the demo's second Mb
    python benchmarks/bench_retrieval.py --panel PANEL --map MAP --region 20:1-5000000
    python benchmarks/bench_retrieval.py --quick
    python benchmarks/bench_retrieval.py --docs docs/results                         # puts tables and figure there

The cells are an Optuna grid (``_grid.py``). An interrupted grid resumes; each cell is a child run of one MLflow run.
There are three parts:

refresh    V18 trained with a refresh of its index every 0 (never), 1, 2, 3 or 5 epochs.
retriever  V17's and V18's networks trained with each retriever, and V19's HMMs before a fit, with the same
           retrievers: Hamming distance (V17's), learned embeddings (V18's), IBS segments (V19's, called runs), random,
           none. ``copying`` with embeddings uses those of a V18 trained with the same seed and 64 haplotypes.
all        V19's HMM over the whole panel, to show the cost of retrieving fewer haplotypes.

All cells are scored on the panel's held-out samples at the same sites. A fiftieth of the sites is typed, like on an
array. Within a part, a seed gives the same weights, batches and masks to every cell. The demo's targets are not read.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _grid import VALUE, Cell, GridWorker, measured_cells
from _ibs_segments import IbsSegmentRetriever
from _machine import describe_machine, write_report
from _random_retriever import RandomRetriever
from _tables import fill
from retrieval_tables import retrieval_figure, retrieval_table

from vcfbert.artifacts import write_text
from vcfbert.cli.console import ConsoleProgress
from vcfbert.config import Config, load
from vcfbert.copying.mixture import Mixture, inherited
from vcfbert.copying.window import HmmWindow
from vcfbert.exits import clean_exit
from vcfbert.genotypes.conversion import build_panels, chromosome_files
from vcfbert.genotypes.encoding import Encoding, encode, hmm_windows
from vcfbert.genotypes.masks import array_mask
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window, distance_from
from vcfbert.imputation.network_predictor import held_out_predictor
from vcfbert.imputation.window_prediction import HeldOutPredictor
from vcfbert.kernels import Floats, Indices, usable_threads
from vcfbert.metrics.accuracy import ALL
from vcfbert.reports.drawing import save_figure
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.refresh import build_index
from vcfbert.tracker import NullTracker
from vcfbert.tracking.store import study_storage
from vcfbert.training.loop import Trainer
from vcfbert.training.result import FitOutput
from vcfbert.training.validation import score_windows
from vcfbert.tuning.study import Settings, run_study
from vcfbert.tuning.trial import TrialRecord

ROOT = Path(__file__).resolve().parents[1]
REGION = "20:1000000-2000000"  # of the demo's panel; all 3 Mb would take too long
SEEDS = (17, 18, 19)
REFRESH_EVERY, REFRESH_EPOCHS = (0, 1, 2, 3, 5), 6
RETRIEVER_EPOCHS = 3
SAMPLES = 16  # training samples per window and epoch; half of the default, to save time
SIZES = (16, 64, 256)
OWN_K = 64  # V18's K in the default profile, for which all seeds run
V17_SIZES = (2, 16)  # V17 encodes what it retrieves; K = 64 would take longer than all other cells
DENSITY = 0.02  # typed fraction of the scored sites
TYPING_SEED = 5
COPYING = "copying"


class Cells:
    """Measures cells on one panel."""

    def __init__(self, panel: Panel, encoding: Encoding, config: Config, progress: ConsoleProgress) -> None:
        self.panel, self.encoding, self.config, self.progress = panel, encoding, config, progress
        self.subset = ReferenceSubset(panel, panel.training_haplotypes)
        self.features = reference_features(self.subset, torch.device("cpu"))
        self.typed = array_mask(panel.maf, np.random.default_rng(TYPING_SEED), DENSITY)
        self.learned: dict[int, Retriever] = {}  # by seed, V18's own

    def measure(self, cell: Cell, record: TrialRecord, folder: Path) -> dict[str, Any]:
        if cell["network"] == COPYING:
            return self._copied(cell, record, folder)
        return self._trained(cell, record, folder)

    def retriever(self, name: str, seed: int) -> Retriever | None:
        """The named retriever; None for the variant's own."""
        if name in ("embedding", "none"):
            return None
        index = build_index(
            self.subset,
            torch.ones(self.panel.n_sites),
            backend=self.config.retrieval.backend,
            device=torch.device("cpu"),
        )
        if name == "random":
            return RandomRetriever(index, seed)
        return IbsSegmentRetriever(index, self.subset) if name == "runs" else HammingRetriever(index)

    def _trained(self, cell: Cell, record: Any, folder: Path) -> dict[str, Any]:
        """Trains a network with the cell's retriever. ``curve``: figures by epoch."""
        variant, seed = cell["network"], cell["seed"]
        config = cell_config(self.config, cell)
        retriever = self.retriever(cell["retriever"], seed)
        trainer = Trainer(
            [self.panel],
            [self.encoding],
            config,
            variant,
            accelerator="cpu",
            retrievers=None if retriever is None else [retriever],
            progress=self.progress,
        )
        curve: list[dict[str, float]] = []
        figures: dict[str, float] = {}

        def after_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
            names = ("epoch_seconds", "refresh/seconds", "refresh/overlap", "refresh/drift", "val/loss", "val/r2/all")
            curve.append({name: metrics[name] for name in names if name in metrics})
            if epoch == config.train.epochs - 1:
                predict = held_out_predictor(
                    trainer.parts.model,
                    trainer.parts.data.retrievers[0],
                    self.subset,
                    self.features,
                    trainer.parts.k,
                    batch_size=self.config.evaluate.batch_size,
                )
                figures.update(self.score(predict, self.encoding.windows))
                record.log_metrics({f"held_out/{name}": value for name, value in figures.items()}, epoch)
            return True

        output = FitOutput(
            None,
            record,
            checkpoints=folder,
            metrics_csv=folder / "metrics.csv",
            tags=tags_of(cell),
            data={"panel": self.panel.digest},
        )
        trainer.fit(output, after_epoch=after_epoch)
        if cell["retriever"] == "embedding" and cell["k"] == OWN_K and cell["part"] == "retriever":
            self.learned[seed] = trainer.parts.data.retrievers[0]
        return {VALUE: figures[ALL], "r2": figures, "curve": curve}

    def _copied(self, cell: Cell, record: TrialRecord, folder: Path) -> dict[str, Any]:
        """Scores V19's HMMs before a fit, with the cell's retriever. Without one, frequencies are predicted."""
        encode, seed = self.config.encode, cell["seed"]
        predict: HeldOutPredictor = self._frequency
        if cell["retriever"] != "none":
            retriever = self.retriever(cell["retriever"], seed) or self._learned(seed, folder)
            predict = partial(self._copy, retriever, cell["k"])
        with record.start(COPYING, dict(cell), tags_of(cell)):
            figures = self.score(predict, hmm_windows(self.panel, encode.copy_window, encode.copy_span_cm))
            record.log_metrics({f"held_out/{name}": value for name, value in figures.items()}, 0)
        return {VALUE: figures[ALL], "r2": figures, "curve": []}

    def _frequency(self, window: Window, key: Indices, haplotypes: Indices) -> Floats:
        return np.tile(self.subset.af[window.sites].astype(np.float32), (len(haplotypes) // 2, 2, 1))

    def _copy(self, retriever: Retriever, k: int, window: Window, key: Indices, haplotypes: Indices) -> Floats:
        """ALT probabilities [n, 2, l] of held-out haplotypes, which may copy the k that ``retriever`` finds."""
        ready = HmmWindow.of(self.subset, window.sites, key)
        queries = self.panel.alleles(key, haplotypes)
        distance = torch.from_numpy(distance_from(window, key, self.panel.cm)).float()
        rows = retriever.retrieve(torch.from_numpy(key), distance, torch.from_numpy(queries), k)
        chosen = np.sort(rows.numpy().astype(np.int32), axis=1)
        targets = ready.targets(np.ascontiguousarray(queries.T.astype(np.int8)), chosen)
        copied = targets.copied(ready.heads(Mixture.first()), ready.fraction, threads=usable_threads())
        return inherited(copied.dosage).reshape(len(haplotypes) // 2, 2, -1)

    def _learned(self, seed: int, folder: Path) -> Retriever:
        if seed not in self.learned:  # another process measured the cell that trains it
            self._trained(cell_of("retriever", "v18", "embedding", OWN_K, 1, seed), NullTracker(), folder)
        return self.learned[seed]

    def score(self, predict: HeldOutPredictor, windows: list[Window]) -> dict[str, float]:
        """Dosage r2 by MAF bin of the held-out samples."""

        def typed(window: Window) -> npt.NDArray[np.bool_]:
            return np.asarray(self.typed[window.retrieval_sites])

        scores = score_windows(predict, self.panel, windows, self.panel.validation_haplotypes, typed)
        return {name.rstrip("%"): round(value, 6) for name, value in scores.r2.values().items()}


def cell_of(part: str, network: str, retriever: str, k: int, refresh_every: int, seed: int) -> Cell:
    names = ("part", "network", "retriever", "k", "refresh_every", "seed")
    return dict(zip(names, (part, network, retriever, k, refresh_every, seed), strict=True))


def all_cells(panel: Panel, sizes: tuple[int, ...], seeds: tuple[int, ...]) -> list[Cell]:
    """All cells, cheap parts first, so that the first table appears early."""
    held, first = len(panel.training_haplotypes), seeds[:1]
    cells = [cell_of("all", COPYING, "hamming", held, 1, seeds[0])]
    for network, ks, retrievers in (
        ("v18", sizes, ("embedding", "hamming", "runs", "random")),
        (COPYING, sizes, ("embedding", "hamming", "runs", "random")),
        ("v17", V17_SIZES, ("hamming", "runs", "random")),
    ):
        varies = {"v18": (OWN_K,), COPYING: sizes, "v17": ()}[network]  # K for which all seeds run
        for retriever in retrievers:
            fixed = network == COPYING and retriever in ("hamming", "runs")  # independent of the seed
            for k in ks:
                many = seeds if k in varies and not fixed else first
                cells += [cell_of("retriever", network, retriever, k, 1, seed) for seed in many]
        many = seeds if network == "v18" else first
        cells += [cell_of("retriever", network, "none", 0, 1, seed) for seed in many]
    cells += [cell_of("refresh", "v18", "embedding", OWN_K, every, seed) for seed in seeds for every in REFRESH_EVERY]
    return cells


def cell_config(config: Config, cell: Cell) -> Config:
    """The configuration by which a network of this cell is trained."""
    epochs = REFRESH_EPOCHS if cell["part"] == "refresh" else RETRIEVER_EPOCHS
    k = {**config.retrieval.k, cell["network"]: cell["k"]}
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, seed=cell["seed"]),
        train=dataclasses.replace(config.train, seed=cell["seed"], epochs=epochs, patience=epochs),
        retrieval=dataclasses.replace(config.retrieval, k=k, refresh_every=cell["refresh_every"]),
    )


def tags_of(cell: Cell) -> dict[str, str]:
    """The cell as tags, for MLflow's columns and filters."""
    return {"source": "retrieval", "kind": "retrieval", **{name: str(value) for name, value in cell.items()}}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="parameters of the trained networks")
    parser.add_argument("--panel", type=Path, help="panel VCF; default: prepare.panel")
    parser.add_argument("--map", type=Path, help="its genetic map; default: prepare.map")
    parser.add_argument("--region", default=REGION, help="of the panel")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--storage", help="database of the grid; default: VCFBERT_STUDIES, else studies.db")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / ".checkpoints" / "retrieval")
    parser.add_argument("--quick", action="store_true", help="one seed and one K, to test that the benchmark runs")
    parser.add_argument("--no-track", action="store_true", help="leave MLflow out")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "retrieval", help="folder of the report")
    parser.add_argument("--docs", type=Path, help="folder of retrieval.md, which gets the tables, and of retrieval.png")
    options = parser.parse_args()
    if options.quick:
        options.seeds = options.seeds[:1]
    return options


def read_panel(options: argparse.Namespace, config: Config, folder: Path) -> Panel:
    prepare = config.prepare
    (panel,) = build_panels(
        [options.panel] if options.panel else chromosome_files(prepare.panels),
        folder / "panel",
        maps=[options.map] if options.map else [Path(path) for path in prepare.maps],
        region=options.region,
        holdout=prepare.holdout,
        seed=prepare.seed,
    )
    return panel


def write_results(study: Any, folder: Path, report: Mapping[str, Any]) -> dict[Path, str | None]:
    """``bench_retrieval.json``, ``retrieval.md`` and ``retrieval.png``, the artifacts of the grid's run."""
    whole = {**report, "cells": measured_cells(study)}
    write_report(folder / "bench_retrieval.json", whole)
    write_text(folder / "retrieval.md", retrieval_table(whole) + "\n")
    save_figure(retrieval_figure(whole), folder / "retrieval.png")
    return {folder / name: None for name in ("bench_retrieval.json", "retrieval.md", "retrieval.png")}


def main() -> None:
    options = parse()
    config = load(options.params)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, samples_per_epoch=SAMPLES))
    sizes = SIZES[:1] if options.quick else SIZES
    report = {"machine": describe_machine(), "region": options.region, "density": DENSITY, "samples": SAMPLES}
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder, ConsoleProgress() as progress:
        panel = read_panel(options, config, Path(folder))
        encoding = encode(panel, config.encode)
        about = {"haplotypes": len(panel.training_haplotypes), "sites": panel.n_sites, "windows": len(encoding.windows)}
        report |= {**about, "held_out": len(panel.validation)}
        worker = GridWorker(
            [panel],
            [encoding],
            config,
            "retrieval",
            Settings(options.storage or study_storage(), options.checkpoints, not options.no_track),
            cells=all_cells(panel, sizes, tuple(options.seeds)),
            measure=Cells(panel, encoding, config, progress).measure,
            given={"density": DENSITY, "typing": TYPING_SEED, "epochs": [REFRESH_EPOCHS, RETRIEVER_EPOCHS]},
            progress=progress,
        )
        run_study(worker, len(worker.cells), lambda study: write_results(study, options.out, report))
    table = (options.out / "retrieval.md").read_text()
    print(table)
    if options.docs is not None:
        page = options.docs / "retrieval.md"
        write_text(page, fill(page.read_text(), "retrieval", table, str(page)))
        (options.docs / "retrieval.png").write_bytes((options.out / "retrieval.png").read_bytes())


if __name__ == "__main__":
    with clean_exit(lambda text: print(text, file=sys.stderr)):
        main()
