"""The description of a distributed imputation, and the files through which its tasks hand data on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vcfbert.bundle.load import load_bundle
from vcfbert.distributed.chunks import Interval
from vcfbert.distributed.tensors import Array, Tensors, write_tensors
from vcfbert.distributed.vcf_parts import Part
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.imputation.files import ImputeOptions
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.phasing import Phasings


@dataclass(frozen=True)
class ChunkSpec:
    """``chunk_cm``: genetic length of a chunk, at least a window's. ``chunk_samples``: maximum samples per group."""

    chunk_cm: float = 5.0
    chunk_samples: int = 500


@dataclass(frozen=True)
class Settings:
    """Arguments of each worker's Imputer. ``bundle``: a folder that all workers see. ``threads``: per task."""

    bundle: Path
    mode: str
    ignore_phase: bool
    batch_size: int
    threads: int


class Chunk(NamedTuple):
    """Sites [first, last) of the job's panel number ``panel``."""

    panel: int
    first: int
    last: int

    @property
    def sites(self) -> Interval:
        return self.first, self.last


@dataclass(frozen=True)
class Job:
    """The arguments of every task; the data are in the files of ``folder``.

    ``panels``: digests of the panels that share sites with the target. ``phases``: whether a stage phases the target.
    ``bcf``: whether the output is a BCF.
    """

    folder: Path
    settings: Settings
    options: ImputeOptions
    panels: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    groups: tuple[Interval, ...]
    phases: bool
    bcf: bool

    def records(self, panel: int) -> Path:
        """What ``write_record_options`` writes: one file per panel."""
        return self.folder / f"records-{panel:02d}"

    def typed(self, panel: int, group: int) -> Path:
        """The typed genotypes of a group of samples."""
        return self.folder / f"typed-{panel:02d}-{group:05d}"

    def phased(self, panel: int, group: int) -> Path:
        """The group's genotypes after the phasing stage, or as typed if the job has no such stage."""
        return self.folder / f"phased-{panel:02d}-{group:05d}" if self.phases else self.typed(panel, group)

    def imputed(self, chunk: int, group: int) -> Path:
        """The imputed values of a chunk for a group of samples."""
        return self.folder / f"imputed-{chunk:05d}-{group:05d}"

    def part(self, chunk: int) -> Part:
        """The records of a chunk for all samples."""
        return Part(self.folder / f"part-{chunk:05d}.gz")


@lru_cache(maxsize=1)  # one per worker, for all tasks of a job
def imputer_of(settings: Settings) -> Imputer:
    """The imputer of these settings."""
    return Imputer(
        load_bundle(settings.bundle, only_imputes=True),
        batch_size=settings.batch_size,
        mode=settings.mode,
        ignore_phase=settings.ignore_phase,
        threads=settings.threads,
    )


def write_record_options(path: Path, target: MatchedTarget) -> None:
    """Writes what the records need of the whole target: IDs, exchanged REF and ALT, and which samples are haploid."""
    ids = np.frombuffer("\n".join(target.id).encode(), dtype=np.uint8)
    arrays: dict[str, Array] = {
        "panel_site": target.panel_site,
        "swapped": target.swapped,
        "haploid": target.haploid,
        "id": ids,
    }
    write_tensors(path, arrays)


def write_target(path: Path, target: MatchedTarget, phasings: Phasings | None = None) -> None:
    """Writes a group's genotypes and, if some are unphased, their sampled phasings. ``read_group`` reads them."""
    arrays: dict[str, Array] = {"panel_site": target.panel_site, "alleles": target.alleles, "phased": target.phased}
    if phasings is not None:
        arrays |= {"unphased_samples": phasings.samples, "phasings": phasings.calls}
    write_tensors(path, arrays)


def read_group(path: Path, panel_digest: str, typed: slice) -> tuple[MatchedTarget, Phasings | None]:
    """Reads a group's target at the typed sites ``typed``. Fields that only the writer needs hold placeholders."""
    stored = Tensors(path)
    alleles, site = stored.part("alleles", typed), stored["panel_site"][typed]
    target = MatchedTarget(
        panel_digest=panel_digest,
        samples=tuple(map(str, range(alleles.shape[1]))),
        panel_site=site,
        alleles=alleles,
        phased=stored.part("phased", typed),
        swapped=np.zeros(len(site), dtype=bool),
        id=np.full(len(site), ".", dtype=object),
    )
    if "phasings" not in stored:
        return target, None
    return target, Phasings(stored["unphased_samples"], stored.part("phasings", slice(None), typed))
