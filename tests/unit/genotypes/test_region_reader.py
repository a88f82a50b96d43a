from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import pytest

from tests.helpers.vcf_text import Record, panel_of, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes import plain_text, vcf_reader, vcf_records
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
    _, read, counts, *_ = read_regions(path, REGIONS)
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
    opened = []

    def counted(reader: Any) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            opened.append(str(getattr(args[0], "path", args[0])))
            return reader(*args, **options)

        return called

    monkeypatch.setattr(cyvcf2, "VCF", counted(cyvcf2.VCF))
    monkeypatch.setattr(plain_text, "_pieces", counted(plain_text._pieces))
    assert len(list(region_parts(path, Trace(new_memory()), REGIONS, None, True))) > len(REGIONS)
    assert opened == [str(path)]


def mixed_text(seed: int, faulty: bool) -> str:
    """A target whose first records are plain, and perhaps some or all of the others."""
    rng = np.random.default_rng(seed)
    header, *lines = target_text(seed).partition("FORMAT\tA\tB\tC\n")[::2]
    records = [line for line in lines[0].splitlines() if not line.startswith("22")]
    others = ["20\t{}\trs1\tA\tC,G\t.\t.\t.\tGT\t0/2\t.\t1|2", "20\t{}\t.\tA\tC\t.\t.\t.\tGT:DP\t0/1:3\t./.\t1|0"]
    if faulty:
        others += [
            "20\t{}\t.\tA\t<DEL>\t.\t.\t.\tGT\t0/0\t0/1\t1|0",
            "20\t1\t.\tA\tC\t.\t.\t.\tGT\t0/0\t0/1\t1|0",
            "\t".join(records[rng.integers(40)].replace("\tA\t", "\ta\t").split("\t")[:9] + ["0|0"] * 3),
        ]
    for place in sorted(rng.integers(1, 80, size=rng.integers(3)), reverse=True):
        chrom, pos, *_ = records[place - 1].split("\t")
        other = others[rng.integers(len(others))]
        records.insert(int(place), other.replace("20", chrom, 1).format(int(pos)))
    return header + "FORMAT\tA\tB\tC\n" + "\n".join(records) + "\n"


def told(path: Path, *, strict: bool) -> list[Any]:
    """Everything that ``read_regions`` gives, or the error that it raises."""
    positions = [np.arange(1, 1000, 2, dtype=np.int32)] * len(REGIONS)
    try:
        samples, read, counts, excluded, listed = read_regions(path, REGIONS, positions, strict=strict)
    except InputError as error:
        return [error.code, str(error)]
    found: list[Any] = [samples, counts, excluded, listed]
    for one in read:
        if isinstance(one, InputError):
            found.append([one.code, str(one), one.where])
        else:
            columns = (one.sites.pos, one.sites.ref, one.sites.alt, one.sites.id, one.sites.continues)
            found.append([one.sites.chrom, *(values.tolist() for values in (*columns, one.alleles, one.phased))])
    return found


@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_target_read_from_its_text_is_that_of_htslib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, strict: bool, seed: int
) -> None:
    monkeypatch.setattr(vcf_reader, "BLOCK_RECORDS", 7)
    monkeypatch.setattr(plain_text, "_TEXT_BYTES", 400)
    path = write_vcf(tmp_path / name, mixed_text(seed, faulty=seed % 2 == 1))
    ours = told(path, strict=strict)
    monkeypatch.setattr(vcf_records, "NUMBERED", plain_text.NUMBERED._replace(kernel=lambda *_: 0))
    assert ours == told(path, strict=strict)


def test_target_of_plain_records_needs_no_htslib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", target_text(0))
    monkeypatch.setattr(cyvcf2, "VCF", lambda *_, **__: pytest.fail("htslib opens the file"))
    trace = Trace(new_memory())
    assert len(list(region_parts(path, trace, REGIONS, None, False))) > len(REGIONS)
    assert str(trace).startswith("behind record 120 (22:")


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
