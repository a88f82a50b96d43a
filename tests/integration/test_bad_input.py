"""Files that cannot be used, by the real command line: exit code 2, one clear message, nothing half-written.

Every case of the list that the README promises. What a message says of the file, the record and the way out is
checked too: a code alone helps nobody.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.bad_targets import (
    RECORD_CASES,
    SPOILT,
    TARGET_CASES,
    WITH_REPORT,
    duplicate_first_sample,
    no_samples,
    repeat_row,
    sites_only_header,
    swap_rows,
)
from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.refusals import Lines, assert_refused, edited, fit, impute, listing, set_field


@pytest.mark.parametrize("suffix", [".vcf.gz", ".bcf"])
@pytest.mark.parametrize("case", TARGET_CASES)
def test_bad_target_is_refused_without_output(
    tiny_files: TinyFiles, tmp_path: Path, out: Path, case: str, suffix: str
) -> None:
    edit, header, code, parts = TARGET_CASES[case]
    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", edit, header=header)
    ended = impute(tiny_files, target, out / f"imputed{suffix}")
    assert_refused(ended, code, *parts)
    assert listing(out) == set()
    where_named = {"no overlap with the panel", "wrong build", "unphased"}
    assert case in where_named or str(target) in ended.err


@pytest.mark.parametrize("case", RECORD_CASES)
def test_bad_record_is_excluded_and_refused_with_strict(
    tiny_files: TinyFiles, tmp_path: Path, out: Path, case: str
) -> None:
    edit, header, code, parts = RECORD_CASES[case]
    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", edit, header=header)
    assert_refused(impute(tiny_files, target, out / "imputed.vcf.gz", "--strict"), code, *parts)
    assert listing(out) == set()
    ended = impute(tiny_files, target, out / "imputed.vcf.gz", "--qc-report", out / "qc.json")
    assert ended.code == 0
    assert f"1 records cannot be used and are excluded: {code} 1" in ended.err
    assert json.loads((out / "qc.json").read_text())["excluded_records"] == {code: 1}
    rows = [line.split("\t") for line in (out / "qc.tsv").read_text().splitlines()]
    assert [row[-2:] for row in rows if row[-2] == "unusable"] == [["unusable", code]]


@pytest.mark.parametrize(
    ("spoil", "code", "part"),
    SPOILT,
)
@pytest.mark.parametrize("command", ["impute", "fit", "inspect"])
def test_target_that_is_no_whole_vcf_is_refused(
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


def test_missing_target_or_folder_is_refused(tiny_files: TinyFiles, out: Path) -> None:
    assert_refused(impute(tiny_files, out / "none.vcf", out / "o.vcf"), "file_not_found", str(out / "none.vcf"))
    assert_refused(impute(tiny_files, out, out / "o.vcf"), "file_not_found", "is a folder")
    assert listing(out) == set()


def test_pipe_is_refused_by_every_command(tiny_files: TinyFiles, out: Path) -> None:
    reader, writer = os.pipe()
    pipe = Path(f"/dev/fd/{reader}")
    against = ("--imputed", tiny_files.target, "--reference", tiny_files.panel)
    try:
        for ended in (
            impute(tiny_files, pipe, out / "o.vcf.gz"),
            vcfbert("qc", "--model", tiny_files.bundle, "--target", pipe),
            fit(pipe, out),
            vcfbert("panel", "build", "--panel", pipe, "--out", out / "store"),
            vcfbert("panel", "inspect", pipe),
            vcfbert("evaluate", "--truth", pipe, *against),
        ):
            assert_refused(ended, "not_a_file", str(pipe), "bcftools view")
    finally:
        os.close(reader)
        os.close(writer)
    assert listing(out) == set()


def test_unphased_target_is_refused_with_instructions(tiny_files: TinyFiles, out: Path) -> None:
    """The demo's own unphased array. The report of what was matched is there all the same."""
    ended = impute(tiny_files, tiny_files.unphased, out / "imputed.vcf.gz", "--qc-report", out / "qc.json")
    assert_refused(ended, "unphased", "beagle gt=TARGET ref=PANEL impute=false")
    assert listing(out) == {"qc.json", "qc.tsv"}
    assert json.loads((out / "qc.json").read_text())["phased_share"] < 0.5


@pytest.mark.parametrize("case", WITH_REPORT)
def test_refusal_writes_qc_report(tiny_files: TinyFiles, tmp_path: Path, out: Path, case: str) -> None:
    edit, header, code, _ = TARGET_CASES[case]
    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", edit, header=header)
    ended = impute(tiny_files, target, out / "imputed.vcf.gz", "--qc-report", out / "qc.json")
    assert_refused(ended, code)
    assert listing(out) == {"qc.json", "qc.tsv"}
    dry_run = vcfbert("qc", "--model", tiny_files.bundle, "--target", target, "--json", out / "dry.json")
    assert dry_run.code == 2
    assert f"error [{code}]" in dry_run.err
    assert re.search(r"n_samples +6\n", dry_run.out)
    written = [json.loads((out / name).read_text()) for name in ("qc.json", "dry.json")]
    assert {**written[0], "sites": None} == {**written[1], "sites": None}


def test_region_outside_panel_is_refused(tiny_files: TinyFiles, out: Path) -> None:
    for region, code in (
        ("20:5000000-6000000", "region_empty"),
        ("21:1-5", "region_empty"),
        ("20:9-1", "region_invalid"),
    ):
        assert_refused(impute(tiny_files, tiny_files.target, out / "o.vcf.gz", "--region", region), code, region)
    assert listing(out) == set()


# Panels and maps


PANEL_CASES: dict[str, tuple[Callable[[Lines], Lines | None], Callable[[str], str], str, tuple[str, ...]]] = {
    "a fifth of the calls missing": (
        lambda rs: [[*r[:9], *(".|." if i % 5 == 0 else call for i, call in enumerate(r[9:]))] for r in rs],
        str, "panel_missing", ("of the alleles are unknown", "at most 10% are filled", "--max-missing"),
    ),
    "unphased genotypes": (
        lambda rs: [[*r[:9], *("0/1" if call in ("0|1", "1|0") else call for call in r[9:])] for r in rs],
        str, "panel_unphased", ("unphased heterozygous calls", "phase it first"),
    ),
    "unsorted": (swap_rows, str, "unsorted_records", ("record 20:",)),
    "duplicate records": (repeat_row, str, "duplicate_records", ("record 20:",)),
    "mixed ploidy": (set_field(5, 12, "0"), str, "mixed_ploidy", ("record 20:",)),
    "no sample": (no_samples, sites_only_header, "no_samples", ()),
    "duplicate samples": (lambda _: None, duplicate_first_sample, "duplicate_samples", ()),
    "a chromosome in two places": (
        lambda rs: [*rs[:9], *(["21", *r[1:]] for r in rs[9:20]), *rs[20:]], str, "unsorted_records", ("record 20:",),
    ),
    "one sample": (lambda rs: [r[:10] for r in rs],
                   lambda s: "\t".join(s.split("\t")[:10]) if s.startswith("#CHROM") else s, "panel_too_small", ()),
}  # fmt: skip


@pytest.mark.parametrize("case", PANEL_CASES)
def test_bad_panel_is_refused(tiny_files: TinyFiles, tmp_path: Path, out: Path, case: str) -> None:
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
def test_bad_genetic_map_is_refused(
    tiny_files: TinyFiles, tmp_path: Path, out: Path, text: str, code: str, part: str
) -> None:
    genetic_map = tmp_path / "bad.gmap"
    genetic_map.write_text(text)
    assert_refused(fit(tiny_files.panel, out, "--map", genetic_map), code, str(genetic_map), part)
    assert listing(out) == set()
