"""The Ray pool without a cluster. ``tests/integration/test_ray.py`` tests it with one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vcfbert.distributed.ray_pool import RayPool, ray_pool
from vcfbert.errors import InputError, MissingExtraError

MEGABYTE = 1 << 20


def test_ray_pool_without_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtraError, match="Ray is not installed") as caught,
        ray_pool("local", threads=1, memory=1),
    ):
        pass
    assert "vcfbert[ray]" in str(caught.value)


def cluster(*nodes: tuple[int, int, bool]) -> SimpleNamespace:
    """A cluster of nodes, each with its cores, megabytes and whether it is alive."""
    listed = [{"Alive": alive, "Resources": {"CPU": cores, "memory": mb * MEGABYTE}} for cores, mb, alive in nodes]
    return SimpleNamespace(nodes=lambda: listed, remote=lambda **options: lambda function: function)


def test_slots_are_the_tasks_that_fit_plus_one() -> None:
    ray = cluster((8, 4000, True), (3, 64_000, True), (16, 64_000, False))
    assert RayPool(ray, threads=2, memory=1000 * MEGABYTE).slots == 4 + 1 + 1
    assert RayPool(ray, threads=1, memory=3000 * MEGABYTE).slots == 1 + 3 + 1


def test_task_larger_than_every_node_is_refused() -> None:
    for threads, memory in ((9, 100), (1, 70_000)):
        with pytest.raises(InputError) as caught:
            RayPool(cluster((8, 64_000, True)), threads=threads, memory=memory * MEGABYTE)
        assert caught.value.code == "ray_resources"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_address_without_a_cluster_is_refused(address: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError) as caught, ray_pool(address, threads=1, memory=1):
        pass
    assert caught.value.code == "ray_address"
    assert address in str(caught.value)
