"""Training as processes of their own: killed and resumed, and two at once."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny import MemoryTracker, tiny_config
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import write_panels
from vcfbert.training.loop import Trainer
from vcfbert.training.result import FitOutput

PROJECT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def stored(tiny_panel: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "panel"
    write_panels([tiny_panel], path)
    return path


def start(launcher: list[str], panel: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    out.mkdir(exist_ok=True)
    command = [sys.executable, *launcher, "-m", "tests.helpers.fit_tiny", str(panel), str(out), *options]
    log = (out / "log").open("a")
    return subprocess.Popen(command, cwd=PROJECT, env=ENVIRONMENT, stdout=log, stderr=log, text=True)


def finish(process: subprocess.Popen[str], out: Path) -> dict[str, Any]:
    assert process.wait(timeout=120) == 0, (out / "log").read_text()
    return json.loads((out / "result.json").read_text())  # type: ignore[no-any-return]


def weights(out: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return torch.load(out / f"weights-{rank}.pt", weights_only=True)  # type: ignore[no-any-return]


def wait_for_epochs(out: Path, epochs: int) -> Path:
    """Until the checkpoint of that many finished epochs is there."""
    for _ in range(600):
        for path in (out / "checkpoints").rglob("last.pt"):
            if torch.load(path, weights_only=True)["run"]["epoch"] == epochs:
                return path
        time.sleep(0.05)
    raise AssertionError("no checkpoint: " + (out / "log").read_text())


def test_fit_killed_within_epoch_resumes_equal(stored: Path, tmp_path: Path) -> None:
    """Bit for bit the weights of a run that nothing interrupted; dropout and refreshes included."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start([], stored, whole)
    process = start([], stored, killed, "--sleep", "0.2")  # 15 batches an epoch: 3 s
    checkpoint = wait_for_epochs(killed, 1)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["run"]["epoch"] == 1, "killed in the middle of epoch 2"
    assert not (killed / "model").exists()
    resumed = finish(start([], stored, killed), killed)
    expected = finish(uninterrupted, whole)
    one, other = weights(killed), weights(whole)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    for name in ("val/loss", "train/loss", "val/r2/all"):
        assert resumed["metrics"][name] == expected["metrics"][name]
    assert (killed / "metrics.csv").read_text().count("\n") == 4


def wait_for_losses(out: Path, count: int) -> Path:
    """Until so many losses of V19's search are kept."""
    for _ in range(1200):
        for path in (out / "checkpoints").rglob("search.json"):
            if sum(map(len, json.loads(path.read_text())["losses"].values())) >= count:
                return path
        time.sleep(0.05)
    raise AssertionError("no losses: " + (out / "log").read_text())


def test_v19_killed_within_search_continues_equal(stored: Path, tmp_path: Path) -> None:
    """The same arrays as those of a fit that nothing interrupted, and no loss is computed twice."""
    options = ["--variant", "v19", "--config", json.dumps({"encode": {"copy_window": 120, "copy_span_cm": 0.05}})]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start([], stored, whole, *options)
    process = start([], stored, killed, *options, "--sleep", "0.2")
    kept = wait_for_losses(killed, 5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert kept.is_file(), "killed in the middle of the search"
    assert not (killed / "model").exists()
    before = json.loads(kept.read_text())
    resumed = finish(start([], stored, killed, *options), killed)
    expected = finish(uninterrupted, whole)
    one, other = ((folder / "model/weights.safetensors").read_bytes() for folder in (killed, whole))
    assert one == other
    assert (resumed["run_id"], before["run_id"]) == ("run-1", "run-1")
    for name in ("val/loss", "val/genotype_loss", "val/r2/all"):
        assert resumed["metrics"][name] == expected["metrics"][name]
    assert not kept.exists()


def fit_by_two(stored: Path, out: Path, variant: str, config: dict[str, Any]) -> None:
    """By two processes that talk over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    options = ["--devices", "2", "--variant", variant, "--config", json.dumps(config)]
    finish(start([*launcher, "--master-port", port], stored, out, *options), out)


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_two_processes_log_loss_curve_of_one(stored: Path, tmp_path: Path, tiny_panel: Panel, variant: str) -> None:
    """Batches of two ranks count as two accumulated ones. Each rank computes what is its own of every refresh and of
    every validation, and both end with the same weights."""
    train = {"epochs": 3, "batch_size": 10, "lr": 5e-3}  # an even number of batches: 2 a window
    windows = {"window": 64, "flank": 8, "span_cm": 0.05}
    sections: dict[str, Any] = {"train": train, "model": {"dims": 8, "layers": 1, "heads": 2}, "encode": windows}
    fit_by_two(stored, tmp_path, variant, sections)
    one, other = weights(tmp_path, 0), weights(tmp_path, 1)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name

    config = tiny_config({**sections, "train": {**train, "accumulate": 2}})
    tracker = MemoryTracker()
    trainer = Trainer([tiny_panel], [encode(tiny_panel, config.encode)], config, variant, accelerator="cpu")
    assert len(trainer.parts.data.panels[0].windows) % 2 == 1  # one process has a window more than the other
    trainer.fit(FitOutput(None, tracker, tmp_path / "alone", tmp_path / "alone.csv", tags={}, data={}))
    curve = read_curve(tmp_path / "metrics.csv")
    assert len(curve) == len(tracker.epochs) == 3
    assert variant != "v18" or float(curve[-1]["index/version"]) == 2
    for by_two, by_one in zip(curve, tracker.epochs, strict=True):
        for name in ("train/loss", "val/loss", "val/f1", "val/r2/all"):
            assert float(by_two[name]) == pytest.approx(by_one[name], rel=1e-4), name
    losses = [float(epoch["train/loss"]) for epoch in curve]
    assert len(set(losses)) == 3, "nothing was learned"


def read_curve(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))
