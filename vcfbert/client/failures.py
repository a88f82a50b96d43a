"""What the service answers instead of a result, as the errors of ``vcfbert.errors``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from vcfbert.client.shapes import PROBLEM, misfit
from vcfbert.errors import InputError, ResourceError, VcfbertError

if TYPE_CHECKING:
    import httpx

# Refusals that pass by themselves and happen before any work: the same request may be sent again.
_TEMPORARY: Final = ("rate_limited", "too_many_requests", "queue_full", "not_ready", "draining", "stopping")
_PROXY: Final = (502, 503, 504)  # answered by a proxy that reached no service
_MAX_SHOWN: Final = 200  # characters of a header that are shown
# Codes of failed jobs that the uploaded target did not cause.
_SERVICE_FAULTS: Final = (
    "disk_full", "internal", "jobs_unreachable", "not_ready", "out_of_memory", "output_not_writable",
    "registry_unavailable", "too_slow", "worker_died",
)  # fmt: skip


class RefusedError(InputError):
    """The service refused a request. ``qc``: summary of the target's QC report, if the service made one."""

    qc: dict[str, Any] | None = None


def answer_error(answer: httpx.Response, content: bytes) -> VcfbertError:
    """The error of a problem+json answer; of any other answer, its HTTP status. ``content``: the answer's body."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if misfit(body, PROBLEM) is not None:
        what = f"{answer.url.host} answered {answer.status_code} {answer.reason_phrase}"
        body = {"code": f"http_{answer.status_code}", "detail": what, "hint": _hint(answer)}
    kind = ResourceError if answer.status_code >= 500 or answer.status_code == 429 else RefusedError
    error = kind(body["code"], body["detail"], where=body.get("where"), hint=body.get("hint"))
    if isinstance(error, RefusedError):
        error.qc = body.get("qc")
    return error


def _hint(answer: httpx.Response) -> str:
    """What to do about an answer that no vcfbert service gives. Redirects are not followed: they could lead the key
    and the target to another server."""
    if answer.is_redirect:
        return f"the server redirects to {answer.headers.get('Location', '')[:_MAX_SHOWN]!r}: check the address"
    return "check that this is the address of a vcfbert service, or ask its operator"


def is_temporary(answer: httpx.Response, error: VcfbertError) -> bool:
    """Whether the same request may succeed later. ``error``: that of ``answer``."""
    from_proxy = error.code.startswith("http_") and answer.status_code in _PROXY
    return error.code in _TEMPORARY or from_proxy


def retry_after(answer: httpx.Response) -> float:
    """Seconds of the Retry-After header; 0 without one, or where it holds a date."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def job_error(job: dict[str, Any]) -> VcfbertError:
    """The error of a job that ended without a result."""
    error = job.get("error") or {}
    code = error.get("code", job["state"])
    what = error.get("detail", f"the job {job['id']} is {job['state']}")
    kind = ResourceError if code in _SERVICE_FAULTS else RefusedError
    failure = kind(code, what, where=error.get("where"), hint=error.get("hint"))
    if isinstance(failure, RefusedError):
        failure.qc = job.get("qc")
    return failure


def unreachable(url: str, error: Exception) -> ResourceError:
    """The error of a connection that failed or was cut."""
    hint = "check the address and the connection, and run it again"
    return ResourceError("service_unreachable", f"the service does not answer ({error})", where=url, hint=hint)
