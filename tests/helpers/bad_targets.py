"""Targets that cannot be used, and how they are refused: by the command line, and over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.helpers.refusals import Lines, set_calls, set_field


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
    "wrong build": (other_alleles, str, "wrong_build", ("17 of 17", "GRCh37", "chain")),
    "duplicate samples": (lambda _: None, duplicate_first_sample, "duplicate_samples", ("NA06989", "reheader")),
    "unsorted records": (swap_rows, str, "unsorted_records", ("record 20:", "bcftools sort")),
    "unphased": (set_calls(lambda call: call.replace("|", "/")), str, "unphased", ("phase", "beagle", "SHAPEIT")),
}  # fmt: skip

# Of a target with one record that cannot be used: refused with --strict, else the record is excluded.
RECORD_CASES: dict[str, tuple[Callable[[Lines], Lines | None], Callable[[str], str], str, tuple[str, ...]]] = {
    "duplicate records": (repeat_row, str, "duplicate_records", ("record 20:", "norm")),
    "mixed ploidy": (set_field(2, 9, "1"), str, "mixed_ploidy", ("record 20:", "NA06989", "PAR", "fixploidy")),
    "triploid": (set_field(2, 9, "0|1|1"), str, "mixed_ploidy", ("record 20:",)),
    "symbolic ALT": (set_field(2, 4, "<DEL>"), str, "symbolic_alt", ("record 20:", "<DEL>", "bcftools view")),
    "breakend": (set_field(2, 4, "N[20:5[".replace("20", "20")), str, "symbolic_alt", ("record 20:",)),
    "no GT": (set_field(2, 8, "DS"), lambda s: s, "no_genotypes", ("record 20:",)),
}  # fmt: skip

# Those that were read and matched as far as they could be: the refusal has the QC report.
WITH_REPORT = ("no record", "no overlap with the panel", "another chromosome", "wrong build", "unphased")


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


# Of a file that is no whole VCF: how it is made from the good one's bytes, the code, and what the message has.
SPOILT: list[tuple[Callable[[Path, bytes], None], str, str]] = [
    (_not_a_vcf, "not_vcf", "plink2"),
    (_png, "not_vcf", "VCF"),
    (_empty, "empty", "empty"),
    (_cut_in_a_block, "truncated", "cut short"),
    (_cut_before_the_end, "truncated", "end-of-file block"),
    (_damaged, "truncated|vcf_invalid", "damaged|cannot be parsed"),
]
