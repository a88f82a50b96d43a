"""Checks of a VCF Zarr before its arrays are decoded: zip entries, codecs, types, dimensions and sizes.

The metadata names the codecs that decode an array. Some codecs run code that the data holds, so only those that
writers of VCF Zarr use are accepted.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from vcfbert.errors import InputError

CODECS: Final = frozenset(
    {
        *("blosc", "zstd", "zlib", "gzip", "lz4", "bz2", "lzma"),  # compress
        *("delta", "shuffle", "packbits", "fixedscaleoffset", "quantize", "bitround", "astype", "transpose"),
        *("vlen-utf8", "vlen-bytes", "bytes", "endian", "sharding_indexed"),
        *("crc32", "crc32c", "adler32", "fletcher32"),
    }
)
_MAX_BYTES: Final = 4_000_000_000  # of one chunk, and of what is read of an array at once
_MAX_ENTRY: Final = 4_000_000_000  # bytes of an unpacked file in a zip file
_MAX_METADATA: Final = 64_000_000
_MAX_ENTRIES: Final = 5_000_000
_METADATA: Final = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")
_INTEGER, _BOOLEAN, _TEXT = "iu", "b", "OSUT"  # kinds of numpy's types
# Kinds and dimensions of the arrays that are read.
_ARRAYS: Final = {
    "sample_id": (_TEXT, 1),
    "contig_id": (_TEXT, 1),
    "contig_length": (_INTEGER, 1),
    "variant_contig": (_INTEGER, 1),
    "variant_position": (_INTEGER, 1),
    "variant_id": (_TEXT, 1),
    "variant_allele": (_TEXT, 2),
    "call_genotype": (_INTEGER, 3),
    "call_genotype_phased": (_BOOLEAN, 2),
    "region_index": (_INTEGER, 2),
}


def check_zip(path: Path) -> None:
    """Raises InputError 'not_vcf' for a zip file that is damaged, encrypted, or unpacks to more than Zarr needs."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise not_vcf_zarr(path, f"the zip file cannot be read ({error})") from error
    if len(entries) > _MAX_ENTRIES or len({entry.filename for entry in entries}) < len(entries):
        raise not_vcf_zarr(path, "the zip file has too many entries or two of one name")
    for entry in entries:
        limit = _MAX_METADATA if entry.filename.rpartition("/")[2] in _METADATA else _MAX_ENTRY
        if entry.flag_bits & 1 or entry.file_size > limit:
            raise not_vcf_zarr(path, f"the entry {entry.filename!r} of the zip file is encrypted or too large")


def check_array(path: Path, name: str, array: Any, n_records: int | None, n_samples: int | None) -> None:
    """Raises InputError 'zarr_codec' for a codec that is not accepted, 'not_vcf' for another type or shape than the
    specification gives. ``n_records`` and ``n_samples``: what the shape must agree with, where they are known.
    """
    for codec in codec_names(array.metadata.to_dict()):
        if codec not in CODECS:
            raise InputError(
                "zarr_codec",
                f"the array {name} is stored with the codec {codec!r}, which is not accepted",
                where=str(path),
                hint="write it with `vcf2zarr convert IN.vcf.gz OUT.vcz`",
            )
    kinds, n_dimensions = _ARRAYS.get(name, (_INTEGER + _BOOLEAN + _TEXT + "f", None))
    dtype = np.dtype(array.dtype)
    if dtype.kind not in kinds or dtype.names is not None or array.ndim != (n_dimensions or array.ndim):
        raise not_vcf_zarr(path, f"the array {name} has the type {dtype} and {array.ndim} dimensions")
    if name in ("variant_allele", "call_genotype") and array.shape[-1] < 1:
        raise not_vcf_zarr(path, f"the array {name} has the shape {array.shape}")
    expected = {0: n_records} if name.startswith(("variant_", "call_")) else {}
    expected |= {1: n_samples} if name.startswith("call_") else {}
    for axis, size in expected.items():
        if size is not None and (array.ndim <= axis or array.shape[axis] != size):
            raise not_vcf_zarr(
                path, f"the array {name} has the shape {array.shape}, which does not fit the other arrays"
            )
    rows = min(array.chunks[0], array.shape[0]) if expected else array.shape[0]
    at_once = max(int(np.prod([rows, *array.shape[1:]], dtype=object)), int(np.prod(array.chunks, dtype=object)))
    if min(array.chunks) < 1 or at_once * max(dtype.itemsize, 1) > _MAX_BYTES:
        raise not_vcf_zarr(path, f"the array {name} has chunks of more than {_MAX_BYTES // 10**9} GB")


def codec_names(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The names of an array's codecs, of Zarr format 2 or 3, with those inside of shards."""
    for part in ("compressor", "filters", "codecs", "index_codecs"):
        found = metadata.get(part) or ()
        for codec in (found,) if isinstance(found, Mapping) else found:
            if not isinstance(codec, Mapping):  # an object of numcodecs
                codec = codec.get_config() if hasattr(codec, "get_config") else codec.to_dict()
            yield str(codec.get("id") or codec.get("name")).removeprefix("numcodecs.")
            configuration = codec.get("configuration")
            if isinstance(configuration, Mapping):
                yield from codec_names(configuration)


def not_vcf_zarr(path: Path, detail: str) -> InputError:
    """The error of a file that is no VCF Zarr."""
    hint = "write one with `vcf2zarr convert IN.vcf.gz OUT.vcz`"
    return InputError("not_vcf", f"not a VCF Zarr: {detail}", where=str(path), hint=hint)
