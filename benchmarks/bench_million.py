"""Measures imputation from a panel of a million haplotypes beside one of 50,000, at the same sites.

    python benchmarks/bench_million.py --json reports/bench_million.json       # 15 minutes, needs msprime
    python benchmarks/bench_million.py --haplotypes 2000 10000 --runs 1        # smaller

The panels are nested samples of one simulated population. They are written as panel stores, because a VCF of a million
haplotypes would have billions of cells. The sites are those that vary in the smallest panel. The model is fitted to the
smallest panel and used with each, so the figures are those of imputation alone. Every run is a whole process on two
threads; the panels take turns. One typed site per 6 kb has a MAF of at least 5%.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _imputation_tables import million_table
from _machine import describe_machine, write_report
from bench_imputation import Settings, run_ours, tell, trouble

from vcfbert.artifacts import atomic_folder
from vcfbert.bundle.contents import save_copying_model
from vcfbert.bundle.load import load_bundle
from vcfbert.config import with_overrides
from vcfbert.constants import PANEL_FORMAT
from vcfbert.copying.mixture import CopyingModel
from vcfbert.datasets.simulate import Simulation, recombination_rates, simulate_trees
from vcfbert.evaluation.scoring import evaluate_files
from vcfbert.genotypes.conversion import choose_validation
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.panel_writer import PanelWriter, region_folder
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.store import KIND, open_panels, region_manifest, store_manifest
from vcfbert.tracker import NullTracker
from vcfbert.training.fit import fit_panel

CHROM = "1"
BLOCK_SITES = 256
TYPED_BASES, TYPED_MAF = 6_000, 0.05
PHASED, UNPHASED = "phased", "unphased"

Haplotypes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Panel stores by their number of haplotypes, and the targets' files."""

    panels: dict[int, Path]
    truth: Path
    typed: Path
    targets: dict[str, Path]


def sampled_sites(trees: Any, smallest: Haplotypes) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Position and alleles [samples of the trees] of each site that varies among ``smallest``."""
    before = 0
    for variant in trees.variants():
        alleles, pos = variant.genotypes.astype(np.uint8), int(variant.site.position) + 1
        if pos > before and 0 < np.count_nonzero(alleles[smallest]) < len(smallest):
            before = pos
            yield pos, alleles


def write_data(trees: Any, sizes: Sequence[int], n_targets: int, folder: Path) -> Data:
    """Writes nested panels of ``sizes`` haplotypes and the first ``n_targets`` haplotypes of the trees as targets."""
    n_samples = (trees.num_samples - n_targets) // 2
    order = np.random.default_rng(1).permutation(n_samples)  # the trees' samples are sorted by population
    shuffled = (n_targets + 2 * order[:, None] + np.arange(2)).reshape(-1)
    subsets = {size: shuffled[:size] for size in sizes}
    pos: list[int] = []
    shown: list[npt.NDArray[np.uint8]] = []
    with ExitStack() as stack:
        stores = {size: stack.enter_context(_store(folder / f"panel-{size}", size)) for size in sizes}
        waiting: list[npt.NDArray[np.uint8]] = []

        def flush() -> None:
            block = np.array(waiting)
            sites = _sites(np.array(pos[-len(waiting) :], np.int32))
            for size, writer in stores.items():
                alleles = block[:, subsets[size]]
                writer.append(
                    sites, np.packbits(alleles, axis=1), sites.pos * 1e-6, alleles.sum(axis=1, dtype=np.int64)
                )
            shown.append(block[:, :n_targets].copy())
            waiting.clear()

        for position, alleles in sampled_sites(trees, subsets[min(sizes)]):
            pos.append(position)
            waiting.append(alleles)
            if len(waiting) == BLOCK_SITES:
                flush()
        if waiting:
            flush()
    panels = {size: folder / f"panel-{size}" for size in sizes}
    return _write_targets(open_panels(panels[min(sizes)])[0], np.concatenate(shown), panels, folder)


def _sites(pos: npt.NDArray[np.int32]) -> Sites:
    ref, alt, name = (np.full(len(pos), text, dtype=object) for text in ("A", "C", "."))
    return Sites(CHROM, pos, ref, alt, name, np.zeros(len(pos), dtype=bool))


@contextmanager
def _store(path: Path, size: int) -> Iterator[PanelWriter]:
    """A panel store that is complete when the block ends."""
    samples, manifest = [f"P{number}" for number in range(size // 2)], dict[str, Any]()
    with atomic_folder(path, kind=KIND, version=PANEL_FORMAT, manifest=manifest) as folder:
        (folder / region_folder(0)).mkdir()
        writer = PanelWriter(folder / region_folder(0), Region(CHROM), samples, ())
        yield writer
        held_out = choose_validation(len(samples), holdout=min(0.1, 100 / len(samples)), seed=1)
        facts = (samples, (), held_out, writer.n_sites, writer.close(), "1 cM/Mb")
        manifest.update(store_manifest([region_manifest(Region(CHROM), *facts)], {}))


def _write_targets(panel: Panel, alleles: npt.NDArray[np.uint8], panels: dict[int, Path], folder: Path) -> Data:
    typed = []
    for start in range(0, int(panel.sites.pos[-1]), TYPED_BASES):
        near = (panel.sites.pos > start) & (panel.sites.pos <= start + TYPED_BASES) & (panel.maf >= TYPED_MAF)
        typed += np.flatnonzero(near)[:1].tolist()
    data = Data(
        panels,
        folder / "truth.vcf",
        folder / "typed.tsv",
        {kind: folder / f"{kind}.vcf" for kind in (PHASED, UNPHASED)},
    )
    data.truth.write_text(_vcf(panel, alleles, range(panel.n_sites), "|"))
    data.targets[PHASED].write_text(_vcf(panel, alleles, typed, "|"))
    data.targets[UNPHASED].write_text(_vcf(panel, np.sort(alleles.reshape(len(alleles), -1, 2)), typed, "/"))
    data.typed.write_text("".join(f"{CHROM}\t{panel.sites.pos[site]}\tA\tC\n" for site in typed))
    return data


def _vcf(panel: Panel, alleles: npt.NDArray[np.uint8], sites: Sequence[int], mark: str) -> str:
    pairs = alleles.reshape(len(alleles), -1, 2)
    names = "\t".join(f"T{number}" for number in range(pairs.shape[1]))
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID={CHROM}>"]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += [f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}"]
    for site in sites:
        calls = "\t".join(f"{first}{mark}{second}" for first, second in pairs[site].tolist())
        lines.append(f"{CHROM}\t{panel.sites.pos[site]}\t.\tA\tC\t.\t.\t.\tGT\t{calls}")
    return "\n".join(lines) + "\n"


def fitted(data: Data, folder: Path) -> dict[int, Path]:
    """A bundle per panel, all with the model that is fitted to the smallest."""
    sizes = sorted(data.panels)
    bundles = {size: folder / f"bundle-{size}" for size in sizes}
    config = with_overrides("cpu", [], prepare={"panel": [str(data.panels[sizes[0]])]})
    fit_panel(config, "v19", bundles[sizes[0]], tracker=NullTracker())
    model = load_bundle(bundles[sizes[0]]).model
    assert isinstance(model, CopyingModel)
    for size in sizes[1:]:
        save_copying_model(bundles[size], model, open_panels(data.panels[size]), config, metrics={}, data={})
    return bundles


def measure(data: Data, bundles: dict[int, Path], settings: Settings, folder: Path) -> list[dict[str, Any]]:
    """Rows of medians over the runs, of each panel and kind of targets."""
    runs: dict[tuple[int, str], list[Any]] = {(size, kind): [] for kind in data.targets for size in bundles}
    out = {key: folder / f"{key[0]}-{key[1]}.vcf.gz" for key in runs}
    for number in range(settings.runs):
        for (size, kind), done in runs.items():
            done.append(run_ours(data.targets[kind], bundles[size], out[size, kind], settings))
            tell(f"run {number + 1}: {size:,} haplotypes, {kind} {done[-1].seconds:.2f} s", trouble(done[-1], settings))
    judge = open_panels(data.panels[min(bundles)])  # the same MAF bins for all
    rows = []
    for (size, kind), done in runs.items():
        scores = evaluate_files(data.truth, out[size, kind], judge, typed=data.typed)
        rows.append(
            {
                "haplotypes": size,
                "input": kind,
                "seconds": round(statistics.median(run.seconds for run in done), 3),
                "cpu_seconds": round(statistics.median(run.cpu_seconds for run in done), 3),
                "peak_mib": round(max(run.peak_mib for run in done)),
                "panel_mib": round(sum(file.stat().st_size for file in data.panels[size].rglob("*.npy")) / 2**20, 1),
                "r2": {row.bin: round(row.aggregate_r2, 4) for row in scores.rows},
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--haplotypes", type=int, nargs="+", default=[50_000, 1_000_000])
    parser.add_argument("--targets", type=int, default=100, help="diploid samples")
    parser.add_argument("--length-mb", type=float, default=0.25)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the report goes")
    options = parser.parse_args()
    settings = Settings("v19", 2, options.runs, 600.0, "cpu", ())
    simulation = Simulation(haplotypes=max(options.haplotypes), targets=options.targets, length_mb=options.length_mb)
    rng = np.random.default_rng(simulation.seed)
    tell(f"simulating {simulation.haplotypes:,} haplotypes")
    trees = simulate_trees(simulation, *recombination_rates(simulation.bases, rng), rng)
    with tempfile.TemporaryDirectory(prefix="vcfbert-bench-") as name:
        data = write_data(trees, options.haplotypes, 2 * options.targets, Path(name))
        del trees
        tell("fitting")
        rows = measure(data, fitted(data, Path(name)), settings, Path(name))
        sites = open_panels(data.panels[min(options.haplotypes)])[0].n_sites
    about = {"length_mb": options.length_mb, "sites": sites, "targets": options.targets}
    report = {"machine": describe_machine(), **about, "rows": rows}
    print(million_table(report), end="\n\n")
    write_report(options.json, report)


if __name__ == "__main__":
    main()
