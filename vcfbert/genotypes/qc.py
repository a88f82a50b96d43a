"""The QC report of a target: what was matched, repaired or left out, and why, site by site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import write_json, write_text
from vcfbert.errors import InputError
from vcfbert.genotypes.frequencies import FrequencyCheck

# What became of a target's site. The first five are used, the others left out.
MATCHED = "matched"
SWAPPED = "swapped"
FLIPPED = "flipped"
FLIPPED_SWAPPED = "flipped_swapped"
AMBIGUOUS_RESOLVED = "ambiguous_resolved"
AMBIGUOUS_LEFT_OUT = "ambiguous_left_out"
ALLELE_MISMATCH = "allele_mismatch"
NOT_IN_PANEL = "not_in_panel"
DUPLICATE = "duplicate"

USED = (MATCHED, SWAPPED, FLIPPED, FLIPPED_SWAPPED, AMBIGUOUS_RESOLVED)
LEFT_OUT = (AMBIGUOUS_LEFT_OUT, ALLELE_MISMATCH, NOT_IN_PANEL, DUPLICATE)

# A sample of more missing calls than this is worth a look.
MUCH_MISSING: Final = 0.05
# Stretches of equal length that the density of typed sites is counted in.
_STRETCHES: Final = 100

_COLUMNS = ("chrom", "pos", "id", "ref", "alt", "panel_ref", "panel_alt", "status", "reason")


@dataclass(frozen=True)
class SiteNote:
    """A target's site that was repaired or left out. ``panel_ref`` and ``panel_alt`` are '.' where there is none."""

    chrom: str
    pos: int
    id: str
    ref: str
    alt: str
    panel_ref: str
    panel_alt: str
    status: str
    reason: str


@dataclass(frozen=True)
class Stretch:
    """Positions ``start`` to ``stop`` (1-based, inclusive), and how many used sites lie there."""

    start: int
    stop: int
    typed: int


@dataclass(frozen=True)
class QcReport:
    """``counts`` has every status of this module; the shares are of 1. ``n_used`` counts the panel's typed sites,
    ``n_haploid`` the samples of one haplotype.

    ``missing_rate`` is the share of missing calls at used sites, ``worst_missing_rate`` that of the sample with most,
    ``n_much_missing`` the number of samples above ``MUCH_MISSING``. ``phased_share`` is the share of used sites
    without an unphased heterozygous call, ``overlap_share`` that of the target's sites within the panel's span that
    are used. ``typed_per_mb`` is the density of used sites over the panel's span, ``density`` the same along it.
    ``frequencies`` are the target's allele frequencies at used sites beside the panel's. Shares of nothing are 0, that
    of phased sites 1.
    """

    n_samples: int
    n_haploid: int
    n_target_sites: int
    n_panel_sites: int
    n_used: int
    counts: dict[str, int]
    missing_rate: float
    worst_missing_rate: float
    n_much_missing: int
    phased_share: float
    overlap_share: float
    typed_per_mb: float
    density: tuple[Stretch, ...]
    frequencies: FrequencyCheck
    notes: tuple[SiteNote, ...]

    @property
    def n_swapped(self) -> int:
        """Sites of exchanged REF and ALT, A/T and C/G SNPs apart."""
        return self.counts[SWAPPED] + self.counts[FLIPPED_SWAPPED]

    @property
    def n_flipped(self) -> int:
        """Sites of the other strand, A/T and C/G SNPs apart."""
        return self.counts[FLIPPED] + self.counts[FLIPPED_SWAPPED]

    @property
    def n_shared_positions(self) -> int:
        """The target's sites at whose position the panel has one."""
        return self.n_target_sites - self.counts[NOT_IN_PANEL]

    @property
    def build_agreement(self) -> float:
        """Share of the sites at shared positions whose alleles are the panel's, on either strand. Two genome builds
        share positions by chance alone, and then few alleles; less than two thirds are refused as a wrong build."""
        return 1.0 - self.counts[ALLELE_MISMATCH] / max(self.n_shared_positions, 1)

    def summary(self) -> dict[str, Any]:
        """Everything but the notes, as plain JSON values."""
        return {
            "n_samples": self.n_samples,
            "n_haploid": self.n_haploid,
            "n_target_sites": self.n_target_sites,
            "n_panel_sites": self.n_panel_sites,
            "n_used": self.n_used,
            "counts": dict(self.counts),
            "n_swapped": self.n_swapped,
            "n_flipped": self.n_flipped,
            "n_shared_positions": self.n_shared_positions,
            "build_agreement": round(self.build_agreement, 6),
            "missing_rate": round(self.missing_rate, 6),
            "worst_missing_rate": round(self.worst_missing_rate, 6),
            "n_much_missing": self.n_much_missing,
            "phased_share": round(self.phased_share, 6),
            "overlap_share": round(self.overlap_share, 6),
            "typed_per_mb": round(self.typed_per_mb, 3),
            "density": [asdict(stretch) for stretch in self.density],
            "frequencies": self.frequencies.as_dict(),
        }

    def write(self, json_path: Path) -> None:
        """Writes the summary to ``json_path`` and the notes, one a line, to a TSV beside it."""
        table = json_path.with_suffix(".tsv")
        lines = ["\t".join(_COLUMNS), *("\t".join(str(getattr(note, c)) for c in _COLUMNS) for note in self.notes)]
        write_text(table, "\n".join(lines) + "\n")
        write_json(json_path, {**self.summary(), "sites": table.name})


def short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A report's summary without what is only fit to be drawn: for a line of text, or a header."""
    figures = {name: value for name, value in summary["frequencies"].items() if name not in ("cells", "different")}
    return {**{name: value for name, value in summary.items() if name != "density"}, "frequencies": figures}


class RefusedTargetError(InputError):
    """A target that was read and cannot be imputed, with the ``report`` of what was found out about it."""

    def __init__(
        self, code: str, what: str, *, report: QcReport, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(code, what, where=where, hint=hint)
        self.report = report


def typed_density(typed_pos: npt.NDArray[np.int32], panel_pos: npt.NDArray[np.int32]) -> tuple[Stretch, ...]:
    """The used sites' positions ``typed_pos`` [m] counted along the panel's span, in stretches of equal length (but
    for rounding): a hundred of them, fewer where the span is shorter."""
    first, last = int(panel_pos[0]), int(panel_pos[-1])
    edges = np.linspace(first, last + 1, min(_STRETCHES, last + 1 - first) + 1).round().astype(np.int64)
    counts = np.diff(np.searchsorted(typed_pos, edges, side="left"))
    rows = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return tuple(Stretch(start, stop - 1, count) for start, stop, count in rows)
