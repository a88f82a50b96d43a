"""The public functions. Paths may be strings. Defaults equal those of the command line."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcfbert.errors import InputError

if TYPE_CHECKING:
    from vcfbert.bundle.contents import Bundle
    from vcfbert.evaluation.scoring import Evaluation
    from vcfbert.genotypes.panel import Panel
    from vcfbert.imputation.files import Imputed
    from vcfbert.imputation.imputer import Imputer
    from vcfbert.training.progress import FitProgress
    from vcfbert.training.result import FitResult

AnyPath = str | os.PathLike[str]

_HOLDOUT, _SEED = 0.1, 17  # a panel store needs a validation split; `read_panel` does not use it


def fit_panel(
    panel: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    map: AnyPath | Sequence[AnyPath] | None = None,
    variant: str = "v19",
    profile: str = "cpu",
    region: str | None = None,
    build: str | None = None,
    holdout: float | None = None,
    parameters: Mapping[str, Any] | None = None,
    track: bool = False,
    progress: FitProgress | None = None,
) -> FitResult:
    """Fits a model to a phased panel and writes the bundle ``out``. Returns the figures of the best epoch.

    ``panel``: VCF, BCF, VCF Zarr or a panel store; one file, several, or one name with ``{chrom}``. ``map``: genetic
    maps, given in the same ways; without one the rate is 1 cM/Mb. ``variant``: v17, v18 or v19. ``profile``: the
    parameters to start from: cpu, gpu or original. ``region``: CHROM or CHROM:FROM-TO, 1-based and inclusive.
    ``build``: b37 or b38, for chromosome X. ``holdout``: fraction of samples held out for validation. ``parameters``:
    values that replace those of the profile, such as ``{"train.epochs": 1}``. ``track``: record the run in MLflow.
    ``progress``: an object whose methods ``begin``, ``step`` and ``message`` are called while the fit runs
    (``vcfbert.training.progress.FitProgress``). An interrupted fit continues when it is called again.
    Raises InputError for input that cannot be used, and VcfbertError 'diverged' or 'out_of_memory'.

    Examples:
        >>> result = vcfbert.fit_panel("panel.vcf.gz", "bundle", map="chr20.gmap.gz", parameters={"train.epochs": 1})
        >>> result.metrics["val/r2/all"] > 0
        True
    """
    from vcfbert.config import with_overrides
    from vcfbert.tracking.mlflow_tracker import open_tracker
    from vcfbert.training.fit import fit_panel as fit

    prepare: dict[str, Any] = {"panel": _texts(panel), "map": _texts(map), "region": region, "build": build}
    if holdout is not None:
        prepare["holdout"] = holdout
    assignments = [f"{name}={value}" for name, value in (parameters or {}).items()]
    config = with_overrides(profile, assignments, prepare=prepare)
    return fit(config, variant, Path(out), tracker=open_tracker(enabled=track), progress=progress)


def load_bundle(path: AnyPath, *, device: str = "cpu") -> Bundle:
    """Reads a bundle's folder and checks the sha256 of each file. ``device``: a torch device. Raises ArtifactError.

    Examples:
        >>> bundle = vcfbert.load_bundle("bundle")
        >>> bundle.variant
        'v19'
    """
    from vcfbert.bundle.load import load_bundle as load

    return load(Path(path), device=device, only_imputes=True)


def impute_file(
    model: AnyPath | Bundle | Imputer,
    target: AnyPath,
    out: AnyPath,
    *,
    region: str | None = None,
    fields: str = "GT,DS,HDS,GP",
    min_dr2: float = 0.0,
    chain: AnyPath | None = None,
    mode: str = "accurate",
    ignore_phase: bool = False,
    threads: int = 2,
    qc_report: AnyPath | None = None,
) -> Imputed:
    """Imputes ``target`` (VCF, BCF, VCF Zarr, .bed or .pgen) at every site of the model's panel and writes ``out``.

    ``model``: a bundle's folder, a loaded Bundle, or an Imputer. An Imputer has its own ``mode`` and ``ignore_phase``;
    the arguments of these names are then ignored. ``out``: ``.vcf.gz`` or ``.bcf``, both indexed, or ``.vcf``.
    ``region``: CHROM:FROM-TO to write, 1-based and inclusive. ``fields``: FORMAT fields, comma-separated. ``min_dr2``:
    imputed sites with a lower estimated r2 (DR2) are excluded. ``chain``: a UCSC chain file from the target's genome
    build to the panel's. ``mode``: ``fast`` or ``accurate``, for unphased targets. ``ignore_phase``: treat phased
    targets as unphased. ``threads``: number of threads that compress the output. ``qc_report``: path of a JSON report
    of the input.

    Returns the QC report and a summary. Raises InputError. ``out`` is put in place only when it is complete.

    Examples:
        >>> imputed = vcfbert.impute_file("bundle", "array.vcf.gz", "imputed.vcf.gz")
        >>> imputed.report.n_samples
        6
    """
    from vcfbert.bundle.contents import Bundle
    from vcfbert.imputation.files import ImputeOptions
    from vcfbert.imputation.files import impute_file as impute
    from vcfbert.imputation.imputer import Imputer

    lifted_by = None if chain is None else str(chain)
    options = ImputeOptions.parse(region=region, fields=fields, min_dr2=min_dr2, chain=lifted_by)
    if not isinstance(model, Imputer):
        bundle = model if isinstance(model, Bundle) else load_bundle(model)
        model = Imputer(bundle, mode=mode, ignore_phase=ignore_phase)
    report = None if qc_report is None else Path(qc_report)
    return impute(model, Path(target), Path(out), options, threads=threads, qc_report=report)


def evaluate_files(
    truth: AnyPath,
    imputed: AnyPath,
    reference: AnyPath | Panel | Sequence[Panel],
    *,
    typed: AnyPath | None = None,
    groups: AnyPath | None = None,
    region: str | None = None,
) -> Evaluation:
    """Scores an imputed file against the true genotypes, by minor-allele frequency in the ``reference`` panel.

    ``reference``: the panel's VCF, a panel store, or Panel objects. ``typed``: sites that are not scored, as a table of
    CHROM and POS or as a VCF. ``groups``: a table of sample and group; each group is scored too. ``region``:
    CHROM or CHROM:FROM-TO to score, 1-based and inclusive. Raises InputError.

    Examples:
        >>> scores = vcfbert.evaluate_files("truth.vcf.gz", "imputed.vcf.gz", "panel.vcf.gz", typed="array.vcf.gz")
        >>> print(scores.table())  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
        MAF bin...
    """
    from vcfbert.evaluation.scoring import evaluate_files as evaluate
    from vcfbert.genotypes.panel import Panel
    from vcfbert.genotypes.store import is_panel, open_panels

    panels: Path | Sequence[Panel]
    if isinstance(reference, Panel):
        panels = (reference,)
    elif isinstance(reference, str | os.PathLike):
        path = Path(reference)
        panels = open_panels(path) if is_panel(path) else path
    else:
        panels = reference
    return evaluate(
        Path(truth),
        Path(imputed),
        panels,
        typed=None if typed is None else Path(typed),
        groups=None if groups is None else Path(groups),
        region=region,
    )


def read_panel(
    path: AnyPath, *, map: AnyPath | None = None, region: str | None = None, build: str | None = None
) -> Panel:
    """Reads one chromosome's phased panel (VCF, BCF, VCF Zarr or a panel store) into memory.

    ``map``, ``region`` and ``build``: as in ``fit_panel``; a panel store has its own, so they are ignored. Raises
    InputError; 'panel_several' if the file holds several chromosomes and ``region`` does not choose one.

    Examples:
        >>> panel = vcfbert.read_panel("panel.vcf.gz", map="chr20.gmap.gz")
        >>> panel.n_haplotypes
        60
    """
    from vcfbert.genotypes.conversion import build_panels
    from vcfbert.genotypes.store import is_panel, open_panels

    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder:
        if is_panel(path):
            panels = open_panels(path)
        else:
            maps = () if map is None else (Path(map),)
            options = {"region": region, "build": build, "holdout": _HOLDOUT, "seed": _SEED}
            panels = build_panels([path], Path(folder) / "panel", maps=maps, **options)
        if len(panels) > 1:
            names = ", ".join(str(panel.region) for panel in panels)
            raise InputError("panel_several", f"holds {names}", where=str(path), hint="choose one with region=")
        return dataclasses.replace(panels[0], blocks=panels[0].blocks.in_memory())


def _texts(paths: AnyPath | Sequence[AnyPath] | None) -> list[str] | None:
    if paths is None:
        return None
    return [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(path) for path in paths]
