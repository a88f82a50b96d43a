"""Small files over HTTP: what comes back is what the command line writes, and what is refused is refused alike."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysam
import pytest
from fastapi import FastAPI

from service.app import create_app
from tests.helpers.bad_targets import SPOILT, TARGET_CASES, WITH_REPORT
from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.refusals import edited
from tests.helpers.service import StubSource, call, real_app, settings, upload, with_client
from vcfbert.errors import InputError


@pytest.fixture
def app(tiny_files: TinyFiles, tmp_path: Path) -> FastAPI:
    return real_app(tmp_path, tiny_files.bundle)


def stub_app(folder: Path, source: StubSource, **values: Any) -> FastAPI:
    return create_app(settings(folder, **values), source)


def left_behind(app: FastAPI) -> list[Path]:
    return list((app.state.settings.data / "uploads").rglob("*"))


def records(text: bytes) -> list[bytes]:
    return [line for line in gzip.decompress(text).splitlines() if not line.startswith(b"#")]


def test_imputed_file_equals_that_of_the_command_line(app: FastAPI, tiny_files: TinyFiles, tmp_path: Path) -> None:
    arguments = ("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--threads", 1)
    options = ("--region", "20:1010000-1060000", "--fields", "GT,DS,GQ", "--min-dr2", 0.3)
    assert vcfbert(*arguments, "--out", tmp_path / "a.vcf.gz").code == 0
    assert vcfbert(*arguments, "--out", tmp_path / "b.vcf.gz", *options).code == 0
    content = tiny_files.target.read_bytes()
    form = {"region": "20:1010000-1060000", "fields": "GT,DS,GQ", "min_dr2": "0.3", "format": "vcf.gz"}
    whole, some = call(app, upload(content), upload(content, **form))
    for answer, name in ((whole, "a.vcf.gz"), (some, "b.vcf.gz")):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/gzip"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["content-disposition"] == 'attachment; filename="mine.imputed.vcf.gz"'
        assert gzip.decompress(answer.content) == gzip.decompress((tmp_path / name).read_bytes())
    assert 0 < len(records(some.content)) < len(records(whole.content))
    summary = json.loads(whole.headers["x-vcfbert-qc"])
    assert (summary["n_used"], summary["n_samples"], summary["frequencies"]["n_sites"]) == (17, 6, 17)
    assert left_behind(app) == []


def test_options_in_the_query_reach_the_result(app: FastAPI, tiny_files: TinyFiles, tmp_path: Path) -> None:
    method, path, arguments = upload(tiny_files.target.read_bytes(), "../../a b\u00e4.bcf")
    (answer,) = call(app, (method, path, {**arguments, "params": {"format": "bcf", "fields": "GT"}}))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="a_b_.imputed.bcf"'
    (tmp_path / "out.bcf").write_bytes(answer.content)
    with pysam.VariantFile(str(tmp_path / "out.bcf")) as file:
        assert {tuple(record.format) for record in file} == {("GT",)}


@pytest.mark.parametrize("suffix", [".vcf.gz", ".bcf"])
@pytest.mark.parametrize("case", TARGET_CASES)
def test_bad_targets_are_refused_with_code(
    app: FastAPI, tiny_files: TinyFiles, tmp_path: Path, case: str, suffix: str
) -> None:
    edit, header, code, parts = TARGET_CASES[case]
    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", edit, header=header)
    impute, qc = call(
        app,
        upload(target.read_bytes(), "theirs.vcf.gz", format=suffix[1:]),
        upload(target.read_bytes(), "theirs.vcf.gz", "/v1/qc"),
    )
    assert impute.status_code == 422
    assert impute.headers["content-type"] == "application/problem+json"
    problem = impute.json()
    assert problem["code"] == code
    assert problem["hint"]
    text = " ".join(problem.get(key, "") for key in ("where", "detail", "hint"))
    assert all(part in text for part in parts)
    nowhere = {"no overlap with the panel", "wrong build", "unphased"}
    assert case in nowhere or problem["where"].startswith("theirs.vcf.gz")
    assert str(app.state.settings.data) not in impute.text
    assert qc.status_code == 200
    dry_run = qc.json()
    assert {**problem, **dry_run.pop("refused")} == problem
    assert bool(dry_run) == ("qc" in problem) == (case in WITH_REPORT)
    if case in WITH_REPORT:
        assert problem["qc"]["n_samples"] == 6
        assert {**dry_run, **problem["qc"]} == dry_run
    assert left_behind(app) == []


@pytest.mark.parametrize(("spoil", "code", "part"), SPOILT)
def test_incomplete_or_foreign_files_are_refused_with_code(
    app: FastAPI, tiny_files: TinyFiles, tmp_path: Path, spoil: Callable[[Path, bytes], None], code: str, part: str
) -> None:
    spoil(tmp_path / "bad", tiny_files.target.read_bytes())
    (answer,) = call(app, upload((tmp_path / "bad").read_bytes(), "theirs.vcf.gz"))
    assert answer.status_code == 422
    problem = answer.json()
    assert re.fullmatch(code, problem["code"])
    assert re.search(part, answer.text)
    assert problem["where"].startswith("theirs.vcf.gz")


def test_refusal_after_matching_has_the_qc_summary(app: FastAPI, tiny_files: TinyFiles) -> None:
    (answer,) = call(app, upload(tiny_files.unphased.read_bytes()))
    problem = answer.json()
    assert problem["code"] == "unphased"
    assert problem["qc"]["n_used"] == 17
    assert problem["qc"]["phased_share"] < 1


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"region": "20:9-3"}, 422, "region_invalid"),
        ({"region": "21"}, 422, "region_empty"),
        ({"format": "vcf"}, 422, "option_format"),
        ({"fields": "GT,AD"}, 422, "option_fields"),
        ({"min_dr2": "much"}, 422, "option_min_dr2"),
        ({"min_dr2": "nan"}, 422, "option_min_dr2"),
        ({"model": "v99"}, 404, "model_unknown"),
    ],
)
def test_invalid_options_are_refused_with_code(
    app: FastAPI, tiny_files: TinyFiles, form: dict[str, str], status: int, code: str
) -> None:
    (answer,) = call(app, upload(tiny_files.target.read_bytes(), **form))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["hint"]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_samples": 5}, "too_many_samples"),
        ({"max_sites": 10}, "too_many_sites"),
        ({"max_small_samples": 5}, "use_jobs"),
        ({"max_samples": 6, "max_small_samples": 6}, None),
    ],
)
def test_upload_beyond_a_limit_is_answered_413(
    tiny_files: TinyFiles, tmp_path: Path, limits: dict[str, int], code: str | None
) -> None:
    app = real_app(tmp_path, tiny_files.bundle, **limits)
    (answer,) = call(app, upload(tiny_files.target.read_bytes()))
    if code is None:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["code"]) == (413, code)
        assert answer.json()["where"] == "mine.vcf.gz"


def test_decompression_bomb_is_refused_and_leaves_no_files(tmp_path: Path) -> None:
    app = stub_app(tmp_path, StubSource(), max_unpacked_mb=1)
    (answer,) = call(app, upload(gzip.compress(b"##fileformat=VCFv4.2\n" + b"#" * 50_000_000)))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large_unpacked")
    assert left_behind(app) == []


class Refusing:
    """A model that fails while it imputes."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, target: Path, output: Path, options: Any = None, **hooks: Any) -> Any:
        output.write_bytes(b"half")
        hooks["cancelled"]()
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("unphased", "it is not phased", hint="phase it"), 422, "unphased"),
        (OSError(28, "No space left on device"), 507, "disk_full"),
        (ZeroDivisionError("NA12878"), 500, "internal"),
    ],
)
def test_failed_imputation_leaves_no_files(tmp_path: Path, error: Exception, status: int, code: str) -> None:
    source = StubSource()
    app = stub_app(tmp_path, source)

    async def use(client: Any) -> Any:
        source.loaded[0].impute = Refusing(error)  # type: ignore[method-assign]
        return await client.post("/v1/impute", files={"file": ("m.vcf", b"text")})

    answer = with_client(app, use)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "NA12878" not in answer.text
    assert left_behind(app) == []


def test_request_beyond_the_time_limit_is_answered_503(tmp_path: Path) -> None:
    source = StubSource()
    app = stub_app(tmp_path, source, max_seconds=0.05)

    async def use(client: Any) -> Any:
        source.loaded[0].held = threading.Event()  # never set
        return await client.post("/v1/impute", files={"file": ("m.vcf", b"text")})

    answer = with_client(app, use)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_slow")


def test_request_without_file_or_with_wrong_type_is_refused(app: FastAPI) -> None:
    missing, other, text = call(
        app,
        ("POST", "/v1/impute", {}),
        ("POST", "/v1/impute", {"json": {"file": "x"}}),
        ("POST", "/v1/impute", {"data": {"file": "not a file"}}),
    )
    for answer in (missing, other, text):
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
