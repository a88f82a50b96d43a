"""Scores of X, whose ploidy changes at the PARs, and of files with other chromosomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, record_line, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.evaluation.scoring import Evaluation, evaluate_files, typed_positions
from vcfbert.genotypes.conversion import build_panels

X_LENGTH = 155_270_560  # of b37
PARTS = ("X:1-2699520", "X:2699521-154931043", "X:154931044-155270560")
STARTS = (100_000, 5_000_000, 154_940_000)
FORMS = ("t.vcf", "t.vcf.gz", "t.bcf")


def x_records(seed: int, n_samples: int, *, missing: float = 0.0) -> list[Record]:
    """Twelve sites of each part. Every other sample is male: haploid between the PARs."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for part, start in enumerate(STARTS):
        for site in range(12):
            alleles = rng.integers(0, 2, size=(n_samples, 2))
            calls = [
                str(a) if part == 1 and sample % 2 else f"{a}|{b}" for sample, (a, b) in enumerate(alleles.tolist())
            ]
            lost = rng.random(n_samples) < missing
            records.append(
                (start + site * 10, "A", "G", " ".join("." if no else c for no, c in zip(lost, calls, strict=True)))
            )
    return records


def x_text(records: list[Record]) -> str:
    return vcf_text(records, chrom="X").replace("<ID=X>", f"<ID=X,length={X_LENGTH}>")


def figures(evaluation: Evaluation) -> tuple[int, float, float]:
    row = evaluation.row()
    return row.sites, row.aggregate_r2, row.nonref_concordance


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("stored", [False, True])
def test_whole_x_is_scored_by_the_ploidy_of_each_part(tmp_path: Path, name: str, stored: bool) -> None:
    panel = write_vcf(tmp_path / f"panel.{name}", x_text(x_records(1, 20)))
    truth = write_vcf(tmp_path / f"truth.{name}", x_text(x_records(2, 10)))
    imputed = write_vcf(tmp_path / f"imputed.{name}", x_text(x_records(2, 10, missing=0.2)))
    reference = build_panels([panel], tmp_path / "store", holdout=0.1, seed=1) if stored else panel
    whole = evaluate_files(truth, imputed, reference)
    for number, region in enumerate(PARTS):
        of_region = evaluate_files(truth, imputed, reference, region=region)
        cut = [
            write_vcf(
                tmp_path / f"{kind}-{number}.{name}", x_text(x_records(2, 10, missing=missing)[12 * number :][:12])
            )
            for kind, missing in (("truth", 0.0), ("imputed", 0.2))
        ]
        assert figures(evaluate_files(*cut, reference)) == figures(of_region)
        assert of_region.row().sites == 12
    assert whole.row().sites == 36
    same = evaluate_files(truth, write_vcf(tmp_path / f"same.{name}", x_text(x_records(2, 10))), reference)
    assert figures(same) == (36, 1.0, 1.0)


def test_x_and_another_chromosome_need_a_region(tmp_path: Path) -> None:
    text = x_text(x_records(2, 10)) + record_line((100, "A", "G", " ".join(["0|1"] * 10)), "Y") + "\n"
    truth = write_vcf(tmp_path / "truth.vcf", text.replace("##FORMAT", "##contig=<ID=Y>\n##FORMAT", 1))
    other = write_vcf(tmp_path / "imputed.vcf", x_text(x_records(2, 10)))
    with pytest.raises(InputError) as caught:
        evaluate_files(truth, other, other)
    assert caught.value.code == "several_chromosomes"


def autosome(tmp_path: Path, name: str, call: str = "0|1 1|1 0|0") -> Path:
    records: list[Record] = [(pos, "A", "G", call) for pos in (10, 20, 30, 40)]
    return write_vcf(tmp_path / name, vcf_text(records))


@pytest.mark.parametrize(("chrom", "scored"), [("20", 2), ("chr20", 2), ("1", 4)])
@pytest.mark.parametrize("table", ["typed.tsv", "typed.vcf", "typed.vcf.gz", "typed.bcf"])
def test_typed_sites_of_another_chromosome_are_scored(
    tmp_path: Path, chrom: str, scored: int, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    truth, imputed = autosome(tmp_path, "truth.vcf"), autosome(tmp_path, "imputed.vcf")
    typed: list[Record] = [(10, "A", "G", "0|1"), (30, "A", "G", "0|1")]
    if table.endswith(".tsv"):
        (tmp_path / table).write_text("".join(f"{chrom}\t{record[0]}\n" for record in typed))
    else:
        write_vcf(tmp_path / table, vcf_text(typed, chrom=chrom))
    found = evaluate_files(truth, imputed, autosome(tmp_path, "panel.vcf"), typed=tmp_path / table)
    assert found.row().sites == scored
    assert ("no typed site lies on chromosome 20" in caplog.text) == (chrom == "1")
    assert typed_positions(tmp_path / table) == {10, 30}


@pytest.mark.parametrize("name", FORMS)
def test_truth_without_calls_is_refused(tmp_path: Path, name: str) -> None:
    truth = autosome(tmp_path, f"truth.{name}", ".|. ./. .")
    with pytest.raises(InputError) as caught:
        evaluate_files(truth, autosome(tmp_path, "imputed.vcf"), autosome(tmp_path, "panel.vcf"))
    assert caught.value.code == "nothing_to_score"
    assert "no call at any of the 4 sites" in str(caught.value)
