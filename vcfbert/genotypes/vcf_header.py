"""The header of imputed files, and the FORMAT fields that they may have."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import vcfbert
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.record_info import declared, joined_lines

# The fields that FORMAT may have, in written order. GT is always written.
FIELDS: Final = ("GT", "DS", "HDS", "GP", "GQ")
DEFAULT_FIELDS: Final = ("GT", "DS", "HDS", "GP")

_INFO: Final = {
    "AF": 'Number=A,Type=Float,Description="Frequency of the ALT allele in the imputed dosages"',
    "MAF": 'Number=1,Type=Float,Description="Frequency of the second most common allele in the dosages"',
    "DR2": 'Number=A,Type=Float,Description="Estimated squared correlation of imputed and true dosage"',
    "ER2": 'Number=A,Type=Float,Description="Squared correlation of the typed alleles with what was imputed without '
    'them"',
    "IMP": 'Number=0,Type=Flag,Description="Imputed: no sample was typed here in the input"',
    "TYPED": 'Number=0,Type=Flag,Description="Typed in the input for at least one sample"',
}
_FORMATS: Final = {
    "GT": 'Number=1,Type=String,Description="Genotype: the most probable allele of each haplotype"',
    "DS": 'Number=A,Type=Float,Description="Expected number of ALT alleles, the sum of HDS"',
    "HDS": 'Number=.,Type=Float,Description="Probability of each ALT allele on the first haplotype, then on the '
    'second"',
    "GP": 'Number=G,Type=Float,Description="Probabilities of the genotypes"',
    "GQ": 'Number=1,Type=Integer,Description="Phred-scaled probability that the genotype of GT is wrong, . where it is '
    "the input's own\"",
}
_COLUMNS: Final = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")


def chosen_fields(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` in the order of FIELDS, each once, with GT. Raises ValueError for an unknown name."""
    wanted = {"GT", *names}
    unknown = wanted - set(FIELDS)
    if unknown:
        raise ValueError(", ".join(sorted(unknown)))
    return tuple(name for name in FIELDS if name in wanted)


def header_text(
    panels: Sequence[Panel], samples: Sequence[str], extra: Mapping[str, str], fields: Sequence[str]
) -> bytes:
    """The header of an imputed file, with one ``##vcfbert_KEY=VALUE`` line for each of ``extra``."""
    own = [f"##vcfbert_{key}={' '.join(str(value).split())}" for key, value in extra.items()]
    lines = [
        "##fileformat=VCFv4.3",
        f"##source=vcfbert {vcfbert.__version__}",
        *(f"##contig=<ID={chrom}>" for chrom in contigs(panels)),
        '##FILTER=<ID=PASS,Description="All filters passed">',
        *(f"##INFO=<ID={name},{what}>" for name, what in _INFO.items()),
        *(f"##FORMAT=<ID={name},{_FORMATS[name]}>" for name in chosen_fields(fields)),
        *kept_lines(panels),
        *own,
        "\t".join([*_COLUMNS, *samples]),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def kept_lines(panels: Sequence[Panel]) -> tuple[str, ...]:
    """The lines of the panels' kept INFO and symbolic alleles."""
    return joined_lines(panel.sites.info.header for panel in panels if panel.sites.info is not None)


def contigs(panels: Sequence[Panel]) -> list[str]:
    """The chromosomes in the header's order, which numbers them in a BCF."""
    return list(dict.fromkeys(panel.region.chrom for panel in panels))


def bcf_header(text: bytes) -> bytes:
    """The begin of a BCF with the header ``text``."""
    return b"".join((b"BCF\2\2", struct.pack("<I", len(text) + 1), text, b"\0"))


def bcf_keys(fields: Sequence[str], kept: Sequence[str] = ()) -> dict[str, int]:
    """The number of each ID in a BCF: PASS is 0, the others are numbered in the header's order.

    ``kept``: the lines of the header that ``kept_lines`` returns.
    """
    names = ("PASS", *_INFO, *chosen_fields(fields), *declared(kept, "INFO"))
    return {name: number for number, name in enumerate(dict.fromkeys(names))}
