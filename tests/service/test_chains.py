"""Uploads of another genome build: lifted over by a chain file that the service offers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pysam
import pytest
from fastapi import FastAPI

from service.jobs.files import JobFiles
from service.jobs.run import JobRunner, LoadedModels
from service.jobs.store import open_table
from service.models.bundles import BundleSource
from service.uploads.files import check_upload, open_parsers
from tests.helpers.chains import Block, chain_text, moved_vcf, write_chain
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import call, real_app, upload


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    return write_chain(tmp_path / "b.chain.gz", chain_text([Block(5_000, 2_000_000, 0)]))


@pytest.fixture
def app(tiny_files: TinyFiles, tmp_path: Path, chain: Path) -> FastAPI:
    return real_app(tmp_path, tiny_files.bundle, chains=f"other={chain}")


@pytest.fixture
def other(tiny_files: TinyFiles) -> bytes:
    """The target in another build, with one site that cannot be lifted."""
    with pysam.VariantFile(str(tiny_files.target)) as target:
        text = str(target.header) + "".join(map(str, target))
    moved = moved_vcf(text, [Block(0, 2_000_000, 5_000)])
    first = next(line for line in moved.splitlines() if not line.startswith("#")).split("\t")
    return moved.replace("\t".join(first), "\t".join(["20", "100", *first[2:]]) + "\n" + "\t".join(first)).encode()


def records(content: bytes) -> list[bytes]:
    return [line for line in gzip.decompress(content).splitlines() if not line.startswith(b"##")]


def test_models_list_the_offered_chain_files(app: FastAPI) -> None:
    (answer,) = call(app, ("GET", "/v1/models", {}))
    assert answer.json()["chains"] == ["other"]


def test_upload_of_another_build_is_lifted_by_the_named_chain(
    app: FastAPI, tiny_files: TinyFiles, other: bytes
) -> None:
    lifted, ours, checked = call(
        app,
        upload(other, "t.vcf", chain="other"),
        upload(tiny_files.target.read_bytes()),
        upload(other, "t.vcf", path="/v1/qc", chain="other"),
    )
    assert lifted.status_code == ours.status_code == 200
    assert records(lifted.content) == records(ours.content)
    assert json.loads(lifted.headers["x-vcfbert-qc"])["lift"] == {"lifted": 17, "no_block": 1}
    assert checked.json()["lift"] == {"lifted": 17, "no_block": 1}
    assert [note["status"] for note in checked.json()["sites"]] == ["unlifted"]
    assert "refused" not in checked.json()


def test_refusal_says_which_chain_files_are_offered(app: FastAPI, other: bytes) -> None:
    imputed, checked = call(app, upload(other, "t.vcf"), upload(other, "t.vcf", path="/v1/qc"))
    assert imputed.status_code == 422
    assert imputed.json()["code"] in ("no_overlap", "wrong_build")
    assert imputed.json()["hint"].endswith("choose a chain file (field `chain`): other")
    assert checked.json()["refused"]["hint"] == imputed.json()["hint"]


@pytest.mark.parametrize("path", ["/v1/impute", "/v1/qc", "/v1/jobs"])
def test_unknown_chain_is_refused_with_the_names(app: FastAPI, other: bytes, path: str) -> None:
    (answer,) = call(app, upload(other, "t.vcf", path=path, chain="../b.chain"))
    assert (answer.status_code, answer.json()["code"]) == (422, "chain_unknown")
    assert "names: other" in answer.json()["hint"]


def test_broken_chain_is_named_without_its_path(app: FastAPI, other: bytes, chain: Path) -> None:
    chain.write_text("chain of nothing\n")
    answers = call(app, upload(other, "t.vcf", chain="other"), upload(other, "t.vcf", path="/v1/qc", chain="other"))
    assert answers[0].status_code == 422
    for problem in (answers[0].json(), answers[1].json()["refused"]):
        assert (problem["code"], problem["where"]) == ("chain_invalid", "chain file other")
        assert str(chain.parent) not in json.dumps(problem)


def test_job_lifts_by_the_chain_file_of_its_name(app: FastAPI, other: bytes, tiny_files: TinyFiles) -> None:
    accepted, unknown, ours = call(
        app,
        upload(other, "t.vcf", path="/v1/jobs", chain="other"),
        upload(other, "t.vcf", path="/v1/jobs"),
        upload(tiny_files.target.read_bytes()),
    )
    assert accepted.json()["options"]["chain"] == "other"
    run_jobs(app, [accepted.json()["id"], unknown.json()["id"]])
    location = accepted.headers["location"]
    done, failed, result = call(
        app, ("GET", location, {}), ("GET", unknown.headers["location"], {}), ("GET", f"{location}/result", {})
    )
    assert done.json()["state"] == "done"
    assert done.json()["qc"]["lift"] == {"lifted": 17, "no_block": 1}
    assert failed.json()["error"]["hint"].endswith("(field `chain`): other")
    assert records(result.content) == records(ours.content)


def run_jobs(app: FastAPI, ids: list[str]) -> None:
    settings: Any = app.state.settings
    parsers = open_parsers(settings)
    runner = JobRunner(
        open_table(settings),
        JobFiles(settings.data),
        LoadedModels(BundleSource(settings, lambda *_: None)),
        worker="here",
        max_seconds=60.0,
        stale_seconds=60.0,
        parsers=parsers,
        chains=settings.chain_files,
        check_upload=lambda target, parser, check: check_upload(target, settings, parser, check),
        observe=lambda *_: None,
        end_process=lambda: None,
    )
    for job in ids:
        runner.run(job)
    parsers.close()
