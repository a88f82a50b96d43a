"""Compares the collapsed index with the flattened L*D space, and measures a refresh of a whole panel.

    python benchmarks/bench_refresh.py --json reports/bench_refresh.json
    python benchmarks/bench_refresh.py --simulated       # without the demo panel: no VCF reader needed
    python benchmarks/bench_refresh.py --profile gpu --steps 5

One window is searched twice with a model whose metric has been changed: over flattened embeddings [L * dims] and over
the collapsed keys [L]. Both must find neighbours at the same distances; rows at equal distance may swap. Then the
refresh of the whole panel is compared with an epoch of the profile: the measured time of a training batch times the
batches per epoch, without validation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import describe_machine, write_report
from _simulated import simulate_panel
from torch import Tensor

from vcfbert.config import PROFILES, Config, ModelConfig, profile
from vcfbert.errors import MissingExtraError
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.losses import allele_loss, genotype_loss, site_loss_weights
from vcfbert.model.v18 import V18
from vcfbert.model.variants import create
from vcfbert.retrieval.base import KeyIndex, usable_k
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.faiss_index import FaissKeyIndex, import_faiss
from vcfbert.retrieval.refresh import attach_retriever
from vcfbert.retrieval.torch_index import TorchKeyIndex
from vcfbert.training.data import TrainingData, TrainingPanel, plan_epoch

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
REFRESH_GOAL = 0.02  # of an epoch
QUERIES = 64
TOLERANCE = 1e-4  # relative, of distances in float32


def load_panel(simulated: bool) -> Panel:
    if simulated:
        return simulate_panel(600, 25_000)
    from vcfbert.genotypes.conversion import panel_from_genotypes
    from vcfbert.genotypes.genetic_map import GeneticMap
    from vcfbert.genotypes.vcf_reader import read_genotypes

    genotypes = read_genotypes(DEMO / "panel.vcf.gz")
    genetic_map = GeneticMap.read(DEMO / "chr20.b37.gmap.gz", genotypes.sites.chrom)
    return panel_from_genotypes(genotypes, genetic_map=genetic_map)


def model_with_metric(config: ModelConfig) -> V18:
    """A V18 with a changed embedding; in the initial one all sites have the same weight."""
    model = create("v18", config)
    assert isinstance(model, V18)
    last = model.embedding.scale[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        torch.nn.init.normal_(last.weight, std=0.3)
    return model


def make_index(subset: ReferenceSubset, weights: Tensor) -> KeyIndex:
    try:
        return FaissKeyIndex.build(subset, weights)
    except MissingExtraError:
        return TorchKeyIndex(subset, weights)


def median_seconds(work: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def flattened_search(keys: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of ``keys`` [m, L * dims] by squared L2, searched like ``FaissKeyIndex`` does."""
    try:
        distances, rows = import_faiss().knn(queries.numpy(), keys.numpy(), k)
        return torch.from_numpy(distances), torch.from_numpy(rows)
    except MissingExtraError:
        found = torch.topk(torch.cdist(queries, keys).square(), k, dim=1, largest=False)
        return found.values, found.indices


@torch.inference_mode()
def bench_search(subset: ReferenceSubset, config: ModelConfig, window: int, k: int, runs: int) -> dict[str, Any]:
    model = model_with_metric(config)
    features = reference_features(subset, torch.device("cpu"))
    start = (subset.panel.n_sites - window) // 2
    sites = torch.arange(start, start + window)
    alleles = torch.from_numpy(subset.alleles(slice(start, start + window)))  # [m, L]
    # Queries are mosaics of two reference rows, so none has itself as a neighbour at distance 0.
    rng = np.random.default_rng(17)
    first, second = torch.from_numpy(rng.integers(len(subset), size=(2, QUERIES)))
    queries = torch.cat([alleles[first, : window // 2], alleles[second, window // 2 :]], dim=1)
    index = make_index(subset, torch.ones(subset.panel.n_sites))

    def flatten(rows: Tensor) -> Tensor:
        return model.embedding(rows.long() + 1, features[sites]).flatten(1)  # tokens: REF 1, ALT 2

    def refresh_collapsed() -> None:
        index.refresh(model.embedding.allele_weights(features))

    refresh_collapsed()
    keys, flat_queries = flatten(alleles), flatten(queries)
    flat = flattened_search(keys, flat_queries, k)
    collapsed = index.search(sites, queries.float(), k)
    check_neighbours(keys, flat_queries, flat, collapsed)
    seconds = {
        "flattened_refresh_seconds": median_seconds(lambda: flatten(alleles), runs),
        "collapsed_refresh_seconds_whole_panel": median_seconds(refresh_collapsed, runs),
        "flattened_search_seconds": median_seconds(lambda: flattened_search(keys, flat_queries, k), runs),
        "collapsed_search_seconds": median_seconds(lambda: index.search(sites, queries.float(), k), runs),
    }
    bytes_flat, bytes_collapsed = keys.nbytes, len(subset) * window * 4
    return {
        "rows": len(subset),
        "sites": window,
        "dims": config.dims,
        "backend": type(index).__name__,
        "same_distances": True,  # otherwise check_neighbours has ended the run
        "same_rows": round(float((flat[1] == collapsed[1]).float().mean()), 4),
        **{name: round(value, 6) for name, value in seconds.items()},
        "search_times_faster": round(seconds["flattened_search_seconds"] / seconds["collapsed_search_seconds"], 1),
        "flattened_key_bytes": bytes_flat,
        "collapsed_key_bytes": bytes_collapsed,
        "times_less_memory": round(bytes_flat / bytes_collapsed, 1),
    }


def check_neighbours(
    keys: Tensor, queries: Tensor, flat: tuple[Tensor, Tensor], collapsed: tuple[Tensor, Tensor]
) -> None:
    """Ends the run unless the collapsed index found rows that are nearest in the flattened space too."""
    nearest = (keys[flat[1]] - queries[:, None]).square().sum(dim=-1)  # [n, k], exact where knn rounds
    found = (keys[collapsed[1]] - queries[:, None]).square().sum(dim=-1)
    torch.testing.assert_close(found, nearest, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(collapsed[0], found, rtol=TOLERANCE, atol=TOLERANCE)


def bench_epoch(subset: ReferenceSubset, config: Config, steps: int, runs: int) -> dict[str, Any]:
    """Times the refresh of the whole panel and training batches of the profile."""
    device = torch.device("cpu")
    model = create("v18", config.model)
    assert isinstance(model, V18)
    encoding = encode(subset.panel, config.encode)
    split = TrainingPanel(subset, encoding, config.masks, device)
    started = time.perf_counter()
    index = make_index(subset, torch.ones(subset.panel.n_sites))
    build_seconds = time.perf_counter() - started
    retriever = attach_retriever(model, index, split.features, update=True)
    refresh_seconds = median_seconds(lambda: attach_retriever(model, index, split.features, update=True), runs)
    data = TrainingData([split], [retriever], config.masks, config.train)
    plan = plan_epoch(data.n_samples, config.train, epoch=0)
    examples = data.examples(plan[: steps + 1], 0, usable_k(config.retrieval.k["v18"], [len(subset)], n_excluded=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr)

    def train_batch() -> None:
        example = next(examples)
        output = model(example.batch)
        af = example.batch.sites.af
        weight = site_loss_weights(torch.minimum(af, 1.0 - af), config.train.rare_weight) * example.masked
        loss = allele_loss(output.logit, example.alleles, weight, gamma=config.train.focal_gamma)
        loss = loss + config.train.genotype_weight * genotype_loss(output.genotype, example.alleles.sum(dim=1), weight)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    train_batch()  # warms up
    steps = min(steps, len(plan) - 1)
    started = time.perf_counter()
    for _ in range(steps):
        train_batch()
    batch_seconds = (time.perf_counter() - started) / steps  # the mean, because masks, and so keys, differ in length
    epoch_seconds = batch_seconds * len(plan)
    share = refresh_seconds / epoch_seconds
    return {
        "panel_sites": subset.panel.n_sites,
        "memory_rows": len(subset),
        "index_build_seconds": round(build_seconds, 4),
        "refresh_seconds": round(refresh_seconds, 5),
        "ms_per_batch": round(batch_seconds * 1e3, 1),
        "batches_per_epoch": len(plan),
        "epoch_seconds": round(epoch_seconds, 1),
        "refresh_share_of_epoch": round(share, 6),
        "goal_reached": share < REFRESH_GOAL,
    }


def print_table(title: str, values: dict[str, Any]) -> None:
    print(title)
    for name, value in values.items():
        print(f"  {name.replace('_', ' '):<40}{value:>16}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=PROFILES, default="cpu", help="profile of the compared epoch")
    parser.add_argument("--simulated", action="store_true", help="use a simulated panel instead of the demo panel")
    parser.add_argument("--window", type=int, default=1030, help="sites searched over")
    parser.add_argument("--dims", type=int, default=64, help="width of the searched embeddings")
    parser.add_argument("--k", type=int, default=8, help="neighbours")
    parser.add_argument("--steps", type=int, default=20, help="training batches timed")
    parser.add_argument("--runs", type=int, default=5, help="number of runs; the median counts")
    parser.add_argument("--json", type=Path, help="where the report goes")
    options = parser.parse_args()
    machine = describe_machine()
    panel = load_panel(options.simulated)
    subset = ReferenceSubset(panel, np.arange(panel.n_haplotypes))
    model = ModelConfig(dims=options.dims, layers=1, heads=1)  # only its embedding is used
    search = bench_search(subset, model, min(options.window, panel.n_sites), options.k, options.runs)
    epoch = bench_epoch(subset, profile(options.profile), options.steps, options.runs)
    print_table("collapsed keys beside the flattened space", search)
    print_table(f"refresh of the whole panel, {options.profile} profile", epoch)
    write_report(options.json, {"machine": machine, "search": search, "epoch": epoch})


if __name__ == "__main__":
    main()
