"""Lifts a target's genotypes over to the panel's genome build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.errors import InputError
from vcfbert.genotypes.chain import MAX_BASES, NO_BLOCK, SEVERAL_BLOCKS, SPLIT, Blocks, Lifted, read_chain
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.qc import LIFTED, UNLIFTED, SiteNote
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.record_info import PANEL_REF
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.sex_chromosomes import has_chrom

Index = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int32]
Text = npt.NDArray[np.object_]

# Why a site is not lifted. Reports store the names.
UNLIFTED_REASONS: Final = {
    "no_chromosome": "the chain file has no chain of the chromosome",
    "no_block": "the chain file has no block at this position",
    "several_blocks": "the chain file leads from this position to several places",
    "split": "REF is not within one block of the chain file",
    "other_chromosome": "the chain file leads to another chromosome, or to another part of X",
    "reverse_indel": "a record of an indel is in a block of the reverse strand",
    "same_position": "several positions of the input are lifted to the same position",
    "reference_block": "within a reference block, whose REF in the other build is unknown",
}
_OF_BLOCK: Final = {NO_BLOCK: "no_block", SEVERAL_BLOCKS: "several_blocks", SPLIT: "split"}
_COMPLEMENT: Final = {"A": "T", "C": "G", "G": "C", "T": "A"}
_NOWHERE: Final = Region("", MAX_BASES, MAX_BASES)


@dataclass
class TargetLift:
    """Lifts a target from another build, by a chain file, to each of several panels."""

    panels: Sequence[Panel]
    blocks: Sequence[Blocks | None]  # from the chromosome of each panel; None if the file has none
    counts: Counter[str] = field(default_factory=Counter)  # sites by reason of UNLIFTED_REASONS, or LIFTED
    notes: list[SiteNote] = field(default_factory=list)  # of the unlifted sites, at their positions in the target

    @classmethod
    def read(cls, path: Path, panels: Sequence[Panel]) -> TargetLift:
        """Reads a chain file. Raises InputError as ``read_chain`` does."""
        chain = read_chain(path)
        return cls(panels, [chain.blocks_of(panel.region.chrom) for panel in panels])

    @property
    def regions(self) -> list[Region]:
        """The region of the target to read for each panel; one without records if the chain file cannot lift it."""
        pairs = zip(self.panels, self.blocks, strict=True)
        return [
            Region(panel.region.chrom, _NOWHERE.start, _NOWHERE.stop)
            if blocks is None
            else blocks.source_region(panel.region)
            for panel, blocks in pairs
        ]

    @property
    def positions(self) -> list[Positions]:
        """The target's positions that are lifted to sites of each panel, ascending."""
        pairs = zip(self.panels, self.blocks, strict=True)
        return [
            np.empty(0, dtype=np.int32) if blocks is None else blocks.sources(panel.region, panel.sites.pos)
            for panel, blocks in pairs
        ]

    def count_chromosomes(self, records: Mapping[str, int]) -> None:
        """Counts the ``records`` of chromosomes that the chain file lacks."""
        lacking = [panel.region for panel, blocks in zip(self.panels, self.blocks, strict=True) if blocks is None]
        for name, count in records.items():
            if any(has_chrom(region, name) for region in lacking):
                self.counts["no_chromosome"] += count

    def lift(self, genotypes: Genotypes | InputError, number: int) -> Genotypes | InputError:
        """The genotypes that were read for panel ``number``, in its build; an error if no site can be lifted."""
        panel, blocks = self.panels[number], self.blocks[number]
        if blocks is None and self.counts["no_chromosome"]:
            what = f"the chain file has no chain of chromosome {panel.region.chrom}"
            return InputError("chain_chromosome", what, where="target", hint="give a chain file of the target's build")
        if isinstance(genotypes, InputError) or blocks is None:
            return genotypes
        place, reason = _lifted(genotypes.sites, blocks, panel.region)
        self._count(genotypes.sites, reason)
        kept = np.flatnonzero(reason == "")
        if not len(kept):
            told = ", ".join(f"{name} {count}" for name, count in Counter(reason.tolist()).items())
            return InputError(
                "nothing_lifted",
                f"no site of the target's chromosome {genotypes.sites.chrom} can be lifted ({told})",
                where=f"target, chromosome {genotypes.sites.chrom}",
                hint="give the chain file that leads from the target's build to the panel's",
            )
        kept = kept[np.argsort(place.pos[kept], kind="stable")]
        return _moved(genotypes, kept, panel.region.chrom, place.pos[kept], blocks.reverse[place.block[kept]])

    def _count(self, sites: Sites, reason: Text) -> None:
        self.counts.update(name or LIFTED for name in reason.tolist())
        for i in np.flatnonzero(reason != "").tolist():
            pos, why = int(sites.pos[i]), UNLIFTED_REASONS[reason[i]]
            note = SiteNote(sites.chrom, pos, sites.id[i], sites.ref[i], sites.alt[i], ".", ".", UNLIFTED, why)
            self.notes.append(note)


def _lifted(sites: Sites, blocks: Blocks, region: Region) -> tuple[Lifted, Text]:
    """The sites' places in the other build, and the reason why a site is not lifted to ``region``, '' if it is.

    The sites of a record are lifted together or not at all, because without its other sites a multiallelic record reads
    as a biallelic one.
    """
    longest = _longest(sites.ref)
    place = blocks.lift(sites.pos.astype(np.int64), longest)
    reason = np.full(len(sites), "", dtype=object)
    for code, name in _OF_BLOCK.items():
        reason[place.block == code] = name
    block = np.maximum(place.block, 0)
    inside = (place.pos >= region.start) & (place.pos <= (MAX_BASES if region.stop is None else region.stop))
    _set(reason, ~(blocks.to(region.chrom)[block] & inside), "other_chromosome")
    indel = np.maximum(longest, _longest(sites.alt)) > 1
    _set(reason, blocks.reverse[block] & indel, "reverse_indel")
    _set(reason, sites.ref == PANEL_REF, "reference_block")
    _set(reason, _together(place.pos, sites.pos, reason == ""), "same_position")
    record = np.cumsum(~sites.continues) - 1
    for name in UNLIFTED_REASONS:
        of_record = np.zeros(len(sites), dtype=bool)
        of_record[record[reason == name]] = True
        _set(reason, of_record[record], name)
    return place, reason


def _set(reason: Text, where: npt.NDArray[np.bool_], name: str) -> None:
    reason[np.asarray(where & (reason == ""), dtype=bool)] = name


def _together(lifted: Index, pos: Positions, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether a ``chosen`` site is lifted to the position of one that has another position in the target."""
    index = np.flatnonzero(chosen)
    place, inverse = np.unique(lifted[index], return_inverse=True)
    low, high = np.full(len(place), MAX_BASES), np.zeros(len(place), dtype=np.int64)
    np.minimum.at(low, inverse, pos[index])
    np.maximum.at(high, inverse, pos[index])
    together = np.zeros(len(pos), dtype=bool)
    together[index] = (low != high)[inverse]
    return together


def _moved(genotypes: Genotypes, kept: Index, chrom: str, pos: Index, reverse: npt.NDArray[np.bool_]) -> Genotypes:
    """The ``kept`` sites, at other positions, with the complement of their alleles on the ``reverse`` strand."""
    sites = genotypes.sites.take(kept)
    ref, alt = sites.ref.copy(), sites.alt.copy()
    for column in (ref, alt):
        column[reverse] = [_COMPLEMENT.get(allele, allele) for allele in column[reverse]]
    moved = Sites(chrom, pos.astype(np.int32), ref, alt, sites.id, sites.continues, sites.info)
    return Genotypes(genotypes.samples, moved, genotypes.alleles[kept], genotypes.phased[kept])


def _longest(alleles: Text) -> Index:
    return np.fromiter(map(len, alleles), dtype=np.int64, count=len(alleles))
