from __future__ import annotations

from pathlib import Path

import pytest

from vcfbert.errors import InputError
from vcfbert.training.metrics_csv import MetricsCsv


def test_append_writes_row_and_adds_column_for_new_metric(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "v18" / "latest.csv"
    table = MetricsCsv(path)
    table.append(0, {"train/loss": 0.5, "lr": 1e-5})
    assert path.read_text() == "epoch,train/loss,lr\n0,0.5,1e-05\n"
    table.append(1, {"train/loss": 0.25, "refresh/seconds": 2.0})
    assert path.read_text() == "epoch,train/loss,lr,refresh/seconds\n0,0.5,1e-05,\n1,0.25,,2\n"
    assert [p.name for p in path.parent.iterdir()] == ["latest.csv"]


def test_resume_keeps_earlier_rows_and_drops_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "latest.csv"
    table = MetricsCsv(path)
    for epoch in range(3):
        table.append(epoch, {"loss": float(epoch)})
    MetricsCsv(path, resume=True).append(1, {"loss": 9.0})
    assert path.read_text() == "epoch,loss\n0,0\n1,9\n"


def test_new_run_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "latest.csv"
    MetricsCsv(path).append(0, {"old": 1.0})
    MetricsCsv(path).append(0, {"loss": 1.0})
    assert path.read_text() == "epoch,loss\n0,1\n"


def test_resume_from_other_file_raises_input_error(tmp_path: Path) -> None:
    path = tmp_path / "latest.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError) as caught:
        MetricsCsv(path, resume=True)
    assert caught.value.code == "metrics_csv"
    assert str(path) in str(caught.value)
