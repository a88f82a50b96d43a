"""Prepares a parser process for its file: it imports what most files need, and reads a tiny file.

The memory and code that reading touches are then in place, which saves a request some milliseconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import cyvcf2  # noqa: F401
import pysam  # noqa: F401

from vcfbert.genotypes.bgzf import compress
from vcfbert.genotypes.builds import header_build
from vcfbert.genotypes.file_size import SizeLimits, count
from vcfbert.genotypes.region_reader import region_parts
from vcfbert.genotypes.regions import Region
from vcfbert.kernels import are_compiled

_HEADER: Final = '##fileformat=VCFv4.2\n##contig=<ID=1>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
_COLUMNS: Final = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
_RECORD: Final = "1\t1\t.\tA\tC\t.\t.\t.\tGT\t0|1\n"


are_compiled()  # loads the kernels: a parser may not be allowed to


def warm_up() -> None:
    """Reads a file of one record, from memory."""
    descriptor = os.memfd_create("vcfbert-warm")
    try:
        os.write(descriptor, compress((_HEADER + _COLUMNS + _RECORD).encode()))
        path = Path(f"/proc/self/fd/{descriptor}")
        list(count(path, None, SizeLimits(mb=1, samples=1, sites=1)))
        list(region_parts(path, None, [Region("1")], None, False))
        list(header_build(path, None, ["1"]))
    finally:
        os.close(descriptor)
