"""The tasks of a distributed imputation: phase a group, impute a chunk for a group, write a chunk."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MISSING
from vcfbert.distributed.job import Job, imputer_of, read_group, write_target
from vcfbert.distributed.scheduler import Task
from vcfbert.distributed.tensors import Array, Tensors, write_tensors
from vcfbert.distributed.vcf_parts import write_part
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.record_formatter import RecordBytes
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_header import contigs, kept_lines
from vcfbert.genotypes.vcf_writer import ImputedPanel, formatted
from vcfbert.imputation.files import per_panel_site
from vcfbert.imputation.phasing import PhasedTarget
from vcfbert.imputation.window_prediction import of_independent

FloatArray = npt.NDArray[np.float32]

_CELLS_AT_ONCE = 1 << 22  # genotypes (sites x samples) joined at once for writing


def job_tasks(job: Job) -> list[Task]:
    """The tasks of all three stages, ordered by chunk to bound intermediate files."""
    tasks = []
    if job.phases:
        tasks += [
            Task(
                f"phase {panel} {group}",
                "phase",
                partial(phase_group, job, panel, group),
                job.phased(panel, group),
            )
            for panel in range(len(job.panels))
            for group in range(len(job.groups))
        ]
    for chunk in range(len(job.chunks)):
        imputed = [_impute_task(job, chunk, group) for group in range(len(job.groups))]
        names, files = tuple(task.name for task in imputed), tuple(task.done for task in imputed)
        write = partial(write_chunk, job, chunk)
        tasks += [*imputed, Task(f"write {chunk}", "write", write, job.part(chunk).offsets_path, names, files)]
    return tasks


def _impute_task(job: Job, chunk: int, group: int) -> Task:
    return Task(
        f"impute {chunk} {group}",
        "impute",
        partial(impute_chunk, job, chunk, group),
        job.imputed(chunk, group),
        (f"phase {job.chunks[chunk].panel} {group}",) if job.phases else (),
    )


def phase_group(job: Job, panel: int, group: int) -> None:
    """Phases a group of samples along the whole of a panel."""
    target, _ = read_group(job.typed(panel, group), job.panels[panel], slice(None))
    phased = imputer_of(job.settings).phase(target)
    write_target(job.phased(panel, group), phased.target, phased.phasings)


def impute_chunk(job: Job, chunk: int, group: int) -> None:
    """Imputes a chunk of sites for a group of samples."""
    imputer = imputer_of(job.settings)
    panel, first, last = job.chunks[chunk]
    digest, path = job.panels[panel], job.phased(panel, group)
    reach = imputer.reach(imputer.bundle.part(digest), (first, last), Tensors(path)["panel_site"])
    target, phasings = read_group(path, digest, reach)
    given = PhasedTarget(target, phasings) if job.phases else target
    hds = np.empty((last - first, len(target.samples), 2), dtype=np.float32)
    coupled: FloatArray | None = None
    rows, calls, loo_dosage = [], [], []
    for block in imputer.impute(given, sites=(first, last)):
        inside = slice(block.start - first, block.stop - first)
        hds[inside] = block.haplotype_dosage
        if block.genotype_probability is not None:
            coupled = np.empty((*hds.shape[:2], 3), dtype=np.float32) if coupled is None else coupled
            coupled[inside] = block.genotype_probability
        has_values = (block.calls >= 0).any(axis=(1, 2))  # only the rows of such sites are stored
        if block.loo_dosage is not None:
            has_values |= np.isfinite(block.loo_dosage).any(axis=(1, 2))
            loo_dosage.append(block.loo_dosage[has_values])
        rows.append(np.flatnonzero(has_values) + block.start)
        calls.append(block.calls[has_values])
    arrays: dict[str, Array] = {"hds": hds, "typed": np.concatenate(rows), "calls": np.concatenate(calls)}
    if coupled is not None:
        arrays["coupled"] = coupled
    if loo_dosage:
        arrays["loo_dosage"] = np.concatenate(loo_dosage)
    write_tensors(job.imputed(chunk, group), arrays)


def write_chunk(job: Job, chunk: int) -> None:
    """Writes the records of a chunk of sites for all samples."""
    number = job.chunks[chunk].panel
    panels = [imputer_of(job.settings).bundle.part(digest).panel for digest in job.panels]
    panel = panels[number]
    contig = contigs(panels).index(panel.region.chrom) if job.bcf else None
    stored = Tensors(job.records(number))
    ids = np.array(stored["id"].tobytes().decode().split("\n"), dtype=object)
    ids, swapped = per_panel_site(panel, stored["panel_site"], ids, stored["swapped"])
    summary, counts = Summary(panel), dict[str, Any]()

    def records() -> Iterator[RecordBytes]:
        imputed = ImputedPanel(panel, _blocks(job, chunk), ids, swapped, stored["haploid"], summary)
        fields, min_dr2 = job.options.fields, job.options.min_dr2
        yield from formatted(imputed, fields=fields, min_dr2=min_dr2, contig=contig, kept=kept_lines(panels))
        counts.update(summary.counts())

    write_part(job.part(chunk), panel.region.chrom, records(), meta=counts, threads=job.settings.threads)


def _blocks(job: Job, chunk: int) -> Iterator[ImputedBlock]:
    """Yields a chunk's imputed sites in blocks, with the samples of all groups joined."""
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
            _joined([block.loo_dosage for block in blocks]),
        )


def _joined(parts: list[FloatArray | None]) -> FloatArray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis=1) if len(known) == len(parts) else None


class _ImputedGroup:
    """The output file of ``impute_chunk``."""

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
        loo_dosage = None
        if "loo_dosage" in stored:
            loo_dosage = np.full(hds.shape, np.nan, dtype=np.float32)
            loo_dosage[rows] = stored.part("loo_dosage", slice(low, high))
        return ImputedBlock(start, stop, hds, calls, coupled, loo_dosage)
