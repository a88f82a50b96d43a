"""The reference panel: phased haplotypes, their sites and genetic positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.record_info import RecordInfo, end_of, is_symbolic
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.site_blocks import SiteBlocks

IntArray = npt.NDArray[np.int64]


class Lines(NamedTuple):
    """l texts as lines. Line i begins at ``starts[i]`` of ``buffer`` and ends with a newline before the next."""

    buffer: npt.NDArray[np.uint8]
    starts: IntArray  # [l + 1]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Lines:
        buffer = np.frombuffer("\n".join([*texts, ""]).encode(), dtype=np.uint8)
        return cls(buffer, np.append(0, np.flatnonzero(buffer == ord("\n")) + 1))

    def replaced(self, start: int, stop: int, texts: Mapping[int, str]) -> Lines:
        """The lines [start, stop), those of the keys of ``texts`` with other texts. Without any they share memory."""
        starts = self.starts[start : stop + 1]
        if not texts:
            return Lines(self.buffer, starts)
        places = sorted(texts)
        others = [f"{texts[place]}\n".encode() for place in places]
        ends = [int(starts[0]), *self.starts[np.array(places) + 1].tolist()]
        begins = [*self.starts[places].tolist(), int(starts[-1])]
        view = self.buffer.data
        kept = [view[end:begin] for end, begin in zip(ends, begins, strict=True)]
        pieces = [piece for pair in zip(kept, [*others, b""], strict=True) for piece in pair]
        lengths = np.diff(starts)
        lengths[np.array(places) - start] = [len(other) for other in others]
        return Lines(np.frombuffer(b"".join(pieces), dtype=np.uint8), np.append(0, np.cumsum(lengths)))


@dataclass(frozen=True)
class Sites:
    """Biallelic sites of one chromosome, sorted by position. Dims: site.

    Indices into these arrays are 0-based, and intervals of indices are half-open.
    """

    chrom: str
    pos: npt.NDArray[np.int32]  # 1-based (VCF's POS)
    ref: npt.NDArray[np.object_]
    alt: npt.NDArray[np.object_]
    id: npt.NDArray[np.object_]  # '.' where the record has none
    # True where a site comes from the same multiallelic record as the site before it; a writer joins them again.
    continues: npt.NDArray[np.bool_]
    info: RecordInfo | None = None  # kept INFO; None where no site has any and no ALT is symbolic

    def __len__(self) -> int:
        return len(self.pos)

    @cached_property
    def lines(self) -> tuple[Lines, Lines, Lines]:
        """REF, ALT and ID of all sites, for kernels. Joining those of 25,000 sites takes 3 ms."""
        return Lines.of(self.ref.tolist()), Lines.of(self.alt.tolist()), Lines.of(self.id.tolist())

    def take(self, index: npt.NDArray[np.int64] | slice) -> Sites:
        """The sites at the given indices."""
        info = None if self.info is None else self.info.take(index)
        columns = (self.pos[index], self.ref[index], self.alt[index], self.id[index], self.continues[index])
        return Sites(self.chrom, *columns, info)

    @property
    def end(self) -> IntArray:
        """[n_sites]: END of the site's record, 1-based and inclusive; 0 where it has none."""
        if self.info is None:
            return np.zeros(len(self), dtype=np.int64)
        return np.fromiter(map(end_of, self.info.texts), dtype=np.int64, count=len(self))

    @property
    def symbolic(self) -> npt.NDArray[np.bool_]:
        """[n_sites]: True where ALT has no sequence, so that no target is typed there."""
        if self.info is None:
            return np.zeros(len(self), dtype=bool)
        return np.fromiter(map(is_symbolic, self.alt), dtype=bool, count=len(self))


def haplotype_pairs(n_samples: int, haploid: Sequence[int]) -> IntArray:
    """[n_samples, 2]: the haplotypes of each sample; ``haploid``: the samples that have one, which is given twice."""
    ploidy = np.full(n_samples, 2)
    ploidy[list(haploid)] = 1
    last = np.cumsum(ploidy) - 1
    return np.stack([last - ploidy + 1, last], axis=1)


@dataclass(frozen=True)
class Panel:
    """Phased reference haplotypes of an autosome, or of one of the regions of X that differ in ploidy.

    Haplotypes are numbered sample by sample: two for a diploid sample, one for a haploid sample.
    """

    region: Region  # what the panel covers; a target's records there are matched to the panel
    samples: tuple[str, ...]
    sites: Sites
    blocks: SiteBlocks  # the alleles of all haplotypes
    cm: npt.NDArray[np.float64]  # [n_sites], genetic position in centimorgans
    allele_count: IntArray  # [n_sites], number of ALT alleles
    validation: tuple[int, ...]  # indices of the samples that training does not see
    digest: str  # see ``PanelDigest``
    haploid: tuple[int, ...] = ()  # indices of the haploid samples, ascending
    filled: float = 0.0  # share of the alleles that the file lacks (``unknown_alleles.py``)

    @property
    def n_sites(self) -> int:
        return len(self.sites)

    @property
    def n_haplotypes(self) -> int:
        return 2 * len(self.samples) - len(self.haploid)

    @cached_property
    def pairs(self) -> IntArray:
        """[n_samples, 2]: the haplotypes of each sample. A haploid sample has its only haplotype twice."""
        return haplotype_pairs(len(self.samples), self.haploid)

    def haplotypes_of(self, samples: Sequence[int]) -> IntArray:
        """Haplotype indices [2 * n] of n samples, given by index, in the same order; see ``pairs``."""
        return self.pairs[np.asarray(samples, dtype=np.int64)].reshape(-1)

    @cached_property
    def af(self) -> npt.NDArray[np.float64]:
        """ALT allele frequency in the whole panel, [n_sites]."""
        return self.allele_count / self.n_haplotypes

    @cached_property
    def maf(self) -> npt.NDArray[np.float64]:
        """Minor-allele frequency in the whole panel, [n_sites]."""
        return np.minimum(self.af, 1.0 - self.af)

    @cached_property
    def training_haplotypes(self) -> IntArray:
        """Haplotype indices of the samples outside of the validation split, ascending."""
        held_out = set(self.validation)
        return np.unique(self.haplotypes_of([i for i in range(len(self.samples)) if i not in held_out]))

    @cached_property
    def validation_haplotypes(self) -> IntArray:
        """Haplotype indices [2 * n] of the validation samples, in their order."""
        return self.haplotypes_of(self.validation)

    def some_validation_haplotypes(self, max_samples: int, shift: int = 0) -> IntArray:
        """Haplotype indices of at most ``max_samples`` validation samples, and of others with another ``shift``.

        The samples are evenly spaced over the file, because a file may be sorted by population.
        """
        n_samples = min(max_samples, len(self.validation))
        some = np.linspace(0, len(self.validation) - 1, n_samples).round().astype(int) + shift
        return self.haplotypes_of([self.validation[place] for place in np.sort(some % len(self.validation))])

    def alleles(
        self, sites: slice | npt.NDArray[np.int64], haplotypes: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Alleles uint8 [n chosen haplotypes, n chosen sites], 0 = REF, 1 = ALT. None means all haplotypes."""
        return self.blocks.alleles(sites, haplotypes)
