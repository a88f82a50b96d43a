"""The metrics CSV: one row per epoch, readable at any time, also after a crash."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from vcfbert.artifacts import atomic_file
from vcfbert.errors import InputError

STEP = "epoch"


class MetricsCsv:
    """The rows of ``path`` by epoch. Each write replaces the whole file by a rename, so readers never see half a row.

    A metric that first appears in a later epoch becomes a new column, empty in earlier rows. Writing an epoch again, as
    a resumed run does, replaces its row and drops all later ones.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._path = path
        self._rows = _read(path) if resume and path.is_file() else {}

    def append(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Writes the ``metrics`` of ``epoch`` (from 0). Raises InputError if the file cannot be written."""
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
