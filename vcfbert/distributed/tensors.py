"""Named arrays in one file, as safetensors: written atomically, read by slices. What tasks of one job hand on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vcfbert.artifacts import atomic_file
from vcfbert.errors import ArtifactError

_META = "meta"

Array = npt.NDArray[Any]


def write_tensors(path: Path, arrays: Mapping[str, Array], meta: Mapping[str, Any] | None = None) -> None:
    """``meta``: JSON values. As bytes first: safetensors' own writer does not say that a disk is full."""
    data = save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, {_META: json.dumps(dict(meta or {}))}
    )
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


class Tensors:
    """An open file of ``write_tensors``, memory-mapped. Raises ArtifactError where it is none."""

    def __init__(self, path: Path) -> None:
        try:
            file: Any = safe_open(path, framework="np")
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                "tensors_damaged", f"cannot be read ({error})", where=str(path), hint="remove it: it is written again"
            ) from error
        self._file = file
        self.names = frozenset(file.keys())
        self.meta: dict[str, Any] = json.loads(file.metadata()[_META])

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Array:
        array: Array = self._file.get_tensor(name)
        return array

    def part(self, name: str, *slices: slice) -> Array:
        """Some of an array, the rest of it not read."""
        stored = self._file.get_slice(name)
        empty = any(len(range(*s.indices(n))) == 0 for s, n in zip(slices, stored.get_shape(), strict=False))
        array: Array = self[name][slices] if empty else stored[slices]  # which safetensors refuses
        return array
