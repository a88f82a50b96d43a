"""Imputation cut into tasks that may run on many machines: the same file as ``imputation.impute_file`` writes.

Three stages. A group of samples is phased along the whole chromosome (where any came without phase); a chunk of sites
is imputed for a group of samples; the records of a chunk are written for all samples, since DR2 is of them all and each
line holds them all. Then the parts are stitched. Tasks hand files on in a folder that all machines see, named by a
digest of everything that the result depends on, so that a job goes on where it was interrupted.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vcfbert import __version__
from vcfbert.artifacts import MANIFEST, sha256_file, sha256_json
from vcfbert.bundle import Part as BundlePart
from vcfbert.bundle import load_bundle
from vcfbert.constants import MISSING
from vcfbert.distributed.chunks import Interval, cut_samples, cut_sites
from vcfbert.distributed.scheduler import Pool, Task, run_tasks
from vcfbert.distributed.tensors import Array, Tensors, write_tensors
from vcfbert.distributed.vcf_parts import Part, Stitched, write_part
from vcfbert.errors import InputError
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.qc import QcReport
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_lines import Line, joined_sites
from vcfbert.genotypes.vcf_writer import ImputedPanel, check_suffix, header_text, record_lines, save_records
from vcfbert.imputation.files import Imputed, ImputeOptions, file_header, panel_interval, per_panel_site, read_target
from vcfbert.imputation.imputer import Imputer, PhasedTarget, of_independent, unphased_error
from vcfbert.imputation.phasing import Phasings
from vcfbert.provenance import git_commit

FloatArray = npt.NDArray[np.float32]

FORMAT = 2  # of the files between the stages

# Of a task's memory, as measured (docs/explanation/scale.md).
_PROCESS_BYTES = 500 << 20
_BYTES_PER_CELL = 60
_BYTES_PER_ALLELE = 3
_BYTES_PER_DRAWN = 12  # probability of a haplotype of one of a sample's phasings

# Genotypes that are put together at once for writing.
_CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ChunkSpec:
    """``chunk_cm``: genetic length of a chunk, at least a window; ``chunk_samples``: most samples of a group."""

    chunk_cm: float = 5.0
    chunk_samples: int = 500


@dataclass(frozen=True)
class Settings:
    """Of the Imputer that every worker has. ``bundle``: a folder that all workers see; ``threads`` of a task."""

    bundle: Path
    mode: str
    ignore_phase: bool
    batch_size: int
    threads: int


class Chunk(NamedTuple):
    """Sites [first, last) of one of a job's panels, by its number."""

    panel: int
    first: int
    last: int

    @property
    def sites(self) -> Interval:
        return self.first, self.last


@dataclass(frozen=True)
class Job:
    """What a task is told; the rest is in the files of ``folder``. ``panels``: digests of those that the target has
    sites of; ``phases``: there is a stage that phases."""

    folder: Path
    settings: Settings
    options: ImputeOptions
    panels: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    groups: tuple[Interval, ...]
    phases: bool

    def records(self, panel: int) -> Path:
        return self.folder / f"records-{panel:02d}"

    def typed(self, panel: int, group: int) -> Path:
        return self.folder / f"typed-{panel:02d}-{group:05d}"

    def phased(self, panel: int, group: int) -> Path:
        return self.folder / f"phased-{panel:02d}-{group:05d}" if self.phases else self.typed(panel, group)

    def imputed(self, chunk: int, group: int) -> Path:
        return self.folder / f"imputed-{chunk:05d}-{group:05d}"

    def part(self, chunk: int) -> Part:
        return Part(self.folder / f"part-{chunk:05d}.gz")

    def tasks(self) -> list[Task]:
        """Chunk by chunk, so that few of them lie about imputed and not yet written."""
        tasks = []
        if self.phases:
            tasks += [
                Task(
                    f"phase {panel} {group}",
                    "phase",
                    partial(phase_group, self, panel, group),
                    self.phased(panel, group),
                )
                for panel in range(len(self.panels))
                for group in range(len(self.groups))
            ]
        for chunk in range(len(self.chunks)):
            imputed = [self._impute(chunk, group) for group in range(len(self.groups))]
            names, files = tuple(task.name for task in imputed), tuple(task.done for task in imputed)
            write = partial(write_chunk, self, chunk)
            tasks += [*imputed, Task(f"write {chunk}", "write", write, self.part(chunk).places, names, files)]
        return tasks

    def _impute(self, chunk: int, group: int) -> Task:
        return Task(
            f"impute {chunk} {group}",
            "impute",
            partial(impute_chunk, self, chunk, group),
            self.imputed(chunk, group),
            (f"phase {self.chunks[chunk].panel} {group}",) if self.phases else (),
        )


@dataclass(frozen=True)
class Plan:
    """A job with what its end needs. ``memory``: bytes that one of its tasks takes at most, by estimate."""

    job: Job
    samples: tuple[str, ...]
    report: QcReport
    memory: int


def plan_job(
    settings: Settings,
    target: Path,
    out: Path,
    options: ImputeOptions,
    *,
    chunking: ChunkSpec,
    work: Path,
    qc_report: Path | None = None,
) -> Plan:
    """Reads ``target``, cuts the job and writes what its tasks need under ``work``, a folder that all workers see.

    Raises InputError as ``imputation.impute_file`` does.
    """
    check_suffix(out)
    if out.resolve() == target.resolve():
        raise InputError("same_file", "target and output are the same file", where=str(out), hint="name another output")
    imputer = imputer_of(settings)
    bundle = imputer.bundle
    matched, report = read_target(target, bundle.panels, options.region)
    if qc_report is not None:
        report.write(qc_report)
    unphased = [one for one in matched if one.unphased.any()]
    phases = bool(unphased) or settings.ignore_phase
    if unphased and not bundle.model.takes_unphased:
        raise unphased_error(unphased[0], bundle.part(unphased[0].panel_digest).panel)
    chunks = []
    for number, one in enumerate(matched):
        cuts = _cut(bundle.part(one.panel_digest), one, options.region, chunking.chunk_cm)
        chunks += [Chunk(number, first, last) for first, last in cuts]
    samples = matched[0].samples
    groups = cut_samples(len(samples), chunking.chunk_samples)
    identity = {
        "format": FORMAT,
        "version": [__version__, git_commit()],
        "target": sha256_file(target),
        "bundle": sha256_file(settings.bundle / MANIFEST),
        "settings": [settings.mode, settings.ignore_phase, settings.batch_size],
        "options": dataclasses.asdict(options),
        "chunks": chunks,
        "groups": groups,
    }
    folder = work.resolve() / f"impute-{sha256_json(identity)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    panels = tuple(one.panel_digest for one in matched)
    job = Job(folder, settings, options, panels, tuple(chunks), tuple(groups), phases)
    for number, one in enumerate(matched):
        if not job.records(number).exists():
            _write_record_options(job.records(number), one)
        for group, (first, last) in enumerate(groups):
            if not job.typed(number, group).exists():
                _write_target(job.typed(number, group), one.of_samples(np.arange(first, last)))
    return Plan(job, samples, report, task_memory(job, imputer))


def _cut(part: BundlePart, target: MatchedTarget, region: str | None, length_cm: float) -> list[Interval]:
    panel = part.panel
    sites = panel_interval(panel, region)
    _, swapped = per_panel_site(panel, target.panel_site, target.id, target.swapped)
    return cut_sites(part.windows, panel.cm, joined_sites(panel, swapped), sites, length_cm=length_cm)


def run_job(plan: Plan, pool: Pool, out: Path, *, finished: Callable[[int], None] | None = None) -> Imputed:
    """Runs what is left of a job's tasks on the pool and writes ``out``; the job's folder is removed then.

    ``finished`` is told how many more tasks are done.
    """
    run_tasks(plan.job.tasks(), pool, finished=finished)
    imputed = _stitch(plan, out)
    shutil.rmtree(plan.job.folder)
    with suppress(OSError):  # other jobs may lie there, or what the user has
        plan.job.folder.parent.rmdir()
    return imputed


def _stitch(plan: Plan, out: Path) -> Imputed:
    job = plan.job
    bundle = imputer_of(job.settings).bundle
    panels = [bundle.part(digest).panel for digest in job.panels]
    head = header_text(panels, plan.samples, file_header(bundle), job.options.fields)
    summary = Summary(panels[0])
    for chunk in range(len(job.chunks)):
        summary.add_counts(Tensors(job.part(chunk).places).meta)
    of_chromosomes = groupby(range(len(job.chunks)), key=lambda chunk: panels[job.chunks[chunk].panel].region.chrom)
    chromosomes = [(chrom, [job.part(chunk) for chunk in chunks]) for chrom, chunks in of_chromosomes]
    save_records(out, Stitched(head, chromosomes), panels, job.settings.threads)
    return Imputed.of(plan.report, [summary])


@lru_cache(maxsize=1)  # of a worker, for all its tasks of a job
def imputer_of(settings: Settings) -> Imputer:
    torch.set_num_threads(settings.threads)
    bundle = load_bundle(settings.bundle)
    return Imputer(bundle, batch_size=settings.batch_size, mode=settings.mode, ignore_phase=settings.ignore_phase)


def task_memory(job: Job, imputer: Imputer) -> int:
    """Bytes of the largest task: what a process takes anyway, a chunk of a group's genotypes while they are imputed
    and written, the panel's alleles in a window, unpacked, and the phasings of a batch. Panel and index stay in their
    files."""
    group = max(last - first for first, last in job.groups)
    parts = [imputer.bundle.part(digest) for digest in job.panels]
    window = max(window.stop - window.start for part in parts for window in part.windows)
    cells = max(chunk.last - chunk.first for chunk in job.chunks) * group
    alleles = max(part.panel.n_haplotypes for part in parts) * window
    drawn = 2 * imputer.mode.phasings * min(imputer.batch_size, group) * window if job.phases else 0
    return _PROCESS_BYTES + _BYTES_PER_CELL * cells + _BYTES_PER_ALLELE * alleles + _BYTES_PER_DRAWN * drawn


def phase_group(job: Job, panel: int, group: int) -> None:
    """Phases a group of samples along the whole of a panel."""
    target, _ = _read_target(job.typed(panel, group), job.panels[panel], slice(None))
    phased = imputer_of(job.settings).phase(target)
    _write_target(job.phased(panel, group), phased.target, phased.phasings)


def impute_chunk(job: Job, chunk: int, group: int) -> None:
    """Imputes a chunk of sites for a group of samples."""
    imputer = imputer_of(job.settings)
    panel, first, last = job.chunks[chunk]
    digest, path = job.panels[panel], job.phased(panel, group)
    reach = imputer.reach(imputer.bundle.part(digest), (first, last), Tensors(path)["panel_site"])
    target, phasings = _read_target(path, digest, reach)
    given = PhasedTarget(target, phasings) if job.phases else target
    hds = np.empty((last - first, len(target.samples), 2), dtype=np.float32)
    coupled: FloatArray | None = None
    rows, calls, left_out = [], [], []
    for block in imputer.impute(given, sites=(first, last)):
        inside = slice(block.start - first, block.stop - first)
        hds[inside] = block.haplotype_dosage
        if block.genotype_probability is not None:
            coupled = np.empty((*hds.shape[:2], 3), dtype=np.float32) if coupled is None else coupled
            coupled[inside] = block.genotype_probability
        told = (block.calls >= 0).any(axis=(1, 2))
        if block.left_out is not None:
            told |= np.isfinite(block.left_out).any(axis=(1, 2))
            left_out.append(block.left_out[told])
        rows.append(np.flatnonzero(told) + block.start)
        calls.append(block.calls[told])
    arrays: dict[str, Array] = {"hds": hds, "typed": np.concatenate(rows), "calls": np.concatenate(calls)}
    if coupled is not None:
        arrays["coupled"] = coupled
    if left_out:
        arrays["left_out"] = np.concatenate(left_out)
    write_tensors(job.imputed(chunk, group), arrays)


def write_chunk(job: Job, chunk: int) -> None:
    """Writes the records of a chunk of sites for all samples."""
    number = job.chunks[chunk].panel
    panel = imputer_of(job.settings).bundle.part(job.panels[number]).panel
    stored = Tensors(job.records(number))
    ids = np.array(stored["id"].tobytes().decode().split("\n"), dtype=object)
    ids, swapped = per_panel_site(panel, stored["panel_site"], ids, stored["swapped"])
    summary, counts = Summary(panel), dict[str, Any]()

    def lines() -> Iterator[Line]:
        imputed = ImputedPanel(panel, _blocks(job, chunk), ids, swapped, stored["haploid"], summary)
        yield from record_lines(imputed, fields=job.options.fields, min_dr2=job.options.min_dr2)
        counts.update(summary.counts())

    write_part(job.part(chunk), panel.region.chrom, lines(), meta=counts, threads=job.settings.threads)


def _blocks(job: Job, chunk: int) -> Iterator[ImputedBlock]:
    """The imputed sites of a chunk with all groups' samples side by side, some sites at a time."""
    groups = [_ImputedGroup(job.imputed(chunk, group)) for group in range(len(job.groups))]
    with_coupled = any(group.has_coupled for group in groups)
    first, last = job.chunks[chunk].sites
    step = max(_CELLS_AT_ONCE // job.groups[-1][1], 1)
    for start in range(first, last, step):
        stop = min(start + step, last)
        blocks = [group.block(start, stop, first, with_coupled) for group in groups]
        yield ImputedBlock(
            start,
            stop,
            np.concatenate([block.haplotype_dosage for block in blocks], axis=1),
            np.concatenate([block.calls for block in blocks], axis=1),
            _joined([block.genotype_probability for block in blocks]),
            _joined([block.left_out for block in blocks]),
        )


def _joined(parts: list[FloatArray | None]) -> FloatArray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis=1) if len(known) == len(parts) else None


class _ImputedGroup:
    """What ``impute_chunk`` has written."""

    def __init__(self, path: Path) -> None:
        self._stored = Tensors(path)
        self._typed = self._stored["typed"]
        self.has_coupled = "coupled" in self._stored

    def block(self, start: int, stop: int, first: int, with_coupled: bool) -> ImputedBlock:
        """Panel sites [start, stop) of the chunk that begins at ``first``."""
        stored, inside = self._stored, slice(start - first, stop - first)
        hds = stored.part("hds", inside)
        coupled = None
        if with_coupled:
            coupled = stored.part("coupled", inside) if self.has_coupled else of_independent(hds)
        low, high = np.searchsorted(self._typed, [start, stop]).tolist()
        rows = self._typed[low:high] - start
        calls = np.full(hds.shape, MISSING, dtype=np.int8)
        calls[rows] = stored.part("calls", slice(low, high))
        left_out = None
        if "left_out" in stored:
            left_out = np.full(hds.shape, np.nan, dtype=np.float32)
            left_out[rows] = stored.part("left_out", slice(low, high))
        return ImputedBlock(start, stop, hds, calls, coupled, left_out)


def _write_record_options(path: Path, target: MatchedTarget) -> None:
    ids = np.frombuffer("\n".join(target.id).encode(), dtype=np.uint8)
    arrays: dict[str, Array] = {
        "panel_site": target.panel_site,
        "swapped": target.swapped,
        "haploid": target.haploid,
        "id": ids,
    }
    write_tensors(path, arrays)


def _write_target(path: Path, target: MatchedTarget, phasings: Phasings | None = None) -> None:
    arrays: dict[str, Array] = {"panel_site": target.panel_site, "alleles": target.alleles, "phased": target.phased}
    if phasings is not None:
        arrays |= {"unphased_samples": phasings.samples, "phasings": phasings.calls}
    write_tensors(path, arrays)


def _read_target(path: Path, panel_digest: str, typed: slice) -> tuple[MatchedTarget, Phasings | None]:
    """A group's target at some of its typed sites, by number; what only writing needs is left blank."""
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
