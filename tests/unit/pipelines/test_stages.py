"""What the stages report from unphased targets; tests/integration runs them all, with DVC."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pipelines import baselines, evaluate, publish
from tests.helpers.evaluated import r2_sums_of
from vcfbert.artifacts import write_json
from vcfbert.config import Config, PublishConfig, profile
from vcfbert.evaluation.baselines import BaselineRun
from vcfbert.evaluation.scoring import Evaluation
from vcfbert.metrics.accuracy import BinScores
from vcfbert.metrics.r2_sums import read_r2_sums

# Tests record runs in MLflow: seconds of work.
pytestmark = pytest.mark.integration

CONFIG = profile("cpu")
Stub = Callable[..., None]


def scored(r2: float) -> Evaluation:
    row = BinScores("all", 10, 8, r2, r2, 0.8, 0.9, 0.7, 0.01, 0.6, 0.5, ())
    return Evaluation((row,), samples=3, absent=0, r2_sums=r2_sums_of(1.0 - r2))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Replaces names of a stage's module, so that the stage runs without a panel or a bundle."""

    def replace(stage: ModuleType, **names: Any) -> None:
        for name, value in names.items():
            monkeypatch.setattr(stage, name, value)

    return replace


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("takes_unphased", [False, True])
def test_evaluate_imputes_unphased_targets_for_variants_that_phase(
    folder: Path, stub: Stub, takes_unphased: bool
) -> None:
    written: list[str] = []

    def array_protocol(bundle: Any, config: Any, out: Path, *, unphased: bool = False) -> Any:
        written.append(out.as_posix())
        return scored(0.8 if unphased else 0.9), {"seconds": 2.0 if unphased else 1.0}

    bundle = SimpleNamespace(k=4, model=SimpleNamespace(takes_unphased=takes_unphased))
    kept: list[Any] = []
    stub(
        evaluate,
        load_bundle=lambda path: bundle,
        array_protocol=array_protocol,
        masked_protocol=lambda *given: {},
        keep_evaluation=lambda run, files, root: kept.append((run, files)),
    )
    trained = folder / "metrics/v18/train.json"
    trained.parent.mkdir(parents=True)
    trained.write_text(
        json.dumps(
            {
                "run_id": "r18",
                "metrics": {"ms_per_batch": 5.0, "peak_rss_mb": 100.0, "index/version": 2.0},
                "parameters": 10,
                "seconds": 9.0,
            }
        )
    )
    evaluate.main("v18", CONFIG)
    report = json.loads((folder / "reports/evaluate/v18.json").read_text())
    summary = json.loads((folder / "metrics/v18/evaluate.json").read_text())
    assert report["array"] == scored(0.9).as_dict()
    assert report["training"]["refreshes"] == 2
    assert read_r2_sums(Path("reports/evaluate/v18.npz")).pairs_with(r2_sums_of(0.5))
    files = {"report.json": Path("reports/evaluate/v18.json"), "moments.npz": Path("reports/evaluate/v18.npz")}
    assert kept == [("r18", files)]
    if takes_unphased:
        assert written == ["reports/imputed/v18/phased.vcf.gz", "reports/imputed/v18/unphased.vcf.gz"]
        assert report["array_unphased"] == scored(0.8).as_dict()
        assert (report["imputation"]["seconds"], report["imputation_unphased"]["seconds"]) == (1.0, 2.0)
        assert (summary["aggregate_r2"], summary["unphased_r2"]) == ({"all": 0.9}, {"all": 0.8})
    else:
        assert written == ["reports/imputed/v18/phased.vcf.gz"]
        assert {"array_unphased", "imputation_unphased", "unphased_r2"} & {*report, *summary} == set()


def test_unphased_targets_go_to_beagle_only(folder: Path, stub: Stub) -> None:
    runs: list[tuple[str, str]] = []

    def run_baseline(name: str, panel: Path, target: Path, genetic_map: Any, out: Path, **options: Any) -> BaselineRun:
        runs.append((name, str(target)))
        return BaselineRun(name, "1", out, float(len(runs)))

    stub(
        baselines,
        open_panels=lambda path: None,
        find_baselines=lambda: {"beagle": Path("b"), "minimac4": Path("m")},
        run_baseline=run_baseline,
        score_array=lambda *given, unphased: scored(0.8 if unphased else 0.9),
    )
    baselines.main(CONFIG)
    phased, unphased = CONFIG.evaluate.typed_phased, CONFIG.evaluate.typed_unphased
    assert runs == [("beagle", phased), ("beagle", unphased), ("minimac4", phased)]
    report = json.loads((folder / "reports/evaluate/baselines.json").read_text())
    assert (report["beagle"]["seconds"], report["beagle"]["imputation_unphased"]) == (1.0, {"seconds": 2.0})
    assert report["beagle"]["array_unphased"]["rows"][0]["aggregate_r2"] == 0.8
    assert report["minimac4"]["array"]["rows"][0]["aggregate_r2"] == 0.9
    assert "array_unphased" not in report["minimac4"]


def test_publish_reports_refusal_and_force(
    folder: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, empty_store: Path
) -> None:
    """The second bundle loses at rare sites: refused, and published where params.yaml gives a reason."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, folder)
    stub(publish, VARIANTS=("v18",))

    def outcome(r2: float, config: Config, rare_noise: float) -> Any:
        for path, value in (
            ("models/v18/manifest.json", {"r2": r2}),
            (
                "metrics/v18/train.json",
                {"metrics": {"val/r2/all": r2}, "model_uri": "", "data_digest": "d", "run_id": ""},
            ),
        ):
            write_json(folder / path, value)
        r2_sums_of(0.3, rare_noise=rare_noise).write(folder / "reports/evaluate/v18.npz")
        publish.main(config)
        return json.loads((folder / "reports/publish.json").read_text())

    assert outcome(0.8, CONFIG, 0.3)["published"]
    refused = outcome(0.9, CONFIG, 0.8)
    assert not refused["published"]
    assert "0-0.5% -0." in refused["why"]
    forced = outcome(0.9, dataclasses.replace(CONFIG, publish=PublishConfig(force="rare sites do not count")), 0.8)
    assert forced["published"]
    assert "forced (rare sites do not count) although" in forced["why"]
    assert {row["bin"]: row["verdict"] for row in forced["differences"]}["0-0.5%"] == "worse"
