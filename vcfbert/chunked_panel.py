"""Conversion of a panel cut into tasks, one a region of an indexed file: the store that ``build_panel`` writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cyvcf2
import numpy as np
import numpy.typing as npt
import pysam

from vcfbert import __version__
from vcfbert.artifacts import sha256_file, sha256_json
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.regions import Region, same_chrom
from vcfbert.genotypes.store import PackedBlock, build_panel, packed_blocks
from vcfbert.genotypes.vcf_file import inspect
from vcfbert.genotypes.vcf_reader import join_sites
from vcfbert.provenance import git_commit
from vcfbert.scheduler import Pool, Task, run_tasks
from vcfbert.tensors import Array, Tensors, write_tensors

FORMAT = 1  # of the files between the stages

# Beyond a worker without any task: what a block of records takes while it is decoded, and the bits of a region while
# they are joined and written. A region's number of sites is not known before: that of a dense panel is taken.
_PROCESS_BYTES = 600 << 20
_SITES_PER_MB = 40_000

_LAST_POSITION = 1 << 29
_TEXTS = ("ref", "alt", "id")


@dataclass(frozen=True)
class PanelJob:
    """``regions`` tile what is wanted of the panel's chromosome."""

    folder: Path
    vcf: Path
    regions: tuple[Region, ...]

    def block(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}"

    def tasks(self) -> list[Task]:
        return [
            Task(f"convert {region}", "convert", partial(convert_region, self, number), self.block(number))
            for number, region in enumerate(self.regions)
        ]

    @property
    def memory(self) -> int:
        """Bytes of the largest task, by estimate."""
        most = max((region.stop or _LAST_POSITION) - region.start + 1 for region in self.regions)
        return _PROCESS_BYTES + int(3 * most * _SITES_PER_MB / 1e6 * len(inspect(self.vcf).samples) / 4)


def plan_panel(vcf: Path, *, region: str | None, chunk_mb: float, work: Path) -> PanelJob:
    """Cuts the records of ``vcf`` by position. Raises InputError: index_missing, several_chromosomes,
    chromosome_missing, region_empty, and those of ``inspect`` and ``Region.parse``."""
    if not inspect(vcf).has_index:
        raise InputError(
            "index_missing", "a file is read in parts through its index", where=str(vcf), hint="bcftools index FILE"
        )
    wanted = _whole_chromosome(vcf) if region is None else Region.parse(region)
    first, last = _extent(vcf, wanted)
    step = max(int(chunk_mb * 1e6), 1)
    starts = range(first, last + 1, step)
    regions = [Region(wanted.chrom, start, min(start + step - 1, last)) for start in starts]
    identity = [FORMAT, __version__, git_commit(), sha256_file(vcf), [str(region) for region in regions]]
    folder = work.resolve() / f"panel-{sha256_json(identity)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return PanelJob(folder, vcf.resolve(), tuple(regions))


def _whole_chromosome(vcf: Path) -> Region:
    with pysam.VariantFile(str(vcf)) as file:
        present = [name for name in cyvcf2.VCF(str(vcf)).seqnames if _first(file, name, 0) is not None]
    if len(present) != 1:
        raise InputError(
            "several_chromosomes" if present else "empty",
            f"the file holds {len(present)} chromosomes ({', '.join(present[:30])})",
            where=str(vcf),
            hint="name the one to read as region",
        )
    return Region(present[0])


def _extent(vcf: Path, wanted: Region) -> tuple[int, int]:
    """Positions, 1-based, of the first and the last record of a region, by the index alone."""
    name = next((name for name in cyvcf2.VCF(str(vcf)).seqnames if same_chrom(name, wanted.chrom)), None)
    with pysam.VariantFile(str(vcf)) as file:
        first = None if name is None else _first(file, name, wanted.start - 1)
        stop = min(wanted.stop or _LAST_POSITION, _LAST_POSITION)
        if name is None or first is None or first + 1 > stop:
            code = "chromosome_missing" if name is None else "region_empty"
            raise InputError(code, f"no record lies in region {wanted}", where=str(vcf), hint="check its bounds")
        low, high = first, stop  # a record begins at low or behind it, and none that is wanted at high
        while high - low > 1:
            middle = (low + high) // 2
            found = _first(file, name, middle)
            if found is not None and found < stop:
                low = found
            else:
                high = middle
    return first + 1, low + 1


def _first(file: pysam.VariantFile, name: str, start: int) -> int | None:
    """The 0-based position of the first record that begins at ``start`` or behind."""
    try:
        return next((record.pos - 1 for record in file.fetch(name, start) if record.pos - 1 >= start), None)
    except ValueError:  # the header names a chromosome that the index has nothing of
        return None


def convert_region(job: PanelJob, number: int) -> None:
    """Reads one region of the panel into a file of packed sites, of none if there are none."""
    region = job.regions[number]
    blocks = [] if _is_empty(job.vcf, region) else list(packed_blocks(job.vcf, region=str(region)))
    arrays: dict[str, Array] = {}
    if blocks:
        sites = join_sites([block.sites for block in blocks])
        texts = {name: np.frombuffer("\n".join(getattr(sites, name)).encode(), dtype=np.uint8) for name in _TEXTS}
        arrays = {
            "packed": np.concatenate([block.packed for block in blocks]),
            "allele_count": np.concatenate([block.allele_count for block in blocks]),
            "pos": sites.pos,
            "continues": sites.continues,
            **texts,
        }
    write_tensors(job.block(number), arrays, {"chrom": sites.chrom if blocks else region.chrom})


def _is_empty(vcf: Path, region: Region) -> bool:
    name = next(name for name in cyvcf2.VCF(str(vcf)).seqnames if same_chrom(name, region.chrom))
    with pysam.VariantFile(str(vcf)) as file:
        first = _first(file, name, region.start - 1)
    return first is None or not region.holds(first + 1)


def build_from(
    job: PanelJob,
    pool: Pool,
    out: Path,
    *,
    genetic_map: Path | None,
    region: str | None,
    holdout: float,
    seed: int,
    finished: Callable[[int], None] | None = None,
) -> Panel:
    """Runs what is left of a job's tasks on the pool and joins the parts at ``out``; the job's folder is removed then.
    Arguments as of ``build_panel``; ``finished`` is told how many more tasks are done."""
    run_tasks(job.tasks(), pool, finished=finished)
    blocks = _blocks(job)
    panel = build_panel(job.vcf, out, genetic_map=genetic_map, region=region, holdout=holdout, seed=seed, blocks=blocks)
    shutil.rmtree(job.folder)
    with suppress(OSError):  # other jobs may lie there, or what the user has
        job.folder.parent.rmdir()
    return panel


def _blocks(job: PanelJob) -> Iterator[PackedBlock]:
    samples = inspect(job.vcf).samples
    for number in range(len(job.regions)):
        stored = Tensors(job.block(number))
        if "pos" in stored:
            ref, alt, ids = (_text(stored[name]) for name in _TEXTS)
            sites = Sites(stored.meta["chrom"], stored["pos"], ref, alt, ids, stored["continues"])
            yield PackedBlock(samples, sites, stored["packed"], stored["allele_count"])


def _text(data: Array) -> npt.NDArray[np.object_]:
    return np.array(data.tobytes().decode().split("\n"), dtype=object)
