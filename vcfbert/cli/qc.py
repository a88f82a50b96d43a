"""``vcfbert qc``: checks a target against a model's panel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcfbert.cli.console import print_facts, say
from vcfbert.cli.options import Chain, Model, Strict, bundle_folder

if TYPE_CHECKING:
    from vcfbert.genotypes.qc import QcReport

# Of the report's summary: tables, which would not fit on a line. `chromosomes` is printed as lines of its own.
_NOT_PRINTED = ("density", "frequencies", "chromosomes")


def qc(
    model: Model,
    target: Annotated[Path, typer.Option(help="Typed genotypes: VCF, BCF, VCF Zarr, .bed or .pgen.")],
    strict: Strict = False,
    chain: Chain = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="JSON report to write, with a TSV of the target's sites beside it.")
    ] = None,
) -> None:
    """Check a target against a model's panel without imputing it.

    The exit code is 2 if `vcfbert impute` would refuse the target. The report is written in either case.

    **Example**

    vcfbert qc --model models/v19 --target array.vcf.gz --json qc.json
    """
    from vcfbert.bundle.load import load_bundle
    from vcfbert.imputation.files import check_target
    from vcfbert.imputation.imputer import Imputer

    imputer = Imputer(load_bundle(bundle_folder(model), only_imputes=True))
    report, refusal = check_target(imputer, target, strict=strict, chain=chain)
    if json_ is not None:
        report.write(json_)
    print_summary(report.summary())
    for text in remarks(report):
        say(text)
    if refusal is not None:
        raise refusal


def print_summary(summary: Mapping[str, Any]) -> None:
    """Prints the figures of a QC report's summary, then a line for each chromosome."""
    print_facts({key: value for key, value in summary.items() if key not in _NOT_PRINTED})
    for part in summary["chromosomes"]:
        used = f"{part['n_used']} of {part['n_target_sites']} target sites used ({part['typed_per_mb']:.0f}/Mb)"
        say(f"{part['chrom']}:{part['from']}-{part['to']}  {used}, {part['n_haploid']} haploid samples")


def remarks(report: QcReport) -> Iterator[str]:
    """Sentences on what a user should know about the target."""
    if report.absent:
        excluded = ", ".join(f"{name} ({count} records)" for name, count in report.absent.items())
        yield f"excluded, because the model has no such chromosome: {excluded}"
    if report.lift:
        reasons = ", ".join(f"{reason} {count}" for reason, count in report.unlifted.items())
        excluded = f"; {sum(report.unlifted.values())} cannot be lifted and are excluded: {reasons}" if reasons else ""
        yield f"{report.n_lifted} sites are lifted over to the panel's build{excluded}"
    if report.excluded_records:
        reasons = ", ".join(f"{reason} {count}" for reason, count in report.excluded_records.items())
        yield f"{sum(report.excluded_records.values())} records cannot be used and are excluded: {reasons}"
    if report.n_half_calls:
        yield f"{report.n_half_calls} unphased calls have one missing allele (0/.). Phased samples do not use them."
    if report.mirrored:
        yield (
            f"WARNING: the target's allele frequencies mirror the panel's on chromosome {', '.join(report.mirrored)}. "
            "Its genotypes are probably inverted: check which allele the file counts (REF and ALT, or PLINK's A1)."
        )
    if report.n_homozygous_coded:
        yield (
            f"{report.n_homozygous_coded} samples are diploid and never heterozygous on X between its PARs. They are "
            "imputed as females. If they are males, write their genotypes with one allele (bcftools +fixploidy)."
        )
