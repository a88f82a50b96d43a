"""What the stages report from unphased targets; tests/integration runs them all, with DVC."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import evaluate, peers
from vcfbert.config import profile
from vcfbert.evaluation import Evaluation
from vcfbert.metrics import BinScores
from vcfbert.peers import PeerRun

CONFIG = profile("cpu")


def scored(r2: float) -> Evaluation:
    return Evaluation((BinScores("all", 10, 8, r2, r2, 0.8, 0.9, 0.7, 0.01, 0.6, 0.5, ()),), samples=3, absent=0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("takes_unphased", [False, True])
def test_evaluate_imputes_unphased_targets_where_the_variant_takes_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, takes_unphased: bool
) -> None:
    written: list[str] = []

    def array_protocol(bundle: Any, config: Any, out: Path, *, unphased: bool = False) -> Any:
        written.append(out.as_posix())
        return scored(0.8 if unphased else 0.9), {"seconds": 2.0 if unphased else 1.0}

    bundle = SimpleNamespace(k=4, model=SimpleNamespace(takes_unphased=takes_unphased))
    monkeypatch.setattr(evaluate, "load_bundle", lambda path: bundle)
    monkeypatch.setattr(evaluate, "array_protocol", array_protocol)
    monkeypatch.setattr(evaluate, "masked_protocol", lambda *given: {})
    trained = folder / "metrics/v18/train.json"
    trained.parent.mkdir(parents=True)
    trained.write_text(
        json.dumps({"metrics": {"ms_per_batch": 5.0, "peak_rss_mb": 100.0}, "parameters": 10, "seconds": 9.0})
    )
    evaluate.main("v18", CONFIG)
    report = json.loads((folder / "reports/evaluate/v18.json").read_text())
    summary = json.loads((folder / "metrics/v18/evaluate.json").read_text())
    assert report["array"] == scored(0.9).as_dict()
    if takes_unphased:
        assert written == ["reports/imputed/v18/phased.vcf.gz", "reports/imputed/v18/unphased.vcf.gz"]
        assert report["array_unphased"] == scored(0.8).as_dict()
        assert (report["imputation"]["seconds"], report["imputation_unphased"]["seconds"]) == (1.0, 2.0)
        assert (summary["aggregate_r2"], summary["unphased_r2"]) == ({"all": 0.9}, {"all": 0.8})
    else:
        assert written == ["reports/imputed/v18/phased.vcf.gz"]
        assert {"array_unphased", "imputation_unphased", "unphased_r2"} & {*report, *summary} == set()


def test_beagle_alone_of_the_peers_gets_the_unphased_targets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[str, str]] = []

    def run_peer(name: str, panel: Path, target: Path, genetic_map: Any, out: Path, **options: Any) -> PeerRun:
        runs.append((name, str(target)))
        return PeerRun(name, "1", out, float(len(runs)))

    monkeypatch.setattr(peers, "open_panel", lambda path: None)
    monkeypatch.setattr(peers, "find_peers", lambda: {"beagle": Path("b"), "minimac4": Path("m")})
    monkeypatch.setattr(peers, "run_peer", run_peer)
    monkeypatch.setattr(peers, "score_array", lambda *given, unphased: scored(0.8 if unphased else 0.9))
    peers.main(CONFIG)
    phased, unphased = CONFIG.evaluate.typed_phased, CONFIG.evaluate.typed_unphased
    assert runs == [("beagle", phased), ("beagle", unphased), ("minimac4", phased)]
    report = json.loads((folder / "reports/evaluate/peers.json").read_text())
    assert (report["beagle"]["seconds"], report["beagle"]["imputation_unphased"]) == (1.0, {"seconds": 2.0})
    assert report["beagle"]["array_unphased"]["rows"][0]["aggregate_r2"] == 0.8
    assert report["minimac4"]["array"]["rows"][0]["aggregate_r2"] == 0.9
    assert "array_unphased" not in report["minimac4"]
