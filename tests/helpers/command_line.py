"""Calls of the command line, within this process or as one of their own, and the tiny files they work on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.helpers.demo_cut import cut_demo
from vcfbert.cli import app as cli

# Parameters that train in a second.
TINY = (
    "-S", "train.epochs=1", "-S", "train.samples_per_epoch=8", "-S", "model.dims=8", "-S", "model.layers=1",
    "-S", "model.heads=2", "-S", "encode.window=64", "-S", "encode.flank=8",
    "-S", "retrieval.k={v17: 2, v18: 8, v19: 12}",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class TinyFiles:
    """Of the demo data: 30 panel samples and 6 targets at 300 sites, and bundles fitted to them. Read only."""

    folder: Path

    @property
    def models(self) -> Path:
        """A folder of bundles, each named by its variant."""
        return self.folder / "models"

    @property
    def bundle(self) -> Path:
        """V18's bundle."""
        return self.fitted("v18")

    def fitted(self, variant: str) -> Path:
        """The variant's bundle, fitted at the first call."""
        bundle = self.models / variant
        if not bundle.exists():
            arguments = ("--variant", variant, "--panel", self.panel, "--out", bundle, "--no-track")
            fitted = vcfbert("fit", *arguments, *TINY)
            assert fitted.code == 0, fitted.err
        return bundle

    @property
    def panel(self) -> Path:
        return self.folder / "panel.vcf.gz"

    @property
    def target(self) -> Path:
        return self.folder / "target_array_phased.vcf.gz"

    @property
    def unphased(self) -> Path:
        return self.folder / "target_array.vcf.gz"

    @property
    def truth(self) -> Path:
        return self.folder / "target_truth.vcf.gz"


def vcfbert(*arguments: object) -> Outcome:
    """`vcfbert ARGUMENTS`, by the program's own entry point in this process: torch is imported once."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with patch.object(sys, "argv", ["vcfbert", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def process(*arguments: object, prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """The same as a process of its own; ``prepare`` runs in it first."""
    command = [sys.executable, "-c", "from vcfbert.cli.app import main; main()", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=prepare)


def finished(started: subprocess.Popen[str], *, seconds: float = 120) -> Outcome:
    out, err = started.communicate(timeout=seconds)
    return Outcome(started.returncode, out, err)


def cut_tiny(folder: Path) -> TinyFiles:
    """Writes the tiny files to ``folder``."""
    cut_demo(folder, samples=30, sites=300, targets=6)
    return TinyFiles(folder)
