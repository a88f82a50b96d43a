"""The accuracy that the README claims, from the bundled panel with the default profile. Minutes: `make test-slow`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vcfbert.bundle.load import load_bundle
from vcfbert.config import Config, profile
from vcfbert.evaluation.scoring import evaluate_files
from vcfbert.imputation.files import impute_file
from vcfbert.imputation.imputer import Imputer
from vcfbert.tracker import NullTracker
from vcfbert.training.fit import fit_panel

DEMO = Path(__file__).parents[2] / "data" / "demo"
# Dosage r2 by MAF bin, the last over all: the vote of the 32 nearest haplotypes, and V18 and V19 as measured.
VOTE = (0.0736, 0.1811, 0.4272, 0.8575, 0.8694)
# Beagle 5.4 on the same input, phased by itself or before.
BEAGLE = (0.1129, 0.3331, 0.5607, 0.9020, 0.9063)
GOLDEN = (0.107, 0.256, 0.509, 0.884, 0.892)
GOLDEN_V19 = {
    "target_array_phased": (0.137, 0.340, 0.566, 0.903, 0.908),
    "target_array": (0.143, 0.357, 0.575, 0.905, 0.910),
}
TOLERANCE = 0.02


def scores_of(fitted: Path, typed: Path, out: Path) -> list[float]:
    bundle = load_bundle(fitted)
    impute_file(Imputer(bundle), typed, out)
    scores = evaluate_files(DEMO / "target_truth.vcf.gz", out, bundle.panels, typed=typed)
    return [row.aggregate_r2 for row in scores.rows]


def demo_config() -> Config:
    config = profile("cpu")
    prepare = dataclasses.replace(config.prepare, panel=str(DEMO / "panel.vcf.gz"), map=str(DEMO / "chr20.b37.gmap.gz"))
    return dataclasses.replace(config, prepare=prepare)


@pytest.mark.slow
def test_v18_r2_exceeds_nearest_haplotype_vote_in_every_bin(tmp_path: Path) -> None:
    fitted = fit_panel(demo_config(), "v18", tmp_path / "v18", tracker=NullTracker())
    assert fitted.metrics["val/f1"] >= 0.96
    found = scores_of(tmp_path / "v18", DEMO / "target_array_phased.vcf.gz", tmp_path / "out.vcf.gz")
    assert all(r2 > vote for r2, vote in zip(found, VOTE, strict=True)), found
    assert found == pytest.approx(GOLDEN, abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_v19_r2_is_not_below_beagle_in_any_bin(tmp_path: Path) -> None:
    fit_panel(demo_config(), "v19", tmp_path / "v19", tracker=NullTracker())
    for typed, golden in GOLDEN_V19.items():
        found = scores_of(tmp_path / "v19", DEMO / f"{typed}.vcf.gz", tmp_path / f"{typed}.vcf.gz")
        assert all(r2 >= beagle for r2, beagle in zip(found, BEAGLE, strict=True)), (typed, found)
        assert found == pytest.approx(golden, abs=TOLERANCE), typed
