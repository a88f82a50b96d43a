"""The generated page of error codes against the codes that the sources answer with."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.app import create_app
from service.http import examples, problems
from tests.helpers.service import StubSource, call, settings

ROOT = Path(__file__).parents[3]
# How sources write a code: as the first argument of an error or of `_error`, after the status of a problem, or as a
# member of a job's error. The page finds codes by syntax trees, so this is another way to the same list.
WRITTEN = re.compile(
    r"""(?:Error|_error|__init__)\(\s*"([a-z_]+)"|problem\(\s*\d+,\s*"([a-z_]+)"|"code": "([a-z_]+)\""""
)


@pytest.fixture(scope="module")
def page() -> Mapping[str, list[str]]:
    """Code -> texts of the page that `docs/hooks.py` writes."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text: str = hooks.errors_page()
    rows = re.findall(r"^\| `([a-z_0-9{}.]+)` \| (.*) \|$", text, flags=re.MULTILINE)
    return {code: [each for each in texts.split("<br>") if each] for code, texts in rows}


def test_page_names_every_code_of_the_api_documentation(page: Mapping[str, list[str]], tmp_path: Path) -> None:
    documented = set(examples.PROBLEMS)
    schema = create_app(settings(tmp_path), StubSource()).openapi()
    shown = set(re.findall(r"'code': '([a-z_0-9]+)'", str(schema)))
    assert documented <= shown | {"draining"}
    assert (documented | shown) - set(page) == set()


def test_page_names_every_code_with_a_status_of_its_own(page: Mapping[str, list[str]]) -> None:
    assert {*problems.CODES.values(), *problems.STATUS, "http_error", "internal"} - set(page) == set()


def test_page_names_every_code_that_sources_write(page: Mapping[str, list[str]]) -> None:
    written = {
        code
        for folder in ("service", "vcfbert")
        for path in (ROOT / folder).rglob("*.py")
        for match in WRITTEN.finditer(path.read_text())
        for code in match.groups()
        if code
    }
    assert {"worker_died", "too_slow", "queue_full", "rate_limited", "draining", "too_many_samples"} <= written
    assert written - set(page) == set()


@pytest.mark.parametrize("code", ["bundle_hash", "bundle_damaged", "bundle_format", "panel_missing"])
def test_page_names_codes_that_begin_with_the_kind_of_artifact(page: Mapping[str, list[str]], code: str) -> None:
    assert page[code] != []


def test_page_names_codes_of_real_answers(page: Mapping[str, list[str]], tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), StubSource())
    answers = call(
        app,
        ("GET", "/v1/none", {}),
        ("PUT", "/v1/models", {}),
        ("GET", "/v1/jobs/none", {}),
        ("POST", "/v1/impute", {}),
        ("GET", "http://10.0.0.5/v1/models", {}),
    )
    codes = [answer.json()["code"] for answer in answers]
    assert codes == ["not_found", "method_not_allowed", "job_unknown", "request_invalid", "closed"]
    assert set(codes) <= set(page)
