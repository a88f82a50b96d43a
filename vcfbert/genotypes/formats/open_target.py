"""Opens a target of any format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vcfbert.genotypes.formats.plink import plink_records
from vcfbert.genotypes.formats.target_file import COMPANIONS
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import open_source
from vcfbert.genotypes.vcf_records import Source


def open_target(path: Path, trace: Trace | None = None, regions: Sequence[Region] = ()) -> Source:
    """Opens a VCF, BCF or VCF Zarr, or by its ending a .bed or .pgen. ``regions`` as in ``TargetRecords``.

    Raises InputError as ``open_source`` and ``plink_records`` do; MissingExtraError.
    """
    return plink_records(path, trace, regions) if path.suffix in COMPANIONS else open_source(path, trace)
