"""The QC report of a target: what was matched, repaired or left out, and why, site by site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcfbert.artifacts import write_json, write_text

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
class QcReport:
    """``counts`` has every status of this module; the shares are of 1. ``n_used`` counts the panel's typed sites,
    ``n_haploid`` the samples of one haplotype.

    ``missing_rate`` is the share of missing calls at used sites, ``phased_share`` that of used sites without an
    unphased heterozygous call, ``overlap_share`` that of the target's sites within the panel's span that are used.
    ``typed_per_mb`` is the density of used sites over the panel's span.
    """

    n_samples: int
    n_haploid: int
    n_target_sites: int
    n_panel_sites: int
    n_used: int
    counts: dict[str, int]
    missing_rate: float
    phased_share: float
    overlap_share: float
    typed_per_mb: float
    notes: tuple[SiteNote, ...]

    def summary(self) -> dict[str, Any]:
        """Everything but the notes, as plain JSON values."""
        return {
            "n_samples": self.n_samples,
            "n_haploid": self.n_haploid,
            "n_target_sites": self.n_target_sites,
            "n_panel_sites": self.n_panel_sites,
            "n_used": self.n_used,
            "counts": dict(self.counts),
            "missing_rate": round(self.missing_rate, 6),
            "phased_share": round(self.phased_share, 6),
            "overlap_share": round(self.overlap_share, 6),
            "typed_per_mb": round(self.typed_per_mb, 3),
        }

    def write(self, json_path: Path) -> None:
        """Writes the summary to ``json_path`` and the notes, one a line, to a TSV beside it."""
        table = json_path.with_suffix(".tsv")
        lines = ["\t".join(_COLUMNS), *("\t".join(str(getattr(note, c)) for c in _COLUMNS) for note in self.notes)]
        write_text(table, "\n".join(lines) + "\n")
        write_json(json_path, {**self.summary(), "sites": table.name})
