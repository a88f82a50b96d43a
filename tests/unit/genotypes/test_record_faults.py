"""Malformed records are refused by line, record and sample."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.parsing.process import ForkedParsers
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.region_reader import read_regions
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import _GENOTYPES, genotype_blocks, read_genotypes
from vcfbert.genotypes.vcf_records import VcfRecords

TEXT_FORMS = ("t.vcf", "t.vcf.gz", "t.gzip.vcf.gz")
GOOD: list[Record] = [(pos, "A", "G", "0|1 1|1 0|0") for pos in range(100, 600, 100)]
LAST = 2**31 - 1
# Of the third record, which is line 7: the fields to replace, and what the error says.
FAULTS: dict[str, tuple[str, str, str]] = {
    "POS is a dot": ("20\t300", "20\t.", "POS is '.', and must be a whole number"),
    "POS is text": ("20\t300", "20\tx", "POS is 'x', and must be a whole number"),
    "POS is decimal": ("20\t300", "20\t300.5", "POS is '300.5', and must be a whole number"),
    "POS is negative": ("20\t300", "20\t-5", "POS is '-5', and must be a whole number"),
    "POS is 2^31": ("20\t300", f"20\t{LAST + 1}", f"POS is {LAST + 1}, and positions end at {LAST}"),
    "POS wraps to 300": ("20\t300", f"20\t{2**32 + 300}", f"POS is {2**32 + 300}, and positions end at {LAST}"),
    "POS of 20 digits": ("20\t300", "20\t" + "9" * 20, f"POS is '{'9' * 20}', and positions end at {LAST}"),
    "GT of letters": ("0|1\t1|1", "0|1\ta|b", "GT of sample 'B' is 'a|b'"),
    "no GT of any sample": (
        "GT\t0|1\t1|1\t0|0",
        "DS:GT\t.1\t.1\t.1",
        "FORMAT is DS:GT, and sample 'A' has no GT",
    ),
    "a column missing": ("1|1\t0|0", "1|1", "the line has 11 columns, and the header has 12"),
    "columns separated by spaces": (
        "20\t300\trs300\tA\tG\t",
        "20 300 rs300 A G ",
        "columns are separated by spaces, and a VCF needs tabs",
    ),
}


# Of these a target's record is excluded, as all of no use are; other files are refused.
FAR = ("POS is 2^31", "POS wraps to 300")


def text_with(fault: str) -> str:
    old, new, _ = FAULTS[fault]
    lines = vcf_text(GOOD).splitlines()
    assert old in lines[6]
    lines[6] = lines[6].replace(old, new)
    return "\n".join(lines).replace("##FORMAT", '##FORMAT=<ID=DS,Number=1,Type=Float,Description="d">\n##FORMAT') + "\n"


def read_target(path: Path) -> Genotypes:
    found = next(read_regions(path, [Region("20")], strict=False).genotypes)
    if isinstance(found, InputError):
        raise found
    return found


@pytest.mark.parametrize("name", TEXT_FORMS)
@pytest.mark.parametrize("read", [read_genotypes, read_target])
@pytest.mark.parametrize("fault", [one for one in FAULTS if one not in FAR])
def test_malformed_record_is_refused_by_line_and_record(
    tmp_path: Path, fault: str, read: Callable[[Path], object], name: str
) -> None:
    path = write_vcf(tmp_path / name, text_with(fault))
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == "vcf_invalid"
    assert str(caught.value).startswith(f"{path}, line 8 (record 3): {FAULTS[fault][2]}")
    assert caught.value.hint


@pytest.mark.parametrize("name", TEXT_FORMS)
@pytest.mark.parametrize("fault", FAR)
def test_position_beyond_the_last_is_refused_and_excluded_from_a_target(tmp_path: Path, fault: str, name: str) -> None:
    path = write_vcf(tmp_path / name, text_with(fault))
    with pytest.raises(InputError) as caught:
        read_genotypes(path)
    assert caught.value.code == "vcf_invalid"
    assert FAULTS[fault][2] in str(caught.value)
    found = read_regions(path, [Region("20")], strict=False)
    genotypes = next(found.genotypes)
    assert isinstance(genotypes, Genotypes)
    assert genotypes.sites.pos.tolist() == [100, 200, 400, 500]
    assert found.excluded == {"position": 1}
    far = LAST + 1 if fault == "POS is 2^31" else 2**32 + 300
    assert found.listed == [("20", far, "rs300", "A", "G", "position")]


def test_malformed_record_in_an_indexed_region_is_refused_by_line(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", text_with("GT of letters"), index=True)
    assert len(read_genotypes(path, region="20:400-500").sites) == 2
    with pytest.raises(InputError, match=r"line 8 \(record 3\): GT of sample 'B' is 'a\|b'"):
        read_genotypes(path, region="20:200-400")


@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz", "t.gzip.vcf.gz"])
def test_chromosome_that_the_header_lacks_is_read_and_its_malformed_record_refused(tmp_path: Path, name: str) -> None:
    text = vcf_text(GOOD).replace("##contig=<ID=20>\n", "")
    assert len(read_genotypes(write_vcf(tmp_path / name, text)).sites) == len(GOOD)
    path = write_vcf(tmp_path / name, text.replace("20\t100", "20\t."))
    with pytest.raises(InputError, match=r"line 4 \(record 1\): POS is '\.'"):
        read_genotypes(path)


def test_fault_is_found_when_one_parser_reads_the_file_again(tmp_path: Path) -> None:
    """Records are counted anew by each reading, so none is skipped in the search."""
    path = write_vcf(tmp_path / "t.vcf.gz", text_with("no GT of any sample"), index=True)
    with ForkedParsers().open(path) as parser:
        for _ in range(3):
            blocks = parser.run(genotype_blocks, Region("20", 400, 500), 1000, False, kinds=(_GENOTYPES,))
            assert sum(len(block.sites) for block in blocks) == 2
        with pytest.raises(InputError, match=r"line 8 \(record 3\): FORMAT is DS:GT"):
            read_regions(path, [Region("20")], strict=False, parser=parser)


# VCF 4.4: a call may begin with its phase mark.


@pytest.mark.parametrize("name", TEXT_FORMS)
@pytest.mark.parametrize("read", [read_genotypes, read_target])
@pytest.mark.parametrize("index", [False, True])
def test_leading_phase_marks_are_read_as_without_them(
    tmp_path: Path, name: str, read: Callable[[Path], Genotypes], index: bool
) -> None:
    plain: list[Record] = [*GOOD[:2], (300, "A", "C", "0|1 1/1 0/1"), (400, "A", "C", "1|1 1|0 0|0"), *GOOD[4:]]
    marked: list[Record] = [*GOOD[:2], (300, "A", "C", "|0|1 /1/1 /0/1"), (400, "A", "C", "|1|1 1|0 |0|0"), *GOOD[4:]]
    expected = read(write_vcf(tmp_path / "plain.vcf", vcf_text(plain)))
    text = vcf_text(marked).replace("VCFv4.2", "VCFv4.4")
    found = read(write_vcf(tmp_path / name, text, index=index and name == "t.vcf.gz"))
    np.testing.assert_array_equal(found.alleles, expected.alleles)
    np.testing.assert_array_equal(found.phased, expected.phased)
    assert found.sites.pos.tolist() == expected.sites.pos.tolist()


def test_malformed_record_behind_leading_marks_is_refused_by_line(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.vcf", text_with("GT of letters").replace("0|1\t1|1", "|0|1\t1|1", 1))
    with pytest.raises(InputError, match=r"line 8 \(record 3\): GT of sample 'B'"):
        read_genotypes(path)


def children() -> list[str]:
    """The process numbers of this thread's children, ended ones too."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def test_reading_leading_marks_leaves_no_process(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.vcf", vcf_text([(100, "A", "G", "|0|1"), (200, "A", "G", "0|1")]))
    before = children()
    records = VcfRecords(path).records(None)
    assert next(records).POS == 100
    assert len(children()) == len(before) + 1
    records.close()  # type: ignore[attr-defined]
    assert children() == before


# Names and files that cannot be used.


@pytest.mark.parametrize(("name", "shown"), [("B\0", "'B\\x00'"), ("", "''"), ("B\x07", "'B\\x07'")])
def test_sample_name_without_letters_or_with_control_characters_is_refused(
    tmp_path: Path, name: str, shown: str
) -> None:
    path = write_vcf(tmp_path / "t.vcf", vcf_text(GOOD, samples=["A", name, "C"]))
    with pytest.raises(InputError) as caught:
        read_genotypes(path)
    assert caught.value.code == "vcf_invalid"
    assert f"a sample has the name {shown}" in str(caught.value)


def test_header_separated_by_spaces_is_refused_with_a_remedy(tmp_path: Path) -> None:
    header, columns, records = vcf_text(GOOD).partition("#CHROM")
    path = write_vcf(tmp_path / "t.vcf", header + (columns + records).replace("\t", " "))
    with pytest.raises(InputError, match="columns are separated by spaces, and a VCF needs tabs") as caught:
        read_genotypes(path)
    assert "sed" in (caught.value.hint or "")


@pytest.mark.parametrize("read", [read_genotypes, read_target])
def test_pipe_is_refused_before_it_is_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    named = tmp_path / "t.vcf"
    os.mkfifo(named)
    reader, writer = os.pipe()
    try:
        for path in (named, Path(f"/dev/fd/{reader}")):
            with pytest.raises(InputError) as caught:
                read(path)
            assert caught.value.code == "not_a_file"
    finally:
        os.close(reader)
        os.close(writer)
