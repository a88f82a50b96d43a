"""The service from Python: small files imputed at once, larger ones as jobs that are watched and fetched.

    client = Client("https://impute.example.org", key)
    job = client.submit(Path("array.vcf.gz"), region="20:1000000-2000000")
    client.wait(job["id"])
    client.download(job["id"], Path("imputed.vcf.gz"))

Jobs and reports are the service's JSON, as its ``/docs`` describes it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from vcfbert.artifacts import atomic_file, output_error
from vcfbert.errors import InputError, MissingExtraError, ResourceError, VcfbertError

if TYPE_CHECKING:
    import httpx

_FIRST_PAUSE, _MAX_PAUSE, _PAUSE_GROWTH = 0.2, 10.0, 1.5  # seconds between two questions
_ANSWER_SECONDS: Final = 3600.0  # that an imputation may take to answer
# Refusals that pass by themselves, before anything was done: the same request may be sent again.
_PASSING: Final = ("rate_limited", "too_many_requests", "queue_full", "not_ready", "draining", "stopping")
_PROXY: Final = (502, 503, 504)  # answered by a proxy: no service was there
# Of failed jobs: what their upload is not to blame for.
_FAULTS: Final = (
    "disk_full", "internal", "jobs_unreachable", "not_ready", "out_of_memory", "output_not_writable",
    "registry_unavailable", "too_slow", "worker_died",
)  # fmt: skip
FORMATS: Final = ("vcf.gz", "bcf")

Report = Callable[[int, int], None]  # bytes so far, bytes in all
JobReport = Callable[[dict[str, Any]], None]  # the job as it is now


class RefusedError(InputError):
    """The service refused a request. ``qc``: the summary of the target's QC report, where it came so far."""

    qc: dict[str, Any] | None = None


class Client:
    """Calls one service. Every method raises InputError for what the service refuses, under the service's code, and
    ResourceError where it lacks something or cannot be reached.

    ``patience``: seconds in which a request that was refused for the moment is sent again, and a connection that
    failed is tried again. A target that may have been received whole is not sent twice.
    """

    _http: httpx.Client

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 60.0, patience: float = 120.0) -> None:
        httpx = _httpx()
        # What a proxy packed could not be counted, nor its rest be asked for.
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._patience = patience
        self._answer_timeout = httpx.Timeout(timeout, read=_ANSWER_SECONDS)
        try:
            address = httpx.URL(url if "//" in url else f"http://{url}")
            if address.scheme not in ("http", "https") or not address.host:
                raise ValueError("it is no http address")
            if key is not None and not (key.isascii() and key.isprintable()):
                raise ValueError("a key is one line of letters and digits")
            self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            hint = "give one such as https://impute.example.org, and a key as the operator wrote it"
            raise InputError("url_invalid", f"address or key cannot be used: {error}", where=url, hint=hint) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def models(self) -> dict[str, Any]:
        """``models`` that are served, the default one first, and those ``unavailable``."""
        return self._json("GET", "/v1/models")

    def qc(self, target: Path, *, model: str | None = None, progress: Report | None = None) -> dict[str, Any]:
        """How the target's sites match the panel; ``refused`` says why it could not be imputed, if so."""
        with self._sent(target, "/v1/qc", {"model": model}, progress) as answer:
            answer.read()
            return _body(answer)

    def impute(
        self,
        target: Path,
        out: Path,
        *,
        model: str | None = None,
        region: str | None = None,
        fields: Sequence[str] | None = None,
        min_dr2: float | None = None,
        progress: Report | None = None,
    ) -> dict[str, Any]:
        """Imputes a small target into ``out`` (.vcf.gz or .bcf) while waiting; the QC summary. The file is not
        indexed. Raises InputError 'use_jobs' for one that is not small."""
        options = {**_options(region, fields, min_dr2), "model": model, "format": format_of(out)}
        with self._sent(target, "/v1/impute", options, progress) as answer:
            with atomic_file(out) as temporary, temporary.open("wb") as handle, _told(str(answer.url)):
                for chunk in answer.iter_raw():
                    handle.write(chunk)
            qc: dict[str, Any] = json.loads(answer.headers["X-Vcfbert-Qc"])
            return qc

    def submit(
        self,
        target: Path,
        *,
        model: str | None = None,
        region: str | None = None,
        format: str = "vcf.gz",
        fields: Sequence[str] | None = None,
        min_dr2: float | None = None,
        progress: Report | None = None,
    ) -> dict[str, Any]:
        """A new job, which the service has on its disk. ``progress`` is told of the upload's bytes."""
        options = {**_options(region, fields, min_dr2), "model": model, "format": format}
        with self._sent(target, "/v1/jobs", options, progress) as answer:
            answer.read()
            return _body(answer)

    def jobs(self) -> list[dict[str, Any]]:
        """Those of this key, newest first."""
        jobs: list[dict[str, Any]] = self._json("GET", "/v1/jobs")["jobs"]
        return jobs

    def job(self, job_id: str) -> dict[str, Any]:
        """Raises InputError 'job_unknown'."""
        return self._json("GET", _path(job_id))

    def wait(self, job_id: str, *, progress: JobReport | None = None, timeout: float | None = None) -> dict[str, Any]:
        """The job when it is done. Raises what it failed of; InputError 'cancelled' or 'expired'; ResourceError
        'not_done' after ``timeout`` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        for pause in _pauses():
            job = self.job(job_id)
            if progress is not None:
                progress(job)
            if job["state"] == "done":
                return job
            if job["state"] not in ("queued", "running"):
                raise _failure(job)
            if end is not None and time.monotonic() + pause > end:
                what = f"the job is {job['state']} after {timeout:g} seconds"
                raise ResourceError("not_done", what, hint="it goes on: wait for it again")
            time.sleep(pause)
        raise AssertionError

    def download(self, job_id: str, out: Path, *, what: str = "result", progress: Report | None = None) -> Path:
        """The job's ``result`` as ``out``, or its ``result/index``, ``qc/sites`` or ``report``. What came before a
        cut is kept beside ``out``, by this call or an earlier one, and the rest is asked for."""
        part = out.with_name(f".{out.name}.{_checked_id(job_id)}.part")
        end = time.monotonic() + self._patience
        for pause in _pauses():
            before, whole = _size(part), False
            try:
                whole = self._download_once(f"{_path(job_id)}/{what}", part, progress)
            except ResourceError as error:
                if error.code != "service_unreachable" or time.monotonic() > end:
                    raise
            except OSError as error:
                raise output_error(error, out) from error
            if whole:
                with atomic_file(out) as temporary:
                    os.replace(part, temporary)
                return out
            if _size(part) > before:
                end = time.monotonic() + self._patience
            else:
                time.sleep(pause)
        raise AssertionError  # the pauses do not end

    def cancel(self, job_id: str) -> None:
        """Cancels the job, or forgets it if it has ended; its files are deleted."""
        self._request("DELETE", _path(job_id))

    def _download_once(self, path: str, part: Path, progress: Report | None) -> bool:
        """Appends what is missing; True once ``part`` is whole. Raises ResourceError where the connection is cut."""
        part.parent.mkdir(parents=True, exist_ok=True)
        have = _size(part)
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._answered(lambda: self._http.build_request("GET", path, headers=headers), again=True) as answer:
            if answer.status_code == 416:
                if answer.headers.get("Content-Range") == f"bytes */{have}":
                    return True
                part.unlink()  # of another file
                return False
            begins, total = _content_range(answer)
            if begins not in (0, have):
                raise ResourceError("answer_invalid", f"asked for byte {have}, got {begins}", where=str(answer.url))
            have = begins
            with part.open("r+b" if have else "wb") as handle, _told(str(answer.url)):
                handle.seek(have)
                for chunk in answer.iter_raw():
                    handle.write(chunk)
                    have += len(chunk)
                    if progress is not None:
                        progress(have, total)
        return have == total

    def _json(self, method: str, path: str) -> dict[str, Any]:
        return _body(self._request(method, path))

    def _request(self, method: str, path: str) -> httpx.Response:
        with self._answered(lambda: self._http.build_request(method, path), again=True) as answer, _told(path):
            answer.read()
            return answer

    @contextmanager
    def _sent(
        self, target: Path, path: str, options: dict[str, str | None], progress: Report | None
    ) -> Iterator[httpx.Response]:
        """The answer to a target and its options; its body is not read yet."""
        try:
            handle = target.open("rb")
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise InputError("file_not_found", what, where=str(target), hint="check the path") from error
        with handle:

            def build() -> httpx.Request:
                handle.seek(0)
                sent: Any = {"file": (target.name, _Counted(handle, target.stat().st_size, progress))}
                data = {name: value for name, value in options.items() if value}
                return self._http.build_request("POST", path, files=sent, data=data, timeout=self._answer_timeout)

            with self._answered(build, again=False) as answer:
                yield answer

    @contextmanager
    def _answered(self, build: Callable[[], httpx.Request], *, again: bool) -> Iterator[httpx.Response]:
        """The answer, of 2xx or 416, to what ``build`` makes for each try. ``again``: also after a connection that was
        cut, where the request may have been received."""
        httpx = _httpx()
        end = time.monotonic() + self._patience
        for pause in _pauses():
            request = build()
            try:
                answer = self._http.send(request, stream=True)
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if not (again or never_sent) or time.monotonic() + pause > end:
                    raise _unreachable(str(request.url), error) from error
                time.sleep(pause)
                continue
            try:
                if answer.is_success or answer.status_code == 416:
                    yield answer
                    return
                with _told(str(request.url)):
                    answer.read()
            finally:
                answer.close()
            refusal = _error_of(answer)
            wait = max(pause, _retry_after(answer))
            if not _passes(answer, refusal) or time.monotonic() + wait > end:
                raise refusal
            time.sleep(wait)


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, handle: BinaryIO, size: int, progress: Report | None) -> None:
        self._handle, self._size, self._progress = handle, size, progress
        self.fileno, self.tell, self.seek = handle.fileno, handle.tell, handle.seek

    def read(self, size: int = -1) -> bytes:
        data = self._handle.read(size)
        if self._progress is not None and data:
            self._progress(self._handle.tell(), self._size)
        return data


def format_of(out: Path) -> str:
    """Raises InputError 'option_format'."""
    for extension in FORMATS:
        if out.name.endswith(f".{extension}"):
            return extension
    raise InputError("option_format", "the output is neither .vcf.gz nor .bcf", where=str(out), hint="name it so")


def _options(region: str | None, fields: Sequence[str] | None, min_dr2: float | None) -> dict[str, str | None]:
    listed = ",".join(fields) if fields else None
    return {"region": region, "fields": listed, "min_dr2": None if min_dr2 is None else str(min_dr2)}


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        hint = "pip install 'vcfbert[client]'"
        raise MissingExtraError("httpx_missing", "httpx is not installed", hint=hint) from error
    return httpx


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * _PAUSE_GROWTH, _MAX_PAUSE)


def _checked_id(job_id: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", job_id):
        raise InputError("job_unknown", f"{job_id!r} is no job's id", hint="`jobs` lists them")
    return job_id


def _path(job_id: str) -> str:
    return f"/v1/jobs/{_checked_id(job_id)}"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _content_range(answer: httpx.Response) -> tuple[int, int]:
    """The first byte of the answer, and the length of the whole file."""
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if match is None:
            raise ResourceError("answer_invalid", "partial content without its range", where=str(answer.url))
        return int(match[1]), int(match[2])
    return 0, int(answer.headers["Content-Length"])


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        hint = "is this the address of a vcfbert service?"
        raise ResourceError("answer_invalid", "the answer is not a JSON object", where=str(answer.url), hint=hint)
    return body


def _error_of(answer: httpx.Response) -> VcfbertError:
    """What a problem+json says; of other answers, their status."""
    try:
        body = answer.json()
        code, what = str(body["code"]), str(body["detail"])
    except (ValueError, KeyError, TypeError):
        body, code = {}, f"http_{answer.status_code}"
        what = f"{answer.url.host} answered {answer.status_code} {answer.reason_phrase}"
    where, hint = body.get("where"), body.get("hint")
    if answer.status_code >= 500 or answer.status_code == 429:
        return ResourceError(code, what, where=where, hint=hint)
    error = RefusedError(code, what, where=where, hint=hint)
    error.qc = body.get("qc")
    return error


def _passes(answer: httpx.Response, error: VcfbertError) -> bool:
    from_proxy = error.code.startswith("http_") and answer.status_code in _PROXY
    return error.code in _PASSING or from_proxy


def _retry_after(answer: httpx.Response) -> float:
    """Seconds; 0 where there are none, or a date in place of them."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _failure(job: dict[str, Any]) -> VcfbertError:
    error = job.get("error") or {}
    code = error.get("code", job["state"])
    what = error.get("detail", f"the job {job['id']} is {job['state']}")
    kind = ResourceError if code in _FAULTS else RefusedError
    failure = kind(code, what, where=error.get("where"), hint=error.get("hint"))
    if isinstance(failure, RefusedError):
        failure.qc = job.get("qc")
    return failure


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Connections that are cut while an answer is read, as ResourceError."""
    try:
        yield
    except _httpx().TransportError as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> ResourceError:
    hint = "check address and connection, and run it again"
    return ResourceError("service_unreachable", f"the service does not answer ({error})", where=url, hint=hint)
