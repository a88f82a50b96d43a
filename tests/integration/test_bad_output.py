"""Outputs that cannot be written, and interruptions: nothing half-written, nothing of the user's lost."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.command_line import TINY, Outcome, TinyFiles, finished, process, vcfbert
from tests.helpers.refusals import Lines, assert_refused, edited, fit, impute, listing
from vcfbert.artifacts import sha256_file

# Outputs


@pytest.mark.parametrize("suffix", [".vcf.gz", ".vcf", ".bcf"])
def test_output_below_a_file_is_refused(tiny_files: TinyFiles, out: Path, suffix: str) -> None:
    """No folder can be there, whoever asks: root may write where permissions say no."""
    (out / "file").write_text("mine")
    target = out / "file" / f"imputed{suffix}"
    assert_refused(impute(tiny_files, tiny_files.target, target), "output_not_writable", str(target))
    ended = vcfbert(
        "fit", "--variant", "v18", "--panel", tiny_files.panel, "--out", out / "file" / "bundle", "--no-track", *TINY
    )
    assert_refused(ended, "output_not_writable", str(out / "file" / "bundle"))
    assert "epoch" not in ended.err  # asked before training, not after
    assert listing(out) == {"file"}
    assert (out / "file").read_text() == "mine"


def test_output_in_unwritable_folder_is_refused(tiny_files: TinyFiles) -> None:
    ended = impute(tiny_files, tiny_files.target, Path("/proc/imputed.vcf.gz"))
    assert_refused(ended, "output_not_writable", "/proc/imputed.vcf.gz")


@pytest.mark.parametrize("name", ["imputed.txt", "imputed", "imputed.vcf.bz2"])
def test_output_of_unknown_format_is_refused(tiny_files: TinyFiles, out: Path, name: str) -> None:
    assert_refused(impute(tiny_files, tiny_files.target, out / name), "output_format", name, ".vcf.gz, .vcf, .bcf")
    assert listing(out) == set()


def test_output_equal_to_input_is_refused(tiny_files: TinyFiles, out: Path) -> None:
    target = Path(shutil.copy(tiny_files.target, out))
    before = sha256_file(target)
    assert_refused(impute(tiny_files, target, target), "same_file", str(target))
    assert sha256_file(target) == before


def test_folder_with_other_files_is_not_replaced(tiny_files: TinyFiles, out: Path) -> None:
    (out / "bundle").mkdir()
    (out / "bundle" / "thesis.txt").write_text("years of work")
    ended = fit(tiny_files.panel, out)
    assert_refused(ended, "output_not_replaceable", str(out / "bundle"))
    assert (out / "bundle" / "thesis.txt").read_text() == "years of work"
    (out / "file").write_text("mine")
    ended = vcfbert("fit", "--variant", "v18", "--panel", tiny_files.panel, "--out", out / "file", "--no-track", *TINY)
    assert_refused(ended, "output_not_writable", str(out / "file"))
    assert (out / "file").read_text() == "mine"


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of that size on ``folder``; the test is skipped where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [".vcf.gz", ".vcf", ".bcf"])
def test_full_disk_while_imputing_leaves_no_output(tiny_files: TinyFiles, tmp_path: Path, suffix: str) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        ended = impute(tiny_files, tiny_files.target, disk / f"imputed{suffix}")
        assert_refused(ended, "disk_full", str(disk), "free some space")
        assert listing(disk) == set()


@pytest.mark.parametrize("kilobytes", [8, 60, 140])
def test_full_disk_while_fitting_leaves_no_bundle(tiny_files: TinyFiles, tmp_path: Path, kilobytes: int) -> None:
    """On the first checkpoint of an epoch, on the second, and on the bundle."""
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        ended = fit(tiny_files.panel, disk)
        assert_refused(ended, "disk_full", str(disk), "free some space")
        assert "bundle" not in listing(disk)
        assert not [name for name in listing(disk) if "tmp" in name]


def _files_of_at_most(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("suffix", [".bcf"])  # the longest way; the writer's own tests take the others
def test_output_beyond_file_size_limit_is_refused(tiny_files: TinyFiles, out: Path, suffix: str) -> None:
    """`ulimit -f`: as a quota would, without root."""
    arguments = ("--model", tiny_files.bundle, "--target", tiny_files.target, "--out", out / f"imputed{suffix}")
    ended = finished(process("impute", *arguments, prepare=lambda: _files_of_at_most(4096)))
    assert_refused(ended, "output_not_writable", str(out), "File too large")
    assert listing(out) == set()


# Interruptions


def interrupt(started: subprocess.Popen[str], number: int, ready: Callable[[], bool]) -> Outcome:
    """Sends the signal as soon as ``ready``."""
    give_up = time.monotonic() + 60
    while not ready():
        assert started.poll() is None, f"ended before it could be interrupted: {started.communicate()}"
        assert time.monotonic() < give_up, "never got there"
        time.sleep(0.01)
    started.send_signal(number)
    return finished(started)


@pytest.fixture(scope="module")
def much_to_impute(tiny_files: TinyFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target's samples many times over, so that imputing takes some seconds."""
    times = 1000

    def header(line: str) -> str:
        if not line.startswith("#CHROM"):
            return line
        return "\t".join([*line.split("\t")[:9], *(f"S{i}" for i in range(6 * times))])

    def edit(records: Lines) -> None:
        for record in records:
            record[9:] = record[9:] * times

    return edited(tiny_files.target, tmp_path_factory.mktemp("much") / "target.vcf.gz", edit, header=header)


@pytest.mark.parametrize(("number", "suffix"), [(signal.SIGINT, ".vcf.gz"), (signal.SIGTERM, ".bcf")])
def test_interrupted_imputation_leaves_no_output(
    tiny_files: TinyFiles, much_to_impute: Path, out: Path, number: signal.Signals, suffix: str
) -> None:
    target = out / f"imputed{suffix}"
    arguments = ("--model", tiny_files.bundle, "--target", much_to_impute, "--out", target, "--threads", 1)
    ended = interrupt(process("impute", *arguments), number, lambda: listing(out) != set())
    assert (ended.code, ended.out, ended.err) == (128 + number, "", "interrupted\n")
    assert listing(out) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_fit_leaves_no_bundle(tiny_files: TinyFiles, out: Path, number: signal.Signals) -> None:
    """No bundle, no half file; the checkpoint stays, for it goes on from there when called again."""
    arguments = ("fit", "--variant", "v18", "--panel", tiny_files.panel, "--out", out / "bundle", "--no-track", *TINY)
    long = ("-S", "train.epochs=2000", "-S", "train.patience=2000")
    ended = interrupt(process(*arguments, *long), number, lambda: any(out.glob("**/last.pt")))
    assert ended.code == 128 + number
    assert ended.err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in ended.err
    assert not (out / "bundle").exists()
    assert not [name for name in listing(out) if "tmp" in name]
    assert {Path(name).name for name in listing(out / ".checkpoints")} >= {"last.pt", "best.pt"}
