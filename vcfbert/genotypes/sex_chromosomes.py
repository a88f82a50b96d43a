"""The three regions of chromosome X that differ in ploidy.

Males are diploid in the pseudo-autosomal regions (PAR) at both ends of X and haploid between them. The borders here are
those of human X. X of another species is one region (``NO_PARS``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vcfbert.errors import InputError
from vcfbert.genotypes.regions import PLINK_X, Region, bare_chrom, canonical_chrom, same_chrom, same_name

NO_PARS: Final = "none"  # in place of the name of a build


@dataclass(frozen=True)
class Build:
    """Length of X and borders of its PARs in a genome build. Positions are 1-based and inclusive."""

    name: str
    x_length: int
    par1_end: int
    par2_start: int


# Genome Reference Consortium, https://www.ncbi.nlm.nih.gov/grc/human: PAR1 is X:60001-2699520 and PAR2
# X:154931044-155260560 in GRCh37; X:10001-2781479 and X:155701383-156030895 in GRCh38.
BUILDS: Final = {
    build.name: build
    for build in (
        Build("b37", x_length=155_270_560, par1_end=2_699_520, par2_start=154_931_044),
        Build("b38", x_length=156_040_895, par1_end=2_781_479, par2_start=155_701_383),
    )
}


def is_x(chrom: str) -> bool:
    """Whether ``chrom`` is a name of chromosome X, or a number that PLINK gives to human X."""
    return canonical_chrom(chrom) == "X"


def is_autosome_number(chrom: str, length: int | None, named: str | None) -> bool:
    """Whether ``chrom`` is an autosome, though PLINK gives its number to human X: its ``length`` is not that of X.

    ``named``: the build that the user named.
    """
    lengths = {build.x_length for build in BUILDS.values()}
    return bare_chrom(chrom) in PLINK_X and named is None and length is not None and length not in lengths


def build_of(x_length: int | None, named: str | None, where: str) -> Build:
    """The build called ``named``; without a name, the build whose X has ``x_length`` bases.

    Raises InputError('build_unknown').
    """
    if named in BUILDS:
        return BUILDS[named]
    found = next((build for build in BUILDS.values() if build.x_length == x_length), None)
    if named is not None or found is None:
        what = "the header does not name the genome build" if named is None else f"there is no genome build {named!r}"
        raise InputError(
            "build_unknown",
            f"{what}, which sets the borders of the PARs of chromosome X",
            where=where,
            hint=f"give it: --build {' or '.join(BUILDS)}, or --build {NO_PARS} if this is not X of a human",
        )
    return found


def regions_of_x(chrom: str, build: Build) -> tuple[Region, Region, Region]:
    """PAR1, the region between the PARs, and PAR2. ``chrom`` is the name that the file gives to X."""
    return (
        Region(chrom, 1, build.par1_end),
        Region(chrom, build.par1_end + 1, build.par2_start - 1),
        Region(chrom, build.par2_start, None),
    )


def build_of_part(region: Region) -> Build | None:
    """The build of which ``region`` is one of the three regions of X; None if it is of none."""
    parts = {build: regions_of_x(region.chrom, build) for build in BUILDS.values()} if is_x(region.chrom) else {}
    return next((build for build, regions in parts.items() if region in regions), None)


def has_chrom(region: Region, name: str) -> bool:
    """Whether ``name`` names the region's chromosome. PLINK's numbers are names of X only in a region of human X."""
    if same_name(region.chrom, name):
        return True
    return same_chrom(region.chrom, name) and build_of_part(region) is not None


def between_pars(region: Region) -> bool:
    """Whether ``region`` is the part of X between the PARs, where males are haploid."""
    return any(regions_of_x(region.chrom, build)[1] == region for build in BUILDS.values()) and is_x(region.chrom)
