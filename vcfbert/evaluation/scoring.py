"""Scores an imputed VCF against the truth: sites match on (POS, REF, ALT), samples on name.

A site that the imputed file lacks, and a missing dosage, count as imputed to the panel's allele frequency: leaving
out what is hard never pays. A sample that it lacks is an error.

A haploid sample counts as a homozygous one, with twice its dosage and 0 or 2 ALT alleles: so sexes have the same mean
where they have the same frequency, and a figure over both says nothing of how they differ in ploidy.

Beside the true r2 of a site stands the one that the imputed file estimates of itself, where it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcfbert.config import EvaluateConfig
from vcfbert.constants import ABSENT, ALT
from vcfbert.errors import InputError
from vcfbert.evaluation.imputed_vcf import SiteKey, imputed_blocks, records, sample_order
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.regions import Region, same_chrom
from vcfbert.genotypes.vcf_file import inspect
from vcfbert.genotypes.vcf_reader import Genotypes, read_genotypes
from vcfbert.metrics.accuracy import ALL, BinScores, SiteScores
from vcfbert.metrics.genotype_quality import QualityPoint, QualityScores
from vcfbert.metrics.r2_sums import R2Sums, R2SumsBuilder

_VCF_SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
_BLOCK_CELLS = 1 << 19  # (site, sample) pairs scored at once: some 50 MB of temporaries
_NO_GROUP = {"", ".", "NA"}


@dataclass(frozen=True)
class Evaluation:
    """Figures by bin of the panel's MAF, the last row over all bins; ``by_group`` the same for each group of
    samples. ``absent``: scored sites that the imputed file lacks. ``genotype_quality``: how often genotypes are wrong,
    by the file's GQ; empty where it has none. ``moments``: what a comparison in pairs resamples."""

    rows: tuple[BinScores, ...]
    samples: int
    absent: int
    moments: R2Sums = field(compare=False, repr=False)
    by_group: Mapping[str, tuple[BinScores, ...]] = field(default_factory=dict)
    group_samples: Mapping[str, int] = field(default_factory=dict)
    genotype_quality: tuple[QualityPoint, ...] = ()

    def row(self, name: str = ALL) -> BinScores:
        return next(row for row in self.rows if row.bin == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: six decimals, None where a figure is undefined."""
        return {
            "rows": [row.as_dict() for row in self.rows],
            "samples": self.samples,
            "absent": self.absent,
            "by_group": {name: [row.as_dict() for row in rows] for name, rows in self.by_group.items()},
            "group_samples": dict(self.group_samples),
            "genotype_quality": [point.as_dict() for point in self.genotype_quality],
        }

    def csv(self) -> str:
        """A line a bin, for plots: empty where a figure is undefined."""
        names = ("bin", "sites", *FIGURES)
        rows = (row.as_dict() for row in self.rows)
        lines = [",".join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
        return "\n".join([",".join(names), *lines]) + "\n"

    def table(self) -> str:
        """The figures as aligned text, groups below; '-' where a figure is undefined."""
        lines = [_HEADER, *map(_line, self.rows)]
        lines.append(f"samples: {self.samples}, sites absent from the imputed file: {self.absent}")
        for name, rows in self.by_group.items():
            lines += ["", f"{name} ({self.group_samples[name]} samples)", *map(_line, rows)]
        if self.genotype_quality:
            lines += ["", f"{'GQ':>8} {'genotypes':>12} {'wrong':>9} {'promised':>9}"]
        for point in self.genotype_quality:
            lines.append(f"{point.name:>8} {point.genotypes:>12,} {point.wrong:>9.5f} {point.promised:>9.5f}")
        return "\n".join(lines)


_COLUMNS = (
    ("agg r2", "aggregate_r2"),
    ("site r2", "mean_site_r2"),
    ("NRC", "nonref_concordance"),
    ("F1", "minor_f1"),
    ("IQS", "iqs"),
    ("calib", "calibration_error"),
    ("est r2", "mean_estimated_r2"),
    ("est cor", "estimate_correlation"),
)
FIGURES = tuple(name for _, name in _COLUMNS)  # of a row, beside its numbers of sites
_HEADER = f"{'MAF bin':>8} {'sites':>8} {'poly':>8}" + "".join(f" {title:>8}" for title, _ in _COLUMNS)


def _line(row: BinScores) -> str:
    figures = "".join(f" {_figure(getattr(row, name)):>8}" for _, name in _COLUMNS)
    return f"{row.bin:>8} {row.sites:>8} {row.polymorphic_sites:>8}{figures}"


def _figure(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def evaluate_files(
    truth: Path,
    imputed: Path,
    reference: Path | Sequence[Panel],
    *,
    typed: Path | None = None,
    groups: Path | None = None,
    region: str | None = None,
) -> Evaluation:
    """Scores ``imputed`` (VCF, VCF.gz or BCF) against ``truth`` at the sites of ``reference``.

    Dosage is FORMAT/DS, else the sum of HDS, else the ALT alleles of GT; genotype probabilities are GP, else
    follow from HDS, else from the dosage. Of haploid samples the dosage is of one allele, 0..1. The estimated r2 of a
    site is INFO/DR2, else INFO/R2, of all samples of the file: groups of them have none. ``reference``: the panels, or
    their VCF, whose frequencies make the bins. ``typed``: sites not to score (by position), a table CHROM POS or a VCF.
    ``groups``: a tab-separated table of sample and group. ``region``: CHROM or CHROM:FROM-TO, 1-based and inclusive.

    Raises InputError where a file cannot be read, a sample is missing or no site is left to score.
    """
    if truth.resolve() == imputed.resolve():
        raise InputError("same_file", "truth and imputed are the same file", where=str(truth))
    actual = read_genotypes(truth, region=region, symbolic=True)
    frequency = _site_frequencies(reference, region or actual.sites.chrom)
    rows, af = _scored_sites(actual.sites, frequency, typed_positions(typed))
    if not len(rows):
        raise InputError(
            "nothing_to_score",
            "no site of the truth is in the reference panel, varies there and is untyped",
            where=str(truth),
            hint="are truth and reference of the same chromosome and build?",
        )
    members = _group_members(groups, actual.samples)
    scored = actual.sites.take(rows)
    counts = _alt_counts(actual, rows)
    haploid = _haploid_samples(imputed, scored.chrom, actual)
    scores = _Scores(members, R2SumsBuilder(actual.samples, len(rows)))
    seen = np.zeros(len(rows), dtype=np.int64)  # how often the imputed file has each site
    quality = QualityScores()
    size = _block_size(len(actual.samples))
    row_of = {key: row for row, key in enumerate(_keys(scored))}
    for block in imputed_blocks(imputed, actual.samples, scored.chrom, row_of, haploid, size=size):
        at = block.at
        quality.update(counts[at], block.called, block.quality)
        np.add.at(seen, at, 1)
        dosage = np.where(np.isnan(block.dosage), 2.0 * af[at, None], block.dosage)
        scores.update(at, counts[at], dosage, af[at], block.probability, block.estimated_r2)
    if (seen > 1).any():
        pos, ref, alt = _keys(scored)[int(np.argmax(seen > 1))]
        raise InputError("duplicate_records", f"the site {pos} {ref}>{alt} comes twice", where=str(imputed))
    for at in _blocks(np.flatnonzero(seen == 0), len(actual.samples)):
        scores.update(at, counts[at], np.repeat(2.0 * af[at, None], len(actual.samples), axis=1), af[at], None)
    return Evaluation(
        rows=tuple(scores.overall.rows()),
        samples=len(actual.samples),
        absent=int((seen == 0).sum()),
        by_group={name: tuple(group.rows()) for name, group in scores.by_group.items()},
        group_samples={name: len(columns) for name, columns in members.items()},
        genotype_quality=tuple(quality.points()),
        moments=scores.moments.result(),
    )


def score_array(
    config: EvaluateConfig, imputed: Path, panels: Sequence[Panel], *, unphased: bool = False
) -> Evaluation:
    """Scores an imputed VCF of the targets at the sites that were not typed, in the phased or ``unphased`` file."""
    groups = None if config.groups is None else Path(config.groups)
    return evaluate_files(
        given(config.truth, "truth"), imputed, panels, typed=typed_targets(config, unphased=unphased), groups=groups
    )


def typed_targets(config: EvaluateConfig, *, unphased: bool = False) -> Path:
    """The targets' typed sites, phased or not. Raises InputError where the parameters name none."""
    if unphased:
        return given(config.typed_unphased, "typed_unphased")
    return given(config.typed_phased, "typed_phased")


def given(path: str | None, name: str) -> Path:
    """A path of the parameters' section ``evaluate``. Raises InputError where it is null."""
    if path is None:
        raise InputError("params_invalid", f"evaluate.{name} is not set", hint="name the targets' files in params.yaml")
    return Path(path)


class _Scores:
    """One accumulator for all samples, one for each group, and the moments."""

    def __init__(self, members: Mapping[str, npt.NDArray[np.intp]], moments: R2SumsBuilder) -> None:
        self.overall = SiteScores()
        self.moments = moments
        self.by_group = {name: SiteScores() for name in members}
        self._members = members

    def update(
        self,
        at: npt.NDArray[np.intp],
        truth: npt.NDArray[Any],
        dosage: npt.NDArray[Any],
        af: npt.NDArray[np.float64],
        probability: npt.NDArray[Any] | None,
        estimated_r2: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.overall.update(truth, dosage, af, probability, estimated_r2)
        self.moments.update(at, truth, dosage, af)
        for name, columns in self._members.items():
            part = None if probability is None else probability[:, columns]
            self.by_group[name].update(truth[:, columns], dosage[:, columns], af, part)


def _keys(sites: Sites) -> list[SiteKey]:
    return list(zip(sites.pos.tolist(), sites.ref.tolist(), sites.alt.tolist(), strict=True))


def _site_frequencies(reference: Path | Sequence[Panel], region: str) -> dict[SiteKey, float]:
    """ALT frequency in the panel of each of its sites on the region's chromosome."""
    if not isinstance(reference, Path):
        chrom = Region.parse(region).chrom
        there = [panel for panel in reference if same_chrom(panel.region.chrom, chrom)]
        return {key: af for p in there for key, af in zip(_keys(p.sites), p.af.tolist(), strict=True)}
    panel = read_genotypes(reference, region=region, symbolic=True)
    af = (panel.alleles == ALT).sum(axis=(1, 2)) / np.maximum((panel.alleles >= 0).sum(axis=(1, 2)), 1)
    return dict(zip(_keys(panel.sites), af.tolist(), strict=True))


def _alt_counts(genotypes: Genotypes, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """ALT alleles 0..2 of sites ``rows`` [l, n], haploid samples counted as homozygous; -1 where missing."""
    alleles = genotypes.alleles[rows].astype(np.int64)
    alleles[:, genotypes.haploid, 1] = alleles[:, genotypes.haploid, 0]
    return np.where((alleles < 0).any(axis=2), -1, alleles.sum(axis=2))


def _haploid_samples(imputed: Path, chrom: str, truth: Genotypes) -> npt.NDArray[np.bool_]:
    """[n]: samples of the truth whose dosages in the imputed file are of one allele, by the calls of its first
    record: tools may well write males as diploid. As in the truth where there is no call."""
    order = sample_order(imputed, inspect(imputed).samples, truth.samples)
    first = next((record for record in records(imputed) if same_chrom(record.CHROM, chrom)), None)
    if first is None or "GT" not in first.FORMAT:
        return truth.haploid
    calls = first.genotype.array()[order]  # [n, ploidy + 1], the last column tells the phase
    one = (calls[:, 1] == ABSENT) | (calls.shape[1] == 2)
    return np.where(calls[:, 0] >= 0, one, truth.haploid)


def _scored_sites(
    sites: Sites, frequency: Mapping[SiteKey, float], typed: set[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rows of ``sites`` to score and their panel ALT frequencies."""
    af = np.array([frequency.get(key, 0.0) for key in _keys(sites)])
    rows = np.flatnonzero((af > 0.0) & (af < 1.0) & ~np.isin(sites.pos, sorted(typed)))
    return rows, af[rows]


def typed_positions(typed: Path | None) -> set[int]:
    """1-based positions of a table CHROM POS (no header needed) or of a VCF."""
    if typed is None:
        return set()
    if typed.name.endswith(_VCF_SUFFIXES):
        return {int(record.POS) for record in records(typed)}
    positions = set()
    for number, fields in _table(typed):
        if len(fields) < 2 or not fields[1].isdigit():
            if number == 1:
                continue  # a header
            raise InputError("typed_invalid", "expected CHROM and POS", where=f"{typed}, line {number}")
        positions.add(int(fields[1]))
    return positions


def _group_members(groups: Path | None, samples: Sequence[str]) -> dict[str, npt.NDArray[np.intp]]:
    """Columns of each group, in the order of the groups' names; samples without a group belong to none."""
    if groups is None:
        return {}
    group_of: dict[str, str] = {}
    for number, fields in _table(groups):
        if len(fields) < 2:
            raise InputError("groups_invalid", "expected sample and group", where=f"{groups}, line {number}")
        group_of[fields[0]] = fields[1]
    named = np.array([group_of.get(sample, "") for sample in samples])
    names = sorted(set(named.tolist()) - _NO_GROUP)
    if not names:
        raise InputError(
            "groups_no_sample",
            "no sample of the truth has a group here",
            where=str(groups),
            hint="the first column must be the sample's name as in the VCF",
        )
    return {name: np.flatnonzero(named == name) for name in names}


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number from 1, fields) of a table separated by tabs or blanks."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("table_unreadable", f"cannot be read as a text table ({error})", where=str(path)) from error
    return ((number, line.split()) for number, line in enumerate(lines, 1) if line.strip())


def _block_size(n_samples: int) -> int:
    return max(_BLOCK_CELLS // n_samples, 1)


def _blocks(rows: npt.NDArray[np.intp], n_samples: int) -> Iterator[npt.NDArray[np.intp]]:
    size = _block_size(n_samples)
    return (rows[start : start + size] for start in range(0, len(rows), size))
