"""Bundles that were damaged or belong elsewhere, and parameters out of range: exit code 2 and one clear message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.refusals import assert_refused, fit, listing
from vcfbert.artifacts import sha256_file
from vcfbert.config import profile_text
from vcfbert.constants import BUNDLE_FORMAT

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
    (facts,) = json.loads((bundle / "panel" / "manifest.json").read_text())["stretches"]
    edit_manifest(bundle / "panel", stretches=[facts | {"digest": "0" * 64}])
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
    "changed index": (lambda b: flip_byte(b / "index" / "00.faiss"), "bundle_hash", ("index/00.faiss",)),
    "changed panel": (
        lambda b: flip_byte(b / "panel" / "00" / "rows.npy"),
        "bundle_hash",
        ("panel/00/rows.npy",),
    ),
    "a file gone": (lambda b: (b / "index" / "00.faiss").unlink(), "bundle_hash", ("index/00.faiss", "missing")),
    "newer format": (
        lambda b: edit_manifest(b, format_version=99),
        "bundle_format",
        ("format 99", f"format {BUNDLE_FORMAT}", "vcfbert fit"),
    ),
    "another kind": (lambda b: edit_manifest(b, kind="panel"), "bundle_format", ("a panel",)),
    "another panel": (other_panel, "bundle_panel", ("holds panel", "trained on")),
    "other dims": (stale_weights, "bundle_damaged", ("weights.safetensors",)),
    "unknown variant": (lambda b: edit_manifest(b, variant="v99"), "bundle_variant", ("v99",)),
    "k as text": (lambda b: edit_manifest(b, k="12"), "bundle_damaged", ('k is "12"', "whole number", "vcfbert fit")),
    "no section encode": (lambda b: edit_manifest(b, encode=None), "bundle_damaged", ("encode is null", "a mapping")),
    "digest that is a number": (lambda b: edit_manifest(b, panel_digest=7), "bundle_damaged", ("panel_digest is 7",)),
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
def test_bad_bundle_is_refused(tiny_files: TinyFiles, bundle: Path, out: Path, case: str, command: str) -> None:
    spoil, code, parts = BUNDLE_CASES[case]
    spoil(bundle)
    if command == "verify":
        ended = vcfbert("bundle", "verify", bundle)
    else:
        ended = vcfbert("impute", "--model", bundle, "--target", tiny_files.target, "--out", out / "imputed.vcf.gz")
    assert_refused(ended, code, str(bundle), *parts)
    assert listing(out) == set()


def test_registry_without_store_is_refused(tiny_files: TinyFiles, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for reference, code in (("models:/vcfbert@champion", "no_tracking_store"), ("models:/", "model_reference")):
        ended = vcfbert("impute", "--model", reference, "--target", tiny_files.target, "--out", out / "o.vcf.gz")
        assert_refused(ended, code)
    assert listing(out) == set()


# Parameters

PARAMETER_CASES = {
    "train.lr=0": "train.lr is 0: must be greater than 0",
    "train.lr=-1e-3": "must be greater than 0",
    "train.lr=fast": "train.lr is 'fast': must be a number",
    "train.lr=.nan": "must be a finite number",
    "train.lr=.inf": "must be a finite number",
    "train.lr=null": "must be a number",
    "train.epochs=0": "must be at least 1",
    "train.epochs=2.5": "must be a whole number",
    "train.epochs=true": "must be a whole number",
    "encode.flank=33": "must be at most a quarter of encode.window",
    "train.compile=1": "must be true or false",
    "train.loss=hinge": "must be 'focal' or 'cross_entropy'",
    "train.precision=fp8": "must be 'auto', '32-true' or 'bf16-mixed'",
    "train.learning_rate=1": "there is no such parameter; known: epochs, ",
    "model.heads=3": "must divide model.dims",
    "model.dims=4": "must be at least 8",
    "model.dropout=1.0": "must be less than 1",
    "encode.window=0": "must be at least 8",
    "encode.flank=-1": "must be at least 0",
    "masks.start=0.9": "masks.end is 0.8: must be at least masks.start (0.9)",
    "masks.array_density=0.5": "must be a list of 2 values",
    "masks.array_density=[0.5, 0.1]": "the first value must not be above the second",
    "retrieval.k=5": "must be a mapping",
    "retrieval.k={v17: 0, v18: 0, v19: 0}": "v19 must be at least 1",
    "retrieval.k={v17: -1, v18: 1, v19: 1}": "must be at least 0",
    "retrieval.k={v17: 2, v18: 1, v19: 1, v99: 1}": "must have one entry for each variant",
    "retrieval.refresh_every=-1": "must be at least 0",
    "prepare.holdout=1.5": "must be less than 1",
    "evaluate.mask_rate=1.5": "must be less than 1",
    "evaluate.batch_size=0": "must be at least 1",
}


@pytest.mark.parametrize("assignment", PARAMETER_CASES)
def test_bad_parameter_is_refused(tiny_files: TinyFiles, tmp_path: Path, out: Path, assignment: str) -> None:
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
def test_malformed_assignment_is_refused(tiny_files: TinyFiles, out: Path, assignment: str) -> None:
    assert_refused(fit(tiny_files.panel, out, "-S", assignment), "params_invalid", assignment)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("train: [1", "not valid YAML"),
        ("", "must hold sections"),
        ("- 1\n- 2\n", "must hold sections"),
        ("train: {}\n", "prepare is missing"),
        ("prepares: 5\n", "there is no such parameter; known: prepare, "),
        ("traning: {}\n", "there is no such parameter; known: prepare, "),
    ],
)
def test_bad_params_file_is_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert_refused(vcfbert("config", "check", path), "params_invalid", str(path), part)


def test_binary_params_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert_refused(vcfbert("config", "check", path), "params_invalid", str(path))
    assert_refused(vcfbert("config", "check", tmp_path), "params_missing", str(tmp_path))
