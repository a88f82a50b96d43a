"""The command line: ``vcfbert --help``. The only place that parses arguments; each command calls the library."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vcfbert import __version__
from vcfbert.cli.compare import compare
from vcfbert.cli.panel import panel_app
from vcfbert.cli.registry import registry_app
from vcfbert.cli.remote import remote_app
from vcfbert.cli.serve import serve
from vcfbert.cli.tasks import ChunkCm, ChunkSamples, Ray, WorkDir, impute_in_tasks
from vcfbert.cli.tune import tune_app
from vcfbert.errors import InputError
from vcfbert.exits import clean_exit

if TYPE_CHECKING:
    from vcfbert.genotypes.qc import QcReport

app = typer.Typer(
    name="vcfbert",
    help="Genotype imputation with a retrieval-augmented BERT over alleles.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
bundle_app = typer.Typer(help="Trained bundles.", no_args_is_help=True)
config_app = typer.Typer(help="Configuration profiles.", no_args_is_help=True)
data_app = typer.Typer(help="Public reference data.", no_args_is_help=True)
for name, group in (("panel", panel_app), ("bundle", bundle_app), ("config", config_app), ("data", data_app)):
    app.add_typer(group, name=name)
app.command()(compare)
app.command()(serve)
app.add_typer(tune_app, name="tune")
app.add_typer(registry_app, name="registry")
app.add_typer(remote_app, name="remote")

messages = Console(stderr=True)

# Dim and metric tables of arbitrary JSON, for people; --json gives the same to scripts.
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]
Model = Annotated[str, typer.Option(help="A bundle folder, or models:/NAME@ALIAS of the MLflow registry.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one.")]


def main() -> None:
    """Runs the command line; an error that the user can act on ends with its text and exit code, no traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # Importing torch makes objects that stay: looking through them for cycles, at import and once more at the end,
    # takes as long as imputing a few samples.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    with clean_exit(lambda text: messages.print(text, markup=False, highlight=False, soft_wrap=True)):
        app()


def _print_version(wanted: bool) -> None:
    if wanted:
        _say(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Genotype imputation with a retrieval-augmented BERT over alleles."""


@app.command()
def fit(
    panel: Annotated[
        list[str],
        typer.Option(
            help="Phased panel: VCF, BCF or VCF Zarr; several, or {chrom} in its name; or what `panel build` wrote."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    map: Annotated[list[str] | None, typer.Option(help="Genetic map, likewise; without one, 1 cM/Mb.")] = None,
    variant: Annotated[
        str, typer.Option(help="v17 (token retrieval), v18 (learned retrieval) or v19 (copying).")
    ] = "v19",
    profile: Annotated[str, typer.Option(help="cpu, gpu or original.")] = "cpu",
    holdout: Annotated[float | None, typer.Option(help="Share of samples held out for validation.")] = None,
    region: Annotated[str | None, typer.Option(help="CHROM or CHROM:FROM-TO of the panel.")] = None,
    build: Annotated[str | None, typer.Option(help="b37 or b38, for chromosome X; else by its length.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", "-S", help="A parameter, e.g. train.lr=1e-3.")] = None,
    devices: Annotated[int, typer.Option(help="Processes, as started by torchrun.")] = 1,
    track: Annotated[bool, typer.Option(help="Record the run in MLflow.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Train on a panel and write a bundle, without DVC.

    Interrupted, it goes on from its last epoch when called again.

    **Examples**

    vcfbert fit --panel panel.vcf.gz --map chr20.gmap.gz --out bundles/chr20

    vcfbert fit --panel panel.bcf --variant v17 --profile gpu -S train.epochs=10 --out bundles/v17

    vcfbert fit --panel panels/chr{chrom}.vcf.gz --map maps/chr{chrom}.gmap.gz --out bundles/genome
    """
    from vcfbert.config import with_overrides
    from vcfbert.tracking.mlflow_tracker import open_tracker
    from vcfbert.training.fit import fit_panel
    from vcfbert.training.progress import ConsoleProgress

    _check_variant(variant)
    prepare: dict[str, Any] = {"panel": panel, "map": map, "region": region, "build": build}
    if holdout is not None:
        prepare["holdout"] = holdout
    config = with_overrides(profile, set_ or [], prepare=prepare)
    with ConsoleProgress(messages) as progress:
        result = fit_panel(
            config, variant, out, tracker=open_tracker(enabled=track), devices=devices, progress=progress
        )
    if as_json:
        _print_json({"bundle": str(out), "run_id": result.run_id, "metrics": result.metrics, "seconds": result.seconds})
    else:
        _say(f"bundle: {out}\nvalidation r2 {result.metrics['val/r2/all']:.4f}, {result.seconds:.0f} s")


@app.command()
def impute(
    model: Model,
    target: Annotated[Path, typer.Option(help="Typed genotypes: VCF, BCF or VCF Zarr. V17 and V18 need them phased.")],
    out: Annotated[Path, typer.Option(help="Output: .vcf.gz or .bcf (both indexed), or .vcf.")],
    region: Annotated[
        str | None, typer.Option(help="CHROM:FROM-TO to write; typed sites around it still help.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 2,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Samples a forward pass.", min=1)] = 64,
    mode: Annotated[str, typer.Option(help="Of unphased targets: fast (4 phasings) or accurate (8).")] = "accurate",
    ignore_phase: Annotated[
        bool, typer.Option("--ignore-phase", help="Take phased targets for unphased: slower, often more accurate.")
    ] = False,
    fields: Annotated[str, typer.Option(help="Of FORMAT, comma-separated: GT,DS,HDS,GP,GQ.")] = "GT,DS,HDS,GP",
    min_dr2: Annotated[float, typer.Option(help="Leave out imputed sites of less estimated r2 (DR2).")] = 0.0,
    qc_report: Annotated[Path | None, typer.Option(help="JSON report of the input; a TSV of sites beside it.")] = None,
    ray: Ray = None,
    work_dir: WorkDir = None,
    chunk_cm: ChunkCm = 5.0,
    chunk_samples: ChunkSamples = 500,
    as_json: JsonFlag = False,
) -> None:
    """Impute every site of the panel for the samples of a target file, on all chromosomes that both have.

    V19 also takes unphased calls (0/1), as an array gives them; V17 and V18 refuse them and say how to phase. Samples
    may be haploid on a chromosome, or on X outside of its PAR, beside diploid ones: their calls have one allele in the
    output too, and DS 0..1. Missing calls are imputed.

    **Examples**

    vcfbert impute --model models/v18 --target array.vcf.gz --out imputed.vcf.gz --qc-report qc.json

    vcfbert impute --model models:/vcfbert@champion --target array.bcf --region 20:1000000-2000000 --out part.bcf

    vcfbert impute --model /shared/v19 --target array.bcf --out imputed.vcf.gz --ray auto --work-dir /shared/tasks
    """
    import torch

    from vcfbert.bundle import load_bundle
    from vcfbert.imputation.files import ImputeOptions, impute_file
    from vcfbert.imputation.imputer import Imputer

    options = ImputeOptions.parse(region=region, fields=fields, min_dr2=min_dr2)
    if ray is not None or work_dir is not None:
        imputed = impute_in_tasks(
            _resolve(model),
            target,
            out,
            options,
            ray=ray,
            work_dir=work_dir,
            chunk_cm=chunk_cm,
            chunk_samples=chunk_samples,
            mode=mode,
            ignore_phase=ignore_phase,
            batch_size=batch_size,
            threads=threads,
            device=device,
            qc_report=qc_report,
            messages=messages,
        )
    else:
        torch.set_num_threads(threads)
        bundle = load_bundle(_resolve(model), device=_device(device))
        with _progress("imputing", "sites") as (begin, advance):
            imputed = impute_file(
                Imputer(bundle, batch_size=batch_size, mode=mode, ignore_phase=ignore_phase),
                target,
                out,
                options,
                threads=threads,
                qc_report=qc_report,
                begin=begin,
                progress=advance,
            )
    report = imputed.report
    if as_json:
        _print_json({"out": str(out), "qc": report.summary(), "summary": imputed.summary})
    else:
        haploid = f" ({report.n_haploid} haploid)" if report.n_haploid else ""
        for text in _remarks(report):
            messages.print(text, markup=False, highlight=False, soft_wrap=True)
        _say(
            f"{report.n_samples} samples{haploid}, {report.n_used} of {report.n_target_sites} target sites used "
            f"({report.typed_per_mb:.0f}/Mb): {out}"
        )


@app.command()
def qc(
    model: Model,
    target: Annotated[Path, typer.Option(help="Typed genotypes: VCF, BCF or VCF Zarr.")],
    json_: Annotated[Path | None, typer.Option("--json", help="JSON report; a TSV of sites beside it.")] = None,
) -> None:
    """Check a target against a model's panel without imputing it.

    Exit code 2, after the report, where imputation would be refused.

    **Example**

    vcfbert qc --model models/v19 --target array.vcf.gz --json qc.json
    """
    from vcfbert.bundle import load_bundle
    from vcfbert.imputation.files import check_target
    from vcfbert.imputation.imputer import Imputer

    report, refusal = check_target(Imputer(load_bundle(_resolve(model))), target)
    if json_ is not None:
        report.write(json_)
    left_out = ("density", "frequencies", "chromosomes")
    _print_facts({key: value for key, value in report.summary().items() if key not in left_out}, False)
    for part in report.summary()["chromosomes"]:
        used = f"{part['n_used']} of {part['n_target_sites']} target sites used ({part['typed_per_mb']:.0f}/Mb)"
        _say(f"{part['chrom']}:{part['from']}-{part['to']}  {used}, {part['n_haploid']} haploid samples")
    for text in _remarks(report):
        _say(text)
    if refusal is not None:
        raise refusal


def _remarks(report: QcReport) -> Iterator[str]:
    """What a user should know of the input."""
    if report.absent:
        yield "left out, the model has no such chromosome: " + ", ".join(
            f"{name} ({count} records)" for name, count in report.absent.items()
        )
    if report.n_homozygous_coded:
        yield (
            f"{report.n_homozygous_coded} samples are diploid and never heterozygous on X between its PARs: males "
            "whose calls were doubled are imputed as females; write them with one allele (bcftools +fixploidy)"
        )


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Option(help="True genotypes.")],
    imputed: Annotated[Path, typer.Option(help="Imputed genotypes: DS, else HDS, else GT is scored.")],
    reference: Annotated[Path, typer.Option(help="Panel VCF or panel store; its frequencies make the MAF bins.")],
    typed: Annotated[Path | None, typer.Option(help="Sites not to score: table CHROM POS, or a VCF.")] = None,
    groups: Annotated[Path | None, typer.Option(help="TSV of sample and group, for figures by group.")] = None,
    region: Annotated[str | None, typer.Option(help="CHROM:FROM-TO to score.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score an imputed file against the truth, by minor-allele frequency.

    **Example**

    vcfbert evaluate --truth truth.vcf.gz --imputed imputed.vcf.gz --reference panel.vcf.gz --typed typed.tsv
    """
    from vcfbert.evaluation.scoring import evaluate_files
    from vcfbert.genotypes.store import is_panel, open_panels

    panels = open_panels(reference) if is_panel(reference) else reference
    scores = evaluate_files(truth, imputed, panels, typed=typed, groups=groups, region=region)
    if as_json:
        _print_json(scores.as_dict())
    else:
        _say(scores.table())


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    haplotypes: Annotated[int, typer.Option(help="Haplotypes of the panel.")] = 2000,
    targets: Annotated[int, typer.Option(help="Samples to impute, not in the panel.")] = 100,
    length_mb: Annotated[float, typer.Option(help="Length of the region in Mb.")] = 3.0,
    populations: Annotated[int, typer.Option(help="Populations: EUR, AFR, EAS, AMR, the first so many.")] = 3,
    typed_per_mb: Annotated[float, typer.Option(help="Typed sites per Mb.")] = 165.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 17,
    threads: Annotated[int, typer.Option(help="Threads that compress.", min=1)] = 2,
    as_json: JsonFlag = False,
) -> None:
    """Simulate a panel, targets and a genetic map by the coalescent, for benchmarks. Needs the extra `simulate`.

    **Example**

    vcfbert simulate --haplotypes 2000 --targets 100 --length-mb 3 --populations 3 --out data/work/simulated
    """
    from vcfbert.datasets.simulate import Simulation
    from vcfbert.datasets.simulate import simulate as simulate_files

    wanted = Simulation(haplotypes, targets, length_mb, populations, typed_per_mb, seed)
    with _progress("writing", "sites") as (begin, advance):
        figures = simulate_files(wanted, out, threads=threads, begin=begin, progress=advance)
    if as_json:
        _print_json({"out": str(out), **figures})
    else:
        _say(
            f"{out}: {haplotypes} haplotypes and {targets} targets, {figures['sites']} sites, "
            f"{figures['typed_sites']} of them typed, {figures['centimorgans']:.3f} cM"
        )


@bundle_app.command("inspect")
def bundle_inspect(path: Annotated[Path, typer.Argument(help="A bundle folder.")], as_json: JsonFlag = False) -> None:
    """Print a bundle's manifest. Example: vcfbert bundle inspect models/v18"""
    from vcfbert.artifacts import read_manifest
    from vcfbert.constants import BUNDLE_FORMAT, BUNDLE_KIND

    manifest = dict(read_manifest(path, kind=BUNDLE_KIND, version=BUNDLE_FORMAT, verify=False))
    if as_json:
        _print_json(manifest)
        return
    shown = ("variant", "k", "model", "encode", "metrics", "panel_digest", "provenance")
    _print_facts({key: manifest[key] for key in shown}, False)


@bundle_app.command("verify")
def bundle_verify(path: Annotated[Path, typer.Argument(help="A bundle folder.")]) -> None:
    """Check a bundle's hashes, format, panel digest and index. Example: vcfbert bundle verify models/v18"""
    from vcfbert.bundle import load_bundle

    bundle = load_bundle(path)
    for panel in bundle.panels:
        _say(f"{panel.region}: {panel.n_sites} sites, {panel.n_haplotypes} haplotypes")
    _say(f"{path}: {bundle.variant}: sound")


@config_app.command("show")
def config_show(
    profile: Annotated[str, typer.Argument(help="cpu, gpu or original.")] = "cpu", as_json: JsonFlag = False
) -> None:
    """Print a built-in profile. Example: vcfbert config show original"""
    from vcfbert.config import profile as load_profile
    from vcfbert.config import profile_text

    if as_json:
        _print_json(load_profile(profile).as_dict())
    else:
        _say(profile_text(profile).rstrip("\n"))


@config_app.command("apply")
def config_apply(
    profile: Annotated[str, typer.Argument(help="cpu, gpu or original.")],
    path: Annotated[Path, typer.Option(help="The file to write.")] = Path("params.yaml"),
) -> None:
    """Write a built-in profile to params.yaml. Example: vcfbert config apply original && dvc repro"""
    from vcfbert.artifacts import write_text
    from vcfbert.config import profile_text

    write_text(path, profile_text(profile))
    _say(f"{path} is now the profile {profile}")


@config_app.command("check")
def config_check(path: Annotated[Path, typer.Argument()] = Path("params.yaml")) -> None:
    """Check a params.yaml. Example: vcfbert config check params.yaml"""
    from vcfbert.config import load

    load(path)
    _say(f"{path}: valid")


@data_app.command("fetch-1kg")
def fetch_1kg(
    chrom: Annotated[str, typer.Option(help="Chromosome, e.g. 20.")],
    out: Annotated[Path, typer.Option(help="Folder for the panel and the genetic map.")],
    region: Annotated[str | None, typer.Option(help="FROM-TO or CHROM:FROM-TO; the whole chromosome without.")] = None,
) -> None:
    """Fetch a phased panel of the 1000 Genomes Project over HTTPS; goes on where it was interrupted.

    **Example**

    vcfbert data fetch-1kg --chrom 20 --region 20:1000000-4000000 --out data/1kg
    """
    from vcfbert.datasets.download import fetch_1kg as fetch

    if region is not None and ":" not in region:
        region = f"{chrom}:{region}"
    fetched = fetch(chrom, region, out)
    _say(f"panel: {fetched.panel} ({fetched.records} records)\ngenetic map: {fetched.genetic_map}")


def _resolve(model: str) -> Path:
    if not model.startswith("models:/"):
        return Path(model)
    from vcfbert.tracking.model_cache import resolve

    return resolve(model)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InputError("device_invalid", f"no such device: {name}", hint="use cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device_missing", "this machine has no CUDA device that torch can use", hint="use --device cpu"
        )
    return name


def _check_variant(variant: str) -> None:
    from vcfbert.constants import VARIANTS

    if variant not in VARIANTS:
        raise InputError("variant_invalid", f"no such variant: {variant}", hint=f"use one of {', '.join(VARIANTS)}")


@contextmanager
def _progress(title: str, unit: str) -> Iterator[tuple[Any, Any]]:
    """A progress bar on standard error, shown on terminals alone: functions to set its total and to advance it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    bar = Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=messages, disable=not messages.is_terminal
    )
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda total: bar.update(task, total=total), lambda done: bar.advance(task, done)


def _say(text: str) -> None:
    # Not through rich: it would wrap lines and read [brackets] in paths as markup.
    sys.stdout.write(f"{text}\n")


def _print_json(value: Any) -> None:
    _say(json.dumps(value, indent=1))


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        text = ", ".join(f"{k} {_short(v)}" for k, v in value.items()) if isinstance(value, dict) else value
        _say(f"{key:<{width}}  {text}")


def _short(value: Any) -> str:
    return format(value, ".4g") if isinstance(value, float) else str(value)
