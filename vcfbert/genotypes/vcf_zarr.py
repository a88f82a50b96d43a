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
from vcfbert.genotypes.zarr_checks import check_array, check_zip, not_vcf_zarr

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
        """Raises InputError: not_vcf, zarr_codec, empty, no_samples, duplicate_samples; MissingExtraError
        'zarr_missing'."""
        self.path = path
        self._group = _open(path)
        self._arrays: dict[str, Any | None] = {}
        self._shape: tuple[int | None, int | None] = (None, None)  # records and samples, once they are known
        lacking = [name for name in _NEEDED if not self._has(name)]
        if lacking:
            raise not_vcf_zarr(path, f"the arrays {', '.join(lacking)} are missing")
        self._shape = self._array("call_genotype").shape[:2]
        self._arrays.clear()  # all are checked again, for the same shape
        self.samples = tuple(self._plain(name) for name in self._read("sample_id"))
        self._contigs = [self._plain(name) for name in self._read("contig_id")]
        if len(self.samples) != self._shape[1]:
            raise not_vcf_zarr(path, f"it has {len(self.samples)} names of samples and calls of {self._shape[1]}")
        check_samples(self.samples, path, hint="rename the samples")

    def records(self, region: Region | None) -> Iterator[Record]:
        for start, stop in self._chunks(region):
            contig, pos = self._contig_of(start, stop), self._read("variant_position", start, stop)
            inside = np.ones(len(pos), dtype=bool)
            if region is not None:
                inside = np.isin(contig, self._named(region.chrom)) & (pos >= region.start)
                inside &= pos <= (np.iinfo(np.int64).max if region.stop is None else region.stop)
            if not inside.any():
                continue
            alleles, calls = self._read("variant_allele", start, stop), self._read("call_genotype", start, stop)
            ids = self._read("variant_id", start, stop) if self._has("variant_id") else None
            # Without the array all calls are unphased.
            phased = np.zeros(calls.shape[:2], dtype=bool)
            if self._has("call_genotype_phased"):
                phased = self._read("call_genotype_phased", start, stop)
            info = _InfoArrays(partial(self._info, start, stop))
            for i in np.flatnonzero(inside).tolist():
                ref, *alts = (self._plain(allele) for allele in alleles[i])
                yield _Record(
                    CHROM=self._contigs[contig[i]],
                    POS=int(pos[i]),
                    ID=None if ids is None or ids[i] in ("", ".") else self._plain(ids[i]),
                    REF=ref,
                    ALT=[alt for alt in alts if alt not in ("", ".")],
                    INFO=_Info(info, i),
                    genotype=_Calls(calls[i], phased[i]),
                )

    def chromosomes(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for start, stop in self._chunks(None):
            for contig in self._contig_of(start, stop).tolist():
                name = self._contigs[contig]
                counts[name] = counts.get(name, 0) + 1
        return counts

    def length_of(self, chrom: str) -> int | None:
        named = self._named(chrom)
        if not len(named) or not self._has("contig_length"):
            return None
        lengths = self._read("contig_length")
        length = int(lengths[named[0]]) if named[0] < len(lengths) else 0
        return length if length > 0 else None

    def header(self) -> Sequence[str]:
        kept = self._group.attrs.get("vcf_meta_information", ())
        pairs = kept if isinstance(kept, list | tuple) else ()
        lines = [f"##{pair[0]}={pair[1]}" for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        try:
            names = [name for name in self._group.array_keys() if _is_info(name)]
        except Exception as error:  # as in ``_array``
            raise not_vcf_zarr(self.path, f"the metadata of an array cannot be read ({error})") from error
        return [*lines, *(_declaration(name, self._array(name)) for name in names)]

    def _info(self, start: int, stop: int, name: str) -> npt.NDArray[Any] | None:
        array = f"variant_{name}"
        return self._read(array, start, stop) if _is_info(array) and self._has(array) else None

    def _named(self, chrom: str) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.isin(self._contigs, names_of(chrom, self._contigs)))

    def _chunks(self, region: Region | None) -> Iterator[tuple[int, int]]:
        """Half-open intervals of records, one per chunk of ``call_genotype`` that may have records in ``region``."""
        calls = self._array("call_genotype")
        size = calls.chunks[0]
        wanted = range(-(-calls.shape[0] // size))
        if region is not None and self._has("region_index"):
            index = self._read("region_index")
            if index.shape[1] < 4 or not np.isin(index[:, 0], wanted).all():
                raise not_vcf_zarr(self.path, "its region_index names chunks that it does not have")
            chunk, contig, first, last = index[:, :4].astype(np.int64).T
            overlaps = np.isin(contig, self._named(region.chrom)) & (last >= region.start)
            overlaps &= first <= (np.iinfo(np.int64).max if region.stop is None else region.stop)
            wanted = np.unique(chunk[overlaps]).tolist()
        for number in wanted:
            yield number * size, min((number + 1) * size, calls.shape[0])

    def _plain(self, text: Any) -> str:
        """A name or allele of one line, as a VCF can hold it."""
        name = str(text)
        if not name.isprintable():
            raise not_vcf_zarr(self.path, f"the text {name[:40]!r} has control characters")
        return name

    def _contig_of(self, start: int, stop: int) -> npt.NDArray[Any]:
        contig = self._read("variant_contig", start, stop)
        if contig.size and not (contig.min() >= 0 and contig.max() < len(self._contigs)):
            raise not_vcf_zarr(self.path, "variant_contig names a contig that it does not have")
        return contig

    def _find(self, name: str) -> Any | None:
        """The array, checked when it is first asked for; None if there is none."""
        if name not in self._arrays:
            try:
                array = self._group[name]
                check_array(self.path, name, array, *self._shape)
            except KeyError:
                array = None
            except InputError:
                raise
            except Exception as error:  # any exception of the store or of zarr's own checks
                raise not_vcf_zarr(self.path, f"the metadata of {name} cannot be read ({error})") from error
            self._arrays[name] = array
        return self._arrays[name]

    def _has(self, name: str) -> bool:
        return self._find(name) is not None

    def _array(self, name: str) -> Any:
        array = self._find(name)
        assert array is not None, name
        return array

    def _read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        array = self._array(name)
        try:
            return np.asarray(array[start:stop])
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
    if not path.is_dir():
        check_zip(path)
    try:
        return zarr.open_group(str(path) if path.is_dir() else zarr.storage.ZipStore(path, mode="r"), mode="r")
    except Exception as error:  # zarr raises many types
        raise not_vcf_zarr(path, f"it cannot be opened as a Zarr group ({error})") from error
