"""Reads an imputed VCF in blocks for scoring: dosages, genotype probabilities, calls and estimated r2."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import cyvcf2
import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.parsing.messages import TEXT, Array, Record, check, in_range
from vcfbert.genotypes.parsing.process import in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.record_info import end_of_record, is_symbolic
from vcfbert.genotypes.regions import same_chrom
from vcfbert.genotypes.vcf_file import inspect
from vcfbert.genotypes.vcf_records import check_bcf

SiteKey = tuple[int, str, str, int]  # POS, REF, ALT, and END of a symbolic ALT or 0

_ESTIMATES = ("DR2", "R2")  # INFO fields
_BLOCK_POSITIONS: Final = 1 << 16  # sent at once


@dataclass(frozen=True)
class ScoredBlock:
    """A block of l records to score, with n samples in the order of the truth."""

    at: npt.NDArray[np.intp]  # [l], index of each site among those scored
    dosage: npt.NDArray[np.float32]  # [l, n], of ALT alleles; NaN without one
    probability: npt.NDArray[np.float32]  # [l, n, 3], of genotypes; NaN without one
    called: npt.NDArray[np.int8]  # [l, n], ALT alleles of GT; MISSING without GT or GQ
    quality: npt.NDArray[np.int16]  # [l, n], GQ of that call; MISSING likewise
    estimated_r2: npt.NDArray[np.float64]  # [l], NaN without one


@dataclass(frozen=True)
class Haploid:
    """Which samples are haploid at the scored sites.

    ``expected`` [l, n] holds where calls do not show it. ``by_record``: the calls of each record show it.
    """

    expected: npt.NDArray[np.bool_]
    by_record: bool


def haploid_calls(record: Any, expected: npt.NDArray[np.bool_], order: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Whether each sample is haploid [n] in a record; as ``expected`` [n] where it has no call there.

    ``order``: column of each sample.
    """
    if "GT" not in record.FORMAT:
        return expected
    calls = record.genotype.array()[order]  # [n, ploidy + 1]; the last column is the phase
    one = (calls[:, 1] == ABSENT) | (calls.shape[1] == 2)
    return np.asarray(np.where(calls[:, 0] >= 0, one, expected))


def imputed_blocks(
    path: Path,
    samples: Sequence[str],
    chrom: str,
    row_of: Mapping[SiteKey, int],
    haploid: Haploid,
    *,
    size: int,
) -> Iterator[ScoredBlock]:
    """The records of ``chrom`` at the sites of ``row_of``, in blocks of about ``size``.

    ``row_of``: index of each site among those scored, by ``site_key``. Columns follow the order of ``samples``; haploid
    samples become homozygous. The file is parsed in another process. Raises InputError if the file lacks a sample or
    cannot be read.
    """
    arguments = (tuple(samples), chrom, dict(row_of), haploid, size)
    for block in in_parser(scored_blocks, path, *arguments, kinds=(_SCORED_BLOCK,)):
        check(in_range(block.at, 0, max(row_of.values())) and block.dosage.shape[1] == len(samples))
        yield block


def _fits(block: ScoredBlock) -> bool:
    return in_range(block.called, MISSING, 2) and in_range(block.quality, MISSING, np.iinfo(np.int16).max)


_SCORED_BLOCK: Final = Record(
    ScoredBlock,
    _fits,
    at=Array("int64", "site"),
    dosage=Array("float32", "site", "sample"),
    probability=Array("float32", "site", "sample", 3),
    called=Array("int8", "site", "sample"),
    quality=Array("int16", "site", "sample"),
    estimated_r2=Array("float64", "site"),
)


def scored_blocks(
    path: Path,
    trace: Trace,
    samples: Sequence[str],
    chrom: str,
    row_of: Mapping[SiteKey, int],
    haploid: Haploid,
    size: int,
) -> Iterator[ScoredBlock]:
    """The blocks of ``imputed_blocks``, which has the arguments. Runs in a parser process."""
    order = sample_order(path, _checked_samples(path), samples)
    block: list[_Values] = []
    for record in _records(path, trace):
        if not same_chrom(record.CHROM, chrom):
            continue
        for index, alt in enumerate(record.ALT):
            row = row_of.get(site_key(record, alt))
            if row is not None:
                block.append(_values(record, index, row, order, haploid))
        if len(block) >= size:
            yield _stacked(block)
            block = []
    if block:
        yield _stacked(block)


def site_key(record: Any, alt: str) -> SiteKey:
    """The identity of one ALT of a record, as of ``genotypes.panel.Sites``."""
    if not is_symbolic(alt):
        return record.POS, record.REF.upper(), alt.upper(), 0
    return record.POS, record.REF.upper(), alt, end_of_record(record)


class HaploidFlags(NamedTuple):
    """``flags`` [l, n]: which samples are haploid at the scored sites."""

    flags: npt.NDArray[np.bool_]


_HAPLOID_FLAGS: Final = Record(HaploidFlags, flags=Array("bool", "site", "sample"))


def haploid_in_first_record(
    path: Path, samples: Sequence[str], chrom: str, expected: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which ``samples`` are haploid [l, n] by the first record of ``chrom``, and as ``expected`` [l, n] without a call.

    Raises InputError as ``imputed_blocks`` does.
    """
    (found,) = in_parser(haploid_flags, path, tuple(samples), chrom, expected, kinds=(_HAPLOID_FLAGS,))
    check(found.flags.shape == expected.shape)
    return np.asarray(found.flags)


def haploid_flags(
    path: Path, trace: Trace, samples: Sequence[str], chrom: str, expected: npt.NDArray[np.bool_]
) -> Iterator[HaploidFlags]:
    """The result of ``haploid_in_first_record``. Runs in a parser process."""
    order = sample_order(path, _checked_samples(path), samples)
    first = next((record for record in _records(path, trace) if same_chrom(record.CHROM, chrom)), None)
    yield HaploidFlags(expected if first is None else haploid_calls(first, expected, order))


class Positions(NamedTuple):
    """1-based positions [m] of consecutive records of one chromosome."""

    chrom: str
    pos: npt.NDArray[np.int64]


_POSITIONS: Final = Record(Positions, chrom=TEXT, pos=Array("int64", "record"))


def record_positions(path: Path) -> Iterator[Positions]:
    """Chromosomes and positions of a VCF's or BCF's records. Raises InputError if it cannot be read."""
    yield from in_parser(positions, path, kinds=(_POSITIONS,))


def positions(path: Path, trace: Trace) -> Iterator[Positions]:
    """The blocks of ``record_positions``. Runs in a parser process."""
    for chrom, group in groupby(((r.CHROM, int(r.POS)) for r in _records(path, trace)), key=itemgetter(0)):
        while block := [pos for _, pos in islice(group, _BLOCK_POSITIONS)]:
            yield Positions(chrom, np.array(block, dtype=np.int64))


def _checked_samples(path: Path) -> tuple[str, ...]:
    """The samples of an imputed file whose records can be decoded. Raises InputError if it or a record is damaged."""
    file = inspect(path)
    if file.is_bcf:
        check_bcf(path)
    return file.samples


def _records(path: Path, trace: Trace) -> Iterator[Any]:
    """The records of a VCF or BCF. Raises InputError if it cannot be read to its end."""
    try:
        for record in cyvcf2.VCF(str(path)):
            yield record
            trace.note(record.CHROM, record.POS)
    except Exception as error:  # cyvcf2 also raises bare Exceptions
        raise InputError("vcf_unreadable", f"cannot be read as VCF or BCF ({error})", where=str(path)) from error


def sample_order(path: Path, present: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[np.intp]:
    """Column [n] in the file of each ``wanted`` sample. Raises InputError if one is not ``present``."""
    column = {name: index for index, name in enumerate(present)}
    missing = [name for name in wanted if name not in column]
    if missing:
        raise InputError(
            "samples_missing",
            f"{len(missing)} of the truth's {len(wanted)} samples are not here: {', '.join(missing[:5])}"
            + (" ..." if len(missing) > 5 else ""),
            where=str(path),
            hint="truth and imputed file must use the same sample names",
        )
    return np.array([column[name] for name in wanted])


# The fields of a ScoredBlock for one record.
_Values = tuple[
    int,
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
    npt.NDArray[np.int8],
    npt.NDArray[np.int16],
    npt.NDArray[np.bool_],
    float,
]


def _values(record: Any, index: int, row: int, order: npt.NDArray[np.intp], haploid: Haploid) -> _Values:
    """The values of ALT ``index`` of a record, with flags of haploid samples; ``order``: column of each sample."""
    dosage, probability = _dosage_and_probability(record, index)
    called, quality = _called_and_quality(record, len(dosage))
    one = haploid.expected[row]
    if haploid.by_record:
        one = haploid_calls(record, one, order)
    return row, dosage[order], probability[order], called[order], quality[order], one, _estimated_r2(record, index)


def _stacked(block: Sequence[_Values]) -> ScoredBlock:
    rows, *by_sample, estimates = zip(*block, strict=True)
    dosage, probability, called, quality, haploid = map(np.stack, by_sample)
    if haploid.any():
        alt = dosage[haploid]
        probability[haploid] = np.stack([1.0 - alt, np.zeros_like(alt), alt], axis=1)
        dosage[haploid] *= 2.0
        called[haploid] = np.where(called[haploid] > 0, 2, called[haploid])
    at, estimated_r2 = np.array(rows, dtype=np.intp), np.array(estimates, dtype=np.float64)
    return ScoredBlock(at, dosage, probability, called, quality, estimated_r2)


def _dosage_and_probability(record: Any, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Dosage [n] and genotype probabilities [n, 3] of ALT ``index`` of a record; NaN where it has none."""
    n_alt, fields = len(record.ALT), record.FORMAT
    haplotypes = record.format("HDS") if "HDS" in fields and n_alt == 1 else None  # [n, 1 or 2]
    if "DS" in fields:
        dosage = record.format("DS")[:, index]
    elif haplotypes is not None:
        dosage = np.nansum(haplotypes, axis=1)
    else:
        alleles = record.genotype.array()[:, :-1]  # [n, 1 or 2]; the last column is the phase
        missing = (alleles[:, 0] < 0) | (alleles == MISSING).any(axis=1)
        dosage = np.where(missing, np.nan, (alleles == index + 1).sum(axis=1))
    probability = np.full((len(dosage), 3), np.nan, dtype=np.float32)
    if "GP" in fields and n_alt == 1:
        given = record.format("GP")
        probability[:, : given.shape[1]] = given[:, :3]
    elif haplotypes is not None and haplotypes.shape[1] == 2:
        first, second = haplotypes[:, 0], haplotypes[:, 1]
        both = first * second
        probability[:] = np.stack([1.0 - first - second + both, first + second - 2.0 * both, both], axis=1)
    return np.asarray(dosage, dtype=np.float32), probability


def _called_and_quality(record: Any, n_samples: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int16]]:
    """ALT alleles in GT and GQ, [n] each; MISSING where either is missing.

    All are MISSING in a record of several ALT alleles, because its GQ covers all of them.
    """
    called, quality = np.full(n_samples, MISSING, np.int8), np.full(n_samples, MISSING, np.int16)
    if not {"GT", "GQ"} <= set(record.FORMAT) or len(record.ALT) > 1:
        return called, quality
    alleles = record.genotype.array()[:, :-1]  # [n, 1 or 2]; the last column is the phase
    given = record.format("GQ")[:, 0]  # a large negative integer, or NaN, where missing
    known = (alleles[:, 0] >= 0) & ~(alleles == MISSING).any(axis=1) & (given >= 0)
    called[known], quality[known] = (alleles[known] == 1).sum(axis=1), given[known]
    return called, quality


def _estimated_r2(record: Any, index: int) -> float:
    """The file's estimate of r2 for ALT ``index`` of a record; NaN without one.

    Beagle and vcfbert write it as DR2, Minimac4 as R2.
    """
    for name in _ESTIMATES:
        given = record.INFO.get(name)
        if given is None:
            continue
        if isinstance(given, str):  # the header does not declare the field
            given = given.split(",")
        values = list(given) if isinstance(given, Iterable) else [given]
        try:
            return float(values[index]) if index < len(values) else math.nan
        except (TypeError, ValueError):
            return math.nan
    return math.nan
