from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.studies import small_config
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.tuning.study import Settings, Worker


@pytest.fixture
def make(tiny_panel: Panel, tmp_path: Path) -> Callable[..., Worker]:
    def worker(variant: str = "v17", *, track: bool = False, progress: Any = None, **tune: Any) -> Worker:
        config = small_config(**tune)
        settings = Settings(f"sqlite:///{tmp_path / 'studies.db'}", tmp_path / "checkpoints", track, tmp_path)
        return Worker([tiny_panel], [encode(tiny_panel, config.encode)], config, variant, settings, progress=progress)

    return worker
