"""Regions of a chromosome in the notation of users, and the synonyms of chromosome names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vcfbert.errors import InputError

_REGION = re.compile(r"(?P<chrom>[^:\s]+)(?::(?P<start>[\d,]+)(?:(?P<dash>-)(?P<stop>[\d,]*))?)?")
# PLINK's numbers of human X: outside of the PARs, and in them. Other species have autosomes 23 and 25.
PLINK_X = ("23", "25")


def bare_chrom(name: str) -> str:
    """A chromosome's name without 'chr': '20' for '20', 'chr20' and 'CHR20'; 'MT' for 'chrM'."""
    bare = name[3:] if name[:3].lower() == "chr" else name
    bare = bare.upper() if len(bare) <= 2 else bare
    return "MT" if bare == "M" else bare


def canonical_chrom(name: str) -> str:
    """As ``bare_chrom``, and 'X' for PLINK's numbers of human X."""
    bare = bare_chrom(name)
    return "X" if bare in PLINK_X else bare


def same_name(a: str, b: str) -> bool:
    """Whether two names differ by 'chr' at most, as '20' and 'chr20' do."""
    return bare_chrom(a) == bare_chrom(b)


def same_chrom(a: str, b: str) -> bool:
    """Whether two names may be of the same chromosome: '20' and 'chr20', or 'X' and PLINK's '23'.

    Two of PLINK's numbers are not: they are autosomes of a species other than human, or different parts of X.
    """
    return same_name(a, b) or (canonical_chrom(a) == canonical_chrom(b) and "X" in (bare_chrom(a), bare_chrom(b)))


def names_of(chrom: str, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are of ``chrom``. PLINK's numbers are names of X only where no other name is."""
    given = list(names)
    return [name for name in given if same_name(name, chrom)] or [name for name in given if same_chrom(name, chrom)]


@dataclass(frozen=True)
class Region:
    """Part of a chromosome. ``start`` and ``stop`` are 1-based and inclusive; ``stop`` None: to its end."""

    chrom: str
    start: int = 1
    stop: int | None = None

    @classmethod
    def parse(cls, text: str) -> Region:
        """Reads 'CHROM', 'CHROM:POS', 'CHROM:FROM-' or 'CHROM:FROM-TO'. Raises InputError('region_invalid')."""
        match = _REGION.fullmatch(text.strip())
        if match is None:
            raise _invalid(text)
        if match["start"] is None:
            return cls(match["chrom"])
        start = _position(match["start"], text)
        if match["dash"] is None:
            return cls(match["chrom"], start, start)
        stop = _position(match["stop"], text) if match["stop"] else None
        if start < 1 or (stop is not None and stop < start):
            raise _invalid(text)
        return cls(match["chrom"], start, stop)

    def __str__(self) -> str:
        if self.start == 1 and self.stop is None:
            return self.chrom
        return f"{self.chrom}:{self.start}-{'' if self.stop is None else self.stop}"

    def holds(self, pos: int) -> bool:
        """Whether the 1-based position lies in the region; the chromosome is not compared."""
        return self.start <= pos and (self.stop is None or pos <= self.stop)


def _position(digits: str, text: str) -> int:
    bare = digits.replace(",", "")
    if not bare:
        raise _invalid(text)
    return int(bare)


def _invalid(text: str) -> InputError:
    return InputError(
        "region_invalid",
        f"{text!r} is not a region",
        hint="write CHROM or CHROM:FROM-TO, positions 1-based and inclusive, such as 20:1000000-4000000",
    )
