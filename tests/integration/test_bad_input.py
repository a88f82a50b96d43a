"""Input that cannot be used, by the real command line: exit code 2, one clear message, nothing half-written.

Every case of the list that the README promises. What a message says of the file, the record and the way out is
checked too: a code alone helps nobody.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.command_line import TINY, Outcome, TinyFiles, finished, process, vcfbert
from tests.helpers.vcf_text import write_vcf
from vcfbert.artifacts import sha256_file
from vcfbert.config import profile_text

Lines = list[list[str]]  # of a VCF's records, by column


def listing(folder: Path) -> set[str]:
    """Every file and folder below, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def assert_refused(ended: Outcome, code: str, *parts: str) -> None:
    """Exit code 2 and one message on stderr: code, the given parts, and a hint; no traceback."""
    assert ended.code == 2, ended
    assert ended.out == ""
    message = ended.err.splitlines()
    while message and not message[0].startswith("error"):  # a fit tells how far it came
        del message[0]
    assert len(message) == 2, f"not one message with a hint: {ended.err}"
    assert message[0].startswith(f"error [{code}] ")
    assert message[1].startswith("  hint: ")
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
    "haploid": (set_calls(lambda call: call[0]), str, "haploid", ("record 20:", "fixploidy")),
    "mixed ploidy": (set_field(2, 9, "1"), str, "mixed_ploidy", ("record 20:", "NA06989")),
    "triploid": (set_field(2, 9, "0|1|1"), str, "mixed_ploidy", ("record 20:",)),
    "symbolic ALT": (set_field(2, 4, "<DEL>"), str, "symbolic_alt", ("record 20:", "<DEL>", "bcftools view")),
    "breakend": (set_field(2, 4, "N[20:5[".replace("20", "20")), str, "symbolic_alt", ("record 20:",)),
    "no GT": (set_field(2, 8, "DS"), lambda s: s, "no_genotypes", ("record 20:",)),
    "unphased": (set_calls(lambda call: call.replace("|", "/")), str, "unphased", ("phase", "beagle", "SHAPEIT")),
}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def impute(files: TinyFiles, target: Path, out: Path, *more: object) -> Outcome:
    return vcfbert("impute", "--model", files.bundle, "--target", target, "--out", out, "--threads", 1, *more)


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
        (_damaged, None, "cannot be parsed"),
    ],
)
@pytest.mark.parametrize("command", ["impute", "fit", "inspect"])
def test_file_that_is_no_whole_vcf(
    tiny_files: TinyFiles,
    tmp_path: Path,
    out: Path,
    command: str,
    spoil: Callable[[Path, bytes], None],
    code: str | None,
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
    found = re.match(r"(?:WARNING.*\n)?error \[(\w+)\]", ended.err)
    assert found, ended.err
    assert_refused(ended, code or found[1], str(bad), part)
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


def fit(panel: Path, out: Path, *more: object) -> Outcome:
    return vcfbert("fit", "--panel", panel, "--out", out / "bundle", "--no-track", *TINY, *more)


PANEL_CASES: dict[str, tuple[Callable[[Lines], Lines | None], Callable[[str], str], str, tuple[str, ...]]] = {
    "missing genotypes": (set_field(5, 12, ".|."), str, "panel_missing", ("record 20:", "bcftools view -g ^miss")),
    "half a genotype missing": (set_field(5, 12, "0|."), str, "panel_missing", ("record 20:",)),
    "unphased genotypes": (set_field(5, 12, "0/1"), str, "panel_unphased", ("record 20:", "phase")),
    "unsorted": (swap_rows, str, "unsorted_records", ("record 20:",)),
    "duplicate records": (repeat_row, str, "duplicate_records", ("record 20:",)),
    "haploid": (set_calls(lambda call: call[0]), str, "haploid", ("record 20:",)),
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


# Bundles


@pytest.fixture
def bundle(tiny_files: TinyFiles, tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    return Path(shutil.copytree(tiny_files.bundle, tmp_path / "bundle"))


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def other_panel(bundle: Path) -> None:
    """The store inside is another panel than the manifest's, and every hash agrees."""
    edit_manifest(bundle / "panel", digest="0" * 64)
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    edit_manifest(bundle, files=files | {"panel/manifest.json": sha256_file(bundle / "panel" / "manifest.json")})


def stale_weights(bundle: Path) -> None:
    """Weights of other dims, and every hash agrees."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    edit_manifest(bundle, model=manifest["model"] | {"dims": 16})


BUNDLE_CASES: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...]]] = {
    "changed weights": (
        lambda b: flip_byte(b / "weights.safetensors"),
        "bundle_hash",
        ("weights.safetensors", "sha256"),
    ),
    "changed index": (lambda b: flip_byte(b / "index.faiss"), "bundle_hash", ("index.faiss",)),
    "changed panel": (lambda b: flip_byte(b / "panel" / "alleles.npy"), "bundle_hash", ("panel/alleles.npy",)),
    "a file gone": (lambda b: (b / "index.faiss").unlink(), "bundle_hash", ("index.faiss", "missing")),
    "newer format": (lambda b: edit_manifest(b, format_version=99), "bundle_format", ("format 99", "format 1")),
    "another kind": (lambda b: edit_manifest(b, kind="panel"), "bundle_format", ("a panel",)),
    "another panel": (other_panel, "bundle_panel", ("000000000000", "trained on")),
    "other dims": (stale_weights, "bundle_damaged", ("weights.safetensors",)),
    "unknown variant": (lambda b: edit_manifest(b, variant="v99"), "bundle_variant", ("v99",)),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "bundle_unfinished", ("manifest.json",)),
    "broken manifest": (lambda b: (b / "manifest.json").write_text("{"), "bundle_damaged", ("manifest.json",)),
    "manifest without its parts": (
        lambda b: (b / "manifest.json").write_text("[]"),
        "bundle_damaged",
        ("manifest.json",),
    ),
    "no bundle": (lambda b: shutil.rmtree(b), "bundle_missing", ()),
}


@pytest.mark.parametrize("command", ["verify", "impute"])
@pytest.mark.parametrize("case", BUNDLE_CASES)
def test_bundle(tiny_files: TinyFiles, bundle: Path, out: Path, case: str, command: str) -> None:
    spoil, code, parts = BUNDLE_CASES[case]
    spoil(bundle)
    if command == "verify":
        ended = vcfbert("bundle", "verify", bundle)
    else:
        ended = vcfbert("impute", "--model", bundle, "--target", tiny_files.target, "--out", out / "imputed.vcf.gz")
    assert_refused(ended, code, str(bundle), *parts)
    assert listing(out) == set()


def test_registry_without_a_store(tiny_files: TinyFiles, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for reference, code in (("models:/vcfbert@champion", "no_tracking_store"), ("models:/", "model_reference")):
        ended = vcfbert("impute", "--model", reference, "--target", tiny_files.target, "--out", out / "o.vcf.gz")
        assert_refused(ended, code)
    assert listing(out) == set()


# Parameters

PARAMETER_CASES = {
    "train.lr=0": "train.lr is 0.0: must be positive",
    "train.lr=-1e-3": "must be positive",
    "train.lr=fast": "train.lr is 'fast': must be a number",
    "train.lr=.nan": "must be a number",
    "train.lr=.inf": "must be a number",
    "train.lr=null": "must be a number",
    "train.epochs=0": "must be at least 1",
    "train.epochs=2.5": "must be int",
    "train.epochs=true": "must be int",
    "train.compile=1": "must be bool",
    "train.loss=hinge": "must be one of focal, cross_entropy",
    "train.precision=fp8": "must be one of",
    "train.learning_rate=1": "no such parameter; known: epochs, ",
    "model.heads=3": "must divide model.dims",
    "model.dims=4": "must be at least 8",
    "model.dropout=1.0": "must lie in [0, 1)",
    "encode.window=0": "must be at least 8",
    "encode.flank=-1": "must be 0 .. window/4",
    "masks.start=0.9": "0 < start <= end < 1",
    "masks.array_density=0.5": "must be 2 values",
    "masks.array_density=[0.5, 0.1]": "0 < low <= high <= 1",
    "retrieval.k=5": "must be a mapping",
    "retrieval.k={v17: 0, v18: 1}": "must be at least 1",
    "retrieval.k={v17: 2, v18: 1, v99: 1}": "known variants",
    "retrieval.refresh_every=-1": "must not be negative",
    "prepare.holdout=1.5": "must lie between 0 and 1",
    "evaluate.mask_rate=1.5": "must lie between 0 and 1",
    "evaluate.batch_size=0": "must be at least 1",
}


@pytest.mark.parametrize("assignment", PARAMETER_CASES)
def test_parameter(tiny_files: TinyFiles, tmp_path: Path, out: Path, assignment: str) -> None:
    """The same words whether it stands in a file or on the command line, with the parameter's name."""
    what = PARAMETER_CASES[assignment]
    name, _, value = assignment.partition("=")
    section, parameter = name.split(".")
    assert_refused(fit(tiny_files.panel, out, "-S", assignment), "params_invalid", f"{section}.", what)
    assert listing(out) == set()

    params = yaml.safe_load(profile_text("cpu"))
    params[section][parameter] = yaml.safe_load(value)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    assert_refused(vcfbert("config", "check", path), "params_invalid", str(path), f"{section}.", what)


@pytest.mark.parametrize("assignment", ["lr=1", "train.lr", "training.lr=1", "train.lr.x=1", "train.lr=[1"])
def test_assignment_that_is_none(tiny_files: TinyFiles, out: Path, assignment: str) -> None:
    assert_refused(fit(tiny_files.panel, out, "-S", assignment), "params_invalid", assignment)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("train: [1", "not valid YAML"),
        ("", "must hold sections"),
        ("- 1\n- 2\n", "must hold sections"),
        ("train: {}\n", "prepare is None: is required"),
        ("prepares: 5\n", "no such parameter; known: prepare, "),
        ("traning: {}\n", "no such parameter; known: prepare, "),
    ],
)
def test_params_file(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert_refused(vcfbert("config", "check", path), "params_invalid", str(path), part)


def test_params_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert_refused(vcfbert("config", "check", path), "params_invalid", str(path))
    assert_refused(vcfbert("config", "check", tmp_path), "params_missing", str(tmp_path))


# Outputs


@pytest.mark.parametrize("suffix", [".vcf.gz", ".vcf", ".bcf"])
def test_output_under_a_file(tiny_files: TinyFiles, out: Path, suffix: str) -> None:
    """No folder can be there, whoever asks: root may write where permissions say no."""
    (out / "file").write_text("mine")
    target = out / "file" / f"imputed{suffix}"
    assert_refused(impute(tiny_files, tiny_files.target, target), "output_not_writable", str(target))
    ended = vcfbert("fit", "--panel", tiny_files.panel, "--out", out / "file" / "bundle", "--no-track", *TINY)
    assert_refused(ended, "output_not_writable", str(out / "file" / "bundle"))
    assert "epoch" not in ended.err  # asked before training, not after
    assert listing(out) == {"file"}
    assert (out / "file").read_text() == "mine"


def test_output_in_a_place_that_takes_none(tiny_files: TinyFiles) -> None:
    ended = impute(tiny_files, tiny_files.target, Path("/proc/imputed.vcf.gz"))
    assert_refused(ended, "output_not_writable", "/proc/imputed.vcf.gz")


@pytest.mark.parametrize("name", ["imputed.txt", "imputed", "imputed.vcf.bz2"])
def test_output_of_unknown_kind(tiny_files: TinyFiles, out: Path, name: str) -> None:
    assert_refused(impute(tiny_files, tiny_files.target, out / name), "output_format", name, ".vcf.gz, .vcf, .bcf")
    assert listing(out) == set()


def test_output_that_is_the_input(tiny_files: TinyFiles, out: Path) -> None:
    target = Path(shutil.copy(tiny_files.target, out))
    before = sha256_file(target)
    assert_refused(impute(tiny_files, target, target), "same_file", str(target))
    assert sha256_file(target) == before


def test_a_folder_with_other_things_is_not_replaced(tiny_files: TinyFiles, out: Path) -> None:
    (out / "bundle").mkdir()
    (out / "bundle" / "thesis.txt").write_text("years of work")
    ended = fit(tiny_files.panel, out)
    assert_refused(ended, "output_not_replaceable", str(out / "bundle"))
    assert (out / "bundle" / "thesis.txt").read_text() == "years of work"
    (out / "file").write_text("mine")
    ended = vcfbert("fit", "--panel", tiny_files.panel, "--out", out / "file", "--no-track", *TINY)
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
def test_full_disk_while_imputing(tiny_files: TinyFiles, tmp_path: Path, suffix: str) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        ended = impute(tiny_files, tiny_files.target, disk / f"imputed{suffix}")
        assert_refused(ended, "disk_full", str(disk), "free some space")
        assert listing(disk) == set()


@pytest.mark.parametrize("kilobytes", [8, 48])
def test_full_disk_while_fitting(tiny_files: TinyFiles, tmp_path: Path, kilobytes: int) -> None:
    """On the first checkpoint, and on the bundle."""
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        ended = fit(tiny_files.panel, disk)
        assert_refused(ended, "disk_full", str(disk), "free some space")
        assert "bundle" not in listing(disk)
        assert not [name for name in listing(disk) if "tmp" in name]


def _files_of_at_most(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("suffix", [".bcf"])  # the longest way; the writer's own tests take the others
def test_output_beyond_a_limit(tiny_files: TinyFiles, out: Path, suffix: str) -> None:
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
def test_interrupted_imputation(
    tiny_files: TinyFiles, much_to_impute: Path, out: Path, number: signal.Signals, suffix: str
) -> None:
    target = out / f"imputed{suffix}"
    arguments = ("--model", tiny_files.bundle, "--target", much_to_impute, "--out", target, "--threads", 1)
    ended = interrupt(process("impute", *arguments), number, lambda: listing(out) != set())
    assert (ended.code, ended.out, ended.err) == (128 + number, "", "interrupted\n")
    assert listing(out) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_fit(tiny_files: TinyFiles, out: Path, number: signal.Signals) -> None:
    """Between epochs: no bundle, no half file; called again it goes on where it was."""
    arguments = ("fit", "--panel", tiny_files.panel, "--out", out / "bundle", "--no-track", *TINY)
    long = ("-S", "train.epochs=2000", "-S", "train.patience=2000")
    ended = interrupt(process(*arguments, *long), number, lambda: any(out.glob("**/last.pt")))
    assert ended.code == 128 + number
    assert ended.err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in ended.err
    assert not (out / "bundle").exists()
    assert not [name for name in listing(out) if "tmp" in name]
    assert {Path(name).name for name in listing(out / ".checkpoints")} >= {"last.pt", "best.pt"}
