"""PLINK files give the imputed records of the VCF with the same genotypes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cyvcf2
import pytest

import vcfbert as package
from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.plink_files import write_bed, write_pgen
from tests.helpers.vcf_text import Record, vcf_text, write_vcf


def records(path: Path, mark: str) -> list[Record]:
    """The records of a target, their calls with ``mark`` between the alleles."""
    return [
        (one.POS, one.REF, one.ALT[0], " ".join(f"{a}{mark}{b}" for a, b, _ in one.genotypes))
        for one in cyvcf2.VCF(str(path))
    ]


def body(path: Path) -> list[str]:
    return [str(record) for record in cyvcf2.VCF(str(path))]


def write_exchanged_bed(prefix: Path, these: list[Record]) -> Path:
    return write_bed(prefix, these, a1_is_ref=range(0, len(these), 2))


@pytest.mark.parametrize(("write", "mark"), [(write_bed, "/"), (write_exchanged_bed, "/"), (write_pgen, "|")])
def test_plink_target_is_imputed_as_its_vcf_is(
    tiny_files: TinyFiles, tmp_path: Path, write: Callable[[Path, list[Record]], Path], mark: str
) -> None:
    bundle = tiny_files.fitted("v19")
    # Exchanged A/T and C/G SNPs of six samples would be excluded.
    these = [one for one in records(tiny_files.target, mark) if {one[1], one[2]} not in ({"A", "T"}, {"C", "G"})]
    vcf, expected, out = write_vcf(tmp_path / "t.vcf", vcf_text(these)), tmp_path / "v.vcf", tmp_path / "p.vcf"
    write(tmp_path / "array", these)
    assert vcfbert("impute", "--model", bundle, "--target", vcf, "--out", expected).code == 0
    ended = vcfbert("impute", "--model", bundle, "--target", tmp_path / "array", "--out", out)
    assert ended.code == 0, ended.err
    assert body(out) == body(expected)
    again = tmp_path / "python.vcf"
    package.impute_file(bundle, tmp_path / "array", again)
    assert body(again) == body(expected)


def test_changed_table_of_samples_begins_a_new_job_of_tasks(tiny_files: TinyFiles, tmp_path: Path) -> None:
    from vcfbert.distributed.imputation import plan_job
    from vcfbert.distributed.job import ChunkSpec, Settings
    from vcfbert.imputation.files import ImputeOptions

    path = write_pgen(tmp_path / "array", records(tiny_files.target, "|"))
    settings = Settings(tiny_files.fitted("v19").resolve(), "fast", False, 64, 1)

    def folder() -> Path:
        out = tmp_path / "o.vcf.gz"
        plan = plan_job(settings, path, out, ImputeOptions(), chunking=ChunkSpec(5.0, 500), work=tmp_path / "work")
        return plan.job.folder

    first = folder()
    assert folder() == first
    table = path.with_suffix(".psam")
    table.write_text(table.read_text().replace("A\t0", "Z\t0"))
    assert folder() != first


def test_missing_companion_ends_qc_with_code_2(tiny_files: TinyFiles, tmp_path: Path) -> None:
    path = write_bed(tmp_path / "array", records(tiny_files.target, "/"))
    path.with_suffix(".fam").unlink()
    ended = vcfbert("qc", "--model", tiny_files.bundle, "--target", path)
    assert ended.code == 2
    assert ended.err.startswith(f"error [companion_missing] {tmp_path / 'array.fam'}")
