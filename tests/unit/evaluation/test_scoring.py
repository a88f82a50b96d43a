from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pysam.bcftools
import pytest

from tests.helpers.vcf_text import with_text_in_a_number_field
from vcfbert.errors import InputError
from vcfbert.evaluation.scoring import Evaluation, evaluate_files
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import read_genotypes
from vcfbert.metrics.paired_bootstrap import paired_differences

ROOT = Path(__file__).parents[3]
CASE = ROOT / "tests/data/scoring"
REFEREE = ROOT.parent / "shared/tools/score_imputation.py"

HEADER = """##fileformat=VCFv4.2
##contig=<ID=20>
##INFO=<ID=DR2,Number=A,Type=Float,Description="Estimated r2">
##INFO=<ID=R2,Number=1,Type=Float,Description="Estimated r2">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">
##FORMAT=<ID=HDS,Number=2,Type=Float,Description="Haplotype dosages">
##FORMAT=<ID=GP,Number=G,Type=Float,Description="Genotype probabilities">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"""


def write_vcf(path: Path, samples: str, *records: str) -> Path:
    """``records``: 'POS REF ALT FORMAT VALUE ...', separated by blanks; INFO may stand before FORMAT, with its '='."""
    lines = []
    for record in records:
        pos, ref, alt, form, *values = record.split()
        info = "."
        if "=" in form:
            info, form, *values = form, *values
        lines.append("\t".join(["20", pos, ".", ref, alt, ".", ".", info, form, *values]))
    path.write_text(HEADER + "\t".join(samples.split()) + "\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Path]:
    """Two sites, MAF 1/4 each, and two targets."""
    return {
        "reference": write_vcf(tmp_path / "panel.vcf", "P1 P2", "10 A G GT 0|1 0|0", "20 C T GT 0|0 1|0"),
        "truth": write_vcf(tmp_path / "truth.vcf", "S1 S2", "10 A G GT 0|1 0|0", "20 C T GT 1|1 0|0"),
        "imputed": write_vcf(tmp_path / "imputed.vcf", "S1 S2", "10 A G DS 0.9 0.1", "20 C T DS 1.8 0.2"),
    }


def score(**options: Any) -> Evaluation:
    files = {name: CASE / f"{name}.vcf.gz" for name in ("truth", "imputed")}
    return evaluate_files(**{**files, "reference": CASE / "panel.vcf.gz", "typed": CASE / "typed.tsv", **options})


def assert_agrees(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Every figure of ``expected`` to its four decimals."""
    assert [row["bin"] for row in rows] == [row["bin"] for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, abs=5.1e-5), (row["bin"], name)
            else:
                assert row[name] == value, (row["bin"], name)


def test_agrees_with_the_independent_script_to_four_decimals() -> None:
    expected = json.loads((CASE / "expected.json").read_text())
    result = score(groups=CASE / "groups.tsv").as_dict()
    assert_agrees(result["rows"], expected["all"]["rows"])
    assert (result["absent"], result["samples"]) == (expected["all"]["absent"], 21)
    assert list(result["by_group"]) == ["north", "south"]  # NA is no group
    assert result["group_samples"] == {"north": 9, "south": 9}
    for name, rows in result["by_group"].items():
        assert_agrees(rows, expected[name]["rows"])


def test_region_is_one_based_and_inclusive() -> None:
    expected = json.loads((CASE / "expected.json").read_text())["region"]
    result = score(region="chr20:1,500,000-3,000,000").as_dict()
    assert_agrees(result["rows"], expected["rows"])
    assert result["absent"] == expected["absent"]


@pytest.mark.skipif(not REFEREE.is_file(), reason="the independent scoring script is not beside this checkout")
def test_agrees_with_the_independent_script_as_it_is_now(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    files = [f"--{name}={CASE / name}.vcf.gz" for name in ("truth", "imputed")]
    files += [f"--reference={CASE}/panel.vcf.gz", f"--typed={CASE}/typed.tsv", f"--json={out}"]
    subprocess.run([sys.executable, REFEREE, *files], check=True, capture_output=True)
    expected = json.loads(out.read_text())
    assert_agrees(score().as_dict()["rows"], expected["rows"])


def test_blocks_do_not_change_the_figures() -> None:
    assert score(block_cells=64).as_dict() == score().as_dict()


def test_r2_sums_cover_every_scored_pair(tmp_path: Path) -> None:
    """Also at sites that the imputed file lacks: in pairs with itself an evaluation differs nowhere, and its r2 is
    that of the rows."""
    result = score(groups=CASE / "groups.tsv")
    assert result.absent > 0
    found = {d.bin: d.candidate for d in paired_differences(result.r2_sums, result.r2_sums)}
    assert found == pytest.approx({row.bin: row.aggregate_r2 for row in result.rows})
    assert len(result.r2_sums.samples) == 21
    assert len(result.r2_sums.by_block) == 50


def test_panel_as_reference_gives_the_same_figures() -> None:
    vcf = read_genotypes(CASE / "panel.vcf.gz")
    flat = vcf.alleles.reshape(len(vcf.sites), -1)
    packed = np.packbits(flat.astype(np.uint8), axis=1)
    panel = Panel(
        Region("20"), vcf.samples, vcf.sites, packed, np.zeros(len(flat)), flat.sum(axis=1, dtype=np.int64), (), ""
    )
    assert score(reference=(panel,)).as_dict() == score().as_dict()


def test_figures_by_hand(small: dict[str, Path]) -> None:
    row = evaluate_files(**small).row("5-50%")
    assert (row.sites, row.polymorphic_sites) == (2, 2)
    assert row.aggregate_r2 == pytest.approx(np.corrcoef([1, 0, 2, 0], [0.9, 0.1, 1.8, 0.2])[0, 1] ** 2)
    assert row.minor_f1 == 1.0


def test_absent_site_counts_as_imputed_to_the_panels_frequency(small: dict[str, Path], tmp_path: Path) -> None:
    cut = write_vcf(tmp_path / "cut.vcf", "S1 S2", "10 A G DS 0.9 0.1")
    result = evaluate_files(small["truth"], cut, small["reference"])
    assert result.absent == 1
    expected = np.corrcoef([1, 0, 2, 0], [0.9, 0.1, 0.5, 0.5])[0, 1] ** 2
    assert result.row().aggregate_r2 == pytest.approx(expected)
    assert result.row().iqs == pytest.approx((0.9 - 0.5) / (1 - 0.5) / 2)  # the absent site's is 0


def test_genotype_probabilities_come_from_gp_then_hds_then_ds(small: dict[str, Path], tmp_path: Path) -> None:
    def iqs(form: str, first: str, second: str) -> float:
        path = write_vcf(tmp_path / "one.vcf", "S1 S2", f"10 A G {form} {first} {second}")
        return evaluate_files(small["truth"], path, small["reference"], region="20:10-10").row().iqs

    # Truth is 1, 0: Po is the mean of GP[1] of the first and GP[0] of the second sample.
    assert iqs("DS:GP", "0.9:0.2,0.7,0.1", "0.1:0.9,0.1,0") == pytest.approx((0.8 - 0.475) / (1 - 0.475))
    assert iqs("HDS", "0.5,0.4", "0.1,0") == pytest.approx((0.7 - 0.45) / (1 - 0.45))
    assert iqs("DS", "0.9", "0.1") == pytest.approx(0.8)
    assert iqs("GT", "0|1", "0|0") == pytest.approx(1.0)


def test_multiallelic_imputed_record_is_taken_by_alt(small: dict[str, Path], tmp_path: Path) -> None:
    joined = write_vcf(tmp_path / "m.vcf", "S1 S2", "10 A C,G DS 0.7,0.9 0.3,0.1", "20 C T DS 1.8 0.2")
    assert evaluate_files(small["truth"], joined, small["reference"]).as_dict() == evaluate_files(**small).as_dict()


@pytest.mark.parametrize(
    ("first", "second", "mean"),
    [
        ("DR2=0.75", "DR2=0.25", 0.5),  # Beagle, vcfbert
        ("R2=0.75", "R2=0.25", 0.5),  # Minimac4
        ("R2=0.1;DR2=0.75", "R2=0.1;DR2=0.25", 0.5),
        ("DR2=0.75", "DR2=.", 0.75),
        ("XYZ=1", "XYZ=1", None),
    ],
)
def test_estimated_r2_of_the_file_is_read(
    small: dict[str, Path], tmp_path: Path, first: str, second: str, mean: float | None
) -> None:
    path = write_vcf(tmp_path / "e.vcf", "S1 S2", f"10 A G {first} DS 0.9 0.1", f"20 C T {second} DS 1.8 0.2")
    result = evaluate_files(small["truth"], path, small["reference"])
    row = result.row().as_dict()
    assert row["mean_estimated_r2"] == mean
    # Of two samples whose dosages differ, r2 is 1 at either site: nothing to correlate with.
    assert (row["mean_site_r2"], row["estimate_correlation"]) == (1.0, None)
    shown = "-" if mean is None else f"{mean:.4f}"
    assert result.table().splitlines()[1].split()[-2:] == [shown, "-"]
    assert result.csv().splitlines()[1].endswith("," if mean is None else f"{mean},")


def test_estimated_r2_of_several_alts_is_read_by_alt(small: dict[str, Path], tmp_path: Path) -> None:
    def estimated(info: str) -> float | None:
        path = write_vcf(tmp_path / "m.vcf", "S1 S2", f"10 A C,G {info} DS 0.7,0.9 0.3,0.1")
        result = evaluate_files(small["truth"], path, small["reference"])
        assert result.absent == 1  # the other site, of which the file says nothing
        value: float | None = result.row().as_dict()["mean_estimated_r2"]
        return value

    assert estimated("DR2=0.125,0.75") == 0.75
    assert estimated("DR2=0.125,.") is None
    assert estimated("R2=0.75") is None  # of which ALT it is nobody knows


def test_estimated_r2_without_header_line_is_read(small: dict[str, Path], tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "u.vcf", "S1 S2", "10 A G DR2=0.75 DS 0.9 0.1", "20 C T DR2=0.25 DS 1.8 0.2")
    path.write_text("".join(line for line in path.open() if not line.startswith("##INFO")))
    groups = tmp_path / "groups.tsv"
    groups.write_text("S1\tEUR\nS2\tEUR\n")
    result = evaluate_files(small["truth"], path, small["reference"], groups=groups)
    assert result.row().mean_estimated_r2 == 0.5
    assert result.as_dict()["by_group"]["EUR"][-1]["mean_estimated_r2"] is None


def test_typed_sites_may_be_a_vcf(small: dict[str, Path], tmp_path: Path) -> None:
    typed = write_vcf(tmp_path / "array.vcf", "S1 S2", "20 C T GT 1|1 0|0")
    assert evaluate_files(**small, typed=typed).row().sites == 1


def test_table_names_bins_and_groups(small: dict[str, Path], tmp_path: Path) -> None:
    groups = tmp_path / "groups.tsv"
    groups.write_text("S1\tEUR\nS2\tAFR\n")
    lines = evaluate_files(**small, groups=groups).table().splitlines()
    assert lines[1].split()[:3] == ["5-50%", "2", "2"]
    assert "AFR (1 samples)" in lines
    assert lines.index("AFR (1 samples)") < lines.index("EUR (1 samples)")


@pytest.fixture
def males(tmp_path: Path) -> dict[str, Path]:
    """As ``small``, the second target a male outside of the PAR."""
    return {
        "reference": write_vcf(tmp_path / "panel.vcf", "P1 P2", "10 A G GT 0|1 0", "20 C T GT 0|0 1"),
        "truth": write_vcf(tmp_path / "truth.vcf", "S1 S2", "10 A G GT 0|1 1", "20 C T GT 1|1 0"),
        "imputed": write_vcf(
            tmp_path / "imputed.vcf", "S1 S2", "10 A G GT:DS 0|1:0.9 1:0.7", "20 C T GT:DS 1|1:1.8 0:0.2"
        ),
    }


def test_haploid_samples_count_as_homozygous(males: dict[str, Path], tmp_path: Path) -> None:
    row = evaluate_files(**males).row("5-50%")  # one of the panel's three alleles is ALT: MAF 1/3
    assert (row.sites, row.polymorphic_sites) == (2, 2)
    assert row.aggregate_r2 == pytest.approx(np.corrcoef([1, 2, 2, 0], [0.9, 1.4, 1.8, 0.4])[0, 1] ** 2)
    homozygous = write_vcf(tmp_path / "homozygous.vcf", "S1 S2", "10 A G GT 0|1 1|1", "20 C T GT 1|1 0|0")
    assert evaluate_files(**{**males, "truth": homozygous}).row("5-50%").as_dict() == row.as_dict()


def test_dosages_of_haploid_samples_are_read_from_every_field(males: dict[str, Path], tmp_path: Path) -> None:
    def row(*records: str) -> dict[str, Any]:
        imputed = write_vcf(tmp_path / "one.vcf", "S1 S2", *records)
        return evaluate_files(**{**males, "imputed": imputed}).row("5-50%").as_dict()

    expected = row("10 A G GT:DS:HDS:GP 0|1:1:0,1:0,1,0 1:0.75:0.75:0.25,0.75", "20 C T DS:GP 2:0,0,1 0:1,0")
    assert expected["calibration_error"] == 0.25 / 4
    # IQS of the first site: genotypes 1 and 2; agreement (1 + 0.75) / 2, chance (1 x 1 + 1 x 0.75) / 4.
    first = (1.75 / 2 - 1.75 / 4) / (1 - 1.75 / 4)
    assert expected["iqs"] == pytest.approx((first + 1) / 2, abs=1e-6)
    assert row("10 A G GT:HDS 0|1:0,1 1:0.75", "20 C T GT:HDS 1|1:1,1 0:0") == expected
    # Without calls, ploidy is the truth's; where a tool wrote the male as diploid, his dosages are of two alleles.
    assert row("10 A G DS:GP 1:0,1,0 0.75:0.25,0.75", "20 C T DS 2 0") == expected
    assert row("10 A G GT:DS:GP 0|1:1:0,1,0 1|1:1.5:0.25,0,0.75", "20 C T GT:DS 1|1:2 0|0:0") == expected
    assert row("10 A G GT 0|1 1", "20 C T GT 1|1 0")["aggregate_r2"] == 1.0
    assert row("10 A G GT 0|1 .", "20 C T GT 1|1 0")["aggregate_r2"] == pytest.approx(
        np.corrcoef([1, 2, 2, 0], [1, 2 / 3, 2, 0])[0, 1] ** 2, abs=1e-6
    )


def refused(code: str, **files: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        evaluate_files(**files)
    assert caught.value.code == code
    return caught.value


def test_refuses_an_imputed_file_without_a_sample_of_the_truth(small: dict[str, Path], tmp_path: Path) -> None:
    other = write_vcf(tmp_path / "other.vcf", "S1 X", "10 A G DS 0.9 0.1")
    error = refused("samples_missing", **{**small, "imputed": other})
    assert "S2" in error.what
    assert error.where == str(other)


def test_evaluation_without_scorable_site_is_refused(small: dict[str, Path], tmp_path: Path) -> None:
    refused("same_file", **{**small, "imputed": small["truth"]})
    elsewhere = write_vcf(tmp_path / "elsewhere.vcf", "P1", "99 A G GT 0|1")
    refused("nothing_to_score", **{**small, "reference": elsewhere})
    twice = write_vcf(tmp_path / "twice.vcf", "S1 S2", *["10 A G DS 0.9 0.1"] * 2)
    assert "10 A>G" in refused("duplicate_records", **{**small, "imputed": twice}).what
    text = tmp_path / "text.vcf"
    text.write_text("hello\n")
    refused("not_vcf", **{**small, "imputed": text})


def test_a_bcf_whose_dosages_are_text_is_refused(small: dict[str, Path], tmp_path: Path) -> None:
    imputed = tmp_path / "imputed.bcf"
    pysam.bcftools.view("-Ob", "-o", str(imputed), str(small["imputed"]), catch_stdout=False)
    one_float = 0x15
    error = refused("vcf_invalid", **{**small, "imputed": with_text_in_a_number_field(imputed, one_float)})
    assert "DS holds no numbers" in error.what


def test_table_without_usable_rows_is_refused(small: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    table.write_text("sample\tgroup\nX\tEUR\n")
    refused("groups_no_sample", **small, groups=table)
    table.write_text("S1\tEUR\nS2\n")
    assert refused("groups_invalid", **small, groups=table).where == f"{table}, line 2"
    table.write_text("CHROM\tPOS\n20\tten\n")
    assert refused("typed_invalid", **small, typed=table).where == f"{table}, line 2"
    refused("table_unreadable", **small, typed=tmp_path / "absent.tsv")
