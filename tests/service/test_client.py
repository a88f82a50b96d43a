"""The client and `vcfbert remote`, with the real service on loopback."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pysam
import pytest

from service.app import create_app
from service.models.manager import LOADING
from tests.browser.servers import served
from tests.helpers.command_line import Outcome, TinyFiles, finished, process, vcfbert
from tests.helpers.refusals import edited, set_calls
from tests.helpers.service import API_KEYS, KEYS, settings
from vcfbert.client import Client, RefusedError
from vcfbert.errors import InputError, VcfbertError


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> Iterator[str]:
    """The service and its worker, with a tiny bundle and two keys."""
    folder = tmp_path_factory.mktemp("service")
    values = {"model": str(tiny_files.bundle), "embedded_worker": True, "api_keys": API_KEYS, "threads": 1}
    app = create_app(settings(folder, **values, max_small_samples=6, log_json=False, drain_seconds=1))
    with served(app) as address:
        while app.state.manager.not_ready == LOADING:
            threading.Event().wait(0.02)
        assert app.state.manager.not_ready is None
        yield address


@pytest.fixture
def ann(url: str) -> Iterator[Client]:
    with Client(url, KEYS["ann"], patience=5.0) as client:
        yield client


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> list[str]:
    """Records that the command line writes for the tiny target."""
    out = tmp_path_factory.mktemp("expected") / "out.vcf.gz"
    done = vcfbert("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--out", out)
    assert done.code == 0, done.err
    return records(out)


@pytest.fixture(scope="module")
def unphased(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> Path:
    """A target that V18 refuses, with a QC report."""
    out = tmp_path_factory.mktemp("bad") / "unphased.vcf.gz"
    return edited(tiny_files.target, out, set_calls(lambda call: call.replace("|", "/")))


def raises(kind: type[VcfbertError], code: str) -> Any:
    return pytest.raises(kind, check=lambda error: error.code == code)


def records(path: Path) -> list[str]:
    return [line for line in gzip.decompress(path.read_bytes()).decode().splitlines() if not line.startswith("#")]


def remote(url: str, command: str, *arguments: object) -> Outcome:
    """Runs `vcfbert` in another process, because the service in this one logs to the same streams."""
    return finished(process("remote", command, *arguments, "--url", url, "--key", KEYS["ann"]))


def test_impute_equals_the_command_line(
    ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    qc = ann.impute(tiny_files.target, tmp_path / "out.vcf.gz", progress=lambda *seen: told.append(seen))
    assert records(tmp_path / "out.vcf.gz") == expected
    assert qc["n_samples"] == 6
    size = tiny_files.target.stat().st_size
    assert told[-1] == (size, size)
    assert [path.name for path in tmp_path.iterdir()] == ["out.vcf.gz"]


def test_impute_passes_its_options_to_the_service(
    ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    first, last = (int(line.split("\t")[1]) for line in (expected[10], expected[20]))
    out = tmp_path / "out.bcf"
    ann.impute(tiny_files.target, out, region=f"20:{first}-{last}", fields=["GT", "DS"], min_dr2=0.0)
    with pysam.VariantFile(str(out)) as handle:
        found = list(handle)
        assert (found[0].pos, found[-1].pos) == (first, last)
        assert set(found[0].format) == {"GT", "DS"}


def test_job_is_submitted_watched_downloaded_and_deleted(
    ann: Client, url: str, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    job = ann.submit(tiny_files.target)
    assert job["id"] in [each["id"] for each in ann.jobs()]
    states: list[str] = []
    done = ann.wait(job["id"], progress=lambda each: states.append(each["state"]))
    assert states[-1] == "done"
    assert done["progress"]["share"] == 1
    told: list[tuple[int, int]] = []
    out = ann.download(job["id"], tmp_path / "out.vcf.gz", progress=lambda *seen: told.append(seen))
    ann.download(job["id"], tmp_path / "out.vcf.gz.tbi", what="result/index")
    assert records(out) == expected
    assert told[-1] == (out.stat().st_size,) * 2
    with pysam.TabixFile(str(out)) as indexed:
        assert list(indexed.fetch("20")) == expected
    assert {path.name for path in tmp_path.iterdir()} == {"out.vcf.gz", "out.vcf.gz.tbi"}
    with Client(url, KEYS["bob"]) as bob, raises(InputError, "job_unknown"):
        bob.job(job["id"])
    ann.cancel(job["id"])
    with raises(InputError, "job_unknown"):
        ann.wait(job["id"])


def test_download_completes_a_partial_file(
    ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    job = ann.wait(ann.submit(tiny_files.target)["id"])
    whole = ann.download(job["id"], tmp_path / "whole.vcf.gz").read_bytes()
    for have in (1, len(whole) // 2, len(whole)):
        part = tmp_path / f".out.vcf.gz.{job['id']}.part"
        part.write_bytes(whole[:have])
        told: list[int] = []
        out = ann.download(
            job["id"], tmp_path / "out.vcf.gz", progress=lambda done, total, told=told: told.append(done)
        )
        assert out.read_bytes() == whole
        assert min(told, default=len(whole)) > have or (have == len(whole) and told == [])
        assert not part.exists()
    (tmp_path / f".long.vcf.gz.{job['id']}.part").write_bytes(whole + b"more than there is")
    assert ann.download(job["id"], tmp_path / "long.vcf.gz").read_bytes() == whole


def test_refusal_has_the_services_code_hint_and_place(
    ann: Client, url: str, tiny_files: TinyFiles, unphased: Path, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError) as refused:
        ann.impute(unphased, tmp_path / "out.vcf.gz")
    assert refused.value.code == "unphased"
    assert refused.value.hint
    assert refused.value.qc is not None
    assert refused.value.qc["phased_share"] < 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RefusedError) as failed:
        ann.wait(ann.submit(unphased)["id"])
    assert (failed.value.code, failed.value.hint) == (refused.value.code, refused.value.hint)
    assert failed.value.qc is not None
    (tmp_path / "cut.vcf.gz").write_bytes(tiny_files.target.read_bytes()[:-28])
    with pytest.raises(RefusedError) as cut:
        ann.impute(tmp_path / "cut.vcf.gz", tmp_path / "out.vcf.gz")
    assert "cut.vcf.gz" in (cut.value.where or "")
    with raises(InputError, "model_unknown"):
        ann.submit(tiny_files.target, model="other")
    for name, code in (("../../models", "job_unknown"), ("0" * 32, "job_unknown")):
        with raises(InputError, code):
            ann.job(name)
    with Client(url, "wrong") as stranger, raises(InputError, "unauthorized"):
        stranger.models()


def test_invalid_arguments_are_refused_before_any_request(ann: Client, tiny_files: TinyFiles, tmp_path: Path) -> None:
    with raises(InputError, "file_not_found"):
        ann.qc(tmp_path / "none.vcf.gz")
    with raises(InputError, "option_format"):
        ann.impute(tiny_files.target, tmp_path / "out.vcf")
    for url, key in (
        ("ftp://host", None),
        ("http://", None),
        ("http://host:port", None),
        ("http://host", "two\nlines"),
    ):
        with raises(InputError, "url_invalid"):
            Client(url, key)


def test_qc_and_models_return_the_services_answers(ann: Client, tiny_files: TinyFiles, unphased: Path) -> None:
    assert "refused" not in ann.qc(tiny_files.target)
    assert ann.qc(unphased)["refused"]["code"] == "unphased"
    (model,) = ann.models()["models"]
    assert (model["alias"], model["variant"], model["n_sites"]) == ("default", "v18", 300)


def test_remote_impute_equals_the_command_line(
    url: str, ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    out, report = tmp_path / "out.vcf.gz", tmp_path / "qc.json"
    done = remote(url, "impute", "--target", tiny_files.target, "--out", out, "--qc-report", report, "--json")
    assert done.code == 0, done.err
    assert records(out) == expected
    assert done.json["qc"] == json.loads(report.read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"out.vcf.gz", "out.vcf.gz.tbi", "qc.json"}
    job_id = done.err.split()[1]
    assert job_id not in [job["id"] for job in ann.jobs()]


def test_remote_lists_fetches_and_cancels_jobs(
    url: str, ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.vcf.gz"
    kept = remote(url, "impute", "--target", tiny_files.target, "--out", out, "--keep")
    job_id = kept.err.split()[1]
    assert kept.out.startswith("6 samples, ")
    assert f"{job_id}  " in remote(url, "jobs").out
    again = tmp_path / "again.vcf.gz"
    assert remote(url, "fetch", job_id, "--out", again).out == f"{again}\n"
    assert records(again) == expected
    assert "option_format" in remote(url, "fetch", job_id, "--out", tmp_path / "out.bcf").err
    assert remote(url, "jobs", "--cancel", job_id).code == 0
    assert job_id not in remote(url, "jobs").out
    assert "default  version " in remote(url, "models").out


def test_remote_refusal_exits_with_2_after_the_report(url: str, unphased: Path, tmp_path: Path) -> None:
    report = tmp_path / "qc.json"
    checked = remote(url, "qc", "--target", unphased, "--json", report)
    assert (checked.code, json.loads(report.read_text())["refused"]["code"]) == (2, "unphased")
    assert "phased_share" in checked.out
    report.unlink()
    imputed = remote(url, "impute", "--target", unphased, "--out", tmp_path / "out.vcf.gz", "--qc-report", report)
    assert imputed.code == 2
    assert "error [unphased]" in imputed.err
    assert "hint" in imputed.err
    assert json.loads(report.read_text())["phased_share"] < 1
    assert [path.name for path in tmp_path.iterdir()] == ["qc.json"]


def test_key_comes_from_a_file_or_the_environment(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(KEYS["ann"] + "\n")
    assert finished(process("remote", "models", "--url", url, "--key-file", tmp_path / "key")).code == 0
    assert "file_not_found" in finished(process("remote", "models", "--url", url, "--key-file", tmp_path / "no")).err
    assert "unauthorized" in finished(process("remote", "models", "--url", url)).err
    monkeypatch.setenv("VCFBERT_URL", url)
    monkeypatch.setenv("VCFBERT_KEY", KEYS["bob"])
    assert finished(process("remote", "models")).code == 0
