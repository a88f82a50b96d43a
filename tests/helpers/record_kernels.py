"""Arguments of the kernels that format records of imputed files, for the contract of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.kernel_cases import KernelCase
from vcfbert.genotypes import record_bcf, record_text, record_values


def imputed_records(
    rng: np.random.Generator,
    *,
    n: int = 5,
    max_alts: int = 1,
    gp: bool = False,
    gq: bool = True,
    all_haploid: bool = False,
) -> tuple[Any, ...]:
    """Arguments of ``round_records``: 30 sites with missing, half and haploid calls and alleles exchanged."""
    length = rng.integers(1, max_alts + 1, size=30)
    first = np.append(0, np.cumsum(length))
    first = first[first <= 30]
    first[-1] = 30
    hds = rng.beta(0.2, 0.5, size=(30, n, 2)).astype(np.float32)
    hds[rng.random(hds.shape) < 0.3] = 0.0
    haploid = np.full(n, True) if all_haploid else rng.random(n) < 0.3
    calls = np.where(rng.random(hds.shape) < 0.5, rng.integers(0, 2, hds.shape), -1).astype(np.int8)
    calls[rng.random(30) < 0.5] = -1
    calls[:, haploid, 1] = -2
    low, high = np.maximum(hds.sum(axis=-1) - 1, 0), hds.min(axis=-1)
    two = low + rng.random(low.shape) * (high - low)
    genotype = np.stack([1 - hds.sum(axis=-1) + two, hds.sum(axis=-1) - 2 * two, two], axis=-1).astype(np.float32)
    loo = np.where(calls >= 0, rng.random(hds.shape), np.nan).astype(np.float32)
    given = record_values._Imputed(hds, calls, genotype if gp else genotype[:0], loo if gq else loo[:0])
    empty = (np.zeros(shape, dtype) for shape, dtype in (
        ((30, n, 2), np.int16), ((30, n), np.int16), ((30 if gq else 0, n), np.uint8), (30, np.int64),
        (30, np.float64), (30, np.float64), (30, np.bool_), (len(first) - 1, np.bool_),
    ))  # fmt: skip
    values = record_values.RecordValues(*empty)
    return given, first, haploid, rng.random(30) < 0.3, 0.2, values, np.zeros(1001, np.int64)


def biallelic_records(rng: np.random.Generator) -> tuple[Any, ...]:
    return imputed_records(rng, n=7)


def records_with_genotype_probabilities(rng: np.random.Generator) -> tuple[Any, ...]:
    return imputed_records(rng, gp=True)


def multiallelic_records(rng: np.random.Generator) -> tuple[Any, ...]:
    return imputed_records(rng, n=3, max_alts=4, gp=True)


def records_of_one_sample_without_quality(rng: np.random.Generator) -> tuple[Any, ...]:
    return imputed_records(rng, n=1, max_alts=2, gq=False)


def records_of_no_probabilities(rng: np.random.Generator) -> tuple[Any, ...]:
    made = imputed_records(rng, n=2)
    made[0].dosage[0, 0, 0] = np.nan
    made[0].calls[0] = -1
    return made


def records_to_format(rng: np.random.Generator, has: tuple[bool, ...], **of: Any) -> tuple[Any, ...]:
    """Columns, contents, flags of haploid samples and of fields, from numbers that ``round_records`` made."""
    _, first, haploid, _, _, values, _ = made = imputed_records(rng, gq=has[3], **of)
    record_values.round_records.plain(*made)
    n_sites = len(values.total)
    numbers = np.column_stack([10.0 ** rng.uniform(-17, 0, n_sites), rng.random((n_sites, 2)), values.er2])
    numbers[0] = [0.0, 1.0, 0.5, 1e-5]
    numbers[2] = [0.099999999, 0.00012345, 0.12345, 0.9999951]

    def texts(longest: int) -> tuple[np.ndarray, np.ndarray]:
        starts = np.append(0, np.cumsum(rng.integers(2, longest, size=n_sites)))
        letters = rng.integers(65, 70, size=starts[-1]).astype(np.uint8)
        return letters, starts

    pos = rng.integers(1, 2**31 - 1, size=n_sites).astype(np.int32)
    swapped = rng.random(n_sites) < 0.3
    info = *texts(30), rng.integers(0, 4, size=n_sites).astype(np.uint8), rng.integers(1, 2**31 - 1, size=n_sites)
    columns = record_text.RecordColumns(first, swapped, pos, *texts(4), *texts(20), *texts(40), *info)
    kept = rng.random(len(first) - 1) < 0.8
    contents = record_text.RecordContents(values.hds, values.two, values.gq, numbers, values.typed, kept)
    return columns, contents, haploid, np.array(has)


def lines_of(rng: np.random.Generator, has: tuple[bool, ...], **of: Any) -> tuple[Any, ...]:
    chrom, fields = (np.frombuffer(text, np.uint8) for text in (b"chr20", b"GT:X"))
    return *records_to_format(rng, has, **of), chrom, fields, np.zeros(500_000, np.uint8), np.zeros(30, np.int64)


def lines_with_all_fields(rng: np.random.Generator) -> tuple[Any, ...]:
    return lines_of(rng, (True, True, True, True), n=6)


def lines_without_quality(rng: np.random.Generator) -> tuple[Any, ...]:
    return lines_of(rng, (True, False, True, False), n=6, gp=True)


def lines_of_multiallelic_records(rng: np.random.Generator) -> tuple[Any, ...]:
    return lines_of(rng, (True, True, True, True), n=2, max_alts=12)


def bcf_of(rng: np.random.Generator, has: tuple[bool, ...], **of: Any) -> tuple[Any, ...]:
    keys, out = np.arange(len(record_bcf.KEYS), dtype=np.uint8), np.zeros(500_000, np.uint8)
    return *records_to_format(rng, has, **of), 3, keys, record_bcf.THOUSANDTHS, out, np.zeros(30, np.int64)


def bcf_with_all_fields(rng: np.random.Generator) -> tuple[Any, ...]:
    return bcf_of(rng, (True, True, True, True), n=6, gp=True)


def bcf_of_haploid_samples(rng: np.random.Generator) -> tuple[Any, ...]:
    return bcf_of(rng, (True, True, True, False), n=3, max_alts=2, all_haploid=True)


def bcf_of_multiallelic_records(rng: np.random.Generator) -> tuple[Any, ...]:
    return bcf_of(rng, (True, True, True, True), n=2, max_alts=30)


RECORD_CASES: list[KernelCase] = [
    (record_values.round_records, biallelic_records),
    (record_values.round_records, records_with_genotype_probabilities),
    (record_values.round_records, multiallelic_records),
    (record_values.round_records, records_of_one_sample_without_quality),
    (record_values.round_records, records_of_no_probabilities),
    (record_text.spell_records, lines_with_all_fields),
    (record_text.spell_records, lines_without_quality),
    (record_text.spell_records, lines_of_multiallelic_records),
    (record_bcf.encode_records, bcf_with_all_fields),
    (record_bcf.encode_records, bcf_of_haploid_samples),
    (record_bcf.encode_records, bcf_of_multiallelic_records),
]
