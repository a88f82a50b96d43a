from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn, Self

import pytest

from vcfbert.tracking.store import connect


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: creating its schema takes seconds, copying it none."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect(root).search_experiments()
    return root / "mlflow.db"


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullFile:
    """An open file on a full disk."""

    write = writelines = no_space

    def __init__(self, handle: IO[Any]) -> None:
        self.handle = handle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which no file can be brought to disk: the disk is full."""
    return lambda: monkeypatch.setattr(os, "fsync", no_space)


@pytest.fixture
def full_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every write to a file that is newly opened for bytes fail: the disk is full."""
    real_open = Path.open

    def open_full(self: Path, mode: str = "r", **options: Any) -> Any:
        handle = real_open(self, mode, **options)
        return FullFile(handle) if mode == "wb" else handle

    monkeypatch.setattr(Path, "open", open_full)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """A project's folder, also the current one, with an empty MLflow store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    return tmp_path
