"""Measures reading and writing of genotypes in cells (sites x samples) per second, beside pysam per sample.

    python benchmarks/bench_io.py --json reports/bench_io.json
    python benchmarks/bench_io.py --large       # also reads 2,504 samples x 100,000 sites: 1 GB of text, some minutes
    python benchmarks/bench_io.py --scale 10000 1000000   # only converts a BCF of this many samples and sites

Every figure is the best of several runs on the same data in the same process.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pysam
from _large_bcf import write_large_bcf
from _machine import describe_machine, write_report
from _processes import run_measured

from vcfbert.genotypes.bgzf import BgzfWriter
from vcfbert.genotypes.conversion import build_panels, panel_from_genotypes
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.vcf_reader import read_genotypes
from vcfbert.genotypes.vcf_writer import ImputedPanel, write_imputed
from vcfbert.imputation.files import read_target

DEMO_PANEL = Path(__file__).resolve().parents[1] / "data" / "demo" / "panel.vcf.gz"
N_TARGETS = 203  # imputed samples, as many as the demo's targets
BLOCK_SITES = 1000
PYSAM_SITES = 1500  # pysam writes only these; its speed does not depend on the number
LARGE_SITES, LARGE_SAMPLES = 100_000, 2_504
CHROMOSOMES, CHROMOSOME_SITES, CHROMOSOME_SAMPLES = 22, 2_000, 50


def best_seconds(work: Callable[[], object], runs: int) -> float:
    """Wall seconds of the fastest run."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def figure(cells: int, seconds: float, **more: Any) -> dict[str, Any]:
    """One row of the report. ``cells``: sites x samples."""
    return {"seconds": round(seconds, 3), "cells": cells, "cells_per_second": round(cells / seconds), **more}


def read_per_sample(path: Path) -> list[list[tuple[int | None, ...]]]:
    """Reads every call through pysam's record and sample objects, for comparison."""
    with pysam.VariantFile(str(path)) as file:
        return [[sample["GT"] for sample in record.samples.values()] for record in file]


def imputed_like(genotypes: Genotypes) -> npt.NDArray[np.float32]:
    """Haplotype dosages [n_sites, N_TARGETS, 2] like imputed ones: weighted votes of a few real haplotypes."""
    rng = np.random.default_rng(7)
    haplotypes = genotypes.alleles.reshape(len(genotypes.sites), -1)
    dosage = np.zeros((len(haplotypes), 2 * N_TARGETS), dtype=np.float32)
    for start in range(0, len(haplotypes), 500):
        weights = rng.dirichlet([0.15] * 8, size=2 * N_TARGETS).astype(np.float32)
        for neighbour in range(8):
            chosen = rng.integers(0, haplotypes.shape[1], size=2 * N_TARGETS)
            dosage[start : start + 500] += haplotypes[start : start + 500, chosen] * weights[:, neighbour]
    return dosage.clip(0, 1).reshape(len(haplotypes), N_TARGETS, 2)


def blocks_of(dosage: npt.NDArray[np.float32]) -> Iterator[ImputedBlock]:
    """The dosages [n_sites, n_samples, 2] as an imputer yields them."""
    calls = np.full(dosage.shape, -1, dtype=np.int8)
    calls[::50] = np.rint(dosage[::50])  # every fiftieth site is typed
    for start in range(0, len(dosage), BLOCK_SITES):
        stop = min(start + BLOCK_SITES, len(dosage))
        yield ImputedBlock(start, stop, dosage[start:stop], calls[start:stop])


def write_per_sample(path: Path, panel: Panel, dosage: npt.NDArray[np.float32], samples: list[str]) -> None:
    header = pysam.VariantHeader()
    header.contigs.add(panel.sites.chrom)
    for name, number, kind in (("GT", 1, "String"), ("DS", "A", "Float"), ("HDS", ".", "Float"), ("GP", "G", "Float")):
        header.formats.add(name, number, kind, name)
    for sample in samples:
        header.add_sample(sample)
    sites = panel.sites
    with pysam.VariantFile(str(path), "wz", header=header) as file:
        for i, values in enumerate(dosage.tolist()):
            record = file.new_record(
                contig=sites.chrom, start=int(sites.pos[i]) - 1, alleles=(sites.ref[i], sites.alt[i])
            )
            for sample, (a, b) in zip(record.samples.values(), values, strict=True):
                sample["GT"] = (int(a >= 0.5), int(b >= 0.5))
                sample.phased = True
                sample["DS"] = a + b
                sample["HDS"] = (a, b)
                sample["GP"] = ((1 - a) * (1 - b), a + b - 2 * a * b, a * b)
            file.write(record)
    pysam.tabix_index(str(path), preset="vcf", force=True)


def bench_reading(path: Path, genotypes: Genotypes, runs: int) -> dict[str, Any]:
    cells = genotypes.alleles.shape[0] * genotypes.alleles.shape[1]
    ours = figure(cells, best_seconds(lambda: read_genotypes(path), runs))
    pysams = figure(cells, best_seconds(lambda: read_per_sample(path), 1))
    return {"vcfbert": ours, "pysam_per_sample": pysams, "times_faster": ratio(ours, pysams)}


def bench_writing(folder: Path, genotypes: Genotypes, threads: int, runs: int) -> dict[str, Any]:
    panel = panel_from_genotypes(genotypes)
    dosage = imputed_like(genotypes)
    samples = [f"T{i}" for i in range(N_TARGETS)]
    cells = dosage.shape[0] * dosage.shape[1]
    report: dict[str, Any] = {}
    for kind in (".vcf.gz", ".bcf", ".vcf"):
        path = folder / f"ours{kind}"

        def write(path: Path = path) -> None:
            part = ImputedPanel(panel, blocks_of(dosage))
            write_imputed(path, [part], samples=samples, header={}, threads=threads)

        report[f"vcfbert{kind}"] = figure(cells, best_seconds(write, runs), bytes=path.stat().st_size)
    some = dosage[:PYSAM_SITES]
    path = folder / "pysam.vcf.gz"
    seconds = best_seconds(lambda: write_per_sample(path, panel, some, samples), 1)
    report["pysam_per_sample.vcf.gz"] = figure(some.shape[0] * some.shape[1], seconds, bytes=path.stat().st_size)
    report["times_faster"] = ratio(report["vcfbert.vcf.gz"], report["pysam_per_sample.vcf.gz"])
    return report


def ratio(ours: dict[str, Any], other: dict[str, Any]) -> float:
    """How many times more cells per second ours handles."""
    return round(ours["cells_per_second"] / other["cells_per_second"], 1)


def write_large(path: Path, genotypes: Genotypes) -> None:
    """A panel of ``LARGE_SAMPLES`` x ``LARGE_SITES``: real sites repeated, with resampled haplotypes."""
    rng = np.random.default_rng(7)
    haplotypes = genotypes.alleles.reshape(len(genotypes.sites), -1).astype(np.uint8)
    sampled = rng.integers(0, haplotypes.shape[1], size=2 * LARGE_SAMPLES)
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
    head = '##fileformat=VCFv4.2\n##contig=<ID=20>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    head += "\t".join([*columns, *(f"L{i}" for i in range(LARGE_SAMPLES))]) + "\n"
    cells = np.tile(np.frombuffer(b"\t0|0", np.uint8), (LARGE_SAMPLES, 1))  # [samples, 4 characters]
    with path.open("wb") as handle, BgzfWriter(handle, threads=2) as writer:
        writer.write(head.encode())
        for site in range(LARGE_SITES):
            cells[:, 1::2] = haplotypes[site % len(haplotypes), sampled].reshape(-1, 2) + ord("0")
            writer.write(f"20\t{1000 + 30 * site}\t.\tA\tC\t.\tPASS\t.\tGT".encode() + cells.tobytes() + b"\n")


def bench_large(folder: Path, genotypes: Genotypes) -> dict[str, Any]:
    path = folder / "large.vcf.gz"
    write_large(path, genotypes)
    return figure(LARGE_SITES * LARGE_SAMPLES, best_seconds(lambda: read_genotypes(path), 1), bytes=path.stat().st_size)


def write_chromosomes(folder: Path) -> dict[str, Path]:
    """A phased file of ``CHROMOSOMES`` x ``CHROMOSOME_SITES`` sites: plain gzip, BGZF and BCF with indexes."""
    rng = np.random.default_rng(7)
    lines = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += [f"##contig=<ID={chrom}>" for chrom in range(1, CHROMOSOMES + 1)]
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
    lines.append("\t".join([*columns, *(f"C{i}" for i in range(CHROMOSOME_SAMPLES))]))
    calls = np.array(["0|0", "0|1", "1|0", "1|1"])
    for chrom in range(1, CHROMOSOMES + 1):
        sampled = calls[rng.integers(len(calls), size=(CHROMOSOME_SITES, CHROMOSOME_SAMPLES))]
        for site, row in enumerate(sampled.tolist()):
            lines.append("\t".join([f"{chrom}\t{1000 + 30 * site}\t.\tA\tC\t.\tPASS\t.\tGT", *row]))
    text = ("\n".join(lines) + "\n").encode()
    paths = {"gzip": folder / "gzip.vcf.gz", "bgzf": folder / "bgzf.vcf.gz", "bcf": folder / "chromosomes.bcf"}
    paths["gzip"].write_bytes(gzip.compress(text))
    with pysam.BGZFile(str(paths["bgzf"]), "wb") as compressed:
        compressed.write(text)
    pysam.tabix_index(str(paths["bgzf"]), preset="vcf", force=True)
    with (
        pysam.VariantFile(str(paths["bgzf"])) as source,
        pysam.VariantFile(str(paths["bcf"]), "wb", header=source.header) as copy,
    ):
        for record in source:
            copy.write(record)
    pysam.tabix_index(str(paths["bcf"]), preset="bcf", force=True)
    return paths


def bench_chromosomes(folder: Path, runs: int) -> dict[str, Any]:
    """Reads a target of 22 chromosomes and matches it to a panel of each, for each kind of file."""
    paths = write_chromosomes(folder)
    panels = build_panels([paths["bcf"]], folder / "panels", holdout=0.1, seed=17)
    cells = CHROMOSOMES * CHROMOSOME_SITES * CHROMOSOME_SAMPLES

    def seconds(path: Path) -> float:
        return best_seconds(lambda: read_target(path, panels), runs)

    return {kind: figure(cells, seconds(path), bytes=path.stat().st_size) for kind, path in paths.items()}


def bench_conversion(folder: Path, n_samples: int, n_sites: int) -> dict[str, Any]:
    """Runs `vcfbert panel build` on a simulated BCF in a process of its own.

    Its peak memory must not grow with the number of sites."""
    path, out = folder / "panel.bcf", folder / "panel"
    started = time.perf_counter()
    write_large_bcf(path, n_samples, n_sites)
    written = time.perf_counter() - started
    command = [sys.executable, "-m", "vcfbert", "panel", "build", "--panel", str(path), "--out", str(out)]
    done = run_measured(command, limit=24 * 3600.0, environment={})
    if done.status != 0:
        raise SystemExit(done.err)
    stored = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return figure(
        n_samples * n_sites,
        done.seconds,
        samples=n_samples,
        sites=n_sites,
        peak_mib=round(done.peak_mib, 1),
        bcf_bytes=path.stat().st_size,
        panel_bytes=stored,
        seconds_writing_bcf=round(written, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panel", type=Path, default=DEMO_PANEL, help="VCF to read and to sample haplotypes from")
    parser.add_argument("--threads", type=int, default=2, help="threads that compress")
    parser.add_argument("--runs", type=int, default=3, help="number of runs; the best counts")
    parser.add_argument("--large", action="store_true", help="also read 2,504 samples x 100,000 sites")
    parser.add_argument(
        "--scale", type=int, nargs=2, metavar=("SAMPLES", "SITES"), help="only convert a panel of this size"
    )
    parser.add_argument("--folder", type=Path, help="folder for that panel, which is removed afterwards")
    parser.add_argument("--json", type=Path, help="where the report goes")
    options = parser.parse_args()
    machine = describe_machine()
    if options.scale is not None:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            write_report(options.json, {"machine": machine, "convert": bench_conversion(Path(folder), *options.scale)})
        return
    genotypes = read_genotypes(options.panel)
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "machine": machine,
            "read": bench_reading(options.panel, genotypes, options.runs),
            "write": bench_writing(Path(folder), genotypes, options.threads, options.runs),
            "read_chromosomes": bench_chromosomes(Path(folder), options.runs),
        }
        if options.large:
            report["read_large"] = bench_large(Path(folder), genotypes)
    write_report(options.json, report)


if __name__ == "__main__":
    main()
