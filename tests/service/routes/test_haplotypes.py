"""Haplotypes as JSON: dosages as the command line's, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest
from fastapi import FastAPI

from service.routes import haplotypes as route
from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.service import call, real_app

PATH = "/v1/impute/haplotypes"


@pytest.fixture
def app(tiny_files: TinyFiles, tmp_path: Path) -> FastAPI:
    return real_app(tmp_path, tiny_files.bundle)


@pytest.fixture(scope="module")
def sent(tiny_files: TinyFiles) -> dict[str, Any]:
    """The twelve haplotypes of the targets."""
    with pysam.VariantFile(str(tiny_files.target)) as file:
        records = list(file)
    sites = [{"pos": r.pos, "ref": r.ref, "alt": r.alts[0]} for r in records if r.alts]
    alleles = np.array([[call["GT"] for call in r.samples.values()] for r in records if r.alts])
    return {"sites": sites, "haplotypes": alleles.reshape(len(sites), -1).T.tolist()}


def post(app: FastAPI, body: Any) -> Any:
    return call(app, ("POST", PATH, {"json": body}))[0]


def test_haplotype_dosages_equal_those_of_the_command_line(
    app: FastAPI, sent: dict[str, Any], tiny_files: TinyFiles, tmp_path: Path
) -> None:
    out = tmp_path / "out.vcf.gz"
    vcfbert("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--out", out, "--threads", 1)
    answer = post(app, sent)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    place = {(s["pos"], s["ref"], s["alt"]): i for i, s in enumerate(body["sites"])}
    found = np.array(body["dosages"])
    assert found.shape == (12, len(place))
    compared = 0
    with pysam.VariantFile(str(out)) as file:
        for record in file:
            if len(record.alts or ()) > 1:
                continue
            i = place[record.pos, record.ref, record.alts[0]]
            expected = np.array([call["HDS"] for call in record.samples.values()]).reshape(-1)
            np.testing.assert_allclose(found[:, i], expected, atol=1e-6)
            assert body["sites"][i]["typed"] == record.info.get("TYPED", False)
            compared += 1
    assert compared > 200
    assert body["model"]["alias"] == "default"
    assert body["chrom"] == "20"
    assert body["qc"]["n_haploid"] == body["qc"]["n_samples"] == 12


def test_haplotype_dosages_ignore_site_order_case_and_other_haplotypes(app: FastAPI, sent: dict[str, Any]) -> None:
    turned = {
        "chrom": "chr20",
        "sites": [{"pos": s["pos"], "ref": s["ref"].lower(), "alt": s["alt"]} for s in reversed(sent["sites"])],
        "haplotypes": [h[::-1] for h in sent["haplotypes"][:3]],
    }
    whole, few = call(app, *(("POST", PATH, {"json": body}) for body in (sent, turned)))
    assert few.json()["sites"] == whole.json()["sites"]
    np.testing.assert_allclose(few.json()["dosages"], whole.json()["dosages"][:3], atol=1.1e-3)


def test_haplotypes_with_region_min_dr2_and_missing_alleles(app: FastAPI, sent: dict[str, Any]) -> None:
    haplotypes = [list(h) for h in sent["haplotypes"]]
    for haplotype in haplotypes:
        haplotype[2] = None
    body = {**sent, "haplotypes": haplotypes, "region": "20:1010000-1060000", "min_dr2": 0.5}
    found = post(app, body).json()
    assert all(1_010_000 <= s["pos"] <= 1_060_000 for s in found["sites"])
    whole = post_again(app, {**body, "min_dr2": 0.0})
    assert 0 < len(found["sites"]) < len(whole["sites"])
    missing = sent["sites"][2]["pos"]
    assert not any(s["typed"] for s in whole["sites"] if s["pos"] == missing)
    typed = {s["pos"] for s in whole["sites"] if s["typed"]}
    assert typed == {s["pos"] for s in found["sites"] if s["typed"]}


def post_again(app: FastAPI, body: Any) -> Any:
    """By an application of its own: one that was stopped does not start again."""
    from service.app import create_app

    return post(create_app(app.state.settings), body).json()


GOOD = {"pos": 1_000_000, "ref": "A", "alt": "G"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"haplotypes": [[0]]}, 422, "haplotype_length"),
        ({"haplotypes": []}, 422, "request_invalid"),
        ({"haplotypes": [[2] * 17]}, 422, "request_invalid"),
        ({"haplotypes": [["0"] * 17]}, 422, "request_invalid"),
        ({"haplotypes": [0]}, 422, "request_invalid"),
        ({"haplotypes": [[0] * 17] * 1001}, 422, "request_invalid"),
        ({"sites": [GOOD, GOOD], "haplotypes": [[0, 0]]}, 422, "duplicate_records"),
        ({"sites": [{**GOOD, "pos": 0}], "haplotypes": [[0]]}, 422, "request_invalid"),
        ({"sites": [{**GOOD, "pos": 2**40}], "haplotypes": [[0]]}, 422, "request_invalid"),
        ({"sites": [{**GOOD, "alt": "<DEL>"}], "haplotypes": [[0]]}, 422, "request_invalid"),
        ({"sites": [{**GOOD, "pos": 5}], "haplotypes": [[0]]}, 422, "no_overlap"),
        ({"chrom": "21"}, 422, "no_overlap"),
        ({"region": "20:9-3"}, 422, "region_invalid"),
        ({"region": "20:1-2"}, 422, "region_empty"),
        ({"min_dr2": 3}, 422, "request_invalid"),
        ({"model": "v99"}, 404, "model_unknown"),
        ({"haplotype": []}, 422, "request_invalid"),
    ],
)
def test_invalid_haplotypes_are_refused_with_code(
    app: FastAPI, sent: dict[str, Any], change: Any, status: int, code: str
) -> None:
    answer = post(app, {**sent, **change})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["hint"]
    assert len(answer.text) < 2000
    assert ("qc" in answer.json()) == (code == "no_overlap")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[[[[" * 20_000, b"NaN", b'{"sites": 1e999}', b"\xff\xfe", b'"' + b"9" * 9999]
)
def test_body_that_is_not_json_is_refused(app: FastAPI, text: bytes) -> None:
    (answer,) = call(app, ("POST", PATH, {"content": text, "headers": {"content-type": "application/json"}}))
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == "request_invalid"


def test_oversized_requests_and_responses_are_refused(
    app: FastAPI, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "MAX_CELLS", 300 * 11)
    long, many = call(
        app,
        ("POST", PATH, {"content": b"[" + b" " * 20_000_000, "headers": {"content-type": "application/json"}}),
        ("POST", PATH, {"json": sent}),
    )
    assert (long.status_code, long.json()["code"]) == (413, "too_large")
    assert (many.status_code, many.json()["code"]) == (413, "use_jobs")


def test_documented_haplotype_examples_are_valid(app: FastAPI) -> None:
    from service.uploads.haplotypes import EXAMPLE, EXAMPLE_ANSWER, Haplotypes, ImputedHaplotypes

    Haplotypes.model_validate(EXAMPLE)
    ImputedHaplotypes.model_validate(EXAMPLE_ANSWER)
    content = app.openapi()["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["two haplotypes"]["value"] == EXAMPLE


def test_time_limit_of_requests_holds_for_haplotypes(
    sent: dict[str, Any], tiny_files: TinyFiles, tmp_path: Path
) -> None:
    answer = post(real_app(tmp_path, tiny_files.bundle, max_seconds=1e-6), sent)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_slow")
