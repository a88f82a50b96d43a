"""The records of a target whose table of variants is in memory and whose genotypes are read one variant at a time."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.regions import Region, names_of
from vcfbert.genotypes.sex_chromosomes import between_pars, has_chrom
from vcfbert.genotypes.vcf_file import check_samples

Alleles = tuple[str, ...]
GenotypeArray = npt.NDArray[np.int16]

# PLINK's names and number of the pseudo-autosomal part of X.
_PAR_NAMES: Final = ("XY", "PAR1", "PAR2")
_PAR: Final = "25"
_BASES: Final = frozenset("ACGTN")
_UNKNOWN: Final = ("0", ".")
_ID: Final = re.compile(r"[!-:<-~]{1,200}")  # that a VCF may hold

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Samples:
    """``male`` [n_samples]: what the file says of sex; False where it says nothing."""

    names: tuple[str, ...]
    male: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Variants:
    """The table of variants. ``alleles`` of each: first the one that is called 0."""

    chrom: list[str] = field(default_factory=list)
    pos: list[int] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    alleles: list[Alleles] = field(default_factory=list)

    def add(self, chrom: str, pos: int, id_: str, alleles: Alleles) -> None:
        self.chrom.append(_PAR if chrom.upper() in _PAR_NAMES else chrom)
        self.pos.append(pos)
        self.id.append(id_ if _ID.fullmatch(id_) else ".")
        self.alleles.append(alleles)

    def __len__(self) -> int:
        return len(self.pos)


class _NoInfo:
    def get(self, key: str, /) -> Any:
        return None


@dataclass(frozen=True)
class _Calls:
    """``vcf_records.Calls``, read when they are asked for."""

    array: Callable[[], GenotypeArray]


@dataclass(frozen=True)
class TargetRecord:
    """``vcf_records.Record``. REF is '.' where no allele is known: such a record is excluded."""

    CHROM: str
    POS: int
    ID: str | None
    REF: str
    ALT: Sequence[str]
    genotype: _Calls
    INFO: _NoInfo = field(default_factory=_NoInfo)


class TargetRecords:
    """``Source`` over a table of variants. Its records are sorted."""

    def __init__(
        self,
        path: Path,
        samples: Samples,
        variants: Variants,
        calls: Callable[[int], GenotypeArray],
        *,
        trace: Trace | None = None,
        regions: Sequence[Region] = (),
    ) -> None:
        """``calls`` gives the genotypes [n_samples, 3] of a variant as ``vcf_records.Calls.array`` does.

        ``regions``: those that will be read. Males get one allele in those between the PARs of X, where the file has
        two; their heterozygous calls are missing, and counted in the log.

        Raises InputError: empty, no_samples, duplicate_samples.
        """
        self.path = path
        self.samples = samples.names
        self._male = np.flatnonzero(samples.male)
        self._haploid = [region for region in regions if between_pars(region)] if len(self._male) else []
        self._n_heterozygous = 0  # calls of males between the PARs
        self._variants = variants
        self._calls = calls
        self._trace = trace
        check_samples(self.samples, path, hint="give each sample a name of its own")
        if not len(variants):
            raise InputError("empty", "the file has no variants", where=str(path), hint="check what wrote it")

    def records(self, region: Region | None) -> Iterator[TargetRecord]:
        names = None if region is None else set(names_of(region.chrom, dict.fromkeys(self._variants.chrom)))
        for i in self._order().tolist():
            record = self._record(i)
            if names is None or (record.CHROM in names and region is not None and region.holds(record.POS)):
                yield record
                if self._trace is not None:
                    self._trace.note(record.CHROM, record.POS)
        if self._n_heterozygous:
            what = "%s: %d heterozygous calls of males on X between its PARs are read as missing"
            _LOG.warning(what, self.path, self._n_heterozygous)

    def chromosomes(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name in self._variants.chrom:
            counts[name] = counts.get(name, 0) + 1
        return counts

    def length_of(self, chrom: str) -> int | None:
        return None

    def header(self) -> Sequence[str]:
        return ()

    def _order(self) -> npt.NDArray[np.int64]:
        """Variants by chromosome, in the file's order of chromosomes, and by position."""
        number = {name: i for i, name in enumerate(dict.fromkeys(self._variants.chrom))}
        chrom = np.fromiter((number[name] for name in self._variants.chrom), np.int64, len(self._variants))
        return np.asarray(np.lexsort((np.array(self._variants.pos, dtype=np.int64), chrom)))

    def _record(self, i: int) -> TargetRecord:
        table = self._variants
        known = [allele for allele in table.alleles[i] if allele not in _UNKNOWN]
        ref, alts = _written(known)
        return TargetRecord(
            table.chrom[i], table.pos[i], table.id[i], ref, alts, _Calls(lambda: self._genotypes(i, known))
        )

    def _genotypes(self, i: int, known: list[str]) -> GenotypeArray:
        """The calls of a variant, with alleles numbered as in ``known``."""
        chrom, pos, listed = self._variants.chrom[i], self._variants.pos[i], self._variants.alleles[i]
        genotypes = self._calls(i)
        if len(known) < len(listed):
            number = [known.index(allele) if allele in known else MISSING for allele in listed]
            genotypes[:, :2] = np.array([*number, MISSING], dtype=np.int16)[genotypes[:, :2]]  # -1 is the last one
        if any(has_chrom(region, chrom) and region.holds(pos) for region in self._haploid):
            first, second = genotypes[self._male, 0], genotypes[self._male, 1]
            self._n_heterozygous += int(((first >= 0) & (second >= 0) & (first != second)).sum())
            genotypes[self._male, 0] = np.where(first == second, first, MISSING)
            genotypes[self._male, 1] = ABSENT
        return genotypes


def _written(alleles: list[str]) -> tuple[str, list[str]]:
    """REF and ALT. Letters that are no bases, such as I and D for an insertion and a deletion, are symbolic alleles."""
    if not alleles:
        return ".", []
    first, *others = (allele if _is_sequence(allele) or not allele.isalnum() else f"<{allele}>" for allele in alleles)
    return (first, others) if _is_sequence(first) else ("N", [first, *others])


def _is_sequence(allele: str) -> bool:
    return set(allele.upper()) <= _BASES
