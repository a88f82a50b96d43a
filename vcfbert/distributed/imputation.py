"""Plans and runs an imputation as tasks on many machines. The output equals that of ``imputation.impute_file``.

The job has three stages. The first phases each group of samples along the whole chromosome, if any sample is unphased.
The second imputes each chunk of sites for each group. The third writes the records of a chunk for all samples, because
DR2 and each record cover all samples. The parts are then joined. Tasks exchange files in a folder that all machines
see. Its name is a digest of every input, so an interrupted job resumes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcfbert import __version__
from vcfbert.artifacts import MANIFEST, git_commit, sha256_file, sha256_json
from vcfbert.bundle.contents import Part as BundlePart
from vcfbert.distributed.chunks import Interval, cut_samples, cut_sites
from vcfbert.distributed.job import Chunk, ChunkSpec, Job, Settings, imputer_of, write_record_options, write_target
from vcfbert.distributed.scheduler import Pool, run_tasks
from vcfbert.distributed.tasks import job_tasks
from vcfbert.distributed.tensors import Tensors
from vcfbert.distributed.vcf_parts import Stitched
from vcfbert.errors import InputError
from vcfbert.genotypes.formats.target_file import target_files
from vcfbert.genotypes.qc import QcReport
from vcfbert.genotypes.record_formatter import joined_sites
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_header import bcf_header, header_text
from vcfbert.genotypes.vcf_writer import check_suffix, is_bcf, save
from vcfbert.imputation.files import Imputed, ImputeOptions, file_header, panel_interval, per_panel_site, read_target
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.phasing import unphased_error

FloatArray = npt.NDArray[np.float32]

FORMAT = 4  # version of the files between the stages

# Host memory of a task, as measured (docs/explanation/scale.md).
_PROCESS_BYTES = 500 << 20
_BYTES_PER_CELL = 60
_BYTES_PER_ALLELE = 3
_BYTES_PER_PHASING_ALLELE = 12  # an allele probability in one of a sample's phasings


@dataclass(frozen=True)
class Plan:
    """A job and what its last step needs. ``memory``: estimated maximum bytes of host memory per task."""

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
    matched, report = read_target(target, bundle.panels, options.region, strict=options.strict, chain=options.chain)
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
        "target": [sha256_file(file) for file in target_files(target)],
        "bundle": sha256_file(settings.bundle / MANIFEST),
        "settings": [settings.mode, settings.ignore_phase, settings.batch_size],
        "options": dataclasses.asdict(options),
        "chain": None if options.chain is None else sha256_file(Path(options.chain)),
        "bcf": is_bcf(out),
        "chunks": chunks,
        "groups": groups,
    }
    folder = work.resolve() / f"impute-{sha256_json(identity)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    panels = tuple(one.panel_digest for one in matched)
    job = Job(folder, settings, options, panels, tuple(chunks), tuple(groups), phases, is_bcf(out))
    for number, one in enumerate(matched):
        if not job.records(number).exists():
            write_record_options(job.records(number), one)
        for group, (first, last) in enumerate(groups):
            if not job.typed(number, group).exists():
                write_target(job.typed(number, group), one.of_samples(np.arange(first, last)))
    return Plan(job, samples, report, task_memory(job, imputer))


def _cut(part: BundlePart, target: MatchedTarget, region: str | None, length_cm: float) -> list[Interval]:
    panel = part.panel
    sites = panel_interval(panel, region)
    _, swapped = per_panel_site(panel, target.panel_site, target.id, target.swapped)
    return cut_sites(part.windows, panel.cm, joined_sites(panel, swapped), sites, length_cm=length_cm)


def run_job(plan: Plan, pool: Pool, out: Path, *, finished: Callable[[int], None] | None = None) -> Imputed:
    """Runs the job's remaining tasks on the pool, writes ``out`` and removes the job's folder.

    ``finished`` receives the number of newly finished tasks.
    """
    run_tasks(job_tasks(plan.job), pool, finished=finished)
    imputed = _stitch(plan, out)
    shutil.rmtree(plan.job.folder)
    with suppress(OSError):  # the folder may hold other jobs or the user's files
        plan.job.folder.parent.rmdir()
    return imputed


def _stitch(plan: Plan, out: Path) -> Imputed:
    job = plan.job
    bundle = imputer_of(job.settings).bundle
    panels = [bundle.part(digest).panel for digest in job.panels]
    head = header_text(panels, plan.samples, file_header(bundle), job.options.fields)
    summary = Summary(panels[0])
    for chunk in range(len(job.chunks)):
        summary.add_counts(Tensors(job.part(chunk).offsets_path).meta)
    of_chromosomes = groupby(range(len(job.chunks)), key=lambda chunk: panels[job.chunks[chunk].panel].region.chrom)
    chromosomes = [(chrom, [job.part(chunk) for chunk in chunks]) for chrom, chunks in of_chromosomes]
    save(out, Stitched(bcf_header(head) if job.bcf else head, chromosomes), panels)
    return Imputed.of(plan.report, [summary])


def task_memory(job: Job, imputer: Imputer) -> int:
    """Estimated bytes of host memory of the largest task.

    The sum of the process itself, a group's genotypes in a chunk, the panel's alleles in a window as bytes, and the
    phasings of a batch. V19 reads alleles as bits, so its estimate is too high. Panel and index stay in their files and
    are not counted.
    """
    group = max(last - first for first, last in job.groups)
    parts = [imputer.bundle.part(digest) for digest in job.panels]
    window = max(window.stop - window.start for part in parts for window in part.windows)
    cells = max(chunk.last - chunk.first for chunk in job.chunks) * group
    alleles = max(part.panel.n_haplotypes for part in parts) * window
    phasings = 2 * imputer.mode.phasings * min(imputer.batch_size, group) * window if job.phases else 0
    return _PROCESS_BYTES + _BYTES_PER_CELL * cells + _BYTES_PER_ALLELE * alleles + _BYTES_PER_PHASING_ALLELE * phasings
