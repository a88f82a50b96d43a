"""Ablation of V19: dosage r2 by MAF bin, from the vote of the nearest haplotypes to averaged phasings.

    python benchmarks/ablation.py --json reports/bench_ablation.json         # models/ and data/demo, after `make demo`
    python benchmarks/ablation.py --models FOLDER --data FOLDER --no-track   # the demo data's layout

The folder of ``--models`` has bundles v17, v18 and v19 of one panel. A row without its bundle is omitted with a note.
Rows of V19 change its bundle: one HMM of the mixture or all, with and without a prior, with fitted parameters or those
that a fit starts from. Each row imputes the same targets in this process and is scored at their untyped sites. Reading,
writing and compiled kernels are the same for all. Figures also go to MLflow: a run ``ablation`` whose children are the
rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _machine import describe_machine, write_report
from update_results import ablation_table

from vcfbert.artifacts import MANIFEST
from vcfbert.bundle.contents import Bundle
from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import LoadedNetwork, Searched
from vcfbert.config import EncodeConfig, EvaluateConfig, ModelConfig, build
from vcfbert.constants import MAF_BIN_NAMES, VARIANTS
from vcfbert.copying.mixture import FIRST_RATES, PRIOR_STRENGTH, CopyingModel, Mixture
from vcfbert.errors import VcfbertError
from vcfbert.evaluation.scoring import Evaluation, score_array, typed_targets
from vcfbert.genotypes.encoding import windows_of
from vcfbert.imputation.files import impute_file
from vcfbert.imputation.imputer import Imputer
from vcfbert.metrics.accuracy import ALL
from vcfbert.model.base import Features, SiteContext, Variant, WindowBatch, WindowOutput
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.refresh import build_index
from vcfbert.tracker import Tracker
from vcfbert.tracking.mlflow_tracker import open_tracker

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "data" / "demo"
NEAREST = 32  # haplotypes that vote
VOTE_SPAN_CM = 0.1  # on each side of a window, whose typed sites define the distance
PHASINGS = 8  # phasings that are averaged
BINS = (*MAF_BIN_NAMES, ALL)

# A rejected experiment, with its figures on the demo from docs/dev/LOG.md of 2026-11-23. The one head that it
# was added to had .1145 .3369 .5625 .9024 .9069.
COPY_HEAD = {
    "name": "copy-head",
    "label": "one HMM + copy weights learned from match lengths, rejected",
    "targets": "phased",
    "r2": dict(zip(BINS, (0.1164, 0.3373, 0.5635, 0.9026, 0.9072), strict=True)),
    "note": "from docs/dev/LOG.md, not run here",
}


@dataclass(frozen=True)
class Row:
    """A row. ``of``: the variant whose bundle it needs, None = any. ``imputer`` builds its imputer from that bundle
    and a number of threads."""

    name: str
    label: str
    of: str | None
    imputer: Callable[[Bundle, int], Imputer]
    unphased: bool = False


class Vote(Variant):
    """No network: the weighted ALT fraction among the retrieved haplotypes.

    A haplotype has the weight exp(-number of typed sites at which it differs)."""

    name = "vote"

    def features(self, batch: WindowBatch, encoded: Any = None) -> Features:
        sign = batch.key_sign.flatten(0, 1).float()  # [2b, t]
        agreement = sign @ (1.0 - 2.0 * batch.key_rows.float()).T
        mismatches = (sign.abs().sum(dim=1, keepdim=True) - agreement) / 2.0  # [2b, r]
        weight = torch.softmax(-mismatches.gather(1, batch.key_retrieved.flatten(0, 1)), dim=1)  # [2b, k]
        alt = torch.einsum("nk,nkl->nl", weight, batch.patterns[batch.retrieved.flatten(0, 1)].float())  # [2b, l]
        # Rounding may take a sum of weights beyond 1, whose logit is no number.
        logit = torch.logit(alt.view(-1, 2, alt.shape[1]).clamp(0.0, 1.0))
        return Features(logit[..., None], logit)

    def output(self, features: Features, sites: SiteContext) -> WindowOutput:
        return WindowOutput(features.logit.sigmoid())


def nearest_vote(bundle: Bundle, threads: int) -> Imputer:
    """The vote over V17's windows by V17's distance, for a bundle of any variant."""
    encode = build(EncodeConfig, {**bundle.manifest["encode"], "span_cm": VOTE_SPAN_CM}, "encode.")
    cpu = torch.device("cpu")
    searched = {}
    for part in bundle.parts:
        index = build_index(part.reference, torch.ones(part.panel.n_sites), backend="auto", device=cpu)
        searched[part.panel.digest] = Searched(HammingRetriever(index), reference_features(part.reference, cpu))
    voting = dataclasses.replace(
        bundle,
        manifest={**bundle.manifest, "variant": Vote.name, "k": min(NEAREST, _fewest(bundle))},
        model=LoadedNetwork(Vote(ModelConfig()).eval(), searched, cpu),
        parts=tuple(dataclasses.replace(part, windows=windows_of(part.panel, encode)) for part in bundle.parts),
    )
    return Imputer(voting, threads=threads)


def as_is(bundle: Bundle, threads: int) -> Imputer:
    """The bundle's own model."""
    return Imputer(bundle, threads=threads)


def copying(
    bundle: Bundle,
    threads: int,
    *,
    all_haplotypes: bool = False,
    heads: int | None = None,
    rates: bool = False,
    prior: bool = False,
) -> Imputer:
    """V19 with the mixture weights that a fit starts from.

    It has its first ``heads`` (default: all), the textbook's ``rates`` or the panel's, and a flat ``prior`` or V19's.
    """
    assert isinstance(bundle.model, CopyingModel)
    first = Mixture.first(bundle.model.phased.rates if rates else FIRST_RATES)
    weights = first.weights[:, :heads]
    mixture = Mixture(
        first.rates,
        weights / weights.sum(axis=1, keepdims=True),
        prior_strength=PRIOR_STRENGTH if prior else 0.0,
    )
    k = _fewest(bundle) if all_haplotypes else bundle.k
    model = CopyingModel(mixture, mixture, bundle.model.pair)
    changed = dataclasses.replace(bundle, manifest={**bundle.manifest, "k": k}, model=model)
    return Imputer(changed, threads=threads)


def _fewest(bundle: Bundle) -> int:
    return min(panel.n_haplotypes for panel in bundle.panels)


def over_phasings(bundle: Bundle, threads: int, *, phasings: int, ignore_phase: bool = False) -> Imputer:
    """The mean over several phasings of targets without phase, or whose phase is ignored."""
    imputer = Imputer(bundle, ignore_phase=ignore_phase, threads=threads)
    imputer.mode = dataclasses.replace(imputer.mode, phasings=phasings)
    return imputer


ROWS = (
    Row("vote", f"vote of the {NEAREST} nearest", None, nearest_vote),
    Row("v17", "V17", "v17", as_is),
    Row("v18", "V18", "v18", as_is),
    Row("li-stephens", "one Li-Stephens HMM, all haplotypes", "v19", partial(copying, all_haplotypes=True, heads=1)),
    Row("states", "one HMM, K haplotypes by IBS segments", "v19", partial(copying, heads=1)),
    Row("heads", "+ three HMMs, the last with weight 1%", "v19", copying),
    Row("rates", "+ rates fitted to the panel", "v19", partial(copying, rates=True)),
    Row("prior", "+ prior by similarity of haplotypes", "v19", partial(copying, rates=True, prior=True)),
    Row("weights", "+ mixture weights fitted by frequency: V19", "v19", as_is),
    Row("ignore-phase", f"V19, phase ignored, {PHASINGS} phasings", "v19",
        partial(over_phasings, phasings=PHASINGS, ignore_phase=True)),
    Row("diploid", "V19, one sampled phasing", "v19", partial(over_phasings, phasings=1), unphased=True),
    Row("averaged", f"+ average over {PHASINGS} phasings", "v19",
        partial(over_phasings, phasings=PHASINGS), unphased=True),
)  # fmt: skip
AFTER_HEADS = "heads"  # where the row of the copy head stands


def targets_of(data: Path) -> EvaluateConfig:
    truth, phased, unphased = (
        str(data / f"{name}.vcf.gz") for name in ("target_truth", "target_array_phased", "target_array")
    )
    return EvaluateConfig(truth=truth, typed_phased=phased, typed_unphased=unphased)


def load_bundles(folder: Path) -> dict[str, Bundle]:
    """The bundles of v17, v18 and v19 in ``folder``. SystemExit if there is none, or they have different panels."""
    found = {name: load_bundle(folder / name) for name in VARIANTS if (folder / name / MANIFEST).is_file()}
    if not found:
        raise SystemExit(f"{folder}: no bundle v17, v18 or v19; run `dvc repro`, or name their folder with --models")
    if len({bundle.panel_digest for bundle in found.values()}) > 1:
        raise SystemExit(f"{folder}: the bundles are of different panels, and cannot be compared")
    return found


def run_row(
    row: Row, bundle: Bundle, config: EvaluateConfig, out: Path, threads: int
) -> tuple[dict[str, Any], Evaluation]:
    imputer = row.imputer(bundle, threads)
    started = time.process_time()
    impute_file(imputer, typed_targets(config, unphased=row.unphased), out)
    seconds = time.process_time() - started  # of all threads
    scores = score_array(config, out, bundle.panels, unphased=row.unphased)
    r2 = {name: round(scores.row(name).aggregate_r2, 6) for name in BINS if any(r.bin == name for r in scores.rows)}
    phasings = imputer.mode.phasings if row.unphased or imputer.ignore_phase else None
    measured = {"k": imputer.bundle.k, "phasings": phasings, "cpu_seconds": round(seconds, 2), "r2": r2, "note": None}
    return {**described(row), **measured}, scores


def described(row: Row) -> dict[str, Any]:
    return {"name": row.name, "label": row.label, "targets": "unphased" if row.unphased else "phased"}


def track(tracker: Tracker, row: dict[str, Any], scores: Evaluation, variant: str | None, parent: str) -> None:
    """Records the row as an MLflow run, with its figures by bin."""
    by_bin = (("r2", "aggregate_r2"), ("site_r2", "mean_site_r2"), ("estimated_r2", "mean_estimated_r2"))
    figures = {f"{key}/{r.bin.rstrip('%')}": getattr(r, name) for r in scores.rows for key, name in by_bin}
    tags = {"source": "ablation", "kind": "ablation", **({"variant": variant} if variant else {})}
    params = {key: row[key] for key in ("label", "targets", "k", "phasings")}
    with tracker.start(row["name"], params, tags, parent=parent):
        known = {name: value for name, value in figures.items() if math.isfinite(value)}
        tracker.log_metrics({**known, "imputation/cpu_seconds": row["cpu_seconds"]}, 0)


def run_rows(
    bundles: dict[str, Bundle],
    models: Path,
    config: EvaluateConfig,
    threads: int,
    done: Callable[[dict[str, Any], Evaluation], None],
) -> Iterator[dict[str, Any]]:
    """Runs the rows in order. ``done`` is called with the result of each."""
    with tempfile.TemporaryDirectory(prefix="vcfbert-ablation-") as folder:
        for row in ROWS:
            bundle = next(iter(bundles.values())) if row.of is None else bundles.get(row.of)
            if bundle is None:
                yield {**described(row), "r2": {}, "note": f"no bundle {models / str(row.of)}"}
                continue
            tell(row.label)
            result, scores = run_row(row, bundle, config, Path(folder) / f"{row.name}.vcf.gz", threads)
            done(result, scores)
            yield result


def tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder of the bundles v17, v18 and v19")
    parser.add_argument("--data", type=Path, default=DEMO, help="targets, in the demo data's layout")
    parser.add_argument("--threads", type=int, default=2, help="torch's and the kernels'")
    parser.add_argument("--no-track", action="store_true", help="leave MLflow out")
    parser.add_argument("--json", type=Path, help="where the report goes")
    return parser.parse_args()


def main() -> None:
    options = parse()
    machine = describe_machine()
    torch.set_num_threads(options.threads)
    bundles = load_bundles(options.models)
    config = targets_of(options.data)
    parent, child = (open_tracker(enabled=not options.no_track, system_metrics=False) for _ in range(2))
    variants = {row.name: row.of for row in ROWS}
    about = {"data": options.data.resolve().name, "panel": next(iter(bundles.values())).panel_digest}
    with parent.start("ablation", about, {"source": "ablation", "kind": "ablation"}) as run_id:
        rows = list(
            run_rows(
                bundles,
                options.models,
                config,
                options.threads,
                lambda row, scores: track(child, row, scores, variants[row["name"]], run_id),
            )
        )
        if options.data.resolve() == DEMO:
            rows.insert(1 + [row["name"] for row in rows].index(AFTER_HEADS), COPY_HEAD)
        report = {"machine": machine, "threads": options.threads, **about, "rows": rows}
        table = ablation_table(report)
        print(table, end="\n\n")
        write_report(options.json, report)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ablation.md"
            path.write_text(table + "\n", encoding="utf-8")
            parent.log_artifact(path)


if __name__ == "__main__":
    try:
        main()
    except VcfbertError as error:
        raise SystemExit(str(error)) from error
