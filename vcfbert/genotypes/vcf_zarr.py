"""The records of a VCF Zarr, the arrays that bio2zarr writes (https://github.com/sgkit-dev/vcf-zarr-spec).

Reads Zarr formats 2 and 3, in a folder or a zip file, one chunk of records at a time. docs/dev/decisions.md says why
vcztools is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.errors import InputError, MissingExtraError
from vcfbert.genotypes.regions import Region, names_of
from vcfbert.genotypes.vcf_file import check_samples

if TYPE_CHECKING:  # without cyvcf2 at run time
    from vcfbert.genotypes.vcf_records import Record

_GROUP_FILES: Final = ("zarr.json", ".zgroup", ".zattrs")
_ZIP: Final = b"PK\x03\x04"
_NEEDED: Final = ("call_genotype", "contig_id", "sample_id", "variant_allele", "variant_contig", "variant_position")

_COLUMNS: Final = (
    *("variant_contig", "variant_position", "variant_length", "variant_id"),
    *("variant_allele", "variant_quality", "variant_filter"),
)
# Number of an INFO field by the name of its array's second dimension.
_NUMBERS: Final = {"alt_alleles": "A", "alleles": "R", "genotypes": "G"}


def is_vcf_zarr(path: Path) -> bool:
    """Whether ``path`` is a Zarr group, with any content: a folder or a zip file."""
    if path.is_dir():
        return any((path / name).is_file() for name in _GROUP_FILES)
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        return handle.read(len(_ZIP)) == _ZIP


@dataclass(frozen=True)
class _Calls:
    """``vcf_records.Calls`` over the arrays."""

    alleles: npt.NDArray[np.int8]  # [n_samples, ploidy]
    phased: npt.NDArray[np.bool_]  # [n_samples]

    def array(self) -> npt.NDArray[np.int16]:
        return np.concatenate([self.alleles, self.phased[:, None]], axis=1, dtype=np.int16)


class _InfoArrays:
    """The INFO arrays of one chunk of records, each read when it is first asked for."""

    def __init__(self, read: Callable[[str], npt.NDArray[Any] | None]) -> None:
        self._read = read
        self._arrays: dict[str, npt.NDArray[Any] | None] = {}

    def values(self, name: str) -> npt.NDArray[Any] | None:
        if name not in self._arrays:
            self._arrays[name] = self._read(name)
        return self._arrays[name]


@dataclass(frozen=True)
class _Info:
    """``record_info.Info`` of one record."""

    arrays: _InfoArrays
    place: int

    def get(self, key: str, /) -> Any:
        values = self.arrays.values(key)
        if values is None:
            return None
        row = np.atleast_1d(values[self.place])
        if row.dtype.kind == "b":
            return bool(row[0])
        missing = {"i": -1, "f": None}.get(row.dtype.kind, ".")
        filling = {"i": -2, "f": None}.get(row.dtype.kind, "")  # of rows shorter than the longest
        known = [None if one in (missing, filling) or one != one else one for one in row.tolist()]
        while known and known[-1] is None:
            known.pop()
        return tuple(known) or None


@dataclass(frozen=True)
class _Record:
    """``vcf_records.Record`` over the arrays."""

    CHROM: str
    POS: int
    ID: str | None
    REF: str
    ALT: Sequence[str]
    INFO: _Info
    genotype: _Calls


class ZarrRecords:
    """``Source`` over a VCF Zarr. If it has a ``region_index``, chunks outside of a region are not read."""

    def __init__(self, path: Path) -> None:
        """Raises InputError: not_vcf, empty, no_samples, duplicate_samples; MissingExtraError('zarr_missing')."""
        self.path = path
        self._group = _open(path)
        lacking = [name for name in _NEEDED if name not in self._group]
        if lacking:
            raise _not_vcf(path, f"the arrays {', '.join(lacking)} are missing")
        self.samples = tuple(str(name) for name in self._read("sample_id"))
        self._contigs = [str(name) for name in self._read("contig_id")]
        check_samples(self.samples, path, hint="rename the samples")

    def records(self, region: Region | None) -> Iterator[Record]:
        for start, stop in self._chunks(region):
            contig, pos = self._read("variant_contig", start, stop), self._read("variant_position", start, stop)
            inside = np.ones(len(pos), dtype=bool)
            if region is not None:
                inside = np.isin(contig, self._named(region.chrom)) & (pos >= region.start)
                inside &= pos <= (np.iinfo(np.int64).max if region.stop is None else region.stop)
            if not inside.any():
                continue
            alleles, calls = self._read("variant_allele", start, stop), self._read("call_genotype", start, stop)
            ids = self._read("variant_id", start, stop) if "variant_id" in self._group else None
            # Without the array all calls are unphased.
            phased = np.zeros(calls.shape[:2], dtype=bool)
            if "call_genotype_phased" in self._group:
                phased = self._read("call_genotype_phased", start, stop)
            info = _InfoArrays(partial(self._info, start, stop))
            for i in np.flatnonzero(inside).tolist():
                ref, *alts = (str(allele) for allele in alleles[i])
                yield _Record(
                    CHROM=self._contigs[contig[i]],
                    POS=int(pos[i]),
                    ID=None if ids is None or ids[i] in ("", ".") else str(ids[i]),
                    REF=ref,
                    ALT=[alt for alt in alts if alt not in ("", ".")],
                    INFO=_Info(info, i),
                    genotype=_Calls(calls[i], phased[i]),
                )

    def chromosomes(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for start, stop in self._chunks(None):
            for contig in self._read("variant_contig", start, stop).tolist():
                name = self._contigs[contig]
                counts[name] = counts.get(name, 0) + 1
        return counts

    def length_of(self, chrom: str) -> int | None:
        named = self._named(chrom)
        if not len(named) or "contig_length" not in self._group:
            return None
        length = int(self._read("contig_length")[named[0]])
        return length if length > 0 else None

    def header(self) -> Sequence[str]:
        lines = [f"##{key}={value}" for key, value in self._group.attrs.get("vcf_meta_information", ())]
        return [*lines, *(_declaration(name, array) for name, array in self._group.arrays() if _is_info(name))]

    def _info(self, start: int, stop: int, name: str) -> npt.NDArray[Any] | None:
        array = f"variant_{name}"
        return self._read(array, start, stop) if _is_info(array) and array in self._group else None

    def _named(self, chrom: str) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.isin(self._contigs, names_of(chrom, self._contigs)))

    def _chunks(self, region: Region | None) -> Iterator[tuple[int, int]]:
        """Half-open intervals of records, one per chunk of ``call_genotype`` that may have records in ``region``."""
        calls = self._group["call_genotype"]
        size = calls.chunks[0]
        wanted = range(-(-calls.shape[0] // size))
        if region is not None and "region_index" in self._group:
            chunk, contig, first, last = self._read("region_index")[:, :4].astype(np.int64).T
            overlaps = np.isin(contig, self._named(region.chrom)) & (last >= region.start)
            overlaps &= first <= (np.iinfo(np.int64).max if region.stop is None else region.stop)
            wanted = np.unique(chunk[overlaps]).tolist()
        for number in wanted:
            yield number * size, min((number + 1) * size, calls.shape[0])

    def _read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._group[name][start:stop])
        except Exception as error:  # any exception of the store, the codec or the file system
            raise InputError(
                "truncated",
                f"the array {name} is cut short or damaged ({error})",
                where=str(self.path),
                hint="copy the whole store again, or convert the VCF again",
            ) from error


def _is_info(name: str) -> bool:
    """Whether an array is one of INFO, of which the specification reserves no names for VCF's other columns."""
    return name.startswith("variant_") and name not in _COLUMNS and not name.endswith("_mask")


def _declaration(name: str, array: Any) -> str:
    """The line of a VCF's header that declares the INFO field of an array."""
    dims = [*(getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS", ())), "", ""]
    number = _NUMBERS.get(dims[1], "." if array.ndim > 1 else "1")
    kind = {"b": "Flag", "i": "Integer", "f": "Float"}.get(np.dtype(array.dtype).kind, "String")
    about = str(array.attrs.get("description", "")).replace('"', "'")
    return f'##INFO=<ID={name[8:]},Number={0 if kind == "Flag" else number},Type={kind},Description="{about}">'


def _open(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        hint = "pip install 'vcfbert[zarr]', or give a VCF or BCF"
        raise MissingExtraError("zarr_missing", "reading VCF Zarr needs the package zarr", hint=hint) from error
    try:
        return zarr.open_group(str(path) if path.is_dir() else zarr.storage.ZipStore(path, mode="r"), mode="r")
    except Exception as error:  # zarr raises many types
        raise _not_vcf(path, f"it cannot be opened as a Zarr group ({error})") from error


def _not_vcf(path: Path, detail: str) -> InputError:
    return InputError(
        "not_vcf",
        f"not a VCF Zarr: {detail}",
        where=str(path),
        hint="write one with `vcf2zarr convert IN.vcf.gz OUT.vcz`",
    )
