"""Files that cannot be used, by the real command line: exit code 2, one clear message, nothing half-written.

Every case of the list that the README promises. What a message says of the file, the record and the way out is
checked too: a code alone helps nobody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.refusals import Lines, assert_refused, edited, fit, impute, listing, set_calls, set_field


def swap_rows(records: Lines) -> None:
    records[3], records[4] = records[4], records[3]


def repeat_row(records: Lines) -> None:
    records.insert(4, list(records[3]))


def shift_positions(records: Lines) -> None:
    for record in records:
        record[1] = str(int(record[1]) + 30_000_000)


def other_alleles(records: Lines) -> None:
    """Alleles that are at no panel site of the position, on neither strand: what another build looks like."""
    for record in records:
        same = {"A": "AT", "C": "CT", "G": "GT", "T": "TA"}[record[3][0]]
        record[3], record[4] = record[3][0], same


def no_samples(records: Lines) -> None:
    for record in records:
        del record[8:]


def sites_only_header(line: str) -> str:
    return "\t".join(line.split("\t")[:8]) if line.startswith("#CHROM") else line


def duplicate_first_sample(line: str) -> str:
    if not line.startswith("#CHROM"):
        return line
    columns = line.split("\t")
    return "\t".join([*columns[:10], columns[9], *columns[11:]])


# Of a target: name, how it is made from the good one, the code, and what the message must name.
TARGET_CASES: dict[str, tuple[Callable[[Lines], Lines | None], Callable[[str], str], str, tuple[str, ...]]] = {
    "no sample": (no_samples, sites_only_header, "no_samples", ()),
    "no record": (lambda records: records.clear(), str, "chromosome_missing", ()),
    "no overlap with the panel": (shift_positions, str, "no_overlap", ("20:31", "20:10")),
    "another chromosome": (lambda rs: [["21", *r[1:]] for r in rs], lambda s: s.replace("ID=20", "ID=21"),
                           "chromosome_missing", ("no chromosome 20", "21")),
    "wrong build": (other_alleles, str, "wrong_build", ("17 of 17", "liftover")),
    "duplicate samples": (lambda _: None, duplicate_first_sample, "duplicate_samples", ("NA06989", "reheader")),
    "duplicate records": (repeat_row, str, "duplicate_records", ("record 20:", "norm")),
    "unsorted records": (swap_rows, str, "unsorted_records", ("record 20:", "bcftools sort")),
    "mixed ploidy": (set_field(2, 9, "1"), str, "mixed_ploidy", ("record 20:", "NA06989", "PAR", "fixploidy")),
    "triploid": (set_field(2, 9, "0|1|1"), str, "mixed_ploidy", ("record 20:",)),
    "symbolic ALT": (set_field(2, 4, "<DEL>"), str, "symbolic_alt", ("record 20:", "<DEL>", "bcftools view")),
    "breakend": (set_field(2, 4, "N[20:5[".replace("20", "20")), str, "symbolic_alt", ("record 20:",)),
    "no GT": (set_field(2, 8, "DS"), lambda s: s, "no_genotypes", ("record 20:",)),
    "unphased": (set_calls(lambda call: call.replace("|", "/")), str, "unphased", ("phase", "beagle", "SHAPEIT")),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".vcf.gz", ".bcf"])
@pytest.mark.parametrize("case", TARGET_CASES)
def test_target(tiny_files: TinyFiles, tmp_path: Path, out: Path, case: str, suffix: str) -> None:
    edit, header, code, parts = TARGET_CASES[case]
    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", edit, header=header)
    ended = impute(tiny_files, target, out / f"imputed{suffix}")
    assert_refused(ended, code, *parts)
    assert listing(out) == set()
    where_named = {"no overlap with the panel", "wrong build", "unphased"}
    assert case in where_named or str(target) in ended.err


def _not_a_vcf(target: Path, good: bytes) -> None:
    target.write_text("sample\tgenotype\nA\t0\n")


def _empty(target: Path, good: bytes) -> None:
    target.write_bytes(b"")


def _cut_in_a_block(target: Path, good: bytes) -> None:
    target.write_bytes(good[: len(good) // 2])


def _cut_before_the_end(target: Path, good: bytes) -> None:
    target.write_bytes(good[:-28])  # whole blocks, without the one that says it is the end


def _damaged(target: Path, good: bytes) -> None:
    middle = len(good) // 2
    target.write_bytes(good[:middle] + bytes(byte ^ 0x55 for byte in good[middle : middle + 40]) + good[middle + 40 :])


def _png(target: Path, good: bytes) -> None:
    target.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))


@pytest.mark.parametrize(
    ("spoil", "code", "part"),
    [
        (_not_a_vcf, "not_vcf", "plink2"),
        (_png, "not_vcf", "VCF"),
        (_empty, "empty", "empty"),
        (_cut_in_a_block, "truncated", "cut short"),
        (_cut_before_the_end, "truncated", "end-of-file block"),
        (_damaged, "truncated|vcf_invalid", "damaged|cannot be parsed"),
    ],
)
@pytest.mark.parametrize("command", ["impute", "fit", "inspect"])
def test_file_that_is_no_whole_vcf(
    tiny_files: TinyFiles,
    tmp_path: Path,
    out: Path,
    command: str,
    spoil: Callable[[Path, bytes], None],
    code: str,
    part: str,
) -> None:
    source = tiny_files.target if command == "impute" else tiny_files.panel
    bad = tmp_path / "bad.vcf.gz"
    spoil(bad, source.read_bytes())
    if command == "impute":
        ended = impute(tiny_files, bad, out / "imputed.vcf.gz")
    elif command == "fit":
        ended = fit(bad, out)
    else:
        ended = vcfbert("panel", "inspect", bad)
    found = re.search(r"error \[(\w+)\]", ended.err)
    assert found, ended.err
    assert re.fullmatch(code, found[1])
    assert re.search(part, ended.err)
    assert_refused(ended, found[1], str(bad))
    assert listing(out) == set()


def test_missing_target_and_folder(tiny_files: TinyFiles, out: Path) -> None:
    assert_refused(impute(tiny_files, out / "none.vcf", out / "o.vcf"), "file_not_found", str(out / "none.vcf"))
    assert_refused(impute(tiny_files, out, out / "o.vcf"), "file_not_found", "is a folder")
    assert listing(out) == set()


def test_an_unphased_array_names_what_to_do(tiny_files: TinyFiles, out: Path) -> None:
    """The demo's own unphased array. The report of what was matched is there all the same."""
    ended = impute(tiny_files, tiny_files.unphased, out / "imputed.vcf.gz", "--qc-report", out / "qc.json")
    assert_refused(ended, "unphased", "beagle gt=TARGET ref=PANEL impute=false")
    assert listing(out) == {"qc.json", "qc.tsv"}
    assert json.loads((out / "qc.json").read_text())["phased_share"] < 0.5


def test_region_outside_the_panel(tiny_files: TinyFiles, out: Path) -> None:
    for region, code in (
        ("20:5000000-6000000", "region_empty"),
        ("21:1-5", "region_empty"),
        ("20:9-1", "region_invalid"),
    ):
        assert_refused(impute(tiny_files, tiny_files.target, out / "o.vcf.gz", "--region", region), code, region)
    assert listing(out) == set()


# Panels and maps


PANEL_CASES: dict[str, tuple[Callable[[Lines], Lines | None], Callable[[str], str], str, tuple[str, ...]]] = {
    "missing genotypes": (set_field(5, 12, ".|."), str, "panel_missing", ("record 20:", "bcftools view -g ^miss")),
    "half a genotype missing": (set_field(5, 12, "0|."), str, "panel_missing", ("record 20:",)),
    "unphased genotypes": (set_field(5, 12, "0/1"), str, "panel_unphased", ("record 20:", "phase")),
    "unsorted": (swap_rows, str, "unsorted_records", ("record 20:",)),
    "duplicate records": (repeat_row, str, "duplicate_records", ("record 20:",)),
    "haploid": (set_calls(lambda call: call[0]), str, "haploid", ("record 20:", "targets may be haploid")),
    "mixed ploidy": (set_field(5, 12, "0"), str, "mixed_ploidy", ("record 20:",)),
    "symbolic ALT": (set_field(5, 4, "<CN0>"), str, "symbolic_alt", ("record 20:",)),
    "no sample": (no_samples, sites_only_header, "no_samples", ()),
    "duplicate samples": (lambda _: None, duplicate_first_sample, "duplicate_samples", ()),
    "two chromosomes": (lambda rs: [*rs[:9], *(["21", *r[1:]] for r in rs[9:])], str, "several_chromosomes", ("21",)),
    "one sample": (lambda rs: [r[:10] for r in rs],
                   lambda s: "\t".join(s.split("\t")[:10]) if s.startswith("#CHROM") else s, "panel_too_small", ()),
}  # fmt: skip


@pytest.mark.parametrize("case", PANEL_CASES)
def test_panel(tiny_files: TinyFiles, tmp_path: Path, out: Path, case: str) -> None:
    edit, header, code, parts = PANEL_CASES[case]
    panel = edited(tiny_files.panel, tmp_path / "panel.vcf.gz", edit, header=header)
    ended = fit(panel, out)
    assert_refused(ended, code, str(panel), *parts)
    assert listing(out) == set()


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("pos chr cM\n1000 20 0.5\n2000 20 0.4\n3000 20 0.6\n", "map_backwards", "2000 at 0.4 cM"),
        ("pos chr cM\n2000 20 0.5\n1000 20 0.6\n", "map_backwards", "1000 at 0.6 cM"),
        ("pos chr cM\n1000 21 0.5\n2000 21 0.6\n", "map_chromosome", "no chromosome 20"),
        ("position of things\n", "map_invalid", "columns"),
        ("", "map_invalid", "empty"),
        ("pos chr cM\n1000 20 far\n", "map_invalid", "not a number"),
    ],
    ids=["cM falls", "position falls", "another chromosome", "no map", "empty", "no number"],
)
def test_genetic_map(tiny_files: TinyFiles, tmp_path: Path, out: Path, text: str, code: str, part: str) -> None:
    genetic_map = tmp_path / "bad.gmap"
    genetic_map.write_text(text)
    assert_refused(fit(tiny_files.panel, out, "--map", genetic_map), code, str(genetic_map), part)
    assert listing(out) == set()
