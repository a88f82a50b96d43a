"""Checkpoints: the last epoch's whole state to resume from, the best epoch's weights to bundle.

They lie outside DVC's outputs, in a folder named by the digest of configuration and data, so that a run never
resumes from another configuration's state.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import torch

from vcfbert.artifacts import atomic_file

State = dict[str, Any]  # tensors, numbers, strings and containers of them: loads with weights_only


class Checkpoints:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_last(self, state: State) -> None:
        self._save("last.pt", state)

    def save_best(self, weights: State) -> None:
        self._save("best.pt", weights)

    def last(self) -> State | None:
        return self._load("last.pt")

    def best(self) -> State | None:
        return self._load("best.pt")

    def clear(self) -> None:
        """After the bundle is written: a finished run is not to be resumed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self, name: str, state: State) -> None:
        buffer = io.BytesIO()  # torch's own writer answers a full disk with an error that does not say so
        torch.save(state, buffer)
        with atomic_file(self.folder / name) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def _load(self, name: str) -> State | None:
        path = self.folder / name
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None
