"""Runs the established imputation programs, Beagle and Minimac4, on the same input, to be scored beside ours.

They are optional: whatever is on PATH is used. Each runs in a temporary folder; only the imputed VCF is kept.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pysam

from vcfbert.artifacts import atomic_file
from vcfbert.errors import InputError, VcfbertError
from vcfbert.genotypes.genetic_map import GeneticMap
from vcfbert.genotypes.vcf_file import inspect
from vcfbert.genotypes.vcf_reader import stream_genotypes

BEAGLE = "beagle"
MINIMAC4 = "minimac4"
BASELINES = (BEAGLE, MINIMAC4)
TAKES_UNPHASED = (BEAGLE,)  # phases targets itself

_ERROR_LINES = 12  # last lines of a failed baseline's output that the error shows


@dataclass(frozen=True)
class BaselineRun:
    """One run of a baseline.

    ``seconds`` and ``cpu_seconds``: wall and CPU time of phasing and imputation. ``panel_seconds``: wall time of
    converting the panel to the baseline's own format, which is done once per panel.
    """

    name: str
    version: str
    path: Path
    seconds: float
    cpu_seconds: float = 0.0
    panel_seconds: float = 0.0

    def as_dict(self) -> dict[str, str | float]:
        """Version and seconds for a report; two decimals."""
        return {
            "version": self.version,
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "panel_seconds": round(self.panel_seconds, 2),
        }


def find_baselines() -> dict[str, Path]:
    """Executables of the baselines on PATH, by name."""
    found = {name: shutil.which(name) for name in BASELINES}
    return {name: Path(path) for name, path in found.items() if path is not None}


def run_baseline(
    name: str, panel_vcf: Path, target_vcf: Path, genetic_map: Path | None, out: Path, *, threads: int = 1
) -> BaselineRun:
    """Runs the baseline ``name``. Raises as ``run_beagle`` does."""
    run = {BEAGLE: run_beagle, MINIMAC4: run_minimac4}[name]
    return run(panel_vcf, target_vcf, genetic_map, out, threads=threads)


def run_beagle(
    panel_vcf: Path, target_vcf: Path, genetic_map: Path | None, out: Path, *, threads: int = 1
) -> BaselineRun:
    """Imputes ``target_vcf`` (phased or not) from ``panel_vcf`` into ``out`` (VCF.gz with GT:DS:GP).

    Without ``genetic_map`` Beagle assumes 1 cM/Mb. Raises InputError('peer_missing') where Beagle is not on PATH
    and VcfbertError('peer_failed') with the end of its own messages where it fails.
    """
    program = _program(BEAGLE)
    with _work_folder() as folder:
        command = [program, f"gt={_as_vcf_gz(target_vcf, folder)}", f"ref={_as_vcf_gz(panel_vcf, folder)}"]
        command += [f"out={folder / 'imputed'}", f"nthreads={threads}", "gp=true"]
        if genetic_map is not None:
            rows = "".join(f"{chrom} . {cm:.6f} {pos}\n" for chrom, pos, cm in _map_rows(genetic_map, panel_vcf))
            (folder / "plink.map").write_text(rows)
            command.append(f"map={folder / 'plink.map'}")
        seconds, cpu_seconds = _run(BEAGLE, command, folder)
        log = (folder / "imputed.log").read_text()
        _keep(BEAGLE, folder / "imputed.vcf.gz", out)
    version = re.search(r"\((version [^)]*)\)", log)
    return BaselineRun(BEAGLE, version[1].removeprefix("version ") if version else "unknown", out, seconds, cpu_seconds)


def run_minimac4(
    panel_vcf: Path, target_vcf: Path, genetic_map: Path | None, out: Path, *, threads: int = 1
) -> BaselineRun:
    """Imputes the phased ``target_vcf`` from ``panel_vcf`` into ``out`` (VCF.gz with GT:HDS:DS:GP).

    Without ``genetic_map`` it assumes its own recombination rate. Raises as ``run_beagle`` does.
    """
    program = _program(MINIMAC4)
    with _work_folder() as folder:
        panel = folder / "panel.msav"
        with panel.open("wb") as stream:
            compress = [program, "--compress-reference", str(_as_vcf_gz(panel_vcf, folder))]
            panel_seconds, _ = _run(MINIMAC4, compress, folder, stdout=stream)
        imputed = folder / "imputed.vcf.gz"
        command = [program, "--format", "GT,HDS,DS,GP", "--output-format", "vcf.gz", "--output", str(imputed)]
        command += ["--threads", str(threads)]
        if genetic_map is not None:
            rows = "".join(f"{chrom}\t{pos}\t{cm:.6f}\n" for chrom, pos, cm in _map_rows(genetic_map, panel_vcf))
            (folder / "genetic.map").write_text("#chr\tposition\tGenetic_Map(cM)\n" + rows)
            command += ["--map", str(folder / "genetic.map")]
        command += [str(panel), str(_indexed(_as_vcf_gz(target_vcf, folder), folder))]
        seconds, cpu_seconds = _run(MINIMAC4, command, folder)
        _keep(MINIMAC4, imputed, out)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return BaselineRun(
        MINIMAC4, version[-1].lstrip("v") if version else "unknown", out, seconds, cpu_seconds, panel_seconds
    )


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise InputError("peer_missing", f"{name} is not on PATH", hint=f"install {name}, or compare without it")
    return program


@contextmanager
def _work_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vcfbert-baseline-") as folder:
        yield Path(folder)


def _run(name: str, command: list[str], folder: Path, stdout: BinaryIO | None = None) -> tuple[float, float]:
    """Wall seconds of ``command``, and its CPU seconds. What it prints goes to a file, shown only if it fails."""
    messages = folder / "messages.txt"
    started, before = time.perf_counter(), _cpu_of_children()
    with messages.open("wb") as stream:
        done = subprocess.run(
            ["env", f"TMPDIR={folder}", *command],  # where Minimac4 puts its parts
            stdin=subprocess.DEVNULL,
            stdout=stream if stdout is None else stdout,
            stderr=stream,
            check=False,
        )
    seconds, cpu_seconds = time.perf_counter() - started, _cpu_of_children() - before
    if done.returncode != 0:
        raise _failed(name, f"ended with status {done.returncode}", messages)
    return seconds, cpu_seconds


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _failed(name: str, what: str, messages: Path) -> VcfbertError:
    lines = [line for line in messages.read_text(errors="replace").splitlines() if line.strip()]
    output = "\n".join(f"  | {line}" for line in lines[-_ERROR_LINES:])
    return VcfbertError(
        "peer_failed",
        f"{name} {what}; its last output:\n{output or '  | (none)'}",
        hint="check that panel and target are of one chromosome and name it alike, and that both are phased",
    )


def _keep(name: str, imputed: Path, out: Path) -> None:
    if not imputed.is_file() or imputed.stat().st_size == 0:
        raise _failed(name, "wrote no imputed file", imputed.with_name("messages.txt"))
    with atomic_file(out) as temporary:
        shutil.copyfile(imputed, temporary)


def _map_rows(genetic_map: Path, panel_vcf: Path) -> Iterator[tuple[str, int, float]]:
    """(chromosome as the panel names it, position, cM) of the map's points."""
    chrom = next(stream_genotypes(panel_vcf, block_genotypes=1)).sites.chrom
    points = GeneticMap.read(genetic_map, chrom)
    return ((chrom, int(pos), float(cm)) for pos, cm in zip(points.pos, points.cm_at, strict=True))


def _as_vcf_gz(path: Path, folder: Path) -> Path:
    """``path`` itself if it is a VCF.gz, else a copy as one: Beagle reads no BCF."""
    inspect(path)
    if path.name.endswith(".vcf.gz"):
        return path
    copy = folder / f"{path.name}.vcf.gz"
    with pysam.VariantFile(str(path)) as source, pysam.VariantFile(str(copy), "wz", header=source.header) as target:
        for record in source:
            target.write(record)
    return copy


def _indexed(path: Path, folder: Path) -> Path:
    """A VCF.gz with a tabix index: ``path`` or a copy of it."""
    if any(path.with_name(path.name + suffix).is_file() for suffix in (".tbi", ".csi")):
        return path
    copy = folder / f"indexed-{path.name}"
    shutil.copyfile(path, copy)
    pysam.tabix_index(str(copy), preset="vcf", force=True)
    return copy
