"""Files of named arrays through which tasks exchange data: safetensors, written atomically, read by slices."""

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
    """Writes the arrays and ``meta`` (JSON values) to ``path``."""
    # Serialised to bytes first: the writer of safetensors does not report a full disk as such.
    data = save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, {_META: json.dumps(dict(meta or {}))}
    )
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


class Tensors:
    """A file of ``write_tensors``, memory-mapped. Raises ArtifactError 'tensors_damaged' for any other file."""

    def __init__(self, path: Path) -> None:
        try:
            file: Any = safe_open(path, framework="np")
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                "tensors_damaged",
                f"cannot be read ({error})",
                where=str(path),
                hint="delete the file and repeat the command, which writes it again",
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
        """A part of an array; the rest is not read."""
        stored = self._file.get_slice(name)
        # safetensors refuses empty slices.
        empty = any(len(range(*s.indices(n))) == 0 for s, n in zip(slices, stored.get_shape(), strict=False))
        array: Array = self[name][slices] if empty else stored[slices]
        return array
