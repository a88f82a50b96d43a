"""Files on which htslib ends the process that parses them, or crashes it, and their like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.helpers.refusals import Lines, edited, set_calls, set_field
from tests.helpers.vcf_text import write_vcf

# Codes of files that cannot be parsed.
CODES = ("file_unreadable", "vcf_invalid", "no_genotypes")


def gt_dropped(rows: slice) -> Callable[[Lines], None]:
    """FORMAT promises a GT behind DS, and the samples end before it."""

    def edit(records: Lines) -> None:
        for record in records[rows]:
            record[8] = "DS:GT"
            record[9:] = ["0.1" for _ in record[9:]]

    return edit


def gt_dropped_by_one_sample(records: Lines) -> None:
    records[7][8], records[7][-1] = "DS:GT", "/"


# Of a good VCF with records on one chromosome.
EDITS: dict[str, Callable[[Lines], Lines | None]] = {
    "GT dropped": gt_dropped(slice(None)),
    "GT dropped in the last record": gt_dropped(slice(-1, None)),
    "GT dropped by one sample": gt_dropped_by_one_sample,
    "POS is a dot": set_field(0, 1, "."),
    "POS is a dot in a later record": set_field(5, 1, "."),
    "POS is decimal": set_field(0, 1, "1e6"),
    "POS is text": set_field(3, 1, "x"),
    "POS is beyond the format": set_field(3, 1, "99999999999999999999"),
    "GT of letters": set_calls(lambda call: "a|b", rows=slice(0, 1)),
    "GT of letters later": set_calls(lambda call: "a|b", rows=slice(4, 5)),
    "columns missing": lambda records: [*records[:4], records[4][:4], *records[5:]],
}


def declared_ds(line: str) -> str:
    """The header line, with a declaration of DS before the columns."""
    return f'##FORMAT=<ID=DS,Number=1,Type=Float,Description="d">\n{line}' if line.startswith("#CHROM") else line


def hostile_file(folder: Path, good: Path, name: str) -> Path:
    """A copy of the VCF.gz ``good`` that is spoiled as ``name`` of EDITS says."""
    return edited(good, folder / "hostile.vcf", EDITS[name], header=declared_ds)


def eight_bytes(folder: Path) -> Path:
    """It begins as a BCF does."""
    path = folder / "eight.bcf"
    path.write_bytes(b"BCF\2\2\0\0\0")
    return path


def undeclared(folder: Path, good: Path) -> Path:
    """The chromosome is not declared, and the first record cannot be parsed."""
    path = hostile_file(folder, good, "POS is a dot")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("##contig")]
    return write_vcf(path, "\n".join(lines) + "\n")
