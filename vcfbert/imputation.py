"""From a target file to an imputed file: what the command line, the stages and the service all call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vcfbert import __version__
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.qc import QcReport
from vcfbert.genotypes.regions import Region, same_chrom
from vcfbert.genotypes.sites import MatchedTarget, match_target
from vcfbert.genotypes.vcf_reader import read_genotypes
from vcfbert.genotypes.vcf_writer import write_imputed
from vcfbert.inference import Imputer, Progress


def read_target(path: Path, panel: Panel) -> tuple[MatchedTarget, QcReport]:
    """The target's genotypes at the panel's sites, of the panel's chromosome alone. Raises InputError."""
    return match_target(read_genotypes(path, region=panel.sites.chrom), panel)


def impute_file(
    imputer: Imputer,
    target: Path,
    out: Path,
    *,
    region: str | None = None,
    threads: int = 2,
    qc_report: Path | None = None,
    begin: Callable[[int], None] | None = None,
    progress: Progress | None = None,
) -> QcReport:
    """Imputes ``target`` (VCF, VCF.gz, BCF) into ``out`` (.vcf.gz or .vcf or .bcf, indexed).

    ``region``: CHROM:FROM-TO (1-based, inclusive), the panel's sites to write; typed sites around it are used all
    the same. ``qc_report``: JSON, with a TSV of repaired and left-out sites beside it; written before imputation
    starts, so it is there when that is refused. ``begin`` is told the number of sites to come, ``progress`` how
    many more are done. Raises InputError; nothing stands under ``out`` unless all of it does.
    """
    if out.resolve() == target.resolve():
        raise InputError("same_file", "target and output are the same file", where=str(out), hint="name another output")
    bundle = imputer.bundle
    panel = bundle.panel
    matched, report = read_target(target, panel)
    if qc_report is not None:
        report.write(qc_report)
    sites = panel_interval(panel, region)
    if begin is not None:
        begin(sites[1] - sites[0])
    ids = np.full(panel.n_sites, None, dtype=object)
    ids[matched.panel_site] = matched.id
    swapped = np.zeros(panel.n_sites, dtype=bool)
    swapped[matched.panel_site] = matched.swapped
    write_imputed(
        out,
        imputer.impute(matched, sites=sites, progress=progress),
        panel=panel,
        samples=matched.samples,
        header={"version": __version__, "model": bundle.variant, "panel": panel.digest},
        ids=ids,
        swapped=swapped,
        haploid=matched.haploid,
        threads=threads,
    )
    return report


def panel_interval(panel: Panel, region: str | None) -> tuple[int, int]:
    """Half-open interval of panel sites within a region. Raises InputError if there are none."""
    if region is None:
        return 0, panel.n_sites
    wanted = Region.parse(region)
    low = int(np.searchsorted(panel.sites.pos, wanted.start, side="left"))
    high = panel.n_sites if wanted.stop is None else int(np.searchsorted(panel.sites.pos, wanted.stop, side="right"))
    if not same_chrom(wanted.chrom, panel.sites.chrom) or low >= high:
        first, last = panel.sites.pos[[0, -1]]
        raise InputError(
            "region_empty",
            f"the panel has no site in {region}",
            hint=f"it covers {panel.sites.chrom}:{first}-{last}",
        )
    return low, high
