from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vcfbert.distributed.tensors import Tensors, write_tensors
from vcfbert.errors import ArtifactError


def test_tensors_read_whole_arrays_and_slices(tmp_path: Path) -> None:
    path = tmp_path / "arrays"
    calls = np.arange(120, dtype=np.int8).reshape(2, 5, 3, 4)
    write_tensors(path, {"calls": calls, "turned": calls.T, "none": np.zeros((0, 3), np.float32)}, {"names": ["x"]})
    stored = Tensors(path)
    assert stored.meta == {"names": ["x"]}
    assert "calls" in stored
    assert "others" not in stored
    assert np.array_equal(stored["turned"], calls.T)
    assert np.array_equal(stored.part("calls", slice(None), slice(1, 3)), calls[:, 1:3])
    assert stored.part("calls", slice(1, 1)).shape == (0, 5, 3, 4)
    assert stored.part("none", slice(0, 0)).shape == (0, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["arrays"]


def test_tensors_refuses_a_file_that_is_not_safetensors(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("{}")
    for name in ("other", "missing"):
        with pytest.raises(ArtifactError) as caught:
            Tensors(tmp_path / name)
        assert caught.value.code == "tensors_damaged"
