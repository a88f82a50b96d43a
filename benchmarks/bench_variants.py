"""Compares V17 and V18 on the same batches: forward+backward time, peak memory, refresh and epoch, for K = 1 and 8.

    python benchmarks/bench_variants.py                         # 64 x 4 x 4, 1,030 sites, CPU
    python benchmarks/bench_variants.py --original --k 1        # dims 192, 10 layers, 6 heads: 16 GB for V17 at K = 8
    python benchmarks/bench_variants.py --device cuda --original --bf16 --batch 32 --json reports/bench_variants.json
    python benchmarks/bench_variants.py --panel data/demo/panel.vcf.gz --map data/demo/chr20.b37.gmap.gz

Without ``--panel`` it needs only numpy, torch and pydantic, and runs from a checkout (PYTHONPATH=. if vcfbert is
not installed). ``--panel`` reads real haplotypes and needs cyvcf2. V17 is shown twice: *as designed*, where the encoder
processes each retrieved haplotype, and *as run*, where it processes identical rows once. Both variants get the same
retrieved haplotypes.

Time: medians of rounds in which every case runs in turn, so a busy machine slows all cases. Memory: each case runs in a
process of its own; the report has the peak of the process, and its rise above the memory with the packages imported,
the model built and the batch loaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from _machine import describe_machine, write_report
from _simulated import simulate_panel

from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window, tile
from vcfbert.model.base import SiteContext, Variant, WindowBatch
from vcfbert.model.losses import allele_loss, genotype_loss
from vcfbert.model.v18 import V18
from vcfbert.model.variants import create
from vcfbert.retrieval.context import WindowContext, reference_features
from vcfbert.retrieval.embedding import EmbeddingRetriever, site_weights
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.torch_index import TorchKeyIndex

if TYPE_CHECKING:
    from vcfbert.config import ModelConfig

TYPED_FRACTION = 0.05  # of the sites of a retrieval window
SPAN_CM = 0.2
FLANK = 16
MEMORY_PASSES = 2  # forward+backward passes of a memory measurement: the allocator still grows in the second
# V18's goals relative to V17 as designed: speed-up and fraction of memory saved.
GOALS = {1: (1.8, 0.37), 8: (5.0, 0.75)}


@dataclass(frozen=True)
class Case:
    """A variant with K retrieved haplotypes."""

    variant: str
    k: int
    designed: bool  # V17 without sharing identical rows

    @property
    def label(self) -> str:
        return self.variant + (" as designed" if self.designed else " as run" if self.variant == "v17" else "")


@dataclass
class Work:
    """A batch, and the alleles uint8 [b, 2, l] to predict where ``masked`` bool [l]."""

    batch: WindowBatch
    alleles: torch.Tensor
    masked: torch.Tensor


def cases_of(ks: list[int]) -> list[Case]:
    return [Case(v, k, d) for k in ks for v, d in (("v17", True), ("v17", False), ("v18", False))]


def load_panel(options: argparse.Namespace) -> Panel:
    if options.panel is None:
        return simulate_panel(options.haplotypes, options.sites)
    from vcfbert.genotypes.conversion import panel_from_genotypes
    from vcfbert.genotypes.genetic_map import GeneticMap
    from vcfbert.genotypes.vcf_reader import read_genotypes

    genotypes = read_genotypes(options.panel)
    genetic_map = None if options.map is None else GeneticMap.read(options.map, genotypes.sites.chrom)
    return panel_from_genotypes(genotypes, genetic_map=genetic_map)


def make_work(subset: ReferenceSubset, window: Window, k: int, size: int, seed: int = 17) -> Work:
    """A training batch of ``size`` diploid samples with their k nearest haplotypes by Hamming distance."""
    rng = np.random.default_rng(seed)
    n_key = window.retrieval[1] - window.retrieval[0]
    typed = rng.random(n_key) < TYPED_FRACTION
    typed[n_key // 2] = True
    key = np.flatnonzero(typed) + window.retrieval[0]
    cpu = torch.device("cpu")
    context = WindowContext.build(subset, reference_features(subset, cpu), window, key, cpu)
    pairs = torch.from_numpy(subset.pairs[rng.choice(len(subset.pairs), size, replace=False)])
    own = pairs.view(-1)
    queries = context.key_alleles[own]
    retriever = HammingRetriever(TorchKeyIndex(subset, torch.ones(subset.panel.n_sites)))
    exclude = pairs.repeat_interleave(2, dim=0)
    rows = retriever.retrieve(context.key, context.sites.key_distance_cm, queries, k, exclude=exclude)
    kept, renumbered = context.keeping(rows)
    return Work(kept.batch(queries, renumbered), context.alleles(own).view(size, 2, -1), ~context.typed)


def as_designed(batch: WindowBatch) -> WindowBatch:
    """The same batch with a row for each of the 2bk retrieved haplotypes, identical or not."""
    patterns = batch.patterns[batch.retrieved].flatten(0, 2)
    retrieved = torch.arange(len(patterns), device=patterns.device).view_as(batch.retrieved)
    return dataclasses.replace(batch, patterns=patterns, retrieved=retrieved)


def work_for(case: Case, works: dict[int, Work]) -> Work:
    work = works[case.k]
    return dataclasses.replace(work, batch=as_designed(work.batch)) if case.designed else work


def to_device(work: Work, device: torch.device) -> Work:
    def moved(holder: Any) -> dict[str, torch.Tensor]:
        held = {name: value for name, value in vars(holder).items() if isinstance(value, torch.Tensor)}
        return {name: tensor.to(device) for name, tensor in held.items()}

    sites = SiteContext(**moved(work.batch.sites))
    return Work(WindowBatch(sites, **moved(work.batch)), work.alleles.to(device), work.masked.to(device))


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def forward_backward(model: Variant, work: Work, bf16: bool) -> float:
    """Seconds of one training pass without the optimiser step."""
    device = work.alleles.device
    model.zero_grad(set_to_none=True)
    synchronize(device)
    started = time.perf_counter()
    with autocast(device, bf16):
        output = model(work.batch)
    weight = work.masked.float()
    loss = allele_loss(output.logit, work.alleles, weight, gamma=2.0)
    loss = loss + 0.25 * genotype_loss(output.genotype, work.alleles.sum(dim=1), weight)
    loss.backward()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure_times(cases: list[Case], works: dict[int, Work], options: argparse.Namespace) -> dict[Case, list[float]]:
    """Seconds of each round; ratios are taken within a round."""
    device = torch.device(options.device)
    config = model_config(options)
    models = {v: create(v, config).to(device).train() for v in ("v17", "v18")}
    times: dict[Case, list[float]] = {case: [] for case in cases}
    for number in range(options.rounds + 1):
        for case in cases:
            work = to_device(work_for(case, works), device)
            seconds = forward_backward(models[case.variant], work, options.bf16)
            if number:  # the first round warms up
                times[case].append(seconds)
            models[case.variant].zero_grad(set_to_none=True)
            gc.collect()
    return times


def measure_memory(case: Case, works: Path, options: argparse.Namespace) -> dict[str, float]:
    """Peak MiB of a process that runs this case alone, and its rise above the built model and loaded batch."""
    spec = {"case": vars(case), "works": str(works), "model": vars(model_config(options)), "device": options.device}
    spec |= {"bf16": options.bf16, "threads": torch.get_num_threads()}
    command = [sys.executable, __file__, "--memory-of", json.dumps(spec)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case.label}, K = {case.k}: the process that measures memory ended with {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def memory_child(spec: dict[str, Any]) -> None:
    """The process that ``measure_memory`` starts."""
    torch.set_num_threads(spec["threads"])
    case, device = Case(**spec["case"]), torch.device(spec["device"])
    works: dict[int, Work] = torch.load(spec["works"], weights_only=False)
    work = to_device(work_for(case, {case.k: works[case.k]}), device)
    model = create(case.variant, cast("ModelConfig", Shape(**spec["model"]))).to(device).train()
    del works
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
    else:
        before = process_mib("VmRSS")
    for _ in range(MEMORY_PASSES):
        forward_backward(model, work, spec["bf16"])
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else process_mib("VmHWM")
    print(json.dumps({"peak_mib": peak, "rise_mib": peak - before}))


def process_mib(field: str) -> float:
    """``VmRSS`` now or ``VmHWM`` at its highest. Linux's getrusage would count the parent of a new process too."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [s for s in status.read_text().splitlines() if s.startswith(field + ":")]
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def refresh_seconds(subset: ReferenceSubset, options: argparse.Namespace) -> float:
    """Seconds to replace V18's metric over all sites of the panel."""
    device = torch.device(options.device)
    model = create("v18", model_config(options)).to(device)
    assert isinstance(model, V18)
    features = reference_features(subset, device)
    index = TorchKeyIndex(subset, torch.ones(subset.panel.n_sites, device=device))
    retriever = EmbeddingRetriever(index, model.retrieval)
    seconds = []
    for _ in range(options.rounds + 1):
        synchronize(device)
        started = time.perf_counter()
        retriever.update(model.retrieval, site_weights(model, features))
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


@dataclass(frozen=True)
class Shape:
    """``ModelConfig`` without its checks, which need pydantic: this script runs with torch and numpy alone."""

    dims: int
    layers: int
    heads: int
    mlp_ratio: int = 4
    dropout: float = 0.0
    seed: int = 17


def model_config(options: argparse.Namespace) -> ModelConfig:
    return cast("ModelConfig", Shape(options.dims, options.layers, options.heads))


def tabulate(
    times: dict[Case, list[float]],
    memory: dict[Case, dict[str, float]],
    refresh: float,
    batches: int,
    works: dict[int, Work],
) -> list[dict[str, Any]]:
    """One row per case. Ratios are V17 as designed to this case."""
    rows = []
    for case, seconds in times.items():
        designed = Case("v17", case.k, True)
        faster = statistics.median(a / b for a, b in zip(times[designed], seconds, strict=True))
        per_batch = statistics.median(seconds)
        rows.append(
            {
                "case": case.label,
                "k": case.k,
                "ms_per_batch": round(per_batch * 1e3, 1),
                "peak_mib": round(memory[case]["peak_mib"]),
                "rise_mib": round(memory[case]["rise_mib"]),
                "encoded_rows": encoded_rows(case, works),
                "refresh_seconds": round(refresh, 5) if case.variant == "v18" else 0.0,
                "epoch_seconds": round(per_batch * batches, 1),
                "times_faster": round(faster, 2),
                "memory_saved": round(1.0 - memory[case]["peak_mib"] / memory[designed]["peak_mib"], 3),
                "rise_saved": round(1.0 - memory[case]["rise_mib"] / memory[designed]["rise_mib"], 3),
            }
        )
    return rows


def encoded_rows(case: Case, works: dict[int, Work]) -> int:
    """Number of haplotypes that the encoder processes for one batch."""
    batch = works[case.k].batch
    queries = batch.tokens.shape[0] * 2
    if case.variant == "v18":
        return queries
    return queries + (queries * case.k if case.designed else len(batch.patterns))


def judge(rows: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether V18 reaches its goals in speed, peak memory and rise in memory."""
    reached = {}
    for row in rows:
        if row["case"] == "v18" and row["k"] in GOALS:
            faster, saved = GOALS[row["k"]]
            reached[f"k={row['k']}: {faster} times faster"] = row["times_faster"] >= faster
            reached[f"k={row['k']}: {saved:.0%} less memory"] = row["memory_saved"] >= saved
            reached[f"k={row['k']}: {saved:.0%} less above the start"] = row["rise_saved"] >= saved
    return reached


def print_table(rows: list[dict[str, Any]]) -> None:
    line = "{:<16}{:>4}{:>11}{:>10}{:>10}{:>6}{:>9}{:>8}{:>14}{:>13}"
    header = ("case", "K", "ms/batch", "peak MiB", "rise MiB", "rows", "epoch s")
    print(line.format(*header, "faster", "memory saved", "of the rise"))
    for r in rows:
        values = (r["case"], r["k"], r["ms_per_batch"], r["peak_mib"], r["rise_mib"], r["encoded_rows"])
        ratios = (r["epoch_seconds"], f"{r['times_faster']}x", f"{r['memory_saved']:.0%}", f"{r['rise_saved']:.0%}")
        print(line.format(*values, *ratios))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--original", action="store_true", help="dims 192, 10 layers, 6 heads")
    parser.add_argument("--window", type=int, default=1030, help="sites of a window")
    parser.add_argument("--batch", type=int, help="diploid samples per batch; default: 16, or 4 with --original")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 8], help="retrieved haplotypes")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast")
    parser.add_argument("--threads", type=int, help="torch's threads; default: all cores")
    parser.add_argument("--panel", type=Path, help="VCF of haplotypes; default: simulated")
    parser.add_argument("--map", type=Path, help="genetic map of --panel")
    parser.add_argument("--haplotypes", type=int, default=600, help="of the simulated panel")
    parser.add_argument("--sites", type=int, default=25_000, help="of the simulated panel")
    parser.add_argument("--json", type=Path, help="where the report goes")
    parser.add_argument("--memory-of", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.original:
        options.dims, options.layers, options.heads = 192, 10, 6
    # Large enough for activations to exceed the memory of a process that imports torch.
    options.batch = options.batch or (4 if options.original else 16)
    return options


def main() -> None:
    options = parse()
    if options.memory_of:
        memory_child(options.memory_of)
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = describe_machine()
    panel = load_panel(options)
    subset = ReferenceSubset(panel, np.arange(panel.n_haplotypes))
    windows = tile(panel.cm, length=options.window, flank=min(FLANK, options.window // 4), span_cm=SPAN_CM)
    works = {k: make_work(subset, windows[len(windows) // 2], k, options.batch) for k in options.k}
    cases = cases_of(options.k)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "works.pt"
        torch.save(works, path)
        use = {case: measure_memory(case, path, options) for case in cases}
    times = measure_times(cases, works, options)
    batches = len(windows) * math.ceil(len(panel.samples) / options.batch)
    rows = tabulate(times, use, refresh_seconds(subset, options), batches, works)
    print_table(rows)
    settings = {n: v for n, v in vars(options).items() if n not in ("memory_of", "json", "map", "original")}
    settings = {n: str(v) if isinstance(v, Path) else v for n, v in settings.items()}
    report = {"machine": machine, "settings": settings, "batches_per_epoch": batches, "rows": rows}
    write_report(options.json, {**report, "reached": judge(rows)})


if __name__ == "__main__":
    main()
