"""Writes PLINK 1 and PLINK 2 files of records as short tuples, without PLINK."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.helpers.vcf_text import Record

_BED_CODES = {(1, 1): 0, (-1, -1): 1, (0, 1): 2, (1, 0): 2, (0, 0): 3}  # of calls in which A2 is 0 and A1 is 1


def _calls(record: Record) -> list[list[int]]:
    """Both alleles of each call, -1 if missing. One allele is written twice, as PLINK does."""
    calls = [call.replace("|", "/").split("/") for call in record[3].split()]
    return [[-1 if allele == "." else int(allele) for allele in (call * 2)[:2]] for call in calls]


def _fam(samples: Sequence[str], sex: str) -> str:
    return "".join(f"F{i}\t{name}\t0\t0\t{sex[i]}\t-9\n" for i, name in enumerate(samples))


def names(records: Sequence[Record]) -> list[str]:
    return [chr(ord("A") + i) for i in range(len(records[0][3].split()))]


def write_bed(
    prefix: Path, records: Sequence[Record], *, chrom: str = "20", sex: str = "", a1_is_ref: Sequence[int] = ()
) -> Path:
    """Writes .bed, .bim and .fam. REF is A2, but A1 in the records of the numbers ``a1_is_ref``."""
    samples, body, bim = names(records), bytearray(b"\x6c\x1b\x01"), ""
    for number, record in enumerate(records):
        pos, ref, alt, _ = record
        turned = number in a1_is_ref
        a1, a2 = (ref, alt) if turned else (alt, ref)
        bim += f"{chrom}\trs{pos}\t0\t{pos}\t{'0' if a1 == '.' else a1}\t{'0' if a2 == '.' else a2}\n"
        codes = [_BED_CODES[tuple(1 - a if turned and a >= 0 else a for a in call)] for call in _calls(record)]  # type: ignore[index]
        codes += [0] * (-len(codes) % 4)
        body += bytes(sum(code << 2 * k for k, code in enumerate(codes[i : i + 4])) for i in range(0, len(codes), 4))
    prefix.with_suffix(".bim").write_text(bim)
    prefix.with_suffix(".fam").write_text(_fam(samples, sex or "0" * len(samples)))
    prefix.with_suffix(".bed").write_bytes(body)
    return prefix.with_suffix(".bed")


def write_pgen(prefix: Path, records: Sequence[Record], *, chrom: str = "20", sex: str = "") -> Path:
    """Writes .pgen, .pvar and .psam. A record is phased if all of its calls are."""
    import pgenlib

    samples = names(records)
    most = max(len(record[2].split(",")) + 1 for record in records)
    path = prefix.with_suffix(".pgen")
    writer = pgenlib.PgenWriter(
        bytes(path),
        len(samples),
        variant_ct=len(records),
        nonref_flags=False,
        allele_ct_limit=most,
        hardcall_phase_present=True,
    )
    for record in records:
        alleles = np.array(_calls(record), dtype=np.int32).ravel()
        alleles[alleles < 0] = -9
        options = {"allele_ct": len(record[2].split(",")) + 1} if most > 2 else {}
        writer.append_alleles(alleles, all_phased="/" not in record[3], **options)
    writer.close()
    rows = (f"{chrom}\t{pos}\trs{pos}\t{ref}\t{alt}\n" for pos, ref, alt, _ in records)
    prefix.with_suffix(".pvar").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n" + "".join(rows))
    table = "".join(f"{name}\t{(sex or '0' * len(samples))[i]}\n" for i, name in enumerate(samples))
    prefix.with_suffix(".psam").write_text("#IID\tSEX\n" + table)
    return path
