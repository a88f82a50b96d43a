"""Trains on a stored panel in a process of its own: ``python -m tests.helpers.fit_tiny PANEL OUT [options]``.

Writes OUT/model (the bundle), OUT/weights-RANK.pt of a network, and OUT/result.json; checkpoints under OUT/checkpoints.
A run that dies and is started again with the same arguments resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch

from tests.helpers.tiny import MemoryTracker, tiny_config
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.store import open_panels
from vcfbert.training.fit import fitter_of
from vcfbert.training.loop import Trainer
from vcfbert.training.progress import SilentProgress
from vcfbert.training.result import FitOutput


class SlowProgress(SilentProgress):
    """Makes every step take a while, so that a test can kill the process in the middle of an epoch or a search."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def step(self, figures: str) -> None:
        time.sleep(self.seconds)


class AnyEpochTracker(MemoryTracker):
    """A resumed run logs from a later epoch on."""

    def log_metrics(self, metrics: Any, step: int) -> None:
        self.epochs.append(dict(metrics))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("panel", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variant", default="v18")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--config", type=json.loads, default={}, help="Sections as JSON.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sections = {"train": {"epochs": arguments.epochs}, "model": {"dropout": 0.1}, **arguments.config}
    config = tiny_config(sections)
    panels = open_panels(arguments.panel)
    progress = SlowProgress(arguments.sleep)
    fitter = fitter_of(
        arguments.variant,
        panels,
        lambda: [encode(panel, config.encode) for panel in panels],
        config,
        accelerator="cpu",
        devices=arguments.devices,
        progress=progress,
    )
    output = FitOutput(
        arguments.out / "model",
        AnyEpochTracker(),
        checkpoints=arguments.out / "checkpoints",
        metrics_csv=arguments.out / "metrics.csv",
        tags={},
        data={},
    )
    result = fitter.fit(output)
    rank = 0
    if isinstance(fitter, Trainer):
        rank = fitter.parts.fabric.global_rank
        torch.save(fitter.parts.model.state_dict(), arguments.out / f"weights-{rank}.pt")
    if rank == 0:
        (arguments.out / "result.json").write_text(json.dumps(dataclasses.asdict(result)))


if __name__ == "__main__":
    main()
