from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import pytest

from tests.helpers.vcf_text import Record, panel_of, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.parsing.trace import Trace, new_memory
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.region_reader import read_regions, region_parts
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import read_genotypes
from vcfbert.genotypes.vcf_records import VcfRecords
from vcfbert.imputation.files import read_target

FORMS = [("t.vcf", False), ("t.vcf.gz", False), ("t.vcf.gz", True), ("t.gzip.vcf.gz", False), ("t.bcf", True)]
REGIONS = [Region("chr21"), Region("20", 1, 500), Region("20", 501), Region("20", 9000), Region("19")]
POSITION_LINES = [("20", 10, "."), ("20", 20, "1"), ("21", 10, "0|1")]


def target_text(seed: int) -> str:
    """Random calls of three samples on chromosomes 20, 21 and 22."""
    rng = np.random.default_rng(seed)
    header, lines = vcf_text([], samples=["A", "B", "C"]).splitlines(), []
    meta = [line for line in header if line.startswith("##") and not line.startswith("##contig")]
    for chrom in ("20", "21", "22"):
        meta.append(f"##contig=<ID={chrom},length=10000>")
        for pos in np.sort(rng.choice(np.arange(1, 1000), size=40, replace=False)):
            calls = "\t".join(f"{a}{sep}{b}" for a, b, sep in zip(*rng.choice(list("01."), (2, 3)), "|/|", strict=True))
            lines.append(f"{chrom}\t{pos}\t.\tA\t{rng.choice(['C', 'G'])}\t.\t.\t.\tGT\t{calls}")
    return "\n".join([*meta, header[-1], *lines]) + "\n"


@pytest.mark.parametrize(("name", "index"), FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_read_regions_of_each_format_equals_reading_each_region(
    tmp_path: Path, name: str, index: bool, seed: int
) -> None:
    path = write_vcf(tmp_path / name, target_text(seed), index=index)
    _, read, counts, _ = read_regions(path, REGIONS)
    found = list(read)
    assert counts == {"20": 40, "21": 40, "22": 40}
    for region, one in zip(REGIONS, found, strict=True):
        if isinstance(one, InputError):
            with pytest.raises(InputError) as caught:
                read_genotypes(path, region=region)
            assert (one.code, str(one)) == (caught.value.code, str(caught.value))
            continue
        alone = read_genotypes(path, region=region)
        assert one.samples == alone.samples
        np.testing.assert_array_equal(one.alleles, alone.alleles)
        np.testing.assert_array_equal(one.phased, alone.phased)
        for field in ("pos", "ref", "alt", "id", "continues"):
            np.testing.assert_array_equal(getattr(one.sites, field), getattr(alone.sites, field))
    assert [isinstance(one, Genotypes) for one in found] == [True, True, True, False, False]


@pytest.mark.parametrize(("name", "index"), FORMS)
def test_read_regions_of_many_regions_passes_over_the_data_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, index: bool
) -> None:
    path = write_vcf(tmp_path / name, target_text(0), index=index)
    reader, opened = cyvcf2.VCF, []

    def counted(*args: Any, **options: Any) -> Any:
        opened.append(args[0])
        return reader(*args, **options)

    monkeypatch.setattr(cyvcf2, "VCF", counted)
    assert len(list(region_parts(path, Trace(new_memory()), REGIONS, None, True))) > len(REGIONS)
    assert opened == [str(path)]


def test_read_regions_with_one_bad_region_reads_the_others(tmp_path: Path) -> None:
    text = target_text(0) + "22\t5000\t.\tA\t<DEL>\t.\t.\t.\tGT\t0|0\t0|0\t0|0\n"
    _, read, *_ = read_regions(write_vcf(tmp_path / "t.vcf", text), [Region("20"), Region("22")])
    found = list(read)
    assert isinstance(found[0], Genotypes)
    assert isinstance(found[1], InputError)
    assert found[1].code == "symbolic_alt"


def test_read_regions_with_positions_keeps_genotypes_there_alone(tmp_path: Path) -> None:
    lines = [f"{chrom}\t{pos}\t.\tA\tC,G\t.\t.\t.\tGT\t0/1\t.\t{call}" for chrom, pos, call in POSITION_LINES]
    header = vcf_text([], samples=["A", "B", "C"]).replace("<ID=20>", "<ID=20>\n##contig=<ID=21>")
    path = write_vcf(tmp_path / "t.vcf", header + "\n".join(lines) + "\n")
    _, read, *_ = read_regions(
        path, [Region("20"), Region("21")], [np.array([20, 30], np.int32), np.array([40], np.int32)]
    )
    first, second = read
    assert isinstance(first, Genotypes)
    assert isinstance(second, Genotypes)
    alone = read_genotypes(path, region="20")
    assert first.sites.pos.tolist() == alone.sites.pos.tolist() == [10, 10, 20, 20]
    np.testing.assert_array_equal(first.alleles[2:], alone.alleles[2:])
    np.testing.assert_array_equal(first.phased[2:], alone.phased[2:])
    assert first.alleles[:2].tolist() == [[[-1, -1], [-1, -1], [-1, -2]]] * 2
    assert first.phased[:2].all()
    assert second.sites.pos.tolist() == [10, 10]
    assert second.alleles.tolist() == [[[-1, -1], [-1, -1], [-1, -1]]] * 2


def test_read_target_of_two_panels_passes_over_the_data_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{chrom}\t{pos}\t.\tA\tC\t.\t.\t.\tGT\t0|1\t0|0\t1|1" for chrom in ("20", "21") for pos in (10, 20)]
    header = vcf_text([], samples=["A", "B", "C"]).replace("<ID=20>", "<ID=20>\n##contig=<ID=21>")
    path = write_vcf(tmp_path / "t.gzip.vcf.gz", header + "\n".join(lines) + "\n")
    records: list[Record] = [(10, "A", "C", "0|1 0|0 1|1"), (20, "A", "C", "0|1 0|0 1|1")]
    panels = [panel_of(records, chrom="20"), panel_of(records, chrom="21")]
    passes: list[Region | None] = []
    scan = VcfRecords.records

    def only_once(source: VcfRecords, region: Region | None) -> Iterator[Any]:
        assert not passes  # in the parser process, where a second pass would make the reader fail
        passes.append(region)
        return scan(source, region)

    monkeypatch.setattr(VcfRecords, "records", only_once)
    monkeypatch.setattr(VcfRecords, "chromosomes", lambda _: pytest.fail("the file is read again for its chromosomes"))
    matched, report = read_target(path, panels)
    assert [one.panel_site.tolist() for one in matched] == [[0, 1], [0, 1]]
    assert report.n_used == 4
