from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.evaluation.test_scoring import write_vcf
from vcfbert.evaluation.scoring import evaluate_files
from vcfbert.metrics.genotype_quality import QualityPoint, QualityScores


def test_quality_points_have_observed_and_expected_error_rates() -> None:
    scores = QualityScores()
    truth, called = np.array([[0, 1, 2, 0]]), np.array([[0, 2, 1, 0]])
    scores.update(truth, called, np.array([[0, 9, 10, 99]]))
    scores.update(truth[0], called[0], np.array([10, 19, 90, 9]))
    low, middle, high = scores.points()
    assert (low.low, low.high, low.genotypes, low.wrong) == (0, 9, 3, 1 / 3)
    assert low.promised == pytest.approx((1 + 2 * 10**-0.9) / 3)
    assert (middle.low, middle.high, middle.genotypes, middle.wrong) == (10, 19, 3, 2 / 3)
    assert (high.low, high.high, high.genotypes, high.wrong, high.name) == (90, None, 2, 0.5, "90-")
    assert high.promised == pytest.approx((10**-9.9 + 10**-9) / 2)


def test_unknown_genotypes_are_excluded() -> None:
    scores = QualityScores()
    scores.update(np.array([-1, 0, 0]), np.array([0, -1, 0]), np.array([20, 20, -1]))
    assert list(scores.points()) == []


def test_genotypes_are_counted_by_the_files_gq(tmp_path: Path) -> None:
    """A right and a wrong call of GQ 20 and 23; of the second site one call is missing and one has no GQ; the third has
    two ALT alleles; the fourth was typed."""
    reference = write_vcf(tmp_path / "panel.vcf", "P1 P2", *(f"{pos} A G GT 0|1 0|0" for pos in (10, 20, 30, 40)))
    truth = write_vcf(tmp_path / "truth.vcf", "S1 S2", *(f"{pos} A G GT 0|1 0|0" for pos in (10, 20, 30, 40)))
    imputed = write_vcf(
        tmp_path / "imputed.vcf",
        "S2 S1",
        "10 A G GT:DS:GQ 0|1:0.9:23 1|0:0.9:20",
        "20 A G GT:DS:GQ .|.:0:30 1|0:0.9:.",
        "30 A G,T GT:DS:GQ 0|0:0,0:40 1|0:0.9,0:40",
        "40 A G GT:DS:GQ 0|0:0:50 1|0:0.9:50",
    )
    gq = '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">\n'
    imputed.write_text(imputed.read_text().replace("#CHROM", gq + "#CHROM"))
    typed = tmp_path / "typed.tsv"
    typed.write_text("20\t40\n")
    result = evaluate_files(truth, imputed, reference, typed=typed)
    assert result.genotype_quality == (QualityPoint(20, 29, 2, 0.5, pytest.approx((10**-2 + 10**-2.3) / 2)),)
    assert result.table().splitlines()[-1].split() == ["20-29", "2", "0.50000", "0.00751"]
    assert result.as_dict()["genotype_quality"][0] == {
        "low": 20, "high": 29, "genotypes": 2, "wrong": 0.5, "promised": 0.00750594,
    }  # fmt: skip
    without = write_vcf(tmp_path / "without.vcf", "S1 S2", "10 A G GT:DS 0|1:0.9 0|0:0.1")
    assert evaluate_files(truth, without, reference).genotype_quality == ()


def test_calls_of_haploid_samples_are_counted(tmp_path: Path) -> None:
    reference = write_vcf(tmp_path / "panel.vcf", "P1 P2", "10 A G GT 0|1 0")
    truth = write_vcf(tmp_path / "truth.vcf", "S1 S2", "10 A G GT 0|1 1")
    gq = '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">\n'
    imputed = write_vcf(tmp_path / "imputed.vcf", "S1 S2", "10 A G GT:DS:GQ 1|0:0.9:35 1:0.9:31")
    imputed.write_text(imputed.read_text().replace("#CHROM", gq + "#CHROM"))
    (point,) = evaluate_files(truth, imputed, reference).genotype_quality
    assert (point.genotypes, point.wrong) == (2, 0.0)
