"""Scores an imputed VCF against the truth. Sites match by (POS, REF, ALT), samples by name.

Symbolic alleles match by END too. An imputed record without END matches if no other site has its alleles.

A missing site or dosage counts as imputed to the panel's allele frequency. A method therefore gains nothing by omitting
difficult sites. A missing sample is an error.

A haploid sample counts as homozygous, with twice its dosage and 0 or 2 ALT alleles. Both sexes then have the same mean
at the same allele frequency, so figures over both do not reflect their difference in ploidy.

The imputed file's own estimate of r2, if it has one, is reported beside the true r2.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcfbert.config import EvaluateConfig
from vcfbert.constants import ALT
from vcfbert.errors import InputError
from vcfbert.evaluation.imputed_vcf import (
    Haploid,
    SiteKey,
    haploid_in_first_record,
    imputed_blocks,
    record_positions,
)
from vcfbert.genotypes.chromosome_length import length_of
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.regions import Region, same_chrom
from vcfbert.genotypes.sex_chromosomes import BUILDS, Build, build_of_part, has_chrom, is_x
from vcfbert.genotypes.vcf_reader import join_sites, read_parts, several_chromosomes
from vcfbert.metrics.accuracy import ALL, BinScores, SiteScores
from vcfbert.metrics.genotype_quality import QualityPoint, QualityScores
from vcfbert.metrics.r2_sums import R2Sums, R2SumsBuilder

_LOG = logging.getLogger(__name__)
_VCF_SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
BLOCK_CELLS = 1 << 19  # (site, sample) pairs scored at once: some 50 MB of temporaries
_NO_GROUP = {"", ".", "NA"}


@dataclass(frozen=True)
class Evaluation:
    """Figures by bin of the panel's MAF; the last row covers all bins.

    ``absent``: number of scored sites that the imputed file lacks. ``r2_sums``: what a paired comparison resamples.
    ``by_group``: rows for each group of samples. ``genotype_quality``: error rate by GQ; empty if the file has no GQ.
    """

    rows: tuple[BinScores, ...]
    samples: int
    absent: int
    r2_sums: R2Sums = field(compare=False, repr=False)
    by_group: Mapping[str, tuple[BinScores, ...]] = field(default_factory=dict)
    group_samples: Mapping[str, int] = field(default_factory=dict)
    genotype_quality: tuple[QualityPoint, ...] = ()

    def row(self, name: str = ALL) -> BinScores:
        """The row of the bin ``name``."""
        return next(row for row in self.rows if row.bin == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: six decimals, None for an undefined figure."""
        return {
            "rows": [row.as_dict() for row in self.rows],
            "samples": self.samples,
            "absent": self.absent,
            "by_group": {name: [row.as_dict() for row in rows] for name, rows in self.by_group.items()},
            "group_samples": dict(self.group_samples),
            "genotype_quality": [point.as_dict() for point in self.genotype_quality],
        }

    def csv(self) -> str:
        """One line per bin, for plots; an undefined figure is an empty cell."""
        names = ("bin", "sites", *FIGURES)
        rows = (row.as_dict() for row in self.rows)
        lines = [",".join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
        return "\n".join([",".join(names), *lines]) + "\n"

    def table(self) -> str:
        """The figures as aligned text, with groups below; '-' for an undefined figure."""
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
FIGURES = tuple(name for _, name in _COLUMNS)  # of a row, besides its numbers of sites
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
    block_cells: int = BLOCK_CELLS,
) -> Evaluation:
    """Scores ``imputed`` (VCF, VCF.gz or BCF) against ``truth`` at the sites of ``reference``.

    Dosage is FORMAT/DS, else the sum of HDS, else the count of ALT alleles in GT. A haploid sample has a dosage of
    0..1. Genotype probabilities are GP, else derived from HDS, else from the dosage. The estimated r2 of a site is
    INFO/DR2, else INFO/R2; it covers all samples of the file, so groups have none.

    ``reference``: panels, or a panel VCF, whose allele frequencies define the bins. ``typed``: a table of CHROM and POS
    or a VCF; sites at its positions are not scored. ``groups``: a tab-separated table of sample and group.
    ``region``: CHROM or CHROM:FROM-TO, 1-based and inclusive. ``block_cells``: pairs of a site and a sample scored at
    once; it does not change the figures.

    Raises InputError if a file cannot be read, a sample is missing or no site is left to score.
    """
    if truth.resolve() == imputed.resolve():
        raise InputError("same_file", "truth and imputed are the same file", where=str(truth))
    build = _build_of_x(reference, truth, imputed)
    actual = _Truth.read(truth, region, build)
    chrom = actual.sites.chrom
    frequency = _site_frequencies(reference, region or chrom, build)
    rows, af = _scored_sites(actual.sites, frequency, typed_positions(typed, chrom))
    if not len(rows):
        raise InputError(
            "nothing_to_score",
            "no site of the truth is untyped and varies in the reference panel",
            where=str(truth),
            hint="check that truth and reference have the same chromosome and build",
        )
    members = _group_members(groups, actual.samples)
    scored = actual.sites.take(rows)
    counts = actual.counts[rows]
    if not (counts >= 0).any():
        raise InputError(
            "nothing_to_score",
            f"the truth has no call at any of the {len(rows)} sites to score",
            where=str(truth),
            hint="give a truth with genotypes at the untyped sites",
        )
    haploid = _haploid_samples(imputed, actual, rows)
    scores = _Scores(members, R2SumsBuilder(actual.samples, len(rows)))
    seen = np.zeros(len(rows), dtype=np.int64)  # number of records of each site in the imputed file
    quality = QualityScores()
    size = max(block_cells // len(actual.samples), 1)
    row_of = _rows_by_key(scored)
    for block in imputed_blocks(imputed, actual.samples, scored.chrom, row_of, haploid, size=size):
        at = block.at
        quality.update(counts[at], block.called, block.quality)
        np.add.at(seen, at, 1)
        dosage = np.where(np.isnan(block.dosage), 2.0 * af[at, None], block.dosage)
        scores.update(at, counts[at], dosage, af[at], block.probability, block.estimated_r2)
    if (seen > 1).any():
        pos, ref, alt, _ = _keys(scored)[int(np.argmax(seen > 1))]
        raise InputError("duplicate_records", f"the site {pos} {ref}>{alt} has several records", where=str(imputed))
    for at in _blocks(np.flatnonzero(seen == 0), size):
        scores.update(at, counts[at], np.repeat(2.0 * af[at, None], len(actual.samples), axis=1), af[at], None)
    return Evaluation(
        rows=tuple(scores.overall.rows()),
        samples=len(actual.samples),
        absent=int((seen == 0).sum()),
        by_group={name: tuple(group.rows()) for name, group in scores.by_group.items()},
        group_samples={name: len(columns) for name, columns in members.items()},
        genotype_quality=tuple(quality.points()),
        r2_sums=scores.r2_sums.result(),
    )


def score_array(
    config: EvaluateConfig, imputed: Path, panels: Sequence[Panel], *, unphased: bool = False
) -> Evaluation:
    """Scores an imputed VCF of the targets at the sites that the phased or ``unphased`` file does not type."""
    groups = None if config.groups is None else Path(config.groups)
    return evaluate_files(
        _required_path(config.truth, "truth"),
        imputed,
        panels,
        typed=typed_targets(config, unphased=unphased),
        groups=groups,
    )


def typed_targets(config: EvaluateConfig, *, unphased: bool = False) -> Path:
    """The file of the targets' typed sites, phased or ``unphased``. Raises InputError if the parameters name none."""
    if unphased:
        return _required_path(config.typed_unphased, "typed_unphased")
    return _required_path(config.typed_phased, "typed_phased")


def _required_path(path: str | None, name: str) -> Path:
    """The path of the parameter ``evaluate.name``. Raises InputError if it is null."""
    if path is None:
        raise InputError("params_invalid", f"evaluate.{name} is not set", hint="name the targets' files in params.yaml")
    return Path(path)


class _Scores:
    """Accumulators for all samples, for each group, and for the R2 sums."""

    def __init__(self, members: Mapping[str, npt.NDArray[np.intp]], r2_sums: R2SumsBuilder) -> None:
        self.overall = SiteScores()
        self.r2_sums = r2_sums
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
        self.r2_sums.update(at, truth, dosage, af)
        for name, columns in self._members.items():
            part = None if probability is None else probability[:, columns]
            self.by_group[name].update(truth[:, columns], dosage[:, columns], af, part)


def _keys(sites: Sites) -> list[SiteKey]:
    end = np.where(sites.symbolic, sites.end, 0)
    return list(zip(sites.pos.tolist(), sites.ref.tolist(), sites.alt.tolist(), end.tolist(), strict=True))


def _rows_by_key(sites: Sites) -> dict[SiteKey, int]:
    """The index of each site by its key, and without END where no other site has its position and alleles."""
    keys = _keys(sites)
    count = Counter(key[:3] for key in keys)
    row_of = {(*key[:3], 0): row for row, key in enumerate(keys) if count[key[:3]] == 1}
    return row_of | {key: row for row, key in enumerate(keys)}


def _site_frequencies(reference: Path | Sequence[Panel], region: str, build: Build | None) -> dict[SiteKey, float]:
    """Panel ALT frequency of each panel site on the region's chromosome."""
    if not isinstance(reference, Path):
        chrom = Region.parse(region).chrom
        there = [panel for panel in reference if has_chrom(panel.region, chrom)]
        return {key: af for p in there for key, af in zip(_keys(p.sites), p.af.tolist(), strict=True)}
    found: dict[SiteKey, float] = {}
    for part in read_parts(reference, region=region, build=build, symbolic=True):
        af = (part.alleles == ALT).sum(axis=(1, 2)) / np.maximum((part.alleles >= 0).sum(axis=(1, 2)), 1)
        found.update(zip(_keys(part.sites), af.tolist(), strict=True))
    return found


def _build_of_x(reference: Path | Sequence[Panel], *files: Path) -> Build | None:
    """The genome build, which sets where samples of X may change ploidy; None if nothing shows it.

    Panels show it by their regions, and files by the length of X in their headers.
    """
    if isinstance(reference, Path):
        files = (*files, reference)
    else:
        found = [build for panel in reference if (build := build_of_part(panel.region)) is not None]
        if found:
            return found[0]
    lengths = [length_of(file, "X") for file in files]
    return next((build for build in BUILDS.values() if build.x_length in lengths), None)


@dataclass(frozen=True)
class _Truth:
    """True genotypes of one chromosome. Dims: site, sample."""

    samples: tuple[str, ...]
    sites: Sites
    counts: npt.NDArray[np.int64]  # [l, n] of ALT alleles, 0..2; -1 where missing. Haploid calls count as homozygous.
    haploid: npt.NDArray[np.bool_]  # [l, n]

    @classmethod
    def read(cls, path: Path, region: str | None, build: Build | None) -> _Truth:
        parts = read_parts(path, region=region, build=build, symbolic=True)
        for part in parts:
            if part.sites.chrom != parts[0].sites.chrom:
                raise several_chromosomes(path, parts[0].sites.chrom, part.sites.chrom)
        haploid = [np.broadcast_to(part.haploid, part.alleles.shape[:2]) for part in parts]
        sites = join_sites([part.sites for part in parts])
        return cls(parts[0].samples, sites, np.concatenate(list(map(_alt_counts, parts))), np.concatenate(haploid))


def _alt_counts(genotypes: Genotypes) -> npt.NDArray[np.int64]:
    alleles = genotypes.alleles.astype(np.int64)
    alleles[:, genotypes.haploid, 1] = alleles[:, genotypes.haploid, 0]
    return np.where((alleles < 0).any(axis=2), -1, alleles.sum(axis=2))


def _haploid_samples(imputed: Path, truth: _Truth, rows: npt.NDArray[np.int64]) -> Haploid:
    """Whether the samples of the truth are haploid in the imputed file, at the sites ``rows`` of the truth.

    The calls of the first record show it, and on X those of each record, where ploidy changes at the PARs. Some tools
    write males as diploid. A sample without a call is haploid if it is so in the truth.
    """
    chrom, expected = truth.sites.chrom, truth.haploid[rows]
    if is_x(chrom):
        return Haploid(expected, by_record=True)
    return Haploid(haploid_in_first_record(imputed, truth.samples, chrom, expected), by_record=False)


def _scored_sites(
    sites: Sites, frequency: Mapping[SiteKey, float], typed: set[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Indices of the ``sites`` to score and their panel ALT frequencies."""
    af = np.array([frequency.get(key, 0.0) for key in _keys(sites)])
    rows = np.flatnonzero((af > 0.0) & (af < 1.0) & ~np.isin(sites.pos, sorted(typed)))
    return rows, af[rows]


def typed_positions(typed: Path | None, chrom: str | None = None) -> set[int]:
    """1-based positions of ``chrom``, or of all chromosomes, in a VCF or in a table of CHROM and POS.

    A table may have a header. Warns if there is no position.
    """
    if typed is None:
        return set()
    positions = {pos for name, pos in _typed_sites(typed) if chrom is None or same_chrom(name, chrom)}
    if not positions:
        _LOG.warning("%s: no typed site lies on chromosome %s, so all of its sites are scored", typed, chrom)
    return positions


def _typed_sites(typed: Path) -> Iterator[tuple[str, int]]:
    """Chromosome and 1-based position of each site."""
    if typed.name.endswith(_VCF_SUFFIXES):
        for block in record_positions(typed):
            yield from ((block.chrom, pos) for pos in block.pos.tolist())
        return
    for number, fields in _table(typed):
        if len(fields) < 2 or not fields[1].isdigit():
            if number == 1:
                continue  # a header
            raise InputError("typed_invalid", "expected CHROM and POS", where=f"{typed}, line {number}")
        yield fields[0], int(fields[1])


def _group_members(groups: Path | None, samples: Sequence[str]) -> dict[str, npt.NDArray[np.intp]]:
    """Sample indices by group name, sorted; samples without a group are in none."""
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
            "no sample of the truth has a group in this table",
            where=str(groups),
            hint="the first column must hold sample names as in the VCF",
        )
    return {name: np.flatnonzero(named == name) for name in names}


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and fields of each line of a table separated by tabs or blanks."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("table_unreadable", f"cannot be read as a text table ({error})", where=str(path)) from error
    return ((number, line.split()) for number, line in enumerate(lines, 1) if line.strip())


def _blocks(rows: npt.NDArray[np.intp], size: int) -> Iterator[npt.NDArray[np.intp]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
