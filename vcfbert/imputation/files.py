"""Imputation from file to file. The command line, the DVC stages and the service all call ``impute_file``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert import __version__
from vcfbert.bundle.contents import Bundle
from vcfbert.errors import InputError
from vcfbert.genotypes.formats.target_file import companions, existing_target
from vcfbert.genotypes.lift import TargetLift
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.parsing.process import Cancelled, Parser
from vcfbert.genotypes.qc import QcReport, RefusedTargetError
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.region_reader import RegionsRead, read_regions
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.sex_chromosomes import has_chrom
from vcfbert.genotypes.sites import MatchedTarget, check_positions, match_target, report_without_sites
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_header import DEFAULT_FIELDS, FIELDS, chosen_fields
from vcfbert.genotypes.vcf_writer import ImputedPanel, write_imputed
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.other_build import with_chain, without_chain
from vcfbert.imputation.phasing import unphased_error
from vcfbert.imputation.progress import Progress

FORMATS: Final = ("vcf.gz", "bcf")
# Codes of the errors of a target without sites of one panel. They are raised only if it has no site of any panel.
_WITHOUT_SITES: Final = ("chromosome_missing", "region_empty", "no_overlap", "chain_chromosome", "nothing_lifted")
_OF_BUILDS: Final = ("no_overlap", "wrong_build", "nothing_lifted")  # codes of errors that another build explains


def read_target(
    path: Path,
    panels: Sequence[Panel],
    region: str | None = None,
    *,
    strict: bool = False,
    chain: Path | str | None = None,
    parser: Parser | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[list[MatchedTarget], QcReport]:
    """Reads the target's genotypes at the panels' sites, and the QC report of all of them.

    ``path``: a VCF, BCF, VCF Zarr, .bed or .pgen, or the name of one of the last two without its ending.

    Panels without records in the target are skipped, and with ``region`` panels without sites there. The rest keep
    their order. Records that cannot be used are excluded and counted in the report; ``strict`` refuses the file.
    ``chain``: a chain file from the target's genome build to the panels'; what it cannot lift is excluded and counted.
    ``parser`` and ``cancelled``: as in ``genotypes.parsing.process.in_parser``. Raises InputError;
    RefusedTargetError if the file was read but cannot be used.
    """
    path = existing_target(path)
    wanted = [panel for panel in panels if region is None or _sites_within(panel, region)]
    if not wanted:
        raise _no_site(region, panels)
    lift = None if chain is None else TargetLift.read(Path(chain), wanted)
    read = partial(read_regions, path, strict=strict, parser=parser, cancelled=cancelled)
    try:
        if lift is not None:
            target = read(lift.regions, lift.positions)
        else:
            target = read([panel.region for panel in wanted], [panel.sites.pos for panel in wanted])
        matched, report = _matched(target, panels, wanted, lift)
    except RefusedTargetError as error:
        if error.code not in _OF_BUILDS:
            raise
        if lift is None:
            raise without_chain(error, path, wanted, parser=parser, cancelled=cancelled) from None
        read_without = partial(read_target, path, panels, region, parser=parser, cancelled=cancelled)
        raise with_chain(error, read_without) from None
    if companions(path):  # PLINK files may not say which allele is the reference's, so the panel says it
        matched = [replace(one, swapped=np.zeros_like(one.swapped)) for one in matched]
    return matched, report


def _matched(
    target: RegionsRead, panels: Sequence[Panel], wanted: Sequence[Panel], lift: TargetLift | None
) -> tuple[list[MatchedTarget], QcReport]:
    """Matches what was read for the ``wanted`` ones of the ``panels``."""
    absent = {
        name: count
        for name, count in target.counts.items()
        if not any(has_chrom(panel.region, name) for panel in panels)
    }
    if lift is not None:
        lift.count_chromosomes(target.counts)

    def of_all(reports: Sequence[QcReport]) -> QcReport:
        if lift is None:
            return QcReport.of_all(reports, absent, target.excluded, listed=target.listed)
        return QcReport.of_all(reports, absent, target.excluded, lift.counts, lift.notes, target.listed)

    matched, reports = [], []
    missing: list[RefusedTargetError] = []
    for number, panel in enumerate(wanted):
        try:
            # The genotypes are not bound to a name here, so they are freed once matched.
            found, report = _match(_next(target, lift, number), panel, target.samples)
        except RefusedTargetError as error:
            if error.code not in _WITHOUT_SITES:
                raise error.changed(report=of_all([error.report])) from None
            missing.append(error)
            continue
        matched.append(found)
        reports.append(report)
    if not matched:
        raise missing[0].changed(report=of_all([error.report for error in missing]))
    total = of_all(reports)
    check_positions(total)
    return matched, total


def _next(target: RegionsRead, lift: TargetLift | None, number: int) -> Genotypes | InputError:
    genotypes = next(target.genotypes)
    return genotypes if lift is None else lift.lift(genotypes, number)


def _match(genotypes: Genotypes | InputError, panel: Panel, samples: tuple[str, ...]) -> tuple[MatchedTarget, QcReport]:
    if isinstance(genotypes, Genotypes):
        return match_target(genotypes, panel)
    error = genotypes
    if error.code not in _WITHOUT_SITES:
        raise error
    report = report_without_sites(samples, panel)
    raise RefusedTargetError(error.code, error.what, report=report, where=error.where, hint=error.hint)


@dataclass(frozen=True)
class ImputeOptions:
    """What an imputed file contains.

    ``region``: the panel's sites to write, CHROM:FROM-TO, 1-based and inclusive; typed sites around it are used too.
    ``format``: the output's extension if the caller does not name the file. ``fields``: the FORMAT fields, in the order
    of ``vcf_header.FIELDS``; GT is always written. ``min_dr2``: an untyped record is excluded if the DR2 of each of its
    ALT alleles is lower. ``strict``: a record of the target that cannot be used refuses the file. ``chain``: path of a
    chain file from the target's genome build to the panel's.

    Raises InputError 'region_invalid', 'option_format', 'option_fields' or 'option_min_dr2'.
    """

    region: str | None = None
    format: str = "vcf.gz"
    fields: tuple[str, ...] = DEFAULT_FIELDS
    min_dr2: float = 0.0
    strict: bool = False
    chain: str | None = None

    def __post_init__(self) -> None:
        if self.region is not None:
            Region.parse(self.region)
        if self.format not in FORMATS:
            what = f"{self.format!r} is not a format of the output"
            raise InputError("option_format", what, hint=f"use {' or '.join(FORMATS)}")
        try:
            object.__setattr__(self, "fields", chosen_fields(self.fields))
        except ValueError as error:
            hint = f"choose of {','.join(FIELDS)}"
            raise InputError("option_fields", f"no such field of FORMAT: {error}", hint=hint) from error
        if not 0.0 <= self.min_dr2 <= 1.0:
            raise InputError("option_min_dr2", f"{self.min_dr2} is not a DR2", hint="give a number from 0 to 1")

    @classmethod
    def parse(
        cls,
        *,
        region: str | None = None,
        format: str | None = None,
        fields: str | None = None,
        min_dr2: float | None = None,
        strict: bool = False,
        chain: str | None = None,
    ) -> ImputeOptions:
        """Options from a user's text; an empty text or None gives the default. ``fields`` are comma-separated."""
        names = tuple(name.strip().upper() for name in (fields or "").split(",") if name.strip())
        return cls(
            region=(region or "").strip() or None,
            format=format or cls.format,
            fields=names or cls.fields,
            min_dr2=cls.min_dr2 if min_dr2 is None else min_dr2,
            strict=strict,
            chain=chain or None,
        )


DEFAULT_OPTIONS: Final = ImputeOptions()


@dataclass(frozen=True)
class Imputed:
    """The result of an imputation.

    ``report``: the QC report of the target. ``summary``: JSON values: n_samples, n_sites written, n_left_out (records
    excluded by ``min_dr2``), dr2_by_maf, dr2_histogram, gq_histogram (see ``genotypes.summary``), and the density of
    the typed sites.
    """

    report: QcReport
    summary: dict[str, Any]

    @classmethod
    def of(cls, report: QcReport, summaries: Sequence[Summary]) -> Imputed:
        """Joins the ``summaries`` of one or more panels."""
        summary, *others = summaries
        for other in others:
            summary.add_counts(other.counts())
        density = report.summary()["density"]
        return cls(report, {"n_samples": report.n_samples, **summary.as_dict(), "density": density})


def impute_file(
    imputer: Imputer,
    target: Path,
    out: Path,
    options: ImputeOptions = DEFAULT_OPTIONS,
    *,
    threads: int = 2,
    qc_report: Path | None = None,
    kept: bool = True,
    reported: Callable[[QcReport], None] | None = None,
    begin: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], None] | None = None,
    parser: Parser | None = None,
) -> Imputed:
    """Imputes ``target`` (VCF, BCF, VCF Zarr, or PLINK 1 or 2) into ``out`` (.vcf.gz or .bcf, indexed, or .vcf).

    ``threads`` compress the output. ``qc_report``: path of the JSON report; a TSV of repaired and excluded sites is
    written beside it. Both are written before imputation starts, so a refused target has them too. ``reported``
    receives the report at that time. An output that is not ``kept`` is read at once and then removed: it gets no index.
    ``begin`` receives the total number of sites. ``progress`` and ``cancelled``: as in ``Imputer.impute``; the latter
    is called while the target is read, too. ``parser``: the process that parses it, if one is open.

    Raises InputError. ``out`` is put in place only when it is complete.
    """
    if out.resolve() == target.resolve():
        raise InputError("same_file", "target and output are the same file", where=str(out), hint="name another output")
    bundle = imputer.bundle

    def tell(report: QcReport) -> None:
        if qc_report is not None:
            report.write(qc_report)
        if reported is not None:
            reported(report)

    try:
        matched, report = read_target(
            target,
            bundle.panels,
            options.region,
            strict=options.strict,
            chain=options.chain,
            parser=parser,
            cancelled=cancelled,
        )
    except RefusedTargetError as error:
        tell(error.report)
        raise
    tell(report)
    panels = [bundle.part(one.panel_digest).panel for one in matched]
    intervals = [panel_interval(panel, options.region) for panel in panels]
    if begin is not None:
        begin(sum(stop - start for start, stop in intervals))
    summaries = [Summary(panel) for panel in panels]
    with ExitStack() as open_blocks:
        parts = []
        for one, panel, sites, counted in zip(matched, panels, intervals, summaries, strict=True):
            blocks = imputer.impute(one, sites=sites, progress=progress, cancelled=cancelled)
            open_blocks.enter_context(closing(blocks))
            ids, swapped = per_panel_site(panel, one.panel_site, one.id, one.swapped)
            parts.append(ImputedPanel(panel, blocks, ids, swapped, one.haploid, counted))
        write_imputed(
            out,
            parts,
            samples=matched[0].samples,
            header=file_header(bundle),
            fields=options.fields,
            min_dr2=options.min_dr2,
            threads=threads,
            kept=kept,
        )
    return Imputed.of(report, summaries)


def file_header(bundle: Bundle) -> dict[str, str]:
    """Header fields that name the version, the variant and the panel behind an imputed file."""
    return {"version": __version__, "model": bundle.variant, "panel": bundle.panel_digest}


def per_panel_site(
    panel: Panel,
    panel_site: npt.NDArray[np.int64],
    ids: npt.NDArray[np.object_],
    swapped: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.bool_]]:
    """Spreads the ``ids`` [m] and ``swapped`` [m] of typed sites ``panel_site`` [m] over all sites of the panel.

    Returns IDs object [n_sites], None where untyped, and flags bool [n_sites], True where the input exchanges REF and
    ALT.
    """
    all_ids = np.full(panel.n_sites, None, dtype=object)
    all_ids[panel_site] = ids
    all_swapped = np.zeros(panel.n_sites, dtype=bool)
    all_swapped[panel_site] = swapped
    return all_ids, all_swapped


def check_target(
    imputer: Imputer,
    target: Path,
    *,
    strict: bool = False,
    chain: Path | str | None = None,
    parser: Parser | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[QcReport, InputError | None]:
    """A dry run: returns the target's QC report, and the error that imputing it would raise, or None.

    ``chain``, ``parser`` and ``cancelled``: as in ``read_target``. Raises InputError if the file cannot be read, so
    that there is no report.
    """
    bundle = imputer.bundle
    try:
        matched, report = read_target(
            target, bundle.panels, strict=strict, chain=chain, parser=parser, cancelled=cancelled
        )
    except RefusedTargetError as error:
        return error.report, error
    if bundle.model.takes_unphased:
        return report, None
    unphased = (unphased_error(one, bundle.part(one.panel_digest).panel) for one in matched if one.unphased.any())
    return report, next(unphased, None)


def panel_interval(panel: Panel, region: str | None) -> tuple[int, int]:
    """The half-open interval of panel sites within a region. Raises InputError 'region_empty' if there are none."""
    interval = (0, panel.n_sites) if region is None else _sites_within(panel, region)
    if interval is None:
        raise _no_site(region, [panel])
    return interval


def _sites_within(panel: Panel, region: str) -> tuple[int, int] | None:
    wanted = Region.parse(region)
    low = int(np.searchsorted(panel.sites.pos, wanted.start, side="left"))
    high = panel.n_sites if wanted.stop is None else int(np.searchsorted(panel.sites.pos, wanted.stop, side="right"))
    return (low, high) if has_chrom(panel.region, wanted.chrom) and low < high else None


def _no_site(region: str | None, panels: Sequence[Panel]) -> InputError:
    covered = ", ".join(f"{p.sites.chrom}:{p.sites.pos[0]}-{p.sites.pos[-1]}" for p in panels)
    return InputError("region_empty", f"the panel has no site in {region}", hint=f"it covers {covered}")
