"""A job as its row tells it, and the states that it passes through."""

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

QUEUED = "queued"  # accepted: upload and row are on disk
RUNNING = "running"  # claimed by a worker
DONE = "done"  # its files may be downloaded
FAILED = "failed"  # its error says why
CANCELLED = "cancelled"  # by its caller, while it was queued or running; its files are gone
EXPIRED = "expired"  # was done; its files are gone
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
    """One row. Times are seconds since the epoch, ``size`` is in bytes, ``done`` and ``total`` count panel sites as
    ``Imputer.impute`` does."""

    id: str
    caller: str
    state: str
    name: str  # the upload's name, only ever shown
    size: int
    options: Json
    model: PinnedModel
    created: float
    started: float | None
    finished: float | None
    expires: float | None
    attempt: int  # how often a worker has claimed it
    worker: str | None
    heartbeat: float | None
    done: int
    total: int
    qc: Json | None
    summary: Json | None
    error: Json | None


@dataclass(frozen=True)
class Claim:
    """The right of one worker to one attempt at a job. Lost as soon as the row says otherwise."""

    job_id: str
    worker: str
    attempt: int


@cache
def this_host() -> str:
    """This machine since it booted, and what of its processes can be seen: containers may share a host's name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()}:{boot.read_text().strip()[:8]}:{os.readlink(namespace)}"
    except OSError:  # not Linux
        return socket.gethostname()


def new_worker() -> str:
    """A name for a worker of this process, by which others on this host can see whether the process has gone."""
    return f"{this_host()}/{os.getpid()}/{_started(os.getpid())}/{uuid.uuid4().hex[:8]}"


def is_gone(worker: str) -> bool:
    """Whether the worker's process has surely ended. Of other hosts' workers only their heartbeat tells."""
    host, pid, started, _ = worker.rsplit("/", 3)
    return host == this_host() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When the process began, in clock ticks since boot: a later process of the same number began later. '' where
    there is none, or only what remains of one that its parent has not waited for."""
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
