"""The QC report of a target: which sites were matched, repaired or excluded, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import write_json, write_text
from vcfbert.errors import InputError
from vcfbert.genotypes.build_fit import BuildFit
from vcfbert.genotypes.excluded_records import ExcludedRecord
from vcfbert.genotypes.frequencies import FrequencyCheck

# Status of a target's site. The first five statuses are used, the others excluded. Reports store the values.
MATCHED = "matched"
SWAPPED = "swapped"
FLIPPED = "flipped"
FLIPPED_SWAPPED = "flipped_swapped"
AMBIGUOUS_RESOLVED = "ambiguous_resolved"
AMBIGUOUS_EXCLUDED = "ambiguous_left_out"
ALLELE_MISMATCH = "allele_mismatch"
NOT_IN_PANEL = "not_in_panel"
DUPLICATE = "duplicate"

LIFTED: Final = "lifted"  # in ``QcReport.lift`` beside the reasons of unlifted sites
# Status of a note on a site that could not be lifted over from another build. Such sites are in no other count.
UNLIFTED: Final = "unlifted"
# Status of a note on a record that cannot be used. Such records are in ``QcReport.excluded_records`` alone.
UNUSABLE: Final = "unusable"

USED = (MATCHED, SWAPPED, FLIPPED, FLIPPED_SWAPPED, AMBIGUOUS_RESOLVED)
EXCLUDED = (AMBIGUOUS_EXCLUDED, ALLELE_MISMATCH, NOT_IN_PANEL, DUPLICATE)

# Samples with a larger fraction of missing calls are counted in ``n_much_missing``.
MUCH_MISSING: Final = 0.05
# Bins along the panel's span in which used sites are counted.
_DENSITY_BINS: Final = 100

_COLUMNS = ("chrom", "pos", "id", "ref", "alt", "panel_ref", "panel_alt", "status", "reason")


@dataclass(frozen=True)
class SiteNote:
    """A target's site that was repaired or excluded.

    ``panel_ref`` and ``panel_alt`` are '.' where the panel has no site there.
    """

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
class DensityBin:
    """The number of used sites at positions ``start`` to ``stop`` (1-based, inclusive) of a chromosome."""

    chrom: str
    start: int
    stop: int
    typed: int


@dataclass(frozen=True)
class QcReport:
    """What was found when a target was matched to one panel or to several. Fractions are between 0 and 1."""

    n_samples: int
    n_haploid: int  # samples
    n_homozygous_coded: int  # diploid samples without a heterozygous call between the PARs of X: most probably males
    n_target_sites: int
    n_panel_sites: int
    panel_filled: float  # share of the panel's alleles that were unknown and filled
    n_used: int  # typed sites of the panel
    counts: dict[str, int]  # the target's sites of each status of this module
    missing: tuple[float, ...]  # [n_samples], fraction of missing calls at used sites
    n_unphased: int  # used sites with an unphased heterozygous call
    n_in_span: int  # the target's sites within the panel's span
    n_used_in_span: int
    bases: int  # length of the panel's span
    density: tuple[DensityBin, ...]  # used sites along the span
    frequencies: FrequencyCheck  # allele frequencies at used sites, compared with the panel's
    notes: tuple[SiteNote, ...]  # the repaired and excluded sites
    parts: tuple[QcReport, ...] = ()  # one report per panel, where there are several
    absent: Mapping[str, int] = field(default_factory=dict)  # the target's records on chromosomes that no panel covers
    excluded_records: Mapping[str, int] = field(default_factory=dict)  # that cannot be used, by reason
    n_half_calls: int = 0  # unphased calls of one known and one missing allele at used sites (0/.)
    fit: BuildFit = field(default_factory=BuildFit)
    lift: Mapping[str, int] = field(default_factory=dict)  # sites lifted from another build, and unlifted by reason

    @classmethod
    def of_all(
        cls,
        parts: Sequence[QcReport],
        absent: Mapping[str, int],
        excluded: Mapping[str, int],
        lift: Mapping[str, int] | None = None,
        unlifted: Sequence[SiteNote] = (),
        listed: Sequence[ExcludedRecord] = (),
    ) -> QcReport:
        """The report of a target for all panels, from the reports for each panel.

        ``lift``: see the field. ``unlifted``: notes on the sites that were not lifted. ``listed``: the
        excluded records that the table of notes lists.
        """

        def total(name: str) -> int:
            return sum(getattr(part, name) for part in parts)

        weight = np.array([part.n_used for part in parts]) / max(total("n_used"), 1)
        return cls(
            n_samples=parts[0].n_samples,
            n_haploid=max(part.n_haploid for part in parts),
            n_homozygous_coded=max(part.n_homozygous_coded for part in parts),
            n_target_sites=total("n_target_sites"),
            n_panel_sites=total("n_panel_sites"),
            panel_filled=sum(p.panel_filled * p.n_panel_sites for p in parts) / max(total("n_panel_sites"), 1),
            n_used=total("n_used"),
            counts={name: sum(part.counts[name] for part in parts) for name in (*USED, *EXCLUDED)},
            missing=tuple((weight @ np.array([part.missing for part in parts])).tolist()),
            n_unphased=total("n_unphased"),
            n_in_span=total("n_in_span"),
            n_used_in_span=total("n_used_in_span"),
            bases=total("bases"),
            density=tuple(bin_ for part in parts for bin_ in part.density),
            frequencies=FrequencyCheck.of_all([part.frequencies for part in parts]),
            notes=(
                *(note for part in parts for note in part.notes),
                *unlifted,
                *(SiteNote(*one[:5], ".", ".", UNUSABLE, one.reason) for one in listed),
            ),
            parts=tuple(parts),
            absent=dict(absent),
            excluded_records=dict(excluded),
            n_half_calls=total("n_half_calls"),
            fit=BuildFit.of_all(part.fit for part in parts),
            lift=dict(lift or {}),
        )

    @property
    def missing_rate(self) -> float:
        """Mean fraction of missing calls of a sample."""
        return sum(self.missing) / len(self.missing)

    @property
    def worst_missing_rate(self) -> float:
        """Largest fraction of missing calls of a sample."""
        return max(self.missing)

    @property
    def n_much_missing(self) -> int:
        """Number of samples whose fraction of missing calls is above ``MUCH_MISSING``."""
        return sum(fraction > MUCH_MISSING for fraction in self.missing)

    @property
    def phased_share(self) -> float:
        """Fraction of used sites without an unphased heterozygous call."""
        return 1.0 - self.n_unphased / max(self.n_used, 1)

    @property
    def overlap_share(self) -> float:
        """Fraction of the target's sites within the panel's span that are used."""
        return self.n_used_in_span / max(self.n_in_span, 1)

    @property
    def typed_per_mb(self) -> float:
        """Used sites per megabase of the panel's span."""
        return self.n_used / max(self.bases / 1e6, 1e-6)

    @property
    def n_swapped(self) -> int:
        """Sites with exchanged REF and ALT, without A/T and C/G SNPs."""
        return self.counts[SWAPPED] + self.counts[FLIPPED_SWAPPED]

    @property
    def n_flipped(self) -> int:
        """Sites on the other strand, without A/T and C/G SNPs."""
        return self.counts[FLIPPED] + self.counts[FLIPPED_SWAPPED]

    @property
    def n_shared_positions(self) -> int:
        """The target's sites at positions where the panel has a site."""
        return self.n_target_sites - self.counts[NOT_IN_PANEL]

    @property
    def n_lifted(self) -> int:
        """Sites that were lifted over from another build."""
        return self.lift.get(LIFTED, 0)

    @property
    def unlifted(self) -> dict[str, int]:
        """Sites that could not be lifted over, by reason."""
        return {reason: count for reason, count in self.lift.items() if reason != LIFTED}

    @property
    def build_agreement(self) -> float:
        """Fraction of the sites at shared positions that have the panel's alleles, on either strand.

        Two genome builds share positions by chance, and then the alleles rarely agree. A target below two thirds is
        refused as a wrong build.
        """
        return 1.0 - self.counts[ALLELE_MISMATCH] / max(self.n_shared_positions, 1)

    @property
    def mirrored(self) -> tuple[str, ...]:
        """The panels' chromosomes at which the target's allele frequencies mirror the panel's."""
        parts = [part for part in (self.parts or (self,)) if part.frequencies.mirrored]
        return tuple(dict.fromkeys(part.density[0].chrom for part in parts))

    def summary(self) -> dict[str, Any]:
        """The report as JSON values, without the notes. ``chromosomes`` has the figures of each part."""
        return {
            **self._figures(),
            "density": [dict(vars(bin_)) for bin_ in self.density],
            "frequencies": self.frequencies.as_dict(),
            "chromosomes": [
                {"chrom": part.density[0].chrom, "from": part.density[0].start, "to": part.density[-1].stop}
                | part._figures()
                for part in self.parts
            ],
            "absent": dict(self.absent),
            "excluded_records": dict(self.excluded_records),
            "mirrored": list(self.mirrored),
            "lift": dict(self.lift),
        }

    def _figures(self) -> dict[str, Any]:
        return {
            "n_samples": self.n_samples,
            "n_haploid": self.n_haploid,
            "n_doubled": self.n_homozygous_coded,
            "n_target_sites": self.n_target_sites,
            "n_panel_sites": self.n_panel_sites,
            "panel_filled": round(self.panel_filled, 6),
            "n_used": self.n_used,
            "counts": dict(self.counts),
            "n_swapped": self.n_swapped,
            "n_flipped": self.n_flipped,
            "n_shared_positions": self.n_shared_positions,
            "build_agreement": round(self.build_agreement, 6),
            "n_half_calls": self.n_half_calls,
            "missing_rate": round(self.missing_rate, 6),
            "worst_missing_rate": round(self.worst_missing_rate, 6),
            "n_much_missing": self.n_much_missing,
            "phased_share": round(self.phased_share, 6),
            "overlap_share": round(self.overlap_share, 6),
            "typed_per_mb": round(self.typed_per_mb, 3),
        }

    def write(self, json_path: Path) -> None:
        """Writes the summary to ``json_path`` and the notes, one per line, to a TSV file of the same name."""
        table = json_path.with_suffix(".tsv")
        lines = ["\t".join(_COLUMNS), *("\t".join(str(getattr(note, c)) for c in _COLUMNS) for note in self.notes)]
        write_text(table, "\n".join(lines) + "\n")
        write_json(json_path, {**self.summary(), "sites": table.name})


def short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A report's summary without lists of bins, cells, sites and chromosomes: for a line of text or a header."""
    figures = {name: value for name, value in summary["frequencies"].items() if name not in ("cells", "different")}
    kept = {name: value for name, value in summary.items() if name not in ("density", "chromosomes", "absent")}
    return {**kept, "frequencies": figures}


class RefusedTargetError(InputError):
    """A target that was read but cannot be imputed. ``report`` is its QC report."""

    def __init__(
        self, code: str, what: str, *, report: QcReport, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(code, what, where=where, hint=hint)
        self.report = report

    def changed(
        self, *, report: QcReport | None = None, what: str | None = None, hint: str | None = None
    ) -> RefusedTargetError:
        """The same error with another report, text or hint."""
        return RefusedTargetError(
            self.code, what or self.what, report=report or self.report, where=self.where, hint=hint or self.hint
        )


def typed_density(
    chrom: str, typed_pos: npt.NDArray[np.int32], panel_pos: npt.NDArray[np.int32]
) -> tuple[DensityBin, ...]:
    """Counts the used sites' positions ``typed_pos`` [m] in bins along the panel's span.

    There are 100 bins of equal length, but for rounding. A span shorter than 100 positions has one bin per position.
    """
    first, last = int(panel_pos[0]), int(panel_pos[-1])
    edges = np.linspace(first, last + 1, min(_DENSITY_BINS, last + 1 - first) + 1).round().astype(np.int64)
    counts = np.diff(np.searchsorted(typed_pos, edges, side="left"))
    rows = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return tuple(DensityBin(chrom, start, stop - 1, count) for start, stop, count in rows)
