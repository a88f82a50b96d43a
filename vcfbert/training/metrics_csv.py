"""The metrics CSV beside MLflow: a row an epoch, readable at any moment, also after a crash."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from vcfbert.artifacts import atomic_file
from vcfbert.errors import InputError

STEP = "epoch"


class MetricsCsv:
    """Rows of ``path`` by epoch. The file is rewritten whole each time and renamed, so readers never see half a row.

    A metric that first appears in a later epoch becomes a column, empty in the rows before. Writing an epoch again
    (a run that was killed and resumed) replaces its row and drops those after it, which the resumed run will redo.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._path = path
        self._rows = _read(path) if resume and path.is_file() else {}

    def append(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """``metrics`` by name, for ``epoch`` (from 0). Raises InputError where the file cannot be written."""
        earlier = {known: row for known, row in self._rows.items() if known < epoch}
        self._rows = {**earlier, epoch: {name: format(value, ".6g") for name, value in metrics.items()}}
        columns = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        with atomic_file(self._path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, [STEP, *columns], restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({STEP: str(known), **row} for known, row in self._rows.items())


def _read(path: Path) -> dict[int, dict[str, str]]:
    with path.open(newline="") as handle:
        try:
            return {int(row.pop(STEP)): {k: v for k, v in row.items() if v} for row in csv.DictReader(handle)}
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError("metrics_csv", "not a metrics CSV", where=str(path), hint="remove the file") from error
