"""The human genome builds, which of them a file's header shows, and the names of UCSC's chain files between them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

from vcfbert.genotypes.formats.open_target import open_target
from vcfbert.genotypes.parsing.messages import Plain, Record
from vcfbert.genotypes.parsing.process import Cancelled, Parser, in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.regions import Region, bare_chrom
from vcfbert.genotypes.sex_chromosomes import build_of_part

_CHROMOSOMES: Final = (*map(str, range(1, 23)), "X", "Y")
# Bases of chromosomes 1 to 22, X and Y. GRCh37 and GRCh38: https://www.ncbi.nlm.nih.gov/grc/human/data. T2T-CHM13v2.0:
# https://www.ncbi.nlm.nih.gov/datasets/genome/GCF_009914755.1.
_BASES: Final = {
    "GRCh37": (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022,
        141213431, 135534747, 135006516, 133851895, 115169878, 107349540, 102531392, 90354753,
        81195210, 78077248, 59128983, 63025520, 48129895, 51304566, 155270560, 59373566,
    ),
    "GRCh38": (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636,
        138394717, 133797422, 135086622, 133275309, 114364328, 107043718, 101991189, 90338345,
        83257441, 80373285, 58617616, 64444167, 46709983, 50818468, 156040895, 57227415,
    ),
    "T2T-CHM13": (
        248387328, 242696752, 201105948, 193574945, 182045439, 172126628, 160567428, 146259331,
        150617247, 134758134, 135127769, 133324548, 113566686, 101161492, 99753195, 96330374,
        84276897, 80542538, 61707364, 66210255, 45090682, 51324926, 154259566, 62460029,
    ),
}  # fmt: skip
LENGTHS: Final = {name: dict(zip(_CHROMOSOMES, bases, strict=True)) for name, bases in _BASES.items()}

# What headers call the builds, in ##reference and in the assembly of ##contig.
_NAMES: Final = {
    "GRCh37": re.compile(r"(?i)grch37|hg19|hs37|\bb37\b|ncbi37|human_g1k_v37"),
    "GRCh38": re.compile(r"(?i)grch38|hg38|hs38|\bb38\b|assembly38"),
    "T2T-CHM13": re.compile(r"(?i)chm13|t2t|\bhs1\b"),
}
_SAYS_BUILD: Final = ("##reference", "##contig", "##assembly")
_UCSC: Final = {"GRCh37": "hg19", "GRCh38": "hg38", "T2T-CHM13": "hs1"}
_OF_X: Final = {"b37": "GRCh37", "b38": "GRCh38"}  # names of ``sex_chromosomes.BUILDS``


def build_of(lengths: Mapping[str, int], header: Sequence[str]) -> str | None:
    """The human build that has these ``lengths`` of chromosomes, or else that the lines of a header name; or None."""
    found = {
        build
        for build, known in LENGTHS.items()
        if any(known.get(bare_chrom(chrom)) == bases for chrom, bases in lengths.items())
    }
    if not found:
        text = "\n".join(line for line in header if line.startswith(_SAYS_BUILD))
        found = {build for build, named in _NAMES.items() if named.search(text)}
    return found.pop() if len(found) == 1 else None


class HeaderBuild(NamedTuple):
    """``name``: None if the header shows no build."""

    name: str | None


_HEADER_BUILD: Final = Record(HeaderBuild, name=Plain(str, type(None)))


def build_of_file(
    path: Path, chroms: Sequence[str], *, parser: Parser | None = None, cancelled: Cancelled | None = None
) -> str | None:
    """The human build that the file's header shows, by the lengths of ``chroms`` or by its name; None if it does not.

    ``parser`` and ``cancelled``: as in ``in_parser``. Raises InputError as ``open_target`` does.
    """
    found = in_parser(header_build, path, tuple(chroms), kinds=(_HEADER_BUILD,), parser=parser, cancelled=cancelled)
    (build,) = found
    name = cast(HeaderBuild, build).name
    return name if name in LENGTHS else None


def header_build(path: Path, trace: Trace | None, chroms: Sequence[str]) -> Iterator[HeaderBuild]:
    """The result of ``build_of_file``. Runs in a parser process."""
    source = open_target(path, trace)
    lengths = {chrom: source.length_of(chrom) for chrom in chroms}
    yield HeaderBuild(build_of({chrom: bases for chrom, bases in lengths.items() if bases}, source.header()))


def build_of_regions(regions: Sequence[Region]) -> str | None:
    """The human build of a panel's regions, if one of them is a part of X; else None."""
    parts = (build_of_part(region) for region in regions)
    return next((_OF_X[part.name] for part in parts if part is not None), None)


def chain_name(build: str, to: str | None) -> str:
    """UCSC's name of the chain file from ``build`` to another; if ``to`` is None, to GRCh38 or from it to GRCh37."""
    to = to or ("GRCh37" if build == "GRCh38" else "GRCh38")
    other = _UCSC[to]
    return f"{_UCSC[build]}To{other[0].upper()}{other[1:]}.over.chain.gz"
