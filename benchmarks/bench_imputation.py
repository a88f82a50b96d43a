"""Measures time, memory and accuracy of imputation by vcfbert, Beagle and Minimac4, as whole processes.

    python benchmarks/bench_imputation.py --json reports/bench_imputation.json       # the demo data
    python benchmarks/bench_imputation.py --bundle models/v18 --quick                # an existing bundle, one run
    python benchmarks/bench_imputation.py --data FOLDER --variant v18                # the demo data's layout
    python benchmarks/bench_imputation.py --growth --json reports/bench_imputation_growth.json

Every run is a process that reads the target file and writes VCF.gz with DS and GP, on two threads. It includes the
start of Python or Java. The tools take turns, so a busy machine slows all of them. vcfbert reads the panel from its
bundle and Minimac4 from its own format; each is prepared once, and that time is reported separately. Beagle reads the
VCF.gz at every run. Beagle phases unphased targets itself; Minimac4 cannot. Memory is that of the program and its
children, for Minimac4 with the conversion. CPU seconds are user and system. The first target of the data is also
imputed alone. ``--growth`` simulates panels of 600 to 50,000 haplotypes with 100 targets, and 10, 100 and 1,000 targets
at 2,000 haplotypes. It needs msprime.
"""

from __future__ import annotations

import argparse
import compileall
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pysam
from _imputation_tables import imputation_table
from _machine import describe_machine, write_report
from _processes import Finished, run_measured

import vcfbert
from vcfbert.artifacts import read_manifest
from vcfbert.constants import BUNDLE_FORMAT, BUNDLE_KIND
from vcfbert.datasets.simulate import Simulation, simulate
from vcfbert.errors import VcfbertError
from vcfbert.evaluation.baselines import BEAGLE, MINIMAC4, find_baselines, run_baseline
from vcfbert.evaluation.scoring import evaluate_files, typed_positions
from vcfbert.genotypes.bgzf import BgzfWriter
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import open_panels
from vcfbert.genotypes.vcf_file import inspect

ROOT = Path(__file__).resolve().parents[1]
OURS = "vcfbert"
PHASED, UNPHASED = "phased", "unphased"

PANEL_SIZES = (600, 2_000, 10_000, 50_000)  # haplotypes, with MIDDLE_TARGETS targets
TARGET_COUNTS = (10, 100, 1_000)  # samples, with MIDDLE_SIZE haplotypes
MIDDLE_SIZE, MIDDLE_TARGETS = 2_000, 100
QUICK = 2  # of the sizes and of the counts


@dataclass(frozen=True)
class Data:
    """A folder in the demo data's layout."""

    name: str
    folder: Path

    @property
    def panel(self) -> Path:
        return self.folder / "panel.vcf.gz"

    @property
    def truth(self) -> Path:
        return self.folder / "target_truth.vcf.gz"

    @property
    def typed(self) -> Path:
        return self.folder / "typed.tsv"

    @property
    def genetic_map(self) -> Path | None:
        return next(iter(sorted(self.folder.glob("*.gmap.gz"))), None)

    def target(self, phase: str) -> Path:
        return self.folder / ("target_array_phased.vcf.gz" if phase == PHASED else "target_array.vcf.gz")


@dataclass(frozen=True)
class Settings:
    """What is fitted and how the tools run."""

    variant: str
    threads: int
    runs: int
    limit: float  # seconds a process may take
    device: str
    set: tuple[str, ...]  # parameters of the fit

    @property
    def environment(self) -> dict[str, str]:
        """Environment that sets thread pools without an option. Waiting threads sleep, as in the Makefile."""
        count = str(self.threads)
        return {"OMP_NUM_THREADS": count, "OMP_WAIT_POLICY": "PASSIVE"}


class Case:
    """One tool on one kind of target: its runs, and the reason if they ended early."""

    def __init__(self, tool: str, phase: str, out: Path, note: str | None = None) -> None:
        self.tool, self.phase, self.out, self.note = tool, phase, out, note
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.peak_mib = 0.0
        self.panel_seconds: float | None = None

    def run(self, data: Data, bundle: Path | None, settings: Settings) -> None:
        """Runs the tool once. Does nothing after a run that did not count."""
        if self.note is not None:
            return
        if self.tool == OURS:
            done = run_ours(data.target(self.phase), bundle, self.out, settings)
        else:
            done = run_other(self.tool, data, data.target(self.phase), self.out, settings)
        self.note = trouble(done, settings)
        if self.note is None:
            told = {} if self.tool == OURS else json.loads(done.out.splitlines()[-1])
            self.seconds.append(told.get("seconds", done.seconds))
            self.cpu_seconds.append(told.get("cpu_seconds", done.cpu_seconds))
            self.panel_seconds = told.get("panel_seconds") or None
            self.peak_mib = max(self.peak_mib, done.peak_mib)

    def row(self, data: Data, panel: Panel, n_targets: int) -> dict[str, Any]:
        """Median seconds, peak memory and r2 by MAF bin."""
        row: dict[str, Any] = {"tool": self.tool, "input": self.phase, "note": self.note, "runs": len(self.seconds)}
        if not self.seconds:
            return row
        median = statistics.median(self.seconds)
        scores = evaluate_files(data.truth, self.out, [panel], typed=data.typed)
        return row | {
            "seconds": round(median, 3),
            "cpu_seconds": round(statistics.median(self.cpu_seconds), 3),
            "panel_seconds": self.panel_seconds,
            "ms_per_target": round(1e3 * median / n_targets, 3),
            "peak_mib": round(self.peak_mib),
            "r2": {r.bin: None if np.isnan(r.aggregate_r2) else round(r.aggregate_r2, 4) for r in scores.rows},
        }


def run_ours(target: Path, bundle: Path | None, out: Path, settings: Settings) -> Finished:
    """Runs ``vcfbert impute`` in a process of its own."""
    command = [sys.executable, "-m", "vcfbert", "impute", "--model", str(bundle), "--target", str(target)]
    command += ["--out", str(out), "--threads", str(settings.threads), "--device", settings.device]
    return run_measured(command, limit=settings.limit, environment=settings.environment)


def run_other(tool: str, data: Data, target: Path, out: Path, settings: Settings) -> Finished:
    """Runs a baseline in a process that the limit can end. That process prints the baseline's own time."""
    asked = [tool, data.panel, target, data.genetic_map or "", out, settings.threads]
    command = [sys.executable, str(Path(__file__).resolve()), "--peer", *map(str, asked)]
    return run_measured(command, limit=settings.limit, environment=settings.environment, whole=False)


def baseline_process(tool: str, panel: str, target: str, genetic_map: str, out: str, threads: str) -> None:
    """The process that ``run_other`` starts."""
    known = Path(genetic_map) if genetic_map else None
    try:
        run = run_baseline(tool, Path(panel), Path(target), known, Path(out), threads=int(threads))
    except VcfbertError as error:
        raise SystemExit(f"error [{error.code}] {error}") from error
    print(json.dumps(run.as_dict()))


def trouble(done: Finished, settings: Settings) -> str | None:
    """The reason why a run does not count; None if it does."""
    if done.stopped:
        return f"stopped after {settings.limit:g} s"
    if done.status == 0:
        return None
    lines = [line for line in done.err.splitlines() if line.startswith("error [")]
    return lines[0] if lines else f"ended with status {done.status}: {(done.err.splitlines() or ['no message'])[-1]}"


def fit(data: Data, out: Path, settings: Settings) -> dict[str, Any]:
    """Runs ``vcfbert fit`` in a process of its own."""
    command = [sys.executable, "-m", "vcfbert", "fit", "--panel", str(data.panel), "--out", str(out), "--no-track"]
    command += ["--variant", settings.variant]
    command += [] if data.genetic_map is None else ["--map", str(data.genetic_map)]
    command += [word for parameter in settings.set for word in ("--set", parameter)]
    done = run_measured(command, limit=settings.limit, environment=settings.environment)
    return {"seconds": round(done.seconds, 2), "peak_mib": round(done.peak_mib), "note": trouble(done, settings)}


def bench(data: Data, bundle: Path | None, settings: Settings, folder: Path) -> dict[str, Any]:
    """Runs all tools on one folder of data. They write to ``folder``."""
    fitted = None
    if bundle is None:
        fitted = fit(data, folder / "bundle", settings)
        tell(f"{data.name}: fit {fitted['seconds']} s", fitted["note"])
        bundle = folder / "bundle" if fitted["note"] is None else None
    cases = list(cases_of(bundle, folder))
    for number in range(settings.runs):
        for case in cases:
            case.run(data, bundle, settings)
            words = f"{data.name}, run {number + 1}: {case.tool}, {case.phase}"
            tell(words + (f" {case.seconds[-1]:.2f} s" if case.note is None else ""), case.note)
    panel = reference(data, bundle, folder)
    n_targets = len(inspect(data.truth).samples)
    rows = [case.row(data, panel, n_targets) for case in cases]
    for row in rows:
        for other in (BEAGLE, MINIMAC4):
            row |= ratios(row, next(one for one in rows if (one["tool"], one["input"]) == (other, row["input"])))
    return {
        "data": data.name,
        "variant": variant_of(bundle),
        "haplotypes": panel.n_haplotypes,
        "targets": n_targets,
        "sites": panel.n_sites,
        "typed_sites": len(typed_positions(data.typed)),
        "fit": fitted,
        "rows": rows,
    }


def ratios(row: dict[str, Any], other: dict[str, Any]) -> dict[str, float | None]:
    """Seconds and CPU seconds of ``row`` as multiples of those of another tool; None where one of them did not run."""
    names = {"seconds": f"times_{other['tool']}", "cpu_seconds": f"cpu_times_{other['tool']}"}
    both = "seconds" in row and "seconds" in other
    return {name: round(row[of] / other[of], 3) if both else None for of, name in names.items()}


def cases_of(bundle: Path | None, folder: Path) -> Iterator[Case]:
    """Every tool on phased and on unphased targets; a note says why a tool cannot run."""
    found = find_baselines()
    for phase in (PHASED, UNPHASED):
        for tool in (OURS, BEAGLE, MINIMAC4):
            note = None
            if tool == OURS:
                note = None if bundle else "no bundle"
            elif tool not in found:
                note = "not installed"
            elif (tool, phase) == (MINIMAC4, UNPHASED):
                note = "needs phased targets"
            yield Case(tool, phase, folder / f"{tool}-{phase}.vcf.gz", note)


def reference(data: Data, bundle: Path | None, folder: Path) -> Panel:
    """The panel whose frequencies define the MAF bins: that of the bundle, if there is one."""
    if bundle is not None:
        return open_panels(bundle / "panel", verify=False)[0]
    maps = [] if data.genetic_map is None else [data.genetic_map]
    return build_panels([data.panel], folder / "panel", maps=maps, holdout=0.1, seed=1)[0]


def variant_of(bundle: Path | None) -> str | None:
    if bundle is None:
        return None
    return str(read_manifest(bundle, kind=BUNDLE_KIND, version=BUNDLE_FORMAT, verify=False)["variant"])


def growth(settings: Settings, length_mb: float, sizes: Sequence[int], counts: Sequence[int]) -> list[dict[str, Any]]:
    """One case per panel size and per number of targets; the latter share a panel. Each case removes its folder."""
    cases = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="vcfbert-bench-") as name:
            folder = Path(name)
            at_middle = size == MIDDLE_SIZE
            most = max(counts) if at_middle else MIDDLE_TARGETS
            tell(f"simulating {size:,} haplotypes and {most:,} targets")
            simulate(Simulation(haplotypes=size, targets=most, length_mb=length_mb), folder / "all")
            bundle: Path | None = None
            for count in counts if at_middle else (most,):
                data = Data(f"{size:,} haplotypes, {count:,} targets", folder / f"targets-{count}")
                cut_targets(folder / "all", data.folder, count)
                work = folder / f"work-{count}"
                work.mkdir()
                case = bench(data, bundle, settings, work)
                cases.append(case)
                if case["fit"] and case["fit"]["note"] is None:
                    bundle = work / "bundle"
    return cases


def all_and_one(data: Data, bundle: Path | None, settings: Settings) -> list[dict[str, Any]]:
    """A case of all targets of ``data``, and one of the first target alone."""
    with tempfile.TemporaryDirectory(prefix="vcfbert-bench-") as name:
        folder = Path(name)
        together = bench(data, bundle, settings, folder)
        if together["fit"] and together["fit"]["note"] is None:
            bundle = folder / "bundle"
        one = Data(f"{data.name}, 1 target", folder / "target")
        cut_targets(data.folder, one.folder, 1)
        work = folder / "work"
        work.mkdir()
        return [together, bench(one, bundle, settings, work)]


def cut_targets(source: Path, out: Path, count: int) -> None:
    """The data of ``source`` with ``count`` of its targets, evenly spaced because they are sorted by population."""
    out.mkdir()
    for path in source.iterdir():
        if not path.name.startswith("target_"):
            (out / path.name).symlink_to(path.resolve())
        elif path.name.endswith(".vcf.gz"):
            _cut_columns(path, out / path.name, count)


def _cut_columns(source: Path, out: Path, count: int) -> None:
    n_samples = len(inspect(source).samples)
    columns = [*range(9), *(9 + np.linspace(0, n_samples - 1, count).astype(int)).tolist()]
    with pysam.BGZFile(str(source)) as lines, out.open("wb") as handle, BgzfWriter(handle, threads=2) as writer:
        for line in lines:
            if not line.startswith(b"##"):
                fields = line.split(b"\t")
                line = b"\t".join([fields[column] for column in columns])
            writer.write(line + b"\n")
    pysam.tabix_index(str(out), preset="vcf", force=True)


def tell(words: str, note: str | None = None) -> None:
    print(words + (f": {note}" if note else ""), file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "demo", help="folder in the demo data's layout")
    parser.add_argument("--bundle", type=Path, help="bundle of the data's panel; without one it is fitted")
    parser.add_argument("--variant", default="v19", help="variant to fit")
    parser.add_argument("--set", action="append", default=[], help="a parameter of the fit, e.g. train.epochs=1")
    parser.add_argument("--growth", action="store_true", help="simulated panels of growing size instead of --data")
    parser.add_argument("--length-mb", type=float, default=1.0, help="length of the simulated region")
    parser.add_argument("--runs", type=int, default=3, help="runs of each tool")
    parser.add_argument("--quick", action="store_true", help="one run; the two smallest sizes of --growth")
    parser.add_argument("--threads", type=int, default=2, help="of every tool")
    parser.add_argument("--device", default="cpu", help="of vcfbert: cpu, cuda or auto")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a process is stopped")
    parser.add_argument("--json", type=Path, help="where the report goes")
    parser.add_argument("--peer", nargs=6, help=argparse.SUPPRESS)  # the process that run_other starts
    options = parser.parse_args()
    if options.peer is not None:
        baseline_process(*options.peer)
        return
    compileall.compile_dir(Path(vcfbert.__file__).parent, quiet=1)  # as an installation does
    machine = describe_machine()
    runs = 1 if options.quick else options.runs
    settings = Settings(options.variant, options.threads, runs, options.limit, options.device, tuple(options.set))
    if options.growth:
        quick = QUICK if options.quick else None
        cases = growth(settings, options.length_mb, PANEL_SIZES[:quick], TARGET_COUNTS[:quick])
    else:
        cases = all_and_one(Data(options.data.name, options.data), options.bundle, settings)
    shown = {name: value for name, value in asdict(settings).items() if name != "variant"}  # each case has its own
    report = {"machine": machine, "settings": shown, "growth": options.growth, "cases": cases}
    print(imputation_table(report), end="\n\n")
    write_report(options.json, report)


if __name__ == "__main__":
    main()
