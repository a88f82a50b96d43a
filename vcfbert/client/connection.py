"""Requests to one service over HTTP, repeated after temporary failures. ``client`` builds its calls from them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from vcfbert.client.failures import answer_error, is_temporary, retry_after, unreachable
from vcfbert.client.shapes import Shape, misfit
from vcfbert.errors import InputError, MissingExtraError, ResourceError

if TYPE_CHECKING:
    import httpx

_FIRST_PAUSE, _MAX_PAUSE, _PAUSE_GROWTH = 0.2, 10.0, 1.5  # seconds between two requests
_ANSWER_SECONDS: Final = 3600.0  # maximum time to wait for the answer to an uploaded target
# An answer that is not a file ends within these limits. A server that sends it byte by byte meets no other one.
_MAX_ANSWER_BYTES: Final = 256_000_000
_READ_SECONDS: Final = 600.0

ByteProgress = Callable[[int, int], None]  # bytes so far, total bytes


class Connection:
    """Sends requests to one service. Raises InputError where the service refuses a request, and ResourceError where
    it lacks something or cannot be reached.

    ``patience``: seconds during which a request is repeated after a temporary refusal or a failed connection.
    """

    _http: httpx.Client

    def __init__(self, url: str, key: str | None, *, timeout: float, patience: float) -> None:
        httpx = _httpx()
        # A body that a proxy compressed could neither be counted nor resumed.
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self.patience = patience
        self._answer_timeout = httpx.Timeout(timeout, read=_ANSWER_SECONDS)
        try:
            address = httpx.URL(url if "//" in url else f"http://{url}")
            if address.scheme not in ("http", "https") or not address.host:
                raise ValueError("it is not an http address")
            if key is not None and not (key.isascii() and key.isprintable()):
                raise ValueError("a key is one line of ASCII characters")
            self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            hint = "give an address such as https://impute.example.org, and the key as the operator wrote it"
            raise InputError("url_invalid", f"address or key cannot be used: {error}", where=url, hint=hint) from None

    @property
    def url(self) -> str:
        return str(self._http.base_url)

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, shape: Shape) -> dict[str, Any]:
        """The JSON object, of this shape, that answers a request without a body."""
        with self.get_answer(method, path) as answer:
            return json_object(answer, shape)

    def request(self, method: str, path: str) -> None:
        """Sends a request without a body and reads the answer."""
        with self.get_answer(method, path) as answer:
            read(answer)

    @contextmanager
    def get_answer(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """The answer, 2xx or 416, to a request without a body. The answer's own body is not read yet."""
        with self._answer(lambda: self._http.build_request(method, path, headers=headers), resend=True) as answer:
            yield answer

    @contextmanager
    def upload(
        self, target: Path, path: str, options: Mapping[str, str | None], progress: ByteProgress | None
    ) -> Iterator[httpx.Response]:
        """The answer to a target file and its options. The answer's body is not read yet.

        A target that the service may have received whole is not sent twice.
        """
        try:
            handle = target.open("rb")
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise InputError("file_not_found", what, where=str(target), hint="check the path") from error
        with handle:

            def build() -> httpx.Request:
                handle.seek(0)
                sent: Any = {"file": (target.name, _CountingFile(handle, target.stat().st_size, progress))}
                data = {name: value for name, value in options.items() if value}
                return self._http.build_request("POST", path, files=sent, data=data, timeout=self._answer_timeout)

            with self._answer(build, resend=False) as answer:
                yield answer

    @contextmanager
    def _answer(self, build: Callable[[], httpx.Request], *, resend: bool) -> Iterator[httpx.Response]:
        """The answer, 2xx or 416, to the request that ``build`` makes for each attempt.

        ``resend``: repeat the request also after a cut connection, where the service may have received it.
        """
        httpx = _httpx()
        end = time.monotonic() + self.patience
        for pause in pauses():
            request = build()
            try:
                answer = self._http.send(request, stream=True)
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if not (resend or never_sent) or time.monotonic() + pause > end:
                    raise unreachable(str(request.url), error) from error
                time.sleep(pause)
                continue
            try:
                if answer.is_success or answer.status_code == 416:
                    yield answer
                    return
                body = read(answer)
            finally:
                answer.close()
            refusal = answer_error(answer, body)
            wait = max(pause, retry_after(answer))
            if not is_temporary(answer, refusal) or time.monotonic() + wait > end:
                raise refusal
            time.sleep(wait)


class _CountingFile:
    """A file that reports how much of it was read."""

    def __init__(self, handle: BinaryIO, size: int, progress: ByteProgress | None) -> None:
        self._handle, self._size, self._progress = handle, size, progress
        self.fileno, self.tell, self.seek = handle.fileno, handle.tell, handle.seek

    def read(self, size: int = -1) -> bytes:
        data = self._handle.read(size)
        if self._progress is not None and data:
            self._progress(self._handle.tell(), self._size)
        return data


def pauses() -> Iterator[float]:
    """Endless, growing pauses between attempts, in seconds."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * _PAUSE_GROWTH, _MAX_PAUSE)


@contextmanager
def cut_as_error(url: str) -> Iterator[None]:
    """Raises ResourceError where the connection is cut, or the answer is damaged, while an answer is read."""
    httpx = _httpx()
    try:
        yield
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise unreachable(url, error) from error


def read(answer: httpx.Response) -> bytes:
    """The answer's whole body. Raises ResourceError on a cut connection, and for a body that does not end."""
    end = time.monotonic() + _READ_SECONDS
    content = bytearray()
    with cut_as_error(str(answer.url)):
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > _MAX_ANSWER_BYTES or time.monotonic() > end:
                raise answer_invalid(answer, "the answer does not end")
    return bytes(content)


def json_object(answer: httpx.Response, shape: Shape) -> dict[str, Any]:
    """Reads an answer that is a JSON object of this ``shape``. Raises ResourceError 'answer_invalid'."""
    try:
        body = json.loads(read(answer))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise answer_invalid(answer, "the answer is not a JSON object")
    wrong = misfit(body, shape)
    if wrong is not None:
        raise answer_invalid(answer, f"the answer has no valid member {wrong!r}")
    return body


def answer_invalid(answer: httpx.Response, what: str) -> ResourceError:
    """The error of an answer that no vcfbert service gives."""
    hint = "check that this is the address of a vcfbert service"
    return ResourceError("answer_invalid", what, where=str(answer.url), hint=hint)


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        hint = "pip install 'vcfbert[client]'"
        raise MissingExtraError("httpx_missing", "httpx is not installed", hint=hint) from error
    return httpx
