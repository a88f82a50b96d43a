"""Runs the installed baselines on a region of the demo data and scores them with vcfbert's evaluation."""

from __future__ import annotations

import gzip
from pathlib import Path

import pysam
import pytest

from vcfbert.evaluation.baselines import BASELINES, find_baselines, run_baseline
from vcfbert.evaluation.scoring import evaluate_files

DEMO = Path(__file__).parents[2] / "data/demo"
LAST = 1_500_000  # the first half megabase


def cut(name: str, folder: Path) -> Path:
    """The demo file's records up to LAST, as they stand."""
    path = folder / f"{name}.vcf.gz"
    with gzip.open(DEMO / f"{name}.vcf.gz", "rt") as source, pysam.BGZFile(str(path), "wb") as target:
        for line in source:
            if not line.startswith("#") and int(line.split("\t", 2)[1]) > LAST:
                break
            target.write(line.encode())
    return path


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("region")
    return {name: cut(name, folder) for name in ("panel", "target_array_phased", "target_truth")}


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_on_demo_targets_beats_panel_frequencies(name: str, region: dict[str, Path], tmp_path: Path) -> None:
    if name not in find_baselines():
        pytest.skip(f"{name} is not on PATH")
    out = tmp_path / f"{name}.vcf.gz"
    run = run_baseline(name, region["panel"], region["target_array_phased"], DEMO / "chr20.b37.gmap.gz", out)
    result = evaluate_files(region["target_truth"], out, region["panel"], typed=DEMO / "typed.tsv")
    assert run.version[0].isdigit()
    assert (result.samples, result.absent) == (203, 0)
    assert result.row("5-50%").aggregate_r2 > 0.8
    # Worth more than the panel's frequencies alone, at rare sites too.
    assert result.row("0.5-1%").aggregate_r2 > 0.05
