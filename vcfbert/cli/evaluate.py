"""``vcfbert evaluate``: scores an imputed file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import JsonFlag, print_json, say


def evaluate(
    truth: Annotated[Path, typer.Option(help="True genotypes.")],
    imputed: Annotated[Path, typer.Option(help="Imputed genotypes. DS is scored; without DS, HDS; without both, GT.")],
    reference: Annotated[
        Path, typer.Option(help="Panel VCF or panel store. Its allele frequencies define the MAF bins.")
    ],
    typed: Annotated[
        Path | None, typer.Option(help="Typed sites, which are not scored: a table of CHROM and POS, or a VCF.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="TSV of sample and group. Adds the figures of each group.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="CHROM:FROM-TO to score. Default: all.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score an imputed file against the true genotypes, by minor-allele frequency.

    **Example**

    vcfbert evaluate --truth truth.vcf.gz --imputed imputed.vcf.gz --reference panel.vcf.gz --typed typed.tsv
    """
    from vcfbert.evaluation.scoring import evaluate_files
    from vcfbert.genotypes.store import is_panel, open_panels

    panels = open_panels(reference) if is_panel(reference) else reference
    scores = evaluate_files(truth, imputed, panels, typed=typed, groups=groups, region=region)
    if as_json:
        print_json(scores.as_dict())
    else:
        say(scores.table())
