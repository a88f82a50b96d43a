"""The benchmarks run at tiny sizes and write what the README reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Packages that a bare machine with a GPU need not have.
NOT_NEEDED = ("faiss", "mlflow", "dvc", "cyvcf2", "pysam", "yaml", "scipy", "pandas", "lightning_fabric", "safetensors")


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*filter(None, [environment.get("PYTHONPATH")]), str(ROOT)])
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **environment, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False
    )


def report_of(script: str, arguments: list[str], out: Path, **environment: str) -> dict[str, Any]:
    done = run([f"benchmarks/{script}", *arguments, "--json", str(out)], **environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["machine"]["cores"] >= 1
    return dict(report)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A folder for PYTHONPATH in which every package that is not needed refuses to be imported."""
    for name in NOT_NEEDED:
        (tmp_path / f"{name}.py").write_text("raise ImportError('not on this machine')\n")
    return str(tmp_path)


def test_variants_are_compared_with_torch_and_numpy_alone(tmp_path: Path, bare: str) -> None:
    model = ["--dims", "8", "--layers", "2", "--heads", "2", "--window", "64", "--batch", "2", "--rounds", "1"]
    sizes = [*model, "--sites", "300", "--haplotypes", "40"]
    report = report_of("bench_variants.py", sizes, tmp_path / "out.json", PYTHONPATH=bare)
    rows = {(row["case"], row["k"]): row for row in report["rows"]}
    assert set(rows) == {(case, k) for case in ("v17 as designed", "v17 as run", "v18") for k in (1, 8)}
    assert all(row["ms_per_batch"] > 0 and row["peak_mib"] > row["rise_mib"] > 0 for row in rows.values())
    # Four queries, and eight retrieved for each, pass V17's encoder as it was designed; V18's only the queries.
    assert rows["v17 as designed", 8]["encoded_rows"] == 4 + 4 * 8
    assert rows["v17 as run", 8]["encoded_rows"] <= 36
    assert rows["v18", 8]["encoded_rows"] == 4
    assert rows["v18", 8]["refresh_seconds"] > 0 == rows["v17 as run", 8]["refresh_seconds"]
    assert len(report["reached"]) == 6


def test_refresh_finds_the_neighbours_of_the_flattened_space(tmp_path: Path) -> None:
    arguments = ["--simulated", "--window", "60", "--dims", "8", "--steps", "1", "--runs", "1"]
    report = report_of("bench_refresh.py", arguments, tmp_path / "out.json")
    assert report["search"]["same_distances"] is True
    assert report["search"]["times_less_memory"] == 8
    assert 0 < report["epoch"]["refresh_share_of_epoch"] < 1


@pytest.mark.parametrize("script", ["bench_variants.py", "bench_refresh.py", "bench_io.py"])
def test_help_has_examples(script: str) -> None:
    done = run([f"benchmarks/{script}", "--help"])
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{script}" in done.stdout
