"""What to do with a target that does not fit the panel, because it is of another genome build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vcfbert.errors import InputError
from vcfbert.genotypes.builds import build_of_file, build_of_regions, chain_name
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.parsing.process import Cancelled, Parser


def hint_without_chain(
    hint: str | None, path: Path, panels: Sequence[Panel], *, parser: Parser | None, cancelled: Cancelled | None
) -> str:
    """Names the build that the header of the target at ``path`` shows, and a chain file. ``hint``: the error's own."""
    regions = [panel.region for panel in panels]
    own = build_of_regions(regions)
    chroms = [region.chrom for region in regions]
    build = build_of_file(path, list(dict.fromkeys(chroms)), parser=parser, cancelled=cancelled)
    if build is None or build == own:
        return f"{hint}; with a chain file from its build to the panel's: vcfbert impute --chain FILE"
    name = chain_name(build, own)
    return f"its header shows {build}; if the panel is of another build: vcfbert impute --chain {name}"


def hint_with_chain(read_without: Callable[[], object]) -> str:
    """Says whether the target fits as it is. ``read_without`` reads it without the chain file."""
    try:
        read_without()
    except InputError:
        return "name the chain file that leads from the target's build to the panel's with --chain"
    return "the target is of the panel's build as it is: omit --chain"
