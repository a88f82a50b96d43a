"""The length of a chromosome as a file's header gives it, which shows the genome build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, cast

from vcfbert.genotypes.parsing.messages import Plain, Record
from vcfbert.genotypes.parsing.process import in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.vcf_reader import open_source


class Length(NamedTuple):
    """``bases``: None if the header lacks the chromosome or its length."""

    bases: int | None


_LENGTH: Final = Record(Length, bases=Plain(int, type(None)))


def length_of(path: Path, chrom: str) -> int | None:
    """The chromosome's length; None if the header lacks it. Raises InputError as ``open_source`` does."""
    (length,) = in_parser(header_length, path, chrom, kinds=(_LENGTH,))
    return cast(Length, length).bases


def header_length(path: Path, trace: Trace, chrom: str) -> Iterator[Length]:
    """The result of ``length_of``. Runs in a parser process."""
    yield Length(open_source(path, trace).length_of(chrom))
