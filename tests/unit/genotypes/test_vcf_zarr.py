from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, record_line, vcf_text, write_vcf
from vcfbert.errors import InputError, MissingExtraError
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import open_source, read_genotypes, stream_genotypes
from vcfbert.genotypes.vcf_zarr import ZarrRecords

# Multiallelic, without ALT, missing, half calls, unphased, and a sample that is haploid.
RECORDS: list[Record] = [
    (100, "A", "G", "0|1 1|1 0/1 1"),
    (200, "C", "T,G", "1|2 0|2 ./. 0"),
    (250, "T", ".", "0|0 0|0 0|0 ."),
    (300, "AT", "A", "0/. .|. 1/0 1"),
    (300, "A", "<DEL>", "0|1 0|0 0|1 1"),
    (400, "G", "C", "0|1 .|1 1|0 0"),
]
OTHER: list[Record] = [(5, "a", "g", "0|1 1|1 0|1 1"), (9, "C", "T", "0|0 1|0 0|1 0")]


def text() -> str:
    lines = vcf_text(RECORDS) + "".join(f"{record_line(record, '21')}\n" for record in OTHER)
    return lines.replace("##contig=<ID=20>", "##contig=<ID=20,length=64000000>\n##contig=<ID=21>")


def convert(vcf: Path, out: Path, zarr_format: int = 2, chunk: int = 3) -> Path:
    from bio2zarr.vcf import convert

    convert([str(vcf)], str(out), variants_chunk_size=chunk, samples_chunk_size=2, zarr_format=zarr_format)
    return out


@pytest.fixture(scope="module")
def vcf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vcf(tmp_path_factory.mktemp("vcf") / "t.vcf.gz", text(), index=True)


@pytest.fixture(scope="module", params=["2", "3", "zip"])
def vcz(request: pytest.FixtureRequest, vcf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vcz") / "t.vcz"
    convert(vcf, out, zarr_format=3 if request.param == "3" else 2)
    if request.param != "zip":
        return out
    with zipfile.ZipFile(out.with_suffix(".vcz.zip"), "w") as archive:
        for file in sorted(out.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(out))
    return out.with_suffix(".vcz.zip")


def assert_equal(found: Genotypes, expected: Genotypes) -> None:
    assert found.samples == expected.samples
    assert found.sites.chrom == expected.sites.chrom
    for name in ("pos", "ref", "alt", "id", "continues"):
        assert getattr(found.sites, name).tolist() == getattr(expected.sites, name).tolist()
    assert found.alleles.tolist() == expected.alleles.tolist()
    assert found.phased.tolist() == expected.phased.tolist()


@pytest.mark.parametrize("region", ["20", "chr21", "20:200-300", "20:400-", "21:9-9"])
def test_read_genotypes_of_a_vcf_zarr_equals_its_vcf(vcf: Path, vcz: Path, region: str) -> None:
    assert_equal(read_genotypes(vcz, region=region, symbolic=True), read_genotypes(vcf, region=region, symbolic=True))


def test_read_genotypes_of_a_vcf_zarr_equals_values_by_hand(vcz: Path) -> None:
    found = read_genotypes(vcz, region="20", symbolic=True)
    assert found.sites.pos.tolist() == [100, 200, 200, 250, 300, 300, 400]
    assert found.alleles[:, 3].tolist() == [[1, -2], [0, -2], [0, -2], [-1, -2], [1, -2], [1, -2], [0, -2]]
    assert found.alleles[1:3, 0].tolist() == [[1, 0], [0, 1]]
    assert found.phased[0].tolist() == [True, True, False, True]
    assert found.sites.id[0] == "rs100"


@pytest.mark.parametrize("block", [1, 8, 100])
def test_stream_genotypes_of_a_vcf_zarr_gives_blocks_in_order(vcz: Path, block: int) -> None:
    blocks = list(stream_genotypes(vcz, region="20", block_genotypes=block, symbolic=True))
    assert [pos for b in blocks for pos in b.sites.pos.tolist()] == [100, 200, 200, 250, 300, 300, 400]
    assert (len(blocks) > 1) == (block < 24)


def test_source_facts_of_a_vcf_zarr_equal_those_of_its_vcf(vcf: Path, vcz: Path) -> None:
    for source in map(open_source, (vcf, vcz)):
        assert source.samples == ("A", "B", "C", "D")
        assert source.chromosomes() == {"20": 6, "21": 2}
        assert (source.length_of("chr20"), source.length_of("21"), source.length_of("X")) == (64_000_000, None, None)


def test_records_of_a_region_read_its_chunks_alone(vcf: Path, tmp_path: Path) -> None:
    """The calls of chromosome 20, in the first two of three chunks, are damaged; those of 21 are still read."""
    vcz = convert(vcf, tmp_path / "t.vcz")
    damaged = [path for number in (0, 1) for path in (vcz / "call_genotype").glob(f"{number}.*")]
    assert len(damaged) == 4  # each of two samples
    for path in damaged:
        path.write_bytes(path.read_bytes()[:9])
    assert [record.POS for record in ZarrRecords(vcz).records(Region("21"))] == [5, 9]
    with pytest.raises(InputError, match="call_genotype is cut short"):
        list(ZarrRecords(vcz).records(Region("20")))


def test_read_genotypes_of_a_vcf_zarr_has_the_errors_of_a_vcf(vcf: Path, vcz: Path) -> None:
    for path in (vcf, vcz):
        for region, code in ((None, "symbolic_alt"), ("22", "chromosome_missing"), ("20:1-9", "region_empty")):
            with pytest.raises(InputError) as caught:
                read_genotypes(path, region=region)
            assert caught.value.code == code
        with pytest.raises(InputError) as caught:
            read_genotypes(path, symbolic=True)
        assert caught.value.code == "several_chromosomes"


def test_panel_of_a_vcf_zarr_equals_that_of_its_vcf(vcf: Path, tmp_path: Path) -> None:
    records: list[Record] = [(1, "A", "C", "0|1 0|0"), (2, "A", "C,G", "2|1 1|0"), (7, "A", "C", "1|1 1|0")]
    text = write_vcf(tmp_path / "p.vcf.gz", vcf_text(records), index=True)
    options = {"holdout": 0.5, "seed": 1}
    digests = [
        build_panels([path], tmp_path / f"panel{i}", **options)[0].digest
        for i, path in enumerate((text, convert(text, tmp_path / "p.vcz")))
    ]
    assert digests[0] == digests[1]


def test_damaged_or_foreign_zarr_groups_are_refused(vcz: Path, vcf: Path, tmp_path: Path) -> None:
    whole = convert(vcf, tmp_path / "t.vcz")
    chunk = whole / "call_genotype" / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.raises(InputError) as caught:
        list(stream_genotypes(whole, region="20", symbolic=True))
    assert caught.value.code == "truncated"
    assert "call_genotype" in caught.value.what
    shutil.rmtree(whole / "variant_allele")
    with pytest.raises(InputError) as caught:
        read_genotypes(whole)
    assert caught.value.code == "not_vcf"
    assert "variant_allele" in caught.value.what
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "no Zarr")
    with pytest.raises(InputError) as caught:
        read_genotypes(other)
    assert caught.value.code == "not_vcf"
    np.testing.assert_equal(read_genotypes(vcz, region="21").sites.pos, [5, 9])  # the original is untouched


def test_vcf_zarr_without_the_package_names_the_extra(vcz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"vcfbert\[zarr\]"):
        read_genotypes(vcz)
