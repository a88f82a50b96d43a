"""What to do with a target that does not fit the panel, because it is of another genome build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from vcfbert.errors import InputError
from vcfbert.genotypes.builds import build_of_file, build_of_regions, chain_name
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.parsing.process import Cancelled, Parser
from vcfbert.genotypes.qc import RefusedTargetError


def without_chain(
    error: RefusedTargetError,
    path: Path,
    panels: Sequence[Panel],
    *,
    parser: Parser | None,
    cancelled: Cancelled | None,
) -> RefusedTargetError:
    """The error with the build that the header of the target at ``path`` shows, and with the option to type."""
    regions = [panel.region for panel in panels]
    own = build_of_regions(regions)
    chroms = [region.chrom for region in regions]
    build = None
    with suppress(InputError):  # the refusal is told even if the file cannot be read again
        build = build_of_file(path, list(dict.fromkeys(chroms)), parser=parser, cancelled=cancelled)
    if build is None or build == own:
        hint = f"{error.hint}; with a chain file from its build to the panel's: vcfbert impute --chain FILE"
        return error.changed(hint=hint)
    hint = f"if the panel is of another build than {build}: vcfbert impute --chain {chain_name(build, own)}"
    return error.changed(what=f"{error.what}; its header shows {build}", hint=hint)


def with_chain(error: RefusedTargetError, read_without: Callable[[], object]) -> RefusedTargetError:
    """The error with a hint whether the target fits as it is. ``read_without`` reads it without the chain file."""
    try:
        read_without()
    except InputError:
        return error.changed(hint="give the chain file that leads from the target's build to the panel's")
    return error.changed(hint="the target is of the panel's build as it is: give no chain file")
