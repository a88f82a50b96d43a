"""A job as stored in its row, its states, and the names of workers."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..models.version import ModelVersion, stored_version, version_name

QUEUED = "queued"  # accepted; upload and row are on disk
RUNNING = "running"  # claimed by a worker
DONE = "done"  # its results can be downloaded
FAILED = "failed"  # its error gives the reason
CANCELLED = "cancelled"  # by its caller, while it was queued or running; its files are gone
EXPIRED = "expired"  # was done or failed; its files are gone
STATES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED, EXPIRED)

Json = Mapping[str, Any]


def new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True)
class PinnedModel:
    """The model version that was live under ``alias`` at submission. A job uses this version."""

    alias: str
    variant: str
    version: ModelVersion

    def as_json(self) -> dict[str, str]:
        """As stored in the job's row and written in its report."""
        return {
            "alias": self.alias,
            "reference": self.version.reference,
            "version": version_name(self.version),
            "variant": self.variant,
            "digest": self.version.bundle_digest,
        }

    @classmethod
    def from_json(cls, stored: Json) -> PinnedModel:
        return cls(stored["alias"], stored["variant"], stored_version(stored["reference"], stored["digest"]))


@dataclass(frozen=True)
class Job:
    """One row. Times are seconds since the epoch; ``size`` is in bytes; ``done`` and ``total`` count panel sites, as
    ``Imputer.impute`` reports them."""

    id: str
    caller: str
    state: str
    name: str  # of the upload, for display only
    size: int
    options: Json
    model: PinnedModel
    created: float
    started: float | None
    finished: float | None
    expires: float | None
    attempt: int  # number of times that workers have claimed it
    worker: str | None
    heartbeat: float | None
    done: int
    total: int
    qc: Json | None
    summary: Json | None
    error: Json | None


@dataclass(frozen=True)
class Claim:
    """The right of one worker to one attempt at a job. It is lost when the row names another worker or attempt."""

    job_id: str
    worker: str
    attempt: int


@cache
def this_host() -> str:
    """Identifies this machine's boot and its process namespace. Containers may share a host name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()}:{boot.read_text().strip()[:8]}:{os.readlink(namespace)}"
    except OSError:  # not Linux
        return socket.gethostname()


def new_worker() -> str:
    """A unique name for a worker of this process. Others on this host can tell from it whether the process ended."""
    return f"{this_host()}/{os.getpid()}/{_started(os.getpid())}/{uuid.uuid4().hex[:8]}"


def is_gone(worker: str) -> bool:
    """Whether the worker's process has certainly ended. False for workers of other hosts: only their heartbeat is
    known."""
    host, pid, started, _ = worker.rsplit("/", 3)
    return host == this_host() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When the process started, in clock ticks since boot, which tells it from a later process with the same id.

    '' if there is none, or only a zombie.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        return "alive" if not Path("/proc/self").exists() and _exists(pid) else ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
