"""The unknown alleles of a panel: missing calls, and heterozygous calls without phase."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.kernels import Alleles

# An unphased panel has about as many unphased heterozygous calls as random mating gives. Inbred lines have a tenth.
MAX_UNPHASED: Final = 0.5


class Filler(Protocol):
    """Gives unknown alleles values (``copying/panel_filler.py``)."""

    @property
    def max_share(self) -> float:
        """The largest share of unknown alleles of a panel that is filled."""

    def filled(self, panel: Panel, unknown: Alleles) -> Iterator[Alleles]:
        """All alleles of ``panel``, consecutive sites at a time, packed as in ``SiteBlocks.of``.

        ``unknown`` uint8 [l, ceil(h / 8)], packed likewise: 1 where an allele is unknown. The panel has REF there.
        """


def unknown_calls(block: Genotypes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Unknown alleles [n_sites, n_samples, 2], and the number of unphased heterozygous samples [n_sites].

    Both alleles of an unphased heterozygous call are unknown, since either haplotype may have either.
    """
    unknown = (block.alleles == MISSING) | (~block.phased[:, :, None] & (block.alleles != ABSENT))
    unphased = ~block.phased & (block.alleles >= 0).all(axis=2)
    return unknown, unphased.sum(axis=1, dtype=np.int64)


class UnknownAlleles:
    """The unknown alleles of one panel while it is read, in a file beside it once there are any."""

    def __init__(self, path: Path, n_haplotypes: int, n_samples: int) -> None:
        self._path = path
        self._n_haplotypes, self._n_samples = n_haplotypes, n_samples
        self._n_sites = 0
        self._n_unknown, self._n_unphased = 0, 0
        self._expected = 0.0  # heterozygous calls under random mating

    def __bool__(self) -> bool:
        return self._n_unknown > 0

    def add(self, unknown: Alleles, unphased: npt.NDArray[np.int64], allele_count: npt.NDArray[np.int64]) -> None:
        """The next sites. ``unknown``: packed, or of no rows where all alleles are known. ``unphased`` [n_sites]:
        unphased heterozygous samples. ``allele_count`` [n_sites]: known ALT alleles."""
        n_known = np.full(len(allele_count), self._n_haplotypes)
        if len(unknown):
            n_unknown = np.bitwise_count(unknown).sum(axis=1, dtype=np.int64)
            n_known -= n_unknown
            self._n_unknown += int(n_unknown.sum())
            self._n_unphased += int(unphased.sum())
            with self._path.open("r+b" if self._path.exists() else "wb") as file:
                file.seek(self._n_sites * unknown.shape[1])  # a hole, read as zeros, where earlier sites are complete
                file.write(np.ascontiguousarray(unknown).data)
        af = (allele_count + unphased) / (n_known + 2 * unphased).clip(min=1)
        self._expected += float((2.0 * af * (1.0 - af)).sum()) * self._n_samples
        self._n_sites += len(allele_count)

    def check(self, max_share: float, where: str) -> str:
        """What is unknown, in words. Raises InputError: panel_missing beyond ``max_share``, and panel_unphased."""
        if self._n_unphased > MAX_UNPHASED * self._expected:
            raise InputError(
                "panel_unphased",
                f"the panel has {self._n_unphased} unphased heterozygous calls, about as many as an unphased panel",
                where=where,
                hint="phase it first, with SHAPEIT, Beagle or Eagle",
            )
        share = self.share
        said = f"{share:.2%} of the alleles are unknown"
        if self._n_unphased:
            said += f", {2 * self._n_unphased / self._n_unknown:.0%} of them in unphased heterozygous calls"
        if share > max_share:
            raise InputError(
                "panel_missing",
                f"{said}, and at most {max_share:.0%} are filled",
                where=where,
                hint="remove samples and records with many missing calls, or raise prepare.max_missing (--max-missing)",
            )
        return said

    @property
    def share(self) -> float:
        """Share of the alleles that are unknown."""
        return self._n_unknown / max(self._n_sites * self._n_haplotypes, 1)

    def packed(self) -> Alleles:
        """The unknown alleles of all sites, packed and memory-mapped."""
        width = -(-self._n_haplotypes // 8)
        with self._path.open("r+b") as file:
            file.truncate(self._n_sites * width)  # adds the complete sites at the end
        return np.memmap(self._path, np.uint8, "r", shape=(self._n_sites, width))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
