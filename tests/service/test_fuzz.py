"""Requests that the OpenAPI allows and ones that it does not, and uploads of damaged bytes: never a 500.

The examples are the same in every run.
"""

from __future__ import annotations

import gzip
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from service.app import create_app
from service.models.manager import LOADING
from tests.browser.servers import served
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import settings
from tests.helpers.vcf_text import bgzf, write_vcf

MAX_UNPACKED_MB = 2
CHECKED = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> Iterator[str]:
    """The service with a tiny bundle; no worker: jobs wait."""
    values = {"model": str(tiny_files.bundle), "rate_per_minute": 10**6, "queue_limit": 10**4, "threads": 1}
    folder = tmp_path_factory.mktemp("service")
    app = create_app(settings(folder, **values, max_unpacked_mb=MAX_UNPACKED_MB, max_samples=50, max_sites=5000))
    with served(app) as address:
        while app.state.manager.not_ready == LOADING:
            threading.Event().wait(0.02)
        yield address


# ----- Requests


def test_no_request_of_the_schema_or_against_it_fails(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) > 12
    for operation, mode in itertools.product(operations, GenerationMode):

        @hypothesis.settings(max_examples=12, **CHECKED)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            answer = case.call()
            assert answer.status_code < 500, (answer.status_code, answer.text)
            if answer.status_code >= 400 and case.method != "HEAD":
                body = answer.json()
                assert body["status"] == answer.status_code
                assert body["code"]
                assert body["detail"]

        try:
            check()
        except Unsatisfiable:  # what asks for nothing cannot be asked wrongly
            assert mode is GenerationMode.NEGATIVE
            assert operation.method != "post"


# ----- Uploads


@dataclass(frozen=True)
class Good:
    """The tiny target in every form."""

    plain: bytes
    vcf_gz: bytes
    bcf: bytes

    @property
    def forms(self) -> tuple[bytes, bytes, bytes]:
        return self.plain, self.vcf_gz, self.bcf


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> Good:
    out = tmp_path_factory.mktemp("good") / "target.bcf"
    packed = tiny_files.target.read_bytes()
    plain = gzip.decompress(packed)
    write_vcf(out, plain.decode())
    return Good(plain, packed, out.read_bytes())


Change = Callable[[bytes], bytes]
share = st.floats(0, 1, exclude_max=True)


def at(content: bytes, place: float) -> int:
    return int(place * len(content))


def flipped(place: float, mask: int, length: int) -> Change:
    def change(content: bytes) -> bytes:
        start = at(content, place)
        piece = bytes(byte ^ mask for byte in content[start : start + length])
        return content[:start] + piece + content[start + len(piece) :]

    return change


def inserted(place: float, piece: bytes) -> Change:
    return lambda content: content[: at(content, place)] + piece + content[at(content, place) :]


def moved(first: float, second: float) -> Change:
    """A piece of the content left out."""
    low, high = sorted((first, second))
    return lambda content: content[: at(content, low)] + content[at(content, high) :]


pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\t", b"\n", b"\r\n", b"\0", b"|", b"/", b".", b"-1", b"9" * 30, b"\xff\xfe", b"#CHROM\t"]),
)
changes = st.one_of(
    st.builds(lambda place: lambda content: content[: at(content, place)], share),
    st.builds(flipped, share, st.integers(1, 255), st.integers(1, 60)),
    st.builds(inserted, share, pieces),
    st.builds(moved, share, share),
    st.just(lambda content: content + content),
    st.just(gzip.compress),
)
names = st.sampled_from(
    [
        "a.vcf",
        "a.vcf.gz",
        "a.bcf",
        "a.png",
        "",
        "../../a.vcf",
        "a\0b",
        'a"b.vcf',
        "\N{LATIN SMALL LETTER E WITH ACUTE}" * 300,
    ]
)
paths = st.sampled_from(["/v1/impute", "/v1/qc", "/v1/jobs"])


def post(url: str, path: str, content: bytes, name: str = "a.vcf", **fields: str) -> httpx.Response:
    answer = httpx.post(url + path, files={"file": (name, content)}, data=fields, timeout=60)
    assert answer.status_code < 500, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        body = answer.json()
        assert body["code"]
        assert body["detail"]
        assert "/data/uploads/" not in answer.text
    return answer


@hypothesis.settings(max_examples=120, **CHECKED)
@given(form=st.integers(0, 2), edits=st.lists(changes, min_size=1, max_size=3), name=names, path=paths)
def test_damaged_files_are_answered(url: str, good: Good, form: int, edits: list[Change], name: str, path: str) -> None:
    content = good.forms[form]
    for edit in edits:
        content = edit(content)
    post(url, path, content, name)


@hypothesis.settings(max_examples=120, **CHECKED)
@given(edits=st.lists(changes, min_size=1, max_size=2), path=paths)
def test_damage_below_the_compression_is_answered(url: str, good: Good, edits: list[Change], path: str) -> None:
    """What the checksums of BGZF do not catch."""
    content = gzip.decompress(good.bcf)
    for edit in edits:
        content = edit(content)
    post(url, path, bgzf(content))


fields_of_records = st.tuples(st.integers(0, 30), st.integers(0, 12), pieces.filter(lambda piece: b"\n" not in piece))


@hypothesis.settings(max_examples=120, **CHECKED)
@given(edits=st.lists(fields_of_records, min_size=1, max_size=3), path=paths)
def test_strange_fields_are_answered(url: str, good: Good, edits: list[tuple[int, int, bytes]], path: str) -> None:
    lines = good.plain.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(b"#CHROM"))
    for row, column, value in edits:
        cells = lines[(first + row) % len(lines)].split(b"\t")
        cells[column % len(cells)] = value
        lines[(first + row) % len(lines)] = b"\t".join(cells)
    post(url, path, b"\n".join(lines) + b"\n")


regions = st.sampled_from(["20:0-0", "20:9-1", "20", "20:-1-5", "20:1-" + "9" * 30])
numbers = st.sampled_from(["nan", "inf", "-0", "1e-400", "1e400", "0.5"])
written_options = st.fixed_dictionaries(
    {},
    optional={
        "region": st.text(max_size=20) | regions,
        "format": st.text(max_size=8),
        "fields": st.text(max_size=10) | st.sampled_from(["GT", "gt,gt", ",,", "GT,XX", "GP,DS"]),
        "min_dr2": st.text(max_size=6) | numbers,
        "model": st.text(max_size=10),
    },
)


@hypothesis.settings(max_examples=60, **CHECKED)
@given(options=written_options, path=st.sampled_from(["/v1/impute", "/v1/jobs"]))
def test_strange_options_are_answered(url: str, good: Good, options: dict[str, str], path: str) -> None:
    encodable = {name: value.encode("utf-8", "ignore").decode() for name, value in options.items()}
    post(url, path, good.plain, **encodable)


@pytest.mark.parametrize("path", ["/v1/impute", "/v1/qc"])
def test_bombs_are_refused_as_they_unpack(url: str, good: Good, path: str) -> None:
    zeros = bytes(4 * MAX_UNPACKED_MB * 1_000_000)
    long_record = good.plain + b"20\t5\t" + zeros + b"\n"
    bombs = {
        "zeros": gzip.compress(zeros),
        "twice packed": gzip.compress(gzip.compress(zeros)),
        "after a good file": good.vcf_gz + gzip.compress(zeros),
        "in a record": gzip.compress(long_record),
        "many members": gzip.compress(zeros[: len(zeros) // 100]) * 100,
    }
    for name, content in bombs.items():
        answer = post(url, path, content)
        refused = answer.json().get("refused", answer.json())
        allowed = {"too_large_unpacked"} if name != "twice packed" else {"too_large_unpacked", "not_vcf"}
        assert refused["code"] in allowed, (name, answer.text)


def test_caps_of_samples_and_sites(url: str, good: Good) -> None:
    lines = good.plain.splitlines()
    columns = next(number for number, line in enumerate(lines) if line.startswith(b"#CHROM"))
    names = [b"S%d" % number for number in range(51)]
    wide = b"\t".join(lines[columns].split(b"\t")[:9] + names)
    records = [b"\t".join(line.split(b"\t")[:9] + [b"0|1"] * 51) for line in lines[columns + 1 :]]
    many_samples = b"\n".join([*lines[:columns], wide, *records]) + b"\n"
    assert post(url, "/v1/impute", many_samples).json()["code"] == "too_many_samples"
    many_sites = b"\n".join([*lines[: columns + 1], *[lines[-1]] * 5001]) + b"\n"
    assert post(url, "/v1/impute", many_sites).json()["code"] == "too_many_sites"


def test_bodies_that_are_no_form(url: str) -> None:
    form = "multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="file"'
    bodies = [
        (b"", form),
        (b"--x--\r\n", form),
        (b"--x\r\n\r\n", form),
        (b"\r\n" * 1000, form),
        (part + b'; filename="a"\r\n\r\n', form),
        (part + b"\r\n\r\nabc\r\n--x--\r\n", form),
        (b"\xff" * 99, "multipart/form-data"),
        (b"{}", "application/json"),
        (b"", ""),
    ]
    for path, (body, kind) in itertools.product(("/v1/impute", "/v1/qc", "/v1/jobs", "/v1/impute/haplotypes"), bodies):
        answer = httpx.post(url + path, content=body, headers={"Content-Type": kind} if kind else {}, timeout=60)
        assert 400 <= answer.status_code < 500, (path, body, answer.text)
        assert answer.json()["code"]
