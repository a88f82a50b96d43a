"""What `vcfbert fit` prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vcfbert.cli.app import app
from vcfbert.training import fit
from vcfbert.training.result import FitResult


@pytest.mark.parametrize(("rank", "expected"), [(0, "validation r2 0.9000"), (1, "")])
def test_first_of_several_processes_reports_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rank: int, expected: str
) -> None:
    result = FitResult("run", "uri", {"val/r2/all": 0.9}, 2.0, 36, "digest", rank)
    monkeypatch.setattr(fit, "fit_panel", lambda *_, **__: result)
    done = CliRunner().invoke(app, ["fit", "--panel", "panel.vcf", "--out", str(tmp_path / "bundle"), "--no-track"])
    assert done.exit_code == 0
    assert expected in done.stdout
    assert bool(done.stdout) == bool(expected)
