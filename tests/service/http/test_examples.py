"""What the documentation shows is what comes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.http import examples
from service.http.examples import problem_example
from service.jobs.schemas import JobOut
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import StubSource, call, real_app, settings, upload

ROOT = Path(__file__).parents[3]
METHODS = {"get", "post", "delete"}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(create_app(settings(tmp_path_factory.mktemp("app")), StubSource()).openapi())


def operations(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": about
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
        if path.startswith("/v1")
    }


def test_every_route_has_examples_of_request_response_and_errors(schema: dict[str, Any]) -> None:
    found = operations(schema)
    assert len(found) >= 15
    for name, about in found.items():
        if "requestBody" in about:
            for content in about["requestBody"]["content"].values():
                assert content["examples"], name
        for status, answer in about["responses"].items():
            for kind, content in answer.get("content", {}).items():
                if int(status) >= 400 and kind == "application/problem+json":
                    assert content["examples"], (name, status)
                elif kind == "application/json" and status != "422" and name != "POST /v1/impute/haplotypes":
                    reference = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
                    shown = schema["components"]["schemas"].get(reference, {}).get("examples")
                    assert content.get("examples") or shown or reference == "JobList", (name, status)
        assert {"401", "429"} <= set(about["responses"]), name


def test_form_examples_use_fields_of_the_form(schema: dict[str, Any]) -> None:
    for name, about in operations(schema).items():
        content = about.get("requestBody", {}).get("content", {}).get("multipart/form-data")
        if content is None:
            continue
        fields = schema["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["properties"]
        for example in content["examples"].values():
            assert set(example["value"]) <= set(fields), name


def test_documented_codes_are_in_the_sources_with_their_status() -> None:
    from service.http.problems import CODES, STATUS

    sources = [p for folder in ("service", "vcfbert") for p in (ROOT / folder).rglob("*.py") if p.name != "examples.py"]
    text = "\n".join(path.read_text() for path in sources)
    for code, (status, *_) in examples.PROBLEMS.items():
        assert re.search(rf"[\"']{code}[\"']", text), code
        told = STATUS.get(code) or next((s for s, name in CODES.items() if name == code and s == status), None)
        assert told in (None, status), code


def test_real_errors_have_the_members_of_their_examples(tiny_files: TinyFiles, tmp_path: Path) -> None:
    app = real_app(tmp_path, tiny_files.bundle)
    unphased, unknown, missing = call(
        app,
        upload(tiny_files.unphased.read_bytes(), "array.vcf.gz"),
        upload(tiny_files.target.read_bytes(), model="v99"),
        ("GET", "/v1/jobs/none", {}),
    )
    for answer in (unphased, unknown, missing):
        body = answer.json()
        shown = problem_example(body["code"])
        assert set(shown) == set(body)
        assert (shown["status"], shown["title"]) == (answer.status_code, body["title"])
    assert set(problem_example("unphased")["qc"]) | {"density", "chromosomes", "absent"} == set(unphased.json()["qc"])


def test_real_reports_have_the_members_of_their_examples(tiny_files: TinyFiles, tmp_path: Path) -> None:
    app = real_app(tmp_path, tiny_files.bundle)
    content = tiny_files.target.read_bytes()
    qc, imputed = call(app, upload(content, path="/v1/qc", keep="true"), upload(content))
    assert set(qc.json()) == {*examples.QC, "sites", "upload"}
    assert set(qc.json()["upload"]) == set(examples.UPLOAD)
    assert set(qc.json()["frequencies"]) == set(examples.QC["frequencies"])
    header = json.loads(imputed.headers["x-vcfbert-qc"])
    assert set(header) == set(examples.SHORT_QC)
    assert set(header["frequencies"]) == set(examples.SHORT_QC["frequencies"])


def test_job_examples_are_valid_jobs() -> None:
    from service.jobs.schemas import EXAMPLE, QUEUED

    for example in (EXAMPLE, QUEUED):
        assert JobOut.model_validate(example).id == example["id"]
