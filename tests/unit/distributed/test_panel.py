"""A panel converted in tasks equals the panel store that ``convert_panels`` writes in one pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.command_line import vcfbert
from tests.helpers.vcf_text import record_line, vcf_text, write_vcf
from vcfbert.artifacts import sha256_file
from vcfbert.distributed.panel import convert_from, plan_panel
from vcfbert.distributed.scheduler import InProcess
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import convert_panels
from vcfbert.genotypes.panel_writer import NUMBERS, ROWS, SITES
from vcfbert.genotypes.store import open_panels

DEMO = Path(__file__).parents[3] / "data" / "demo"
REGION = "20:1000000-1150000"
OPTIONS = {"maps": [DEMO / "chr20.b37.gmap.gz"], "holdout": 0.1, "seed": 17}


@pytest.mark.parametrize("region", [REGION, "20:1001234-1050000"])
def test_convert_from_writes_the_store_of_convert_panels(tmp_path: Path, region: str) -> None:
    vcf = DEMO / "panel.vcf.gz"
    job = plan_panel(vcf, region=region, chunk_mb=0.02, work=tmp_path / "work")
    assert len(job.regions) > 2
    finished: list[int] = []
    parts = convert_from(job, InProcess(), tmp_path / "parts", region=region, finished=finished.append, **OPTIONS)
    whole = convert_panels([vcf], tmp_path / "whole", region=region, **OPTIONS)
    assert sum(finished) == len(job.regions)
    assert parts["stretches"] == whole["stretches"]
    for name in (NUMBERS, ROWS, SITES):
        assert sha256_file(tmp_path / "parts" / "00" / name) == sha256_file(tmp_path / "whole" / "00" / name)
    assert not (tmp_path / "work").exists()


@pytest.fixture(params=["vcf.gz", "bcf"])
def sparse(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Records with a wide gap, a multiallelic one, one without ALT, and a deletion across a region border."""
    records = [
        (1000, "A", "G", "0|1 0|0"),
        (1999, "ACGT", "A", "0|1 1|0"),
        (2000, "C", "A,T", "1|2 0|1"),
        (2000, "C", "G", "0|0 0|1"),
        (50_000, "T", ".", "0|0 0|0"),
        (90_000, "T", "C", "1|1 0|1"),
    ]
    return write_vcf(tmp_path / f"sparse.{request.param}", vcf_text(records), index=True)


@pytest.mark.parametrize("chunk_mb", [0.001, 0.01, 5.0])
def test_empty_regions_and_region_borders_keep_every_record(sparse: Path, tmp_path: Path, chunk_mb: float) -> None:
    job = plan_panel(sparse, region=None, chunk_mb=chunk_mb, work=tmp_path / "work")
    assert (job.regions[0].start, job.regions[-1].stop) == (1000, 90_000)
    options = {**OPTIONS, "maps": []}
    parts = convert_from(job, InProcess(), tmp_path / "parts", region=None, **options)
    assert parts["digest"] == convert_panels([sparse], tmp_path / "whole", **options)["digest"]
    (panel,) = open_panels(tmp_path / "parts")
    assert panel.sites.pos.tolist() == [1000, 1999, 2000, 2000, 2000, 90_000]


def test_plan_panel_refuses_files_that_cannot_be_read_by_region(sparse: Path, tmp_path: Path) -> None:
    def refusal(vcf: Path, region: str | None) -> str:
        with pytest.raises(InputError) as caught:
            plan_panel(vcf, region=region, chunk_mb=1.0, work=tmp_path / "work")
        return caught.value.code

    assert refusal(sparse, "21") == "chromosome_missing"
    assert refusal(sparse, "20:3000-4000") == "region_empty"
    bare = tmp_path / f"bare{sparse.suffix}"
    shutil.copy(sparse, bare)
    assert refusal(bare, None) == "index_missing"
    text = vcf_text([(1000, "A", "G", "0|1 0|0")]) + record_line((1000, "A", "G", "0|1 0|0"), "21") + "\n"
    text = text.replace("##FORMAT", "##contig=<ID=21>\n##FORMAT")
    assert refusal(write_vcf(tmp_path / "several.vcf.gz", text, index=True), None) == "several_chromosomes"


def test_error_in_a_region_names_its_position_and_exits_with_2(tmp_path: Path) -> None:
    records = [(1000, "A", "G", "0|1 0|0"), (9000, "A", "G", "0/1 0|0")]
    vcf = write_vcf(tmp_path / "unphased.vcf.gz", vcf_text(records), index=True)
    places = ["--out", tmp_path / "out", "--work-dir", tmp_path / "work"]
    done = vcfbert("panel", "build", "--panel", vcf, *places, "--chunk-mb", 0.001)
    assert done.code == 2
    assert "20:9000" in done.err
    assert "unphased" in done.err
    assert not (tmp_path / "out").exists()
