"""The whole DVC pipeline on a small cut of the demo data, in a git repository of its own.

The tests of this file run in order and build on each other: one repository goes through what a user does.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysam
import pytest
import yaml

from tests.helpers.demo_cut import GENETIC_MAP, cut_demo

ROOT = Path(__file__).parents[2]
VARIANTS = ("v17", "v18", "v19")
STAGES = [
    "prepare",
    "encode",
    "embed",
    "train@v17",
    "train@v18",
    "train@v19",
    "baselines",
    "evaluate@v17",
    "evaluate@v18",
    "evaluate@v19",
    "compare",
    "publish",
]
N_TARGETS = 20

pytest.importorskip("dvc")
pytest.importorskip("mlflow")


@dataclass(frozen=True)
class Project:
    """A checkout with small data and a small model, and what ``dvc`` answers in it."""

    root: Path
    environment: dict[str, str]

    def dvc(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"dvc {' '.join(arguments)}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, env=self.environment, check=True, capture_output=True)

    def repro(self, *command: str) -> tuple[list[str], list[str]]:
        """Names of the stages that ran, and of those restored from the run cache, of `dvc repro` or ``command``."""
        said = self.dvc(*(command or ["repro"])).splitlines()
        ran = [line.split("'")[1] for line in said if line.startswith("Running stage ")]
        cached = [line.split("'")[1] for line in said if " is cached - skipping run" in line]
        return ran, cached

    def set_params(self, changes: dict[str, dict[str, Any]]) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for section, values in changes.items():
            params[section] |= values
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def runs(self, source: str = "dvc") -> list[Any]:
        """The training runs in the project's MLflow store, or those of another source, oldest first."""
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{self.root / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("vcfbert")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], f"tags.source = '{source}'", order_by=["start_time ASC"])
        return [client.get_run(run.info.run_id) for run in found]

    def history(self, run_id: str, metric: str) -> list[float]:
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{self.root / 'mlflow.db'}")
        return [point.value for point in sorted(client.get_metric_history(run_id, metric), key=lambda p: p.step)]

    def artifacts(self, run_id: str, folder: str) -> list[str]:
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{self.root / 'mlflow.db'}")
        return sorted(item.path for item in client.list_artifacts(run_id, folder))

    def read_json(self, path: str) -> Any:
        return json.loads((self.root / path).read_text())


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the user's settings or stores; the interpreter of the tests is the `python` of the stages."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "GIT_"))
    }
    return environment | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "dvc-site"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


def _checkout(root: Path) -> None:
    """The files that git knows or would add, as they are on disk, but the pipeline's state."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        if name and name != "dvc.lock" and not name.startswith(("data/demo/", "tests/")) and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """After the first ``dvc repro``, everything committed."""
    base = tmp_path_factory.mktemp("pipeline")
    root = base / "project"
    root.mkdir()
    _checkout(root)
    cut_demo(root / "data" / "demo", samples=60, sites=400, targets=N_TARGETS)
    shutil.copy2(GENETIC_MAP, root / "data" / "demo")
    project = Project(root, _environment(base))
    project.set_params(
        {
            "encode": {"window": 128, "flank": 8},
            "model": {"dims": 16, "layers": 1, "heads": 2},
            "train": {"epochs": 2, "warmup_steps": 2},
            "evaluate": {"peers": False},
            "publish": {"minimum": 0.0},
        }
    )
    project.git("init", "-q", "-b", "main")
    project.git("config", "user.name", "A. Tester")
    project.git("config", "user.email", "tester@example.org")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "small")
    ran, cached = project.repro()
    assert sorted(ran) == sorted(STAGES)
    assert cached == []
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "first run")
    return project


def test_pipeline_logs_one_run_per_variant_with_each_epoch(project: Project) -> None:
    runs = project.runs()
    assert sorted(run.data.tags["variant"] for run in runs) == list(VARIANTS)
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params["model.dims"] == "16"
        assert run.data.tags["git_commit"] != "unknown"
        assert run.data.tags["data.dvc/data/work/panel"].endswith(".dir")
        variant = run.data.tags["variant"]
        validated = ("val/loss", "val/f1", "val/rare_f1", "val/r2/all")
        trained = ("search/loss",) if variant == "v19" else ("train/loss", "mask_rate", "lr", "ms_per_batch")
        for metric in (*validated, *trained):
            history = project.history(run.info.run_id, metric)
            if metric == "search/loss":
                assert len(history) > 20
            else:
                assert len(history) == (1 if variant == "v19" else 2), metric
            assert all(map(math.isfinite, history)), metric
        refreshed = [1] if variant == "v18" else []
        for metric in ("refresh/seconds", "refresh/overlap", "refresh/drift"):
            assert len(project.history(run.info.run_id, metric)) == len(refreshed), metric
        assert run.data.tags["model_uri"].startswith("models:/")
        assert project.artifacts(run.info.run_id, "evaluation") == ["evaluation/moments.npz", "evaluation/report.json"]


def test_pipeline_writes_documented_outputs(project: Project) -> None:
    for suffix in ("html", "json", "md", "png"):
        assert (project.root / f"reports/compare.{suffix}").stat().st_size > 0
    methods = {row["method"] for row in project.read_json("reports/compare.json")["rows"]}
    assert methods == set(VARIANTS)
    # Too few targets for intervals, yet the variants were scored in pairs.
    differences = project.read_json("reports/compare.json")["differences"]
    assert (differences["baseline"], list(differences["methods"])) == ("v17", ["v18", "v19"])
    for variant in VARIANTS:
        assert (project.root / "models" / variant / "manifest.json").is_file()
        with pysam.VariantFile(str(project.root / f"reports/imputed/{variant}/phased.vcf.gz")) as imputed:
            assert len(imputed.header.samples) == N_TARGETS
            records = list(imputed.fetch("20"))
            assert len(records) == 400
            assert set(records[0].format) == {"GT", "DS", "HDS", "GP"}
        with (project.root / f"metrics/{variant}/latest.csv").open() as handle:
            epochs = ["0"] if variant == "v19" else ["0", "1"]
            assert [row["epoch"] for row in csv.DictReader(handle)] == epochs
    assert project.read_json("reports/publish.json")["published"]


def test_pipeline_records_comparison_in_mlflow(project: Project) -> None:
    (run,) = project.runs("compare")
    kept = project.artifacts(run.info.run_id, "")
    assert {f"compare.{suffix}" for suffix in ("html", "json", "md", "png", "svg")} <= set(kept)
    assert {"training.png", "calibration.png"} <= set(kept)


def test_second_repro_runs_no_stage(project: Project) -> None:
    assert project.repro() == ([], [])
    assert "up to date" in project.dvc("status", "dvc.yaml")


def test_experiment_with_another_learning_rate_reruns_training_only(project: Project) -> None:
    before = [run.info.run_id for run in project.runs()]
    bundles = {variant: project.read_json(f"models/{variant}/manifest.json")["files"] for variant in VARIANTS}
    ran, cached = project.repro("exp", "run", "-n", "slower", "-S", "train.lr=0.001")
    trained = {f"{stage}@{variant}" for stage in ("train", "evaluate") for variant in VARIANTS} | {"compare", "publish"}
    assert set(ran) == trained
    assert cached == []
    assert len(project.runs()) == len(before) + len(VARIANTS)
    assert project.runs()[-1].data.params["train.lr"] == "0.001"
    for variant in ("v17", "v18"):  # V19 has no learning rate
        assert project.read_json(f"models/{variant}/manifest.json")["files"] != bundles[variant]

    table = io.StringIO(project.dvc("exp", "show", "--csv"))
    rows = {row["Experiment"] or row["typ"]: row for row in csv.DictReader(table)}
    assert rows["slower"]["train.lr"] == "0.001"
    assert rows["baseline"]["train.lr"] == "0.002"
    scores: Sequence[str] = [value for name, value in rows["slower"].items() if name.endswith("r2.all")]
    assert scores
    assert all(0.0 < float(score) <= 1.0 for score in scores)

    # Back again: everything is known, and nothing is trained.
    project.set_params({"train": {"lr": 2.0e-3}})
    ran, cached = project.repro()
    assert ran == []
    assert set(cached) == trained
    assert len(project.runs()) == len(before) + len(VARIANTS)
    for variant in VARIANTS:
        assert project.read_json(f"models/{variant}/manifest.json")["files"] == bundles[variant]
    assert "up to date" in project.dvc("status", "dvc.yaml")


def test_pull_restores_pushed_outputs(project: Project, tmp_path: Path) -> None:
    project.dvc("remote", "add", "-d", "folder", str(tmp_path / "remote"))
    project.dvc("push")
    for wiped in (".dvc/cache", "data/work", "models", "metrics", "reports"):
        shutil.rmtree(project.root / wiped)
    project.dvc("pull")
    assert "up to date" in project.dvc("status", "dvc.yaml")
    with pysam.VariantFile(str(project.root / "reports/imputed/v18/phased.vcf.gz")) as imputed:
        assert len(imputed.header.samples) == N_TARGETS
