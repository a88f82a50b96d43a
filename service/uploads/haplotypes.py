"""Request and response of `POST /v1/impute/haplotypes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from vcfbert.errors import InputError

if TYPE_CHECKING:
    from vcfbert.genotypes.record_batch import Genotypes

MAX_SITES = 100_000
MAX_HAPLOTYPES = 1_000

Allele = Literal[0, 1] | None
Text = Annotated[str, Field(max_length=100)]
Bases = Annotated[str, Field(pattern="^[ACGTNacgtn]+$", max_length=1000)]

_SITES = [{"pos": 1000156, "ref": "A", "alt": "G"}, {"pos": 1004880, "ref": "C", "alt": "T"}]
EXAMPLE: dict[str, Any] = {"chrom": "20", "sites": _SITES, "haplotypes": [[0, 1], [1, None]], "min_dr2": 0.0}
EXAMPLE_ANSWER: dict[str, Any] = {
    "model": {"alias": "default", "version": "3", "digest": "9f2c", "variant": "v19"},
    "chrom": "20",
    "sites": [
        {"pos": 1000156, "ref": "A", "alt": "G", "typed": True},
        {"pos": 1000201, "ref": "G", "alt": "T", "typed": False},
        {"pos": 1004880, "ref": "C", "alt": "T", "typed": True},
    ],
    "dosages": [[0.0, 0.012, 1.0], [1.0, 0.734, 0.998]],
    "qc": {"n_samples": 2, "n_used": 2},
}


class TypedSite(BaseModel):
    """A biallelic site at which the haplotypes are typed."""

    pos: int = Field(ge=1, le=2**31 - 2, description="1-based")
    ref: Bases
    alt: Bases


class Haplotypes(BaseModel):
    """Phased haplotypes and the typed sites that they cover."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    chrom: Text | None = Field(None, description="chromosome of the sites; the model's chromosome if omitted")
    sites: Annotated[list[TypedSite], FailFast()] = Field(
        min_length=1, max_length=MAX_SITES, description="typed sites, each with pos, ref and alt"
    )
    haplotypes: Annotated[
        list[Annotated[list[Allele], FailFast(), Field(max_length=MAX_SITES)]],
        FailFast(),
    ] = Field(
        min_length=1,
        max_length=MAX_HAPLOTYPES,
        description="[haplotypes][sites]: alleles at `sites`, 0 = REF, 1 = ALT, null = missing",
    )
    model: Text | None = Field(None, description="alias or version of a served model; the default model if omitted")
    region: Text | None = Field(None, description="region to return, as CHROM:FROM-TO; 1-based, both ends included")
    min_dr2: float = Field(0.0, ge=0, le=1, description="minimum DR2: imputed sites below it are excluded")


class ImputedSite(BaseModel):
    """A panel site of the response."""

    pos: int
    ref: str
    alt: str
    typed: bool = Field(description="at least one haplotype has an allele here")


class AnsweringModel(BaseModel):
    """The model version that imputed."""

    alias: str
    version: str
    digest: str = Field(description="sha256 of the bundle's manifest")
    variant: str


class ImputedHaplotypes(BaseModel):
    """Panel sites and the haplotypes' dosages at them."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    model: AnsweringModel
    chrom: str
    sites: list[ImputedSite]
    dosages: list[list[float]] = Field(description="[haplotypes][sites]: probability of the ALT allele at `sites`")
    qc: dict[str, Any] = Field(description="QC summary: how the sites match the model's panel")


def genotypes_of(sent: Haplotypes, chrom: str) -> Genotypes:
    """Returns each haplotype as a haploid sample, with the sites in order of position.

    Raises InputError 'haplotype_length' or 'duplicate_records'.
    """
    import numpy as np

    from vcfbert.constants import ABSENT, MISSING
    from vcfbert.genotypes.panel import Sites
    from vcfbert.genotypes.record_batch import Genotypes

    n_sites, n_haplotypes = len(sent.sites), len(sent.haplotypes)
    _check_lengths(sent.haplotypes, n_sites)
    order = sorted(range(n_sites), key=lambda i: sent.sites[i].pos)
    sites = [(sent.sites[i].pos, sent.sites[i].ref.upper(), sent.sites[i].alt.upper()) for i in order]
    _check_distinct(sites)
    alleles = np.full((n_sites, n_haplotypes, 2), ABSENT, dtype=np.int8)
    for number, haplotype in enumerate(sent.haplotypes):
        alleles[:, number, 0] = [MISSING if a is None else a for a in haplotype]
    pos, ref, alt = zip(*sites, strict=True)
    table = Sites(
        chrom,
        np.array(pos, dtype=np.int32),
        np.array(ref, dtype=object),
        np.array(alt, dtype=object),
        np.full(n_sites, ".", dtype=object),
        np.zeros(n_sites, dtype=bool),
    )
    names = tuple(f"haplotype {number}" for number in range(n_haplotypes))
    return Genotypes(names, table, alleles[order], np.ones((n_sites, n_haplotypes), dtype=bool))


def _check_lengths(haplotypes: Sequence[Sequence[Allele]], n_sites: int) -> None:
    for number, haplotype in enumerate(haplotypes):
        if len(haplotype) != n_sites:
            what = f"the haplotype has {len(haplotype)} alleles for {n_sites} sites"
            hint = "give 0, 1 or null for each site"
            raise InputError("haplotype_length", what, where=f"haplotypes[{number}]", hint=hint)


def _check_distinct(sites: Sequence[tuple[int, str, str]]) -> None:
    seen: set[tuple[int, str, str]] = set()
    for site in sites:
        if site in seen:
            pos, ref, alt = site
            what = f"the site {pos} {ref}>{alt} appears twice"
            raise InputError("duplicate_records", what, where="sites", hint="give each site once")
        seen.add(site)
