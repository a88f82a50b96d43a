"""Converts a panel in tasks, one per region of an indexed file. The panel store equals that of ``convert_panels``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import pysam

from vcfbert import __version__
from vcfbert.artifacts import git_commit, sha256_file, sha256_json
from vcfbert.distributed.scheduler import Pool, Task, run_tasks
from vcfbert.distributed.tensors import Array, Tensors, write_tensors
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import convert_panels
from vcfbert.genotypes.packed_blocks import PackedBlock, packed_blocks
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.panel_writer import INFO, TEXTS, pack_info, pack_text, unpack_info, unpack_text
from vcfbert.genotypes.regions import Region, names_of
from vcfbert.genotypes.vcf_file import inspect
from vcfbert.genotypes.vcf_reader import join_sites

FORMAT = 2  # version of the files that tasks write

# Host memory of a task: the worker process with one decoded block of records, and a region's bits while they are joined
# and written. A region's number of sites is unknown beforehand, so that of a dense panel is assumed.
_PROCESS_BYTES = 600 << 20
_SITES_PER_MB = 40_000

_LAST_POSITION = 1 << 29


@dataclass(frozen=True)
class PanelJob:
    """The conversion of ``vcf``. ``regions`` tile the requested part of its chromosome; ``build`` and ``info``: as in
    ``convert_panels``."""

    folder: Path
    vcf: Path
    regions: tuple[Region, ...]
    build: str | None = None
    info: tuple[str, ...] = ()

    def block(self, number: int) -> Path:
        """The file that the task of region ``number`` writes."""
        return self.folder / f"block-{number:05d}"

    def tasks(self) -> list[Task]:
        """One task per region, independent of each other."""
        return [
            Task(f"convert {region}", "convert", partial(convert_region, self, number), self.block(number))
            for number, region in enumerate(self.regions)
        ]

    @property
    def memory(self) -> int:
        """Estimated bytes of host memory of the largest task."""
        bases = max((region.stop or _LAST_POSITION) - region.start + 1 for region in self.regions)
        return _PROCESS_BYTES + int(3 * bases * _SITES_PER_MB / 1e6 * len(inspect(self.vcf).samples) / 4)


def plan_panel(
    vcf: Path,
    *,
    region: str | None,
    chunk_mb: float,
    work: Path,
    build: str | None = None,
    info: Sequence[str] = (),
) -> PanelJob:
    """Divides the records of ``vcf`` by position, into regions of ``chunk_mb``.

    Raises InputError 'index_missing', 'several_chromosomes', 'chromosome_missing' or 'region_empty', and those of
    ``inspect`` and ``Region.parse``.
    """
    if not inspect(vcf).has_index:
        raise InputError(
            "index_missing",
            "the file has no index, which reading by region requires",
            where=str(vcf),
            hint="bcftools index FILE",
        )
    wanted = _whole_chromosome(vcf) if region is None else Region.parse(region)
    first, last = _extent(vcf, wanted)
    step = max(int(chunk_mb * 1e6), 1)
    starts = range(first, last + 1, step)
    regions = [Region(wanted.chrom, start, min(start + step - 1, last)) for start in starts]
    identity = [
        FORMAT,
        __version__,
        git_commit(),
        sha256_file(vcf),
        [str(region) for region in regions],
        build,
        list(info),
    ]
    folder = work.resolve() / f"panel-{sha256_json(identity)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return PanelJob(folder, vcf.resolve(), tuple(regions), build, tuple(info))


def _whole_chromosome(vcf: Path) -> Region:
    with pysam.VariantFile(str(vcf)) as file:
        present = [name for name in cyvcf2.VCF(str(vcf)).seqnames if _first(file, name, 0) is not None]
    if len(present) != 1:
        raise InputError(
            "several_chromosomes" if present else "empty",
            f"the file holds {len(present)} chromosomes ({', '.join(present[:30])})",
            where=str(vcf),
            hint="choose one with --region",
        )
    return Region(present[0])


def _extent(vcf: Path, wanted: Region) -> tuple[int, int]:
    """The 1-based positions of the first and the last record of a region, found through the index."""
    name = next(iter(names_of(wanted.chrom, cyvcf2.VCF(str(vcf)).seqnames)), None)
    with pysam.VariantFile(str(vcf)) as file:
        first = None if name is None else _first(file, name, wanted.start - 1)
        stop = min(wanted.stop or _LAST_POSITION, _LAST_POSITION)
        if name is None or first is None or first + 1 > stop:
            code = "chromosome_missing" if name is None else "region_empty"
            raise InputError(code, f"no record lies in region {wanted}", where=str(vcf), hint="check the region")
        low, high = first, stop  # a record of the region begins at low; none begins at high or after it
        while high - low > 1:
            middle = (low + high) // 2
            found = _first(file, name, middle)
            if found is not None and found < stop:
                low = found
            else:
                high = middle
    return first + 1, low + 1


def _first(file: pysam.VariantFile, name: str, start: int) -> int | None:
    """The 0-based position of the first record that begins at ``start`` or after it."""
    try:
        return next((record.pos - 1 for record in file.fetch(name, start) if record.pos - 1 >= start), None)
    except ValueError:  # the header names a chromosome that the index does not have
        return None


def convert_region(job: PanelJob, number: int) -> None:
    """Reads one region of the panel and writes its sites, packed, to the task's file."""
    region = job.regions[number]
    read = [] if _is_empty(job.vcf, region) else packed_blocks(job.vcf, region=region, build=job.build, info=job.info)
    arrays: dict[str, Array] = {}
    parts: list[dict[str, Any]] = []
    for part, group in groupby(read, key=lambda block: block.region):  # X has several, with different haplotypes
        blocks = list(group)
        sites = join_sites([block.sites for block in blocks])
        of_part = {
            "packed": np.concatenate([block.packed for block in blocks]),
            "allele_count": np.concatenate([block.allele_count for block in blocks]),
            "pos": sites.pos,
            "continues": sites.continues,
            **{name: pack_text(getattr(sites, name)) for name in TEXTS},
            **pack_info(sites),
        }
        arrays |= {f"{name}-{len(parts)}": array for name, array in of_part.items()}
        haploid = list(blocks[0].haploid)
        parts.append({"chrom": part.chrom, "start": part.start, "stop": part.stop, "haploid": haploid})
    write_tensors(job.block(number), arrays, {"stretches": parts})


def _is_empty(vcf: Path, region: Region) -> bool:
    name = names_of(region.chrom, cyvcf2.VCF(str(vcf)).seqnames)[0]
    with pysam.VariantFile(str(vcf)) as file:
        first = _first(file, name, region.start - 1)
    return first is None or not region.holds(first + 1)


def convert_from(
    job: PanelJob,
    pool: Pool,
    out: Path,
    *,
    maps: Sequence[Path],
    region: str | None,
    holdout: float,
    seed: int,
    finished: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Runs the job's remaining tasks on the pool, writes the panel store ``out`` and removes the job's folder.

    Arguments and result are those of ``convert_panels``. ``finished`` receives the number of newly finished tasks.
    """
    run_tasks(job.tasks(), pool, finished=finished)
    options: dict[str, Any] = {"region": region, "build": job.build, "info": job.info, "holdout": holdout, "seed": seed}
    manifest = convert_panels([job.vcf], out, maps=maps, blocks=_blocks(job), **options)
    shutil.rmtree(job.folder)
    with suppress(OSError):  # the folder may hold other jobs or the user's files
        job.folder.parent.rmdir()
    return manifest


def _blocks(job: PanelJob) -> Iterator[PackedBlock]:
    samples = inspect(job.vcf).samples
    for number in range(len(job.regions)):
        stored = Tensors(job.block(number))
        for place, facts in enumerate(stored.meta["stretches"]):
            ref, alt, ids = (unpack_text(stored[f"{name}-{place}"]) for name in TEXTS)
            info = unpack_info({name: stored[f"{name}-{place}"] for name in INFO if f"{name}-{place}" in stored})
            sites = Sites(facts["chrom"], stored[f"pos-{place}"], ref, alt, ids, stored[f"continues-{place}"], info)
            region = Region(facts["chrom"], facts["start"], facts["stop"])
            yield PackedBlock.complete(region, samples, tuple(facts["haploid"]), sites, stored[f"packed-{place}"])
