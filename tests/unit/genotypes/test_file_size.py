"""What files unpack to, counted up to limits."""

from __future__ import annotations

import gzip
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.vcf_text import Record, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.file_size import FileSize, SizeLimits, count, file_size
from vcfbert.genotypes.parsing.trace import Trace, new_memory

LIMITS = SizeLimits(mb=4000, samples=5000, sites=2_000_000)
RECORDS: list[Record] = [(pos, "A", "C", "0|1 1|1 0|0") for pos in range(10, 50)]
KINDS = ("t.vcf", "t.vcf.gz", "t.gzip.vcf.gz", "t.bcf")


def size_of(path: Path, **limits: int) -> FileSize:
    (size,) = count(path, Trace(new_memory()), replace(LIMITS, **limits))
    return size


def refused(path: Path, **limits: int) -> str:
    with pytest.raises(InputError) as caught:
        file_size(path, replace(LIMITS, **limits))
    assert caught.value.hint
    assert str(path) in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("name", KINDS)
def test_samples_and_sites_are_counted_in_every_format(tmp_path: Path, name: str) -> None:
    path = write_vcf(tmp_path / name, vcf_text(RECORDS))
    assert size_of(path, samples=3, sites=40) == file_size(path, LIMITS) == FileSize(3, 40)
    assert refused(path, samples=2) == "too_many_samples"
    assert refused(path, sites=39) == "too_many_sites"


def test_zip_upload_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "target"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".zgroup", "{}")
    assert refused(path) == "not_vcf"


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_counts_do_not_depend_on_chunk_boundaries(tmp_path: Path, chunk: int) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", vcf_text(RECORDS))
    assert size_of(path, chunk=chunk) == FileSize(3, 40)


@pytest.mark.parametrize("members", [1, 40])
def test_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, members: int) -> None:
    """Also where many small gzip members stand in a row; a tenth of a percent of its size has to be read."""
    text = vcf_text(RECORDS).encode()
    path = tmp_path / "bomb.vcf.gz"
    path.write_bytes(gzip.compress(text) + gzip.compress(b"x" * (200_000_000 // members)) * members)
    assert path.stat().st_size < 1_000_000
    started = time.perf_counter()
    assert refused(path, mb=3) == "too_large_unpacked"
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("where", ["header", "record"])
@pytest.mark.parametrize("name", KINDS)
def test_oversized_header_or_record_is_refused(tmp_path: Path, where: str, name: str) -> None:
    long = [(9, "A" * 60_000, "C", "0|1 1|1 0|0")] if where == "record" else []
    text = vcf_text([*long, *RECORDS])
    if where == "header":
        text = text.replace("##contig", f"##long={'x' * 60_000}\n##contig", 1)
    path = write_vcf(tmp_path / name, text)
    with pytest.raises(InputError) as caught:
        size_of(path, chunk=1000, header=50_000, record=50_000)
    assert caught.value.code == f"{where}_too_large"


def lines_of(path: Path, *lines: str) -> Path:
    """A VCF of one sample with these records, each as CHROM, FILTER, INFO and FORMAT."""
    records = ["\t".join([chrom, "7", ".", "A", "C", ".", *others, "0|1"]) for chrom, *others in map(str.split, lines)]
    text = vcf_text([], samples=["A"])
    return write_vcf(
        path, text.replace("##FORMAT", "##INFO=<ID=AC>\n##FILTER=<Number=1,ID=q10>\n##FORMAT") + "\n".join(records)
    )


@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz"])
@pytest.mark.parametrize("chunk", [1, 9, 1 << 16])
def test_names_that_the_header_lacks_are_counted(tmp_path: Path, name: str, chunk: int) -> None:
    declared = ["20 PASS . GT", "20 q10;. AC=7;AC .", "20 . AC GT"]
    others = ["21 . AC=2;NS;NS=3 GT:DS", "21 low;q10 . DS", "22 . . GT"]
    size_of(lines_of(tmp_path / name, *declared), undeclared=0, chunk=chunk)
    path = lines_of(tmp_path / name, *declared, *others)  # 21, NS, DS, low, 22
    size_of(path, undeclared=5, chunk=chunk)
    assert refused(path, undeclared=4, chunk=chunk) == "too_many_undeclared"


def test_record_with_too_many_keys_is_refused(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "t.vcf", "20 PASS AC GT", "20 q10;PASS AC;AC;AC GT:GT")
    size_of(path, keys=7)
    assert refused(path, keys=6) == "too_many_keys"


@pytest.mark.parametrize("name", ["t.vcf", "t.bcf"])
def test_header_with_too_many_chromosomes_is_refused(tmp_path: Path, name: str) -> None:
    path = write_vcf(tmp_path / name, vcf_text(RECORDS).replace("##contig", "##contig=<ID=21>\n##contig"))
    size_of(path, contigs=2)
    assert refused(path, contigs=1) == "too_many_contigs"


def test_oversized_uncompressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.vcf"
    path.write_bytes(vcf_text(RECORDS).encode() + b"\n" * 1_000_000)
    assert refused(path, mb=1) == "too_large_unpacked"


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x1f\x8b", b"BCF\x02\x02", b"BCF\x02\x02\xff\xff", b"##fileformat=VCF"]
)
def test_incomplete_or_foreign_file_passes_the_count(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    assert size_of(path) == FileSize(0, 0)


def test_damaged_file_passes_the_count(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", vcf_text(RECORDS))
    good = path.read_bytes()
    for middle in range(0, len(good), 7):
        path.write_bytes(good[:middle] + bytes(byte ^ 0x55 for byte in good[middle : middle + 5]) + good[middle + 5 :])
        assert size_of(path).n_sites <= len(RECORDS)
        path.write_bytes(good[:middle])
        assert size_of(path).n_sites <= len(RECORDS)
