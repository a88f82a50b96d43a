from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.plink_files import write_bed, write_pgen
from tests.helpers.vcf_text import Record, panel_of, vcf_text, write_vcf
from vcfbert.errors import InputError, MissingExtraError
from vcfbert.genotypes.formats.target_file import existing_target, target_files
from vcfbert.genotypes.formats.target_records import TargetRecords
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.region_reader import read_regions, region_parts
from vcfbert.genotypes.regions import Region
from vcfbert.imputation.files import read_target

RECORDS: list[Record] = [
    (100, "A", "G", "0/1 1/1 0/0 0/1 1/1"),
    (200, "C", "T", "0/0 ./. 0/1 0/0 1/1"),
    (300, "AT", "A", "0/1 0/0 1/1 ./. 0/0"),
    (400, "G", "C", "0/0 0/1 0/1 0/0 0/0"),
]
PHASED: list[Record] = [
    (100, "A", "G", "0|1 1|1 0|0 1|0 1|1"),
    (200, "C", "T,G", "0|2 1|1 2|0 1|0 .|."),
    (300, "C", "T", "0|1 1|0 0|0 1|0 .|."),
]
MIDDLE = Region("X", 2_781_480, 155_701_382)
MALES: list[Record] = [(3_000_000, "A", "G", "0/0 1/1 0/1 0/1"), (3_000_001, "C", "T", "1/1 ./. 0/0 0/1")]


def read(path: Path, *regions: Region, strict: bool = False) -> tuple[list[Genotypes | InputError], dict[str, int]]:
    found = read_regions(path, regions or [Region("20")], strict=strict)
    return list(found.genotypes), found.excluded


def genotypes(path: Path, *regions: Region) -> Genotypes:
    (found,), _ = read(path, *regions)
    assert isinstance(found, Genotypes), found
    return found


def code_of(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        raise next(one for one in read(path)[0] if isinstance(one, InputError))
    return caught.value


def assert_equal(one: Genotypes, other: Genotypes) -> None:
    assert one.samples == other.samples
    np.testing.assert_array_equal(one.alleles, other.alleles)
    np.testing.assert_array_equal(one.phased, other.phased)
    for field in ("pos", "ref", "alt", "id", "continues"):
        np.testing.assert_array_equal(getattr(one.sites, field), getattr(other.sites, field))


@pytest.mark.parametrize(("write", "records"), [(write_bed, RECORDS), (write_pgen, RECORDS), (write_pgen, PHASED)])
def test_plink_files_give_the_genotypes_of_a_vcf(
    tmp_path: Path, write: Callable[[Path, list[Record]], Path], records: list[Record]
) -> None:
    vcf = write_vcf(tmp_path / "t.vcf", vcf_text(records))
    assert_equal(genotypes(write(tmp_path / "p.q", records)), genotypes(vcf))


def test_bed_with_exchanged_alleles_is_matched_to_the_panel_as_a_vcf_is(tmp_path: Path) -> None:
    panel = panel_of([(pos, ref, alt, "0|1 0|0 1|1 0|0") for pos, ref, alt, _ in RECORDS])
    vcf = write_vcf(tmp_path / "t.vcf", vcf_text(RECORDS))
    (expected,), _ = read_target(vcf, [panel])
    (found,), report = read_target(write_bed(tmp_path / "p", RECORDS, a1_is_ref=[0, 1]), [panel])
    np.testing.assert_array_equal(found.panel_site, expected.panel_site)
    np.testing.assert_array_equal(np.sort(found.alleles), np.sort(expected.alleles))
    np.testing.assert_array_equal(found.phased, expected.phased)
    assert report.n_swapped == 2
    assert not found.swapped.any()  # the output has the panel's REF


def test_bed_with_unknown_order_of_c_and_g_is_excluded_where_few_calls_tell_the_strand(tmp_path: Path) -> None:
    panel = panel_of([(pos, ref, alt, "0|1 0|0 1|1 0|0") for pos, ref, alt, _ in RECORDS])
    _, report = read_target(write_bed(tmp_path / "p", RECORDS, a1_is_ref=[3]), [panel])
    assert report.counts["ambiguous_left_out"] == 1
    assert report.n_used == 3


@pytest.mark.parametrize("write", [write_bed, write_pgen])
def test_prefix_names_all_files_of_a_target(tmp_path: Path, write: Callable[[Path, list[Record]], Path]) -> None:
    path = write(tmp_path / "p", RECORDS)
    assert existing_target(tmp_path / "p") == path
    assert [file.is_file() for file in target_files(tmp_path / "p")] == [True, True, True]
    (matched,), _ = read_target(tmp_path / "p", [panel_of([(100, "A", "G", "0|1")])])
    assert matched.samples == ("A", "B", "C", "D", "E")


def test_prefix_of_two_targets_is_refused(tmp_path: Path) -> None:
    write_bed(tmp_path / "p", RECORDS)
    write_pgen(tmp_path / "p", RECORDS)
    with pytest.raises(InputError) as caught:
        existing_target(tmp_path / "p")
    assert caught.value.code == "file_ambiguous"
    assert existing_target(tmp_path / "other") == tmp_path / "other"


def test_records_out_of_order_are_sorted(tmp_path: Path) -> None:
    found = genotypes(write_bed(tmp_path / "p", RECORDS[::-1]))
    assert_equal(found, genotypes(write_bed(tmp_path / "q", RECORDS)))


def test_unknown_alleles_are_missing_and_unusable_variants_counted(tmp_path: Path) -> None:
    records: list[Record] = [
        (100, "A", ".", "0/0 0/0 ./."),  # A1 is 0
        (200, "C", "T", "0/0 0/1 1/1"),
        (200, "C", "T", "0/0 0/1 1/1"),  # twice
        (300, "D", "I", "0/0 0/1 1/1"),
        (400, ".", ".", "./. ./. ./."),
        (0, "A", "G", "0/0 0/1 1/1"),
        (-5, "A", "G", "0/0 0/1 1/1"),
    ]
    (found,), excluded = read(write_bed(tmp_path / "p", records))
    assert isinstance(found, Genotypes)
    assert found.sites.pos.tolist() == [100, 200]
    assert found.sites.alt.tolist() == [".", "T"]
    assert found.alleles[0].tolist() == [[0, 0], [0, 0], [-1, -1]]
    assert excluded == {"duplicate_records": 1, "symbolic_alt": 1, "ref_invalid": 1, "position": 2}


def test_calls_of_an_allele_without_a_name_are_missing(tmp_path: Path) -> None:
    path = write_bed(tmp_path / "p", [(100, ".", "G", "0/0 0/1 1/1")])
    found = genotypes(path)
    assert (found.sites.ref.tolist(), found.sites.alt.tolist()) == (["G"], ["."])
    assert found.alleles[0].tolist() == [[-1, -1], [-1, 0], [0, 0]]


@pytest.mark.parametrize("write", [write_bed, write_pgen])
@pytest.mark.parametrize("chrom", ["23", "X", "chrX"])
def test_males_have_one_allele_between_the_pars_and_their_heterozygous_calls_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write: Callable[..., Path], chrom: str
) -> None:
    path = write(tmp_path / "p", MALES, chrom=chrom, sex="1112")
    with caplog.at_level(logging.WARNING):
        found = genotypes(path, MIDDLE)
    assert found.haploid.tolist() == [True, True, True, False]
    assert found.alleles[0].tolist() == [[0, -2], [1, -2], [-1, -2], [0, 1]]
    assert found.alleles[1].tolist() == [[1, -2], [-1, -2], [0, -2], [0, 1]]
    assert "1 heterozygous calls of males" in caplog.text


@pytest.mark.parametrize("chrom", ["XY", "25", "PAR1"])
def test_males_have_two_alleles_in_the_pars(tmp_path: Path, chrom: str) -> None:
    path = write_bed(tmp_path / "p", [(100_000, "A", "G", "0/0 0/1")], chrom=chrom, sex="11")
    found = genotypes(path, Region("X", 1, 2_781_479))
    assert found.alleles[0].tolist() == [[0, 0], [0, 1]]


def test_family_names_tell_samples_of_one_name_apart(tmp_path: Path) -> None:
    path = write_bed(tmp_path / "p", [(100, "A", "G", "0/0 0/1 1/1")])
    path.with_suffix(".fam").write_text("F1 S 0 0 0 -9\r\nF2 S 0 0 0 -9\r\nF2 T 0 0 0 -9\r\n")
    assert genotypes(path).samples == ("F1_S", "F2_S", "T")


@pytest.mark.parametrize(
    ("write", "ending"), [(write_bed, ".bim"), (write_bed, ".fam"), (write_pgen, ".pvar"), (write_pgen, ".psam")]
)
def test_missing_companion_is_named(tmp_path: Path, write: Callable[[Path, list[Record]], Path], ending: str) -> None:
    path = write(tmp_path / "p", RECORDS)
    path.with_suffix(ending).rename(tmp_path / f"p{ending}.zst")
    error = code_of(path)
    assert error.code == "companion_missing"
    assert error.where == str(path.with_suffix(ending))
    assert "zst-decompress" in str(error.hint)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def other_magic(path: Path) -> None:
    path.write_bytes(b"chr20\t1\t2\n" + path.read_bytes()[10:])


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def by_sample(path: Path) -> None:
    path.write_bytes(b"\x6c\x1b\x00" + path.read_bytes()[3:])


def by_variant(path: Path) -> None:
    path.write_bytes(b"\x6c\x1b\x01" + path.read_bytes()[3:])


def head_alone(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:12])


def one_line_less(ending: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        table = path.with_suffix(ending)
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))

    return edit


def replaced(ending: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        table = path.with_suffix(ending)
        table.write_bytes(table.read_bytes().replace(old, new))

    return edit


BAD = {
    "bed cut": (write_bed, cut),
    "bed longer": (write_bed, longer),
    "bed of another magic": (write_bed, other_magic),
    "bed empty": (write_bed, nothing),
    "bed by sample": (write_bed, by_sample),
    "bed with a line less in bim": (write_bed, one_line_less(".bim")),
    "bim with NUL in a chromosome": (write_bed, replaced(".bim", b"20\t", b"2\0\t")),
    "bim with letters as position": (write_bed, replaced(".bim", b"\t100\t", b"\tabc\t")),
    "bim with a column less": (write_bed, replaced(".bim", b"\t0\t", b"")),
    "bim of bytes that are no text": (write_bed, replaced(".bim", b"rs1", b"\xff\xfe")),
    "fam with NUL in a name": (write_bed, replaced(".fam", b"\tA\t", b"\tA\0\t")),
    "fam with an escape sequence": (write_bed, replaced(".fam", b"\tA\t", b"\t\x1b[2J\t")),
    "fam with one column": (write_bed, replaced(".fam", b"F0\tA\t0\t0\t0\t-9", b"F0")),
    "pgen cut": (write_pgen, cut),
    "pgen of another magic": (write_pgen, other_magic),
    "pgen that is a bed": (write_pgen, by_variant),
    "pgen empty": (write_pgen, nothing),
    "pgen of 12 bytes": (write_pgen, head_alone),
    "pgen with a line less in pvar": (write_pgen, one_line_less(".pvar")),
    "pgen with a line less in psam": (write_pgen, one_line_less(".psam")),
    "pvar without ALT": (write_pgen, replaced(".pvar", b"\tALT", b"")),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_plink_files_are_refused(tmp_path: Path, name: str) -> None:
    write, damage = BAD[name]
    path = write(tmp_path / "p", RECORDS)
    damage(path)
    error = code_of(path)
    assert error.code == "target_invalid", error
    assert str(error.where).startswith(str(tmp_path / "p"))


def test_pgen_with_random_bytes_never_ends_this_process(tmp_path: Path) -> None:
    path = write_pgen(tmp_path / "p", PHASED * 20)
    good, rng = path.read_bytes(), np.random.default_rng(3)
    codes = set()
    for _ in range(40):
        content = np.frombuffer(good, np.uint8).copy()
        content[rng.integers(3, len(content), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(content.tobytes())
        try:
            codes |= {one.code for one in read(path)[0] if isinstance(one, InputError)}
        except InputError as error:
            codes.add(error.code)
    assert codes <= {"target_invalid", "file_unreadable"}
    assert codes


@pytest.mark.parametrize(
    ("ending", "text", "code"),
    [
        (".fam", "", "no_samples"),
        (".bim", "", "empty"),
        (".fam", "F A 0 0 0 -9\n" * 5, "duplicate_samples"),
    ],
)
def test_tables_that_no_target_has_are_refused(tmp_path: Path, ending: str, text: str, code: str) -> None:
    path = write_bed(tmp_path / "p", RECORDS)
    path.with_suffix(ending).write_text(text)
    n_variants = 0 if ending == ".bim" else len(RECORDS)
    n_bytes = 0 if code == "no_samples" else 2
    path.write_bytes(b"\x6c\x1b\x01" + bytes(n_variants * n_bytes))
    assert code_of(path).code == code


def test_missing_bed_is_not_found(tmp_path: Path) -> None:
    assert code_of(tmp_path / "p.bed").code == "file_not_found"


def test_without_pgenlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bed(tmp_path / "p", RECORDS)
    monkeypatch.setitem(sys.modules, "pgenlib", None)
    with pytest.raises(MissingExtraError) as caught:
        list(region_parts(path, None, [Region("20")], None, False))
    assert caught.value.code == "formats_missing"
    assert "vcfbert[formats]" in str(caught.value.hint)


def test_records_of_a_region_are_those_within_it(tmp_path: Path) -> None:
    from vcfbert.genotypes.formats.plink import plink_records

    source = plink_records(write_bed(tmp_path / "p", RECORDS, chrom="chr20"))
    assert isinstance(source, TargetRecords)
    assert [record.POS for record in source.records(Region("20", 150, 300))] == [200, 300]
    assert list(source.records(Region("21"))) == []
    assert source.chromosomes() == {"chr20": 4}


def test_bed_is_no_panel(tmp_path: Path) -> None:
    from vcfbert.genotypes.vcf_reader import read_genotypes

    path = write_bed(tmp_path / "p", RECORDS)
    shutil.copy(path, tmp_path / "p.vcf")
    with pytest.raises(InputError) as caught:
        read_genotypes(path)
    assert caught.value.code == "not_vcf"
    assert "plink2 --export vcf" in str(caught.value.hint)
