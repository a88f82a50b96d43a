"""What every refusal must look like, and spoiled copies of good files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from tests.helpers.command_line import TINY, Outcome, TinyFiles, vcfbert
from tests.helpers.vcf_text import write_vcf

Lines = list[list[str]]  # of a VCF's records, by column


def listing(folder: Path) -> set[str]:
    """Every file and folder below, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def assert_refused(ended: Outcome, code: str, *parts: str) -> None:
    """Exit code 2 and one message on stderr: code, the given parts and a hint. Further lines are indented."""
    assert ended.code == 2, ended
    assert ended.out == ""
    message = ended.err.splitlines()
    while message and not message[0].startswith("error"):  # a fit tells how far it came
        del message[0]
    assert message, f"no message: {ended.err}"
    assert message[0].startswith(f"error [{code}] ")
    assert all(line.startswith("  ") for line in message[1:]), f"not one message: {ended.err}"
    assert message[-1].startswith("  hint: ")
    for part in parts:
        assert part in ended.err


def edited(
    source: Path, out: Path, edit: Callable[[Lines], Lines | None], *, header: Callable[[str], str] = str
) -> Path:
    """A copy of a VCF with its records changed by ``edit`` and its header lines by ``header``."""
    lines = gzip.decompress(source.read_bytes()).decode().splitlines()
    records = [line.split("\t") for line in lines if not line.startswith("#")]
    records = edit(records) or records
    text = [header(line) for line in lines if line.startswith("#")]
    return write_vcf(out, "\n".join([*text, *("\t".join(record) for record in records)]) + "\n")


def set_field(row: int, column: int, value: str) -> Callable[[Lines], None]:
    def edit(records: Lines) -> None:
        records[row][column] = value

    return edit


def set_calls(change: Callable[[str], str], *, rows: slice = slice(None)) -> Callable[[Lines], None]:
    def edit(records: Lines) -> None:
        for record in records[rows]:
            record[9:] = [change(call) for call in record[9:]]

    return edit


def impute(files: TinyFiles, target: Path, out: Path, *more: object) -> Outcome:
    return vcfbert("impute", "--model", files.bundle, "--target", target, "--out", out, "--threads", 1, *more)


def fit(panel: Path, out: Path, *more: object) -> Outcome:
    return vcfbert("fit", "--variant", "v18", "--panel", panel, "--out", out / "bundle", "--no-track", *TINY, *more)
