"""A pool of workers on a Ray cluster, for ``scheduler.run_tasks``. No other module imports ray."""

from __future__ import annotations

import socket
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from vcfbert.distributed.scheduler import Task, WorkerLost, perform
from vcfbert.errors import InputError, MissingExtraError, VcfbertError

# Ray restarts a task on another worker if its worker dies, for example because memory ran out.
RETRIES: Final = 3
_STORE_BYTES: Final = 100 << 20  # of a local cluster: tasks exchange files, so only their run times pass through Ray


@contextmanager
def ray_pool(address: str, *, threads: int, memory: int, workers: int | None = None) -> Iterator[RayPool]:
    """A pool on the Ray cluster at ``address``.

    ``address``: 'auto' for the cluster that this machine belongs to; HOST:PORT or ray://HOST:PORT; or 'local' for a
    new cluster on this machine, which ends with the context. ``workers``: maximum number of tasks that the local
    cluster runs at once. Each task gets ``threads`` cores and ``memory`` bytes of host memory.

    Raises MissingExtraError, and InputError 'ray_address' or 'ray_resources'.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray_missing", "Ray is not installed", hint="pip install 'vcfbert[ray]'") from error
    options: dict[str, Any] = {"address": address}
    if address == "local":
        cores = None if workers is None else workers * threads
        options |= {"num_cpus": cores, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    try:
        _check_answers(address)
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            "ray_address",
            f"no Ray cluster answers at {address} ({error})",
            hint="start one with `ray start`, or use --ray local",
        ) from error
    try:
        yield RayPool(ray, threads=threads, memory=memory)
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Connects once, because Ray itself retries for minutes. Raises OSError and ValueError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


class RayPool:
    """Runs tasks on a cluster.

    It has one slot more than the tasks that fit on the cluster. The extra task is ready when a worker becomes free,
    and it shows an autoscaler that more work is waiting.
    """

    def __init__(self, ray: Any, *, threads: int, memory: int) -> None:
        self._ray = ray
        self._threads, self._memory = threads, memory
        self._perform = ray.remote(num_cpus=threads, memory=memory, max_retries=RETRIES)(perform)
        if self._fit() == 0:
            raise InputError(
                "ray_resources",
                f"a task needs {threads} threads and {memory / 2**20:.0f} MB; no worker of the cluster has them",
                hint="lower --threads, --chunk-samples or --chunk-cm",
            )

    @property
    def slots(self) -> int:
        return self._fit() + 1

    def _fit(self) -> int:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        by_cores = [int(node.get("CPU", 0) // self._threads) for node in nodes]
        by_memory = [int(node.get("memory", 0) // self._memory) for node in nodes]
        return sum(map(min, by_cores, by_memory))

    def submit(self, task: Task) -> Hashable:
        handle: Hashable = self._perform.options(name=task.name).remote(task)
        return handle

    def wait(self, handles: Collection[Hashable], timeout: float) -> Collection[Hashable]:
        ended, _ = self._ray.wait(list(handles), num_returns=1, timeout=timeout)
        found: list[Hashable] = ended
        return found

    def result(self, handle: Hashable) -> float:
        errors = self._ray.exceptions
        try:
            seconds: float = self._ray.get(handle)
        except errors.RayTaskError as error:
            if isinstance(error.cause, VcfbertError):
                raise error.cause from None
            raise
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            raise WorkerLost(
                "worker_lost",
                f"a task's worker died {RETRIES + 1} times: {str(error).splitlines()[0]}",
                hint="repeat the command to resume; if memory ran out, lower --chunk-samples",
            ) from error
        return seconds

    def cancel(self, handle: Hashable) -> None:
        self._ray.cancel(handle, force=True)
