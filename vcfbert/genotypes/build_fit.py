"""Whether a target's sites are in the panel's genome build, told by their positions and alleles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Final

# A larger fraction of other alleles, among at least so many sites at shared positions, means another genome build. In
# another build about half of the shared positions have the panel's alleles, because most SNPs are transitions.
_MAX_OTHER_ALLELES: Final = 1 / 3
_MIN_SHARED: Final = 10
# With fewer sites, or with a larger fraction of them in the panel, chance is not considered.
_MIN_SITES: Final = 10
_ENOUGH: Final = 0.5


@dataclass(frozen=True)
class BuildFit:
    """Counts of a target's sites within the panel's span.

    Sites without ALT are not counted, because any REF is one of the alleles of most SNPs, on one strand or the other.
    """

    n_sites: int = 0
    n_shared: int = 0  # at positions of panel sites
    n_agreeing: int = 0  # of them, with the panel's alleles
    by_chance: float = 0.0  # expected ``n_shared`` of sites at random positions

    @classmethod
    def of_all(cls, parts: Iterable[BuildFit]) -> BuildFit:
        """The sums for several panels."""
        listed = list(parts)
        return cls(
            sum(part.n_sites for part in listed),
            sum(part.n_shared for part in listed),
            sum(part.n_agreeing for part in listed),
            sum(part.by_chance for part in listed),
        )

    @property
    def has_other_alleles(self) -> bool:
        """Whether the alleles at shared positions are those of another build."""
        n_other = self.n_shared - self.n_agreeing
        return self.n_shared >= _MIN_SHARED and n_other > _MAX_OTHER_ALLELES * self.n_shared

    @property
    def is_chance(self) -> bool:
        """Whether so few sites agree with the panel that positions of another build explain them (three sigma)."""
        if self.n_sites < _MIN_SITES or self.n_agreeing >= _ENOUGH * self.n_sites:
            return False
        return self.n_agreeing <= self.by_chance + 3.0 * sqrt(self.by_chance) + 1.0
