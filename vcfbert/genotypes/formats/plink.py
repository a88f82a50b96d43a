"""Reads PLINK 1 (.bed, .bim, .fam) and PLINK 2 (.pgen, .pvar, .psam) by pgenlib.

https://www.cog-genomics.org/plink/2.0/formats describes the files. Of a .bed the second allele of the .bim, A2, is
called 0, but neither is certain to be the reference's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vcfbert.constants import MISSING
from vcfbert.errors import InputError, MissingExtraError
from vcfbert.genotypes.formats.plink_tables import read_samples, read_variants
from vcfbert.genotypes.formats.target_file import companions, invalid
from vcfbert.genotypes.formats.target_records import GenotypeArray, TargetRecords, Variants
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.regions import Region

_MAGIC: Final = b"\x6c\x1b"
_BED_HEAD: Final = 3  # bytes before the genotypes
_BY_SAMPLE, _BY_VARIANT = 0, 1  # the third byte of a .bed; that of a .pgen is larger


def plink_records(path: Path, trace: Trace | None = None, regions: Sequence[Region] = ()) -> TargetRecords:
    """A .bed or .pgen; ``regions`` as in ``TargetRecords``.

    Raises InputError: file_not_found, companion_missing, target_invalid and those of TargetRecords; MissingExtraError.
    """
    head, n_bytes = _head(path)
    of_variants, of_samples = companions(path)
    samples, variants = read_samples(of_samples), read_variants(of_variants)
    if path.suffix == ".bed":
        _check_bed(path, head, n_bytes, len(samples.names), len(variants))
    elif head[:2] != _MAGIC or head[2:] <= bytes([_BY_VARIANT]):
        raise invalid(path, "this is no .pgen of PLINK 2", "give the .pgen of plink2 --make-pgen, or a VCF")
    reader = _Reader(path, len(samples.names), variants)
    return TargetRecords(path, samples, variants, reader.calls, trace=trace, regions=regions)


def _head(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as handle:
            return handle.read(_BED_HEAD), path.stat().st_size
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError("file_not_found", what, where=str(path), hint="check the path") from error


def _check_bed(path: Path, head: bytes, n_bytes: int, n_samples: int, n_variants: int) -> None:
    if head == _MAGIC + bytes([_BY_SAMPLE]):
        raise invalid(path, "the .bed is ordered by sample, as PLINK before 1.0 wrote it", "plink1.9 --make-bed")
    if head != _MAGIC + bytes([_BY_VARIANT]):
        raise invalid(path, "this is no .bed of PLINK", "give the .bed of plink2 --make-bed, or a VCF")
    expected = _BED_HEAD + n_variants * -(-n_samples // 4)
    if n_bytes != expected:
        what = f"the .bed has {n_bytes} bytes; {n_samples} samples and {n_variants} variants take {expected}"
        raise invalid(path, what, "take .bed, .bim and .fam of one run, and copy them whole")


class _Reader:
    """Genotypes of a .bed or .pgen."""

    def __init__(self, path: Path, n_samples: int, variants: Variants) -> None:
        self._path = path
        if not n_samples or not len(variants):  # an error that TargetRecords raises
            return
        pgenlib = _pgenlib()
        n_alleles = np.array([len(alleles) for alleles in variants.alleles], dtype=np.uintp)
        offsets = np.concatenate([[0], np.cumsum(n_alleles)]).astype(np.uintp)
        several = bool((n_alleles > 2).any())
        try:
            self._reader = pgenlib.PgenReader(
                bytes(path), n_samples, len(variants), allele_idx_offsets=offsets if several else None
            )
        except (RuntimeError, AssertionError) as error:
            raise self._invalid(error) from error
        self._alleles = np.empty(2 * n_samples, dtype=np.int32)
        self._phased = np.empty(n_samples, dtype=np.uint8)

    def calls(self, variant: int) -> GenotypeArray:
        """[n_samples, 3]: two alleles and phase."""
        try:
            self._reader.read_alleles_and_phasepresent(variant, self._alleles, self._phased)
        except RuntimeError as error:
            raise self._invalid(error) from error
        genotypes = np.empty((len(self._phased), 3), dtype=np.int16)
        genotypes[:, :2] = self._alleles.reshape(-1, 2)
        genotypes[genotypes < 0] = MISSING
        genotypes[:, 2] = self._phased
        return genotypes

    def _invalid(self, error: Exception) -> InputError:
        text = str(error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error)
        return invalid(self._path, f"the genotypes cannot be read ({' '.join(text.split())[:200]})")


def _pgenlib() -> Any:
    try:
        import pgenlib
    except ImportError as error:
        what, hint = "reading PLINK files needs the package pgenlib", "pip install 'vcfbert[formats]', or give a VCF"
        raise MissingExtraError("formats_missing", what, hint=hint) from error
    return pgenlib
