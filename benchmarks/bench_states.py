"""Measures how well K retrieved haplotypes replace the whole panel in V19's HMM, for each way of retrieval.

    python benchmarks/bench_states.py --json reports/bench_states.json
    python benchmarks/bench_states.py --panel STORE --bundle models/v18     # adds the learned embedding's metric
    python benchmarks/bench_states.py --panel STORE --typed PHASED.vcf.gz --truth TRUTH.vcf.gz
    python benchmarks/bench_states.py --quick

By default the targets are the panel's validation samples, typed like on an array. A sample's own haplotypes are
excluded from its states. For each way and K, the benchmark reports the fraction of the whole panel's posterior copying
probability on the K states (mean over typed sites and targets), dosage r2 by MAF bin, and CPU seconds of retrieval per
target haplotype. ``sorted`` ways take their candidates within 4, 8, 16 or 32 places of the target in the sorted orders
of the panel. Their seconds exclude sorting, which is reported by itself. For unphased genotypes the benchmark reports
the fraction of both haplotypes' posterior on the states, before and after phasing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _machine import describe_machine, write_report
from _pair_states import pair_states
from _posteriors import Floats, posteriors

from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import LoadedNetwork
from vcfbert.copying.mixture import FIRST_RATES
from vcfbert.copying.pbwt import PanelOrder
from vcfbert.copying.states import packed_alleles, unphased_states
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.masks import array_mask
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import open_panels
from vcfbert.imputation.files import read_target
from vcfbert.metrics.accuracy import DosageR2
from vcfbert.model.embedding import site_features

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
SIZES = (16, 32, 64, 128, 256, 400, 800, 1600)
NEIGHBOURS = (4, 8, 16, 32)  # places on each side of the target in each order
HOLDOUT = 0.1  # fraction of a VCF panel's samples that become targets
DENSITY = 0.02  # typed fraction of a sequenced panel's sites, like on arrays
QUICK_SAMPLES = 4

Numbers = npt.NDArray[np.int32]
Retrieve = Callable[[int], Numbers]


@dataclass(frozen=True)
class Targets:
    """Target haplotypes. ``observed`` int8 [t, n]: phased alleles at the panel's sites ``typed`` [t].

    ``exclude`` int64 [n, e]: haplotypes excluded from retrieval; None = none. ``truth`` [l, n / 2]: ALT counts at the
    sites ``scored`` [l], -1 where unknown."""

    observed: npt.NDArray[np.int8]
    typed: npt.NDArray[np.int64]
    exclude: npt.NDArray[np.int64] | None
    truth: npt.NDArray[np.int16]
    scored: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return self.observed.shape[1]


def held_out_targets(panel: Panel, density: float, seed: int, samples: int | None) -> Targets:
    """The panel's validation samples as targets, each with its own two haplotypes excluded."""
    haplotypes = panel.validation_haplotypes[: None if samples is None else 2 * samples]
    typed = np.flatnonzero(array_mask(panel.maf, np.random.default_rng(seed), density))
    scored = np.setdiff1d(np.arange(panel.n_sites), typed)
    own = np.repeat(haplotypes.reshape(-1, 2), 2, axis=0)
    alleles = panel.alleles(slice(None), haplotypes).T  # [n_sites, n]
    truth = alleles[scored].astype(np.int16).reshape(len(scored), -1, 2).sum(axis=2, dtype=np.int16)
    return Targets(np.ascontiguousarray(alleles[typed]).astype(np.int8), typed, own, truth, scored)


def file_targets(panel: Panel, typed: Path, truth: Path, samples: int | None) -> Targets:
    """The targets of files, scored at the sites of ``truth`` that ``typed`` lacks. ``samples``: the first so many."""
    (target,), _ = read_target(typed, [panel])
    (actual,), _ = read_target(truth, [panel])
    column = {name: i for i, name in enumerate(actual.samples)}
    names = target.samples[:samples]
    scored = np.flatnonzero(~np.isin(actual.panel_site, target.panel_site))
    alleles = actual.alleles[scored][:, [column[name] for name in names]].astype(np.int16)
    counts = np.where((alleles < 0).any(axis=2), -1, alleles.sum(axis=2)).astype(np.int16)
    observed = np.ascontiguousarray(target.alleles[:, : len(names)].reshape(len(target.panel_site), -1))
    return Targets(observed, target.panel_site, None, counts, actual.panel_site[scored])


class Copying:
    """One HMM with the textbook's rates and a flat prior, over the whole panel or over K states per target."""

    def __init__(self, panel: Panel, targets: Targets) -> None:
        self.panel, self.targets = panel, targets
        self.alleles = np.ascontiguousarray(panel.alleles(targets.typed).T)  # [t, h]
        self.cm = panel.cm[targets.typed]
        started = time.process_time()
        self.order = PanelOrder.build(packed_alleles(self.alleles), self.cm, max_searched=0)
        self.sort_seconds = time.process_time() - started
        self.allowed = np.ones((len(targets), panel.n_haplotypes), dtype=np.float32)
        if targets.exclude is not None:
            np.put_along_axis(self.allowed, targets.exclude, 0.0, axis=1)
        self.whole = self._posteriors(None)  # [t, n, h]

    def _posteriors(self, states: Numbers | None) -> Floats:
        carried = self.alleles if states is None else self.alleles[:, states]  # [t, h] or [t, n, k]
        prior = self.allowed if states is None else np.ones(states.shape, dtype=np.float32)
        prior = prior / prior.sum(axis=1, keepdims=True)
        return posteriors(self.targets.observed, carried, FIRST_RATES.stay(self.cm), FIRST_RATES.mismatch, prior)

    def captured(self, states: Numbers) -> float:
        """Fraction of the whole panel's posterior on ``states`` [n, k]."""
        return float(np.take_along_axis(self.whole, states[None].astype(np.int64), axis=2).sum(axis=2).mean())

    def r2(self, states: Numbers | None) -> dict[str, float]:
        """Dosage r2 by bin."""
        whole = self.whole if states is None else np.zeros_like(self.whole)
        if states is not None:
            np.put_along_axis(whole, states[None].astype(np.int64), self._posteriors(states), axis=2)
        dosage = self._dosage(whole)
        score = DosageR2()
        score.update(self.targets.truth, dosage[self.targets.scored], self.panel.af[self.targets.scored])
        return {name: round(value, 4) for name, value in score.values().items()}

    def _dosage(self, posterior: Floats) -> Floats:
        """Expected ALT counts [n_sites, n / 2] of each sample, interpolated in cM between typed sites."""
        t, n = len(self.cm), len(self.targets)
        dosage = np.empty((self.panel.n_sites, n // 2), np.float32)
        bounds = [0, *(self.targets.typed + 1), self.panel.n_sites]
        for s in range(t + 1):
            sites = slice(bounds[s], bounds[s + 1])
            left, right = max(s - 1, 0), min(s, t - 1)
            span = max(self.cm[right] - self.cm[left], 1e-12)
            fraction = ((self.panel.cm[sites] - self.cm[left]) / span).clip(0.0, 1.0).astype(np.float32)
            alleles = self.panel.alleles(sites).astype(np.float32)
            at_left, at_right = posterior[left] @ alleles, posterior[right] @ alleles  # [n, l]
            found = at_left + fraction * (at_right - at_left)
            dosage[sites] = found.reshape(n // 2, 2, -1).sum(axis=1).T
        return dosage


def nearest(copying: Copying, weights: npt.NDArray[np.float32]) -> Retrieve:
    """The K nearest haplotypes by the weighted number of mismatches over all typed sites."""
    targets = copying.targets

    def retrieve(k: int) -> Numbers:
        signs = np.where(targets.observed < 0, 0, 2 * targets.observed - 1).astype(np.float32).T * weights  # [n, t]
        alike = signs @ (2.0 * copying.alleles.astype(np.float32) - 1.0)  # [n, h]
        if targets.exclude is not None:
            np.put_along_axis(alike, targets.exclude, -np.inf, axis=1)
        return np.sort(np.argsort(-alike, axis=1, kind="stable")[:, :k]).astype(np.int32)

    return retrieve


def ways(copying: Copying, bundle: Path | None, threads: int) -> dict[str, Retrieve]:
    """The ways of retrieval by name; the learned embedding's only with a ``bundle`` of V18."""
    targets, cm = copying.targets, copying.cm
    found = {"hamming": nearest(copying, np.ones(len(cm), np.float32))}
    if bundle is not None:
        features = site_features(torch.from_numpy(copying.panel.af).float(), torch.from_numpy(copying.panel.cm))
        with torch.inference_mode():
            model = load_bundle(bundle).model
            assert isinstance(model, LoadedNetwork)
            weights = model.network.embedding.allele_weights(features[torch.from_numpy(targets.typed)])
        found["embedding"] = nearest(copying, weights.numpy())
    whole = PanelOrder.build(copying.order.panel, cm, max_searched=copying.panel.n_haplotypes)
    found["runs"] = partial(whole.phased_states, targets.observed, exclude=targets.exclude, threads=threads)
    for places in NEIGHBOURS:
        found[f"sorted {places}"] = partial(
            copying.order.phased_states, targets.observed, exclude=targets.exclude, threads=threads, neighbours=places
        )
    return found


def unphased_ways(copying: Copying, threads: int) -> dict[str, Retrieve]:
    """States of a sample's two haplotypes, retrieved by its genotypes and by its true haplotypes."""
    targets, cm, panel = copying.targets, copying.cm, copying.order.panel
    pairs = np.ascontiguousarray(targets.observed.reshape(len(cm), -1, 2))
    genotypes = np.where((pairs < 0).any(axis=2), np.int8(-1), pairs.sum(axis=2, dtype=np.int8))
    exclude = None if targets.exclude is None else targets.exclude[::2]
    return {
        "genotypes": lambda k: unphased_states(genotypes, panel, cm, k, exclude, threads=threads).repeat(2, axis=0),
        "phased": lambda k: pair_states(pairs, panel, cm, k, exclude, threads=threads).repeat(2, axis=0),
    }


def measure(copying: Copying, found: dict[str, Retrieve], sizes: list[int], *, score: bool) -> Iterator[dict[str, Any]]:
    """One row per way and K. ``score``: also r2 by MAF bin."""
    for way, retrieve in found.items():
        for k in sizes:
            started = time.process_time()
            states = retrieve(k)
            seconds = (time.process_time() - started) / len(copying.targets)
            row = {"way": way, "k": k, "posterior_share": round(copying.captured(states), 4)}
            yield {**row, "seconds_per_haplotype": round(seconds, 6), **({"r2": copying.r2(states)} if score else {})}


def load_panel(options: argparse.Namespace) -> Panel:
    if options.panel.is_dir():
        return open_panels(options.panel)[0]
    with tempfile.TemporaryDirectory() as folder:
        # The store stays mapped after its folder is removed.
        out = Path(folder) / "panel"
        maps = [] if options.map is None else [options.map]
        return build_panels([options.panel], out, maps=maps, holdout=HOLDOUT, seed=options.seed)[0]


def print_table(rows: list[dict[str, Any]]) -> None:
    bins = list(rows[0]["r2"])
    print(f"{'':<11}{'K':>6}{'share':>9}{'us/hap':>9}" + "".join(f"{name:>9}" for name in bins))
    for row in rows:
        cells = f"{row['posterior_share']:>9.4f}{1e6 * row['seconds_per_haplotype']:>9.0f}"
        r2 = "".join(f"{row['r2'][name]:>9.4f}" for name in bins if "r2" in row)
        print(f"{row['way']:<11}{row['k']:>6}{cells}{r2}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panel", type=Path, default=DEMO / "panel.vcf.gz", help="a panel store, or a phased VCF")
    parser.add_argument("--map", type=Path, default=DEMO / "chr20.b37.gmap.gz", help="genetic map of a VCF")
    parser.add_argument("--bundle", type=Path, help="bundle of V18; adds the metric of its learned embedding")
    parser.add_argument("--typed", type=Path, help="phased targets instead of the panel's validation samples")
    parser.add_argument("--truth", type=Path, help="what --typed is scored by")
    parser.add_argument("--density", type=float, default=DENSITY, help="fraction of the panel's sites that is typed")
    parser.add_argument("--seed", type=int, default=17, help="of the typed sites")
    parser.add_argument("--samples", type=int, help="number of samples to use, from the first; default: all")
    parser.add_argument("--k", type=int, nargs="+", default=list(SIZES), help="states")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES} samples, two sizes")
    parser.add_argument("--json", type=Path, help="where the report goes")
    options = parser.parse_args()
    if (options.typed is None) != (options.truth is None):
        parser.error("--typed and --truth go together")
    if options.quick:
        options.samples, options.k = QUICK_SAMPLES, [16, 64]
    return options


def main() -> None:
    options = parse()
    machine = describe_machine()
    torch.set_num_threads(options.threads)
    panel = load_panel(options)
    if options.typed is None:
        targets = held_out_targets(panel, options.density, options.seed, options.samples)
    else:
        targets = file_targets(panel, options.typed, options.truth, options.samples)
    copying = Copying(panel, targets)
    own = 0 if targets.exclude is None else targets.exclude.shape[1]
    sizes = [k for k in options.k if k <= panel.n_haplotypes - own]
    everything = {"way": "all", "k": panel.n_haplotypes - own, "posterior_share": 1.0, "seconds_per_haplotype": 0.0}
    rows = [{**everything, "r2": copying.r2(None)}]
    rows += measure(copying, ways(copying, options.bundle, options.threads), sizes, score=True)
    unphased = list(measure(copying, unphased_ways(copying, options.threads), sizes, score=False))
    print_table(rows + unphased)
    about = {"haplotypes": panel.n_haplotypes, "typed": len(targets.typed), "targets": len(targets)}
    seconds = {"sort_seconds": round(copying.sort_seconds, 4)}
    report = {"machine": machine, "threads": options.threads, **about, **seconds, "rows": rows, "unphased": unphased}
    write_report(options.json, report)


if __name__ == "__main__":
    main()
