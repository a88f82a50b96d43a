from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vcfbert.errors import ResourceError
from vcfbert.training.checkpoint import Checkpoints


def test_saved_state_is_loaded_back(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "run")
    assert store.last() is None
    assert store.best() is None
    weights = {"a": torch.arange(3.0), "nested": {"loss": 0.5, "epochs": [1, 2]}}
    store.save_last(weights)
    store.save_best({"b": torch.ones(2)})
    last, best = store.last(), store.best()
    assert last is not None
    assert best is not None
    assert torch.equal(last["a"], weights["a"])  # type: ignore[arg-type]
    assert last["nested"] == weights["nested"]
    assert torch.equal(best["b"], torch.ones(2))
    store.clear()
    assert store.last() is None
    assert not (tmp_path / "run").exists()


def test_failed_save_keeps_previous_checkpoint(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    store = Checkpoints(tmp_path)
    store.save_last({"epoch": 1})

    full_disk()
    with pytest.raises(ResourceError) as caught:
        store.save_last({"epoch": 2})
    assert caught.value.code == "disk_full"
    assert store.last() == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
