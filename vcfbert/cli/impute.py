"""``vcfbert impute``: imputes a target file, in this process or as tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import JsonFlag, print_json, progress_bars, say, tell
from vcfbert.cli.options import Chain, Device, Model, Strict, bundle_folder, check_device
from vcfbert.cli.qc import remarks
from vcfbert.cli.tasks import ChunkCm, ChunkSamples, Ray, WorkDir, impute_in_tasks
from vcfbert.errors import InputError


def impute(
    model: Model,
    target: Annotated[
        Path, typer.Option(help="Typed genotypes: VCF, BCF, VCF Zarr, .bed or .pgen. V17 and V18 require them phased.")
    ],
    out: Annotated[Path, typer.Option(help="Output: .vcf.gz or .bcf (both indexed), or .vcf.")],
    region: Annotated[
        str | None, typer.Option(help="CHROM:FROM-TO to write. Typed sites around it are used too.")
    ] = None,
    strict: Strict = False,
    chain: Chain = None,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 2,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Samples per forward pass.", min=1)] = 64,
    mode: Annotated[
        str, typer.Option(help="For unphased targets: fast (4 phasings) or accurate (8 phasings).")
    ] = "accurate",
    ignore_phase: Annotated[
        bool, typer.Option("--ignore-phase", help="Treat phased targets as unphased: slower, often more accurate.")
    ] = False,
    fields: Annotated[
        str, typer.Option(help="FORMAT fields to write, comma-separated, of GT,DS,HDS,GP,GQ.")
    ] = "GT,DS,HDS,GP",
    min_dr2: Annotated[
        float, typer.Option(help="Exclude imputed sites whose estimated r2 (DR2) is below this value.")
    ] = 0.0,
    qc_report: Annotated[
        Path | None, typer.Option(help="JSON report on the target to write, with a TSV of its sites beside it.")
    ] = None,
    ray: Ray = None,
    work_dir: WorkDir = None,
    chunk_cm: ChunkCm = 5.0,
    chunk_samples: ChunkSamples = 500,
    as_json: JsonFlag = False,
) -> None:
    """Impute the samples of a target file at every site of the model's panel.

    All chromosomes that the target shares with the panel are imputed. Missing genotypes are imputed too. V19 also
    accepts unphased genotypes (0/1). V17 and V18 require phased targets; otherwise they exit with phasing
    instructions. A sample may be haploid, as males are on X outside the PARs: its output then has one allele, and DS
    from 0 to 1.

    **Examples**

    vcfbert impute --model models/v18 --target array.vcf.gz --out imputed.vcf.gz --qc-report qc.json

    vcfbert impute --model models:/vcfbert@champion --target array.bcf --region 20:1000000-2000000 --out part.bcf

    vcfbert impute --model /shared/v19 --target array.bcf --out imputed.vcf.gz --ray auto --work-dir /shared/tasks

    vcfbert impute --model models/v19 --target hg19.vcf.gz --chain hg19ToHg38.over.chain.gz --out imputed.vcf.gz
    """
    from vcfbert.bundle.load import load_bundle
    from vcfbert.imputation.files import ImputeOptions, impute_file
    from vcfbert.imputation.imputer import Imputer

    check_device(device)
    options = ImputeOptions.parse(
        region=region, fields=fields, min_dr2=min_dr2, strict=strict, chain=None if chain is None else str(chain)
    )
    if ray is not None or work_dir is not None:
        from vcfbert.distributed.job import ChunkSpec, Settings

        if device == "cuda":
            hint = "omit --device, or omit --ray and --work-dir"
            raise InputError("device_invalid", "tasks run on CPU cores", hint=hint)
        imputed = impute_in_tasks(
            Settings(bundle_folder(model).resolve(), mode, ignore_phase, batch_size, threads),
            target,
            out,
            options,
            chunking=ChunkSpec(chunk_cm, chunk_samples),
            ray=ray,
            work_dir=work_dir,
            qc_report=qc_report,
        )
    else:
        bundle = load_bundle(bundle_folder(model), device=device, only_imputes=True)
        with progress_bars("sites") as add_bar:
            bar = add_bar("imputing")
            imputed = impute_file(
                Imputer(bundle, batch_size=batch_size, mode=mode, ignore_phase=ignore_phase, threads=threads),
                target,
                out,
                options,
                threads=threads,
                qc_report=qc_report,
                begin=bar.begin,
                progress=bar.advance,
            )
    report = imputed.report
    if as_json:
        print_json({"out": str(out), "qc": report.summary(), "summary": imputed.summary})
        return
    for text in remarks(report):
        tell(text)
    haploid = f" ({report.n_haploid} haploid)" if report.n_haploid else ""
    say(
        f"{report.n_samples} samples{haploid}, {report.n_used} of {report.n_target_sites} target sites used "
        f"({report.typed_per_mb:.0f}/Mb): {out}"
    )
