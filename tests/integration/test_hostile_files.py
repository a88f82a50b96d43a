"""Files that crash htslib: every command that reads them ends with code 2 and a message, and goes on living."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.hostile_files import CODES, EDITS, eight_bytes, hostile_file, undeclared
from tests.helpers.refusals import listing


def assert_unreadable(folder: Path, path: Path, *arguments: object) -> None:
    before = listing(folder)
    ended = vcfbert(*arguments)
    assert ended.code == 2, ended
    assert any(ended.err.startswith(f"error [{code}] {path}") for code in CODES), ended.err
    assert "Traceback" not in ended.err
    assert "htslib" not in ended.err
    assert "[E::" not in ended.err
    assert ended.err.splitlines()[-1].startswith("  hint: ")
    assert listing(folder) == before


@pytest.mark.parametrize("name", EDITS)
def test_hostile_target_ends_qc_with_code_2(tiny_files: TinyFiles, tmp_path: Path, name: str) -> None:
    path = hostile_file(tmp_path, tiny_files.target, name)
    assert_unreadable(tmp_path, path, "qc", "--model", tiny_files.bundle, "--target", path)


@pytest.mark.parametrize("name", ["GT dropped", "POS is a dot", "GT of letters later"])
def test_hostile_file_ends_every_command_with_code_2(tiny_files: TinyFiles, tmp_path: Path, name: str) -> None:
    target = hostile_file(tmp_path, tiny_files.target, name)
    out = tmp_path / "out.vcf.gz"
    assert_unreadable(tmp_path, target, "impute", "--model", tiny_files.bundle, "--target", target, "--out", out)
    panel = hostile_file(tmp_path, tiny_files.panel, name)
    assert_unreadable(tmp_path, panel, "panel", "build", "--panel", panel, "--out", tmp_path / "store")
    assert_unreadable(tmp_path, panel, "panel", "inspect", panel)
    against = ("--imputed", tiny_files.target, "--reference", tiny_files.panel)
    assert_unreadable(tmp_path, target, "evaluate", "--truth", target, *against)


def test_eight_bytes_and_an_undeclared_chromosome_end_qc_with_code_2(tiny_files: TinyFiles, tmp_path: Path) -> None:
    for path in (eight_bytes(tmp_path), undeclared(tmp_path, tiny_files.target)):
        assert_unreadable(tmp_path, path, "qc", "--model", tiny_files.bundle, "--target", path)


def test_error_of_a_dead_parser_names_line_and_record(tiny_files: TinyFiles, tmp_path: Path) -> None:
    path = hostile_file(tmp_path, tiny_files.target, "GT dropped in the last record")
    ended = vcfbert("qc", "--model", tiny_files.bundle, "--target", path)
    lines = path.read_text().splitlines()
    n_records = sum(not line.startswith("#") for line in lines)
    assert f"error [vcf_invalid] {path}, line {len(lines)} (record {n_records}): FORMAT is DS:GT" in ended.err


def test_command_whose_parser_is_killed_ends_with_code_2(tiny_files: TinyFiles, tmp_path: Path) -> None:
    """The target is a pipe's end that gives nothing more, so the parser waits."""
    good = hostile_file(tmp_path, tiny_files.target, "POS is text").read_text()
    path = tmp_path / "large.vcf"
    header, record = good[: good.index("\n20\t") + 1], good.splitlines()[-1]
    columns = record.split("\t")
    with path.open("w") as handle:
        handle.write(header)
        for pos in range(1, 400_000):
            columns[1] = str(pos)
            handle.write("\t".join(columns) + "\n")
    command = [sys.executable, "-m", "vcfbert", "qc", "--model", str(tiny_files.bundle), "--target", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not (children := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(int(children[0]), signal.SIGKILL)
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait(60) == 2
    assert "its parser died of SIGKILL" in told
