"""Chromosome X in its three stretches: males have two copies of the pseudo-autosomal regions (PAR) at its ends, as of
an autosome, and one copy of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vcfbert.errors import InputError
from vcfbert.genotypes.regions import Region, canonical_chrom


@dataclass(frozen=True)
class Build:
    """A genome build, as far as X is concerned; positions are 1-based and inclusive."""

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
    return canonical_chrom(chrom) == "X"


def build_of(x_length: int | None, named: str | None, where: str) -> Build:
    """The build that was ``named``, or whose X is so long. Raises InputError('build_unknown')."""
    if named in BUILDS:
        return BUILDS[named]
    found = next((build for build in BUILDS.values() if build.x_length == x_length), None)
    if named is not None or found is None:
        what = "the header does not tell the genome build" if named is None else f"there is no genome build {named!r}"
        raise InputError(
            "build_unknown",
            f"{what}, which decides where chromosome X changes its ploidy",
            where=where,
            hint=f"name it: --build {' or '.join(BUILDS)}",
        )
    return found


def regions_of_x(chrom: str, build: Build) -> tuple[Region, Region, Region]:
    """PAR1, what lies between, and PAR2 of X, called ``chrom``."""
    return (
        Region(chrom, 1, build.par1_end),
        Region(chrom, build.par1_end + 1, build.par2_start - 1),
        Region(chrom, build.par2_start, None),
    )


def between_pars(region: Region) -> bool:
    """Whether this is the stretch of X that males have once."""
    return any(regions_of_x(region.chrom, build)[1] == region for build in BUILDS.values()) and is_x(region.chrom)
