from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder to write to, beside the test's other files."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
