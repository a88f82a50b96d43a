"""Paths of all stages, and the function that runs a stage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from vcfbert.config import Config, load
from vcfbert.exits import clean_exit

WORK = Path("data/work")
PANEL, ENCODED, EMBEDDED = WORK / "panel", WORK / "encoded", WORK / "embedded"
MODELS, METRICS, REPORTS = Path("models"), Path("metrics"), Path("reports")
CHECKPOINTS = Path(".checkpoints")


def run_stage(main: Callable[[Config], None]) -> None:
    """Runs ``main`` with the configuration of ``params.yaml``. Errors go to stderr and set the exit code."""
    with clean_exit(lambda text: print(text, file=sys.stderr)):
        main(load(Path("params.yaml")))
