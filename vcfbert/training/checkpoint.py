"""Checkpoints: the state after the last epoch, to resume from, and the weights of the best epoch, to bundle.

They are kept outside DVC's outputs, in a folder named by the digest of configuration and data. So a run never resumes
from the state of another configuration.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import torch

from vcfbert.artifacts import atomic_file

State = dict[str, Any]  # tensors, numbers, strings and containers of them, which torch loads with weights_only


class Checkpoints:
    """The two checkpoints of one run, as files in ``folder``. Each is written under a temporary name and renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_last(self, state: State) -> None:
        self._save("last.pt", state)

    def save_best(self, weights: State) -> None:
        self._save("best.pt", weights)

    def last(self) -> State | None:
        """The state after the last epoch, on the CPU; None if there is none."""
        return self._load("last.pt")

    def best(self) -> State | None:
        """The weights of the best epoch, on the CPU; None if there are none."""
        return self._load("best.pt")

    def clear(self) -> None:
        """Removes both, because a finished run must not be resumed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self, name: str, state: State) -> None:
        buffer = io.BytesIO()  # torch's own file writer does not say that the disk is full
        torch.save(state, buffer)
        with atomic_file(self.folder / name) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def _load(self, name: str) -> State | None:
        path = self.folder / name
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None
