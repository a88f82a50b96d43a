"""The records of a target that cannot be used: their number by reason, and which they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.parsing.messages import Array, Counts, Record, Texts

# Why a record of a target is excluded: the codes of the errors that it would raise in a panel. ``position``: POS is 0,
# as at telomeres, or beyond the format's last.
REASONS: Final = (
    "position",
    "ref_invalid",
    "symbolic_alt",
    "duplicate_records",
    "no_genotypes",
    "mixed_ploidy",
)
MAX_LISTED: Final = 10_000
_MAX_LETTERS: Final = 100  # of a value


class ExcludedRecord(NamedTuple):
    """One record. Long values are cut."""

    chrom: str
    pos: int
    id: str
    ref: str
    alt: str
    reason: str


class ExcludedTable(NamedTuple):
    """``counts`` of all records by reason, and columns of those that are listed, for a message of the parser."""

    counts: dict[str, int]
    chrom: tuple[str, ...]
    pos: npt.NDArray[np.int64]
    id: tuple[str, ...]
    ref: tuple[str, ...]
    alt: tuple[str, ...]
    reason: tuple[str, ...]

    def records(self) -> list[ExcludedRecord]:
        columns = (self.chrom, self.pos.tolist(), self.id, self.ref, self.alt, self.reason)
        return [ExcludedRecord(*row) for row in zip(*columns, strict=True)]


class ExcludedRecords:
    """Counts records, and lists the first ``MAX_LISTED``."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._listed: list[ExcludedRecord] = []

    def add(self, reason: str, chrom: str, pos: int, id_: str | None, ref: str, alts: Sequence[str]) -> None:
        self._counts[reason] += 1
        if len(self._listed) < MAX_LISTED:
            cut_id, cut_ref, alt = (text[:_MAX_LETTERS] for text in (id_ or ".", ref, ",".join(alts) or "."))
            self._listed.append(ExcludedRecord(chrom, pos, cut_id, cut_ref, alt, reason))

    def table(self) -> ExcludedTable:
        chrom, pos, id_, ref, alt, reason = zip(*self._listed, strict=True) if self._listed else ((),) * 6
        return ExcludedTable(dict(self._counts), chrom, np.array(pos, np.int64), id_, ref, alt, reason)


def _column() -> Texts:
    return Texts("excluded record", as_tuple=True)


EXCLUDED_TABLE: Final = Record(
    ExcludedTable,
    counts=Counts(),
    chrom=_column(),
    pos=Array("int64", "excluded record"),
    id=_column(),
    ref=_column(),
    alt=_column(),
    reason=_column(),
)
