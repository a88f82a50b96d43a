"""Dry runs over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.refusals import Lines, edited, set_field
from tests.helpers.service import call, real_app, upload
from vcfbert.errors import InputError


@pytest.fixture
def app(tiny_files: TinyFiles, tmp_path: Path) -> FastAPI:
    return real_app(tmp_path, tiny_files.bundle, max_samples=6)


def test_qc_report_equals_that_of_the_command_line(app: FastAPI, tiny_files: TinyFiles, tmp_path: Path) -> None:
    def exchange(records: Lines) -> None:
        for record in records[3:5]:
            record[3], record[4] = record[4], record[3]

    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", exchange)
    report = tmp_path / "qc.json"
    assert vcfbert("qc", "--model", tiny_files.bundle, "--target", target, "--json", report).code == 0
    (answer,) = call(app, upload(target.read_bytes(), path="/v1/qc"))
    assert answer.status_code == 200
    found = answer.json()
    notes = found.pop("sites")
    assert "refused" not in found
    table = [line.split("\t") for line in report.with_suffix(".tsv").read_text().splitlines()]
    assert [[str(value) for value in note.values()] for note in notes] == table[1:]
    assert list(notes[0]) == table[0]
    swapped = [note["status"] for note in notes].count("swapped")
    assert found["n_swapped"] == swapped > 0
    assert sum(stretch["typed"] for stretch in found["density"]) == found["n_used"] == 17
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_qc_of_refused_file_has_a_report_if_it_was_read(app: FastAPI, tiny_files: TinyFiles) -> None:
    unphased, none = call(
        app,
        upload(tiny_files.unphased.read_bytes(), path="/v1/qc"),
        upload(b"no vcf", "theirs.txt", path="/v1/qc"),
    )
    assert unphased.json()["refused"]["code"] == "unphased"
    assert unphased.json()["n_used"] == 17
    assert none.status_code == 200
    assert set(none.json()) == {"refused"}
    assert none.json()["refused"]["code"] == "not_vcf"
    assert none.json()["refused"]["where"] == "theirs.txt"


def test_qc_report_lists_at_most_a_thousand_sites(app: FastAPI, tiny_files: TinyFiles, tmp_path: Path) -> None:
    def many(records: Lines) -> None:
        first = int(records[-1][1])
        records += [
            [r[0], str(first + 1 + i), ".", "A", "C", *records[0][5:]] for i, r in enumerate([records[0]] * 1500)
        ]

    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", many)
    (answer,) = call(app, upload(target.read_bytes(), path="/v1/qc"))
    assert len(answer.json()["sites"]) == 1000
    assert answer.json()["n_target_sites"] > 1500


def test_qc_beyond_limits_or_with_unknown_model_is_refused(app: FastAPI, tiny_files: TinyFiles, tmp_path: Path) -> None:
    seven = edited(
        tiny_files.target,
        tmp_path / "seven.vcf.gz",
        lambda records: [[*record, record[9]] for record in records],
        header=lambda line: f"{line}\tseventh" if line.startswith("#CHROM") else line,
    )
    many, unknown, known = call(
        app,
        upload(seven.read_bytes(), path="/v1/qc"),
        upload(tiny_files.target.read_bytes(), path="/v1/qc", model="v99"),
        upload(tiny_files.target.read_bytes(), path="/v1/qc", model="default"),
    )
    assert (many.status_code, many.json()["code"]) == (413, "too_many_samples")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_unknown")
    assert known.status_code == 200


def test_sample_names_are_not_logged(
    app: FastAPI,
    tiny_files: TinyFiles,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = edited(tiny_files.target, tmp_path / "t.vcf.gz", set_field(2, 9, "1"))  # a refusal that names the sample
    content = target.read_bytes()
    answers = call(app, upload(content, path="/v1/qc", strict="true"), upload(content, strict="true"))
    assert all("NA06989" in answer.text for answer in answers)
    told = capfd.readouterr()
    assert "NA06989" not in told.out + told.err + caplog.text


def test_refusal_of_a_qc_report_names_no_other_path(
    app: FastAPI, tiny_files: TinyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(imputer: object, target: Path, **_: object) -> None:
        raise InputError("not_vcf", f"{target} is odd", where=f"{target}: line 3", hint=f"see {target.parent}/other")

    monkeypatch.setattr("vcfbert.imputation.files.check_target", refuse)
    (answer,) = call(app, upload(tiny_files.target.read_bytes(), "theirs.vcf", path="/v1/qc"))
    refused = {"code": "not_vcf", "detail": "theirs.vcf is odd", "where": "theirs.vcf: line 3"}
    assert answer.json() == {"refused": refused}
