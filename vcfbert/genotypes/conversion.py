"""Converts files of genotypes to panels: streamed into a panel store, or in memory."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final

import numpy as np

from vcfbert.artifacts import atomic_folder
from vcfbert.config import PrepareConfig
from vcfbert.constants import PANEL_FORMAT
from vcfbert.errors import InputError
from vcfbert.genotypes.genetic_map import GeneticMap
from vcfbert.genotypes.packed_blocks import PackedBlock, allele_counts, checked, haplotypes, packed_blocks
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.panel_writer import PanelWriter, region_folder
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.regions import Region, bare_chrom, canonical_chrom
from vcfbert.genotypes.sample_copies import CopyFinder, with_copies
from vcfbert.genotypes.sex_chromosomes import has_chrom
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.genotypes.store import (
    KIND,
    is_panel,
    open_panels,
    open_region,
    panel_digest,
    region_manifest,
    store_manifest,
)
from vcfbert.genotypes.unknown_alleles import Filler, UnknownAlleles
from vcfbert.genotypes.vcf_reader import Progress, two_names

_LOG = logging.getLogger(__name__)
CHROM = "{chrom}"  # placeholder in a file name for the chromosome, such as 20 or X
_CHROMOSOME = re.compile(r"\d{1,3}[A-Za-z]?|[A-Za-z]{1,2}|LG\d{1,3}|[IVX]{1,6}")
_AFTER_NUMBERS = 1000
# A larger share of sites beyond the ends of a genetic map is warned about.
_MAX_OUTSIDE_MAP: Final = 0.05


def convert_panels(
    files: Sequence[Path],
    out: Path,
    *,
    maps: Sequence[Path] = (),
    region: str | None = None,
    build: str | None = None,
    info: Sequence[str] = (),
    holdout: float,
    seed: int,
    filler: Filler | None = None,
    blocks: Iterator[PackedBlock] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Streams phased files (VCF, BCF, VCF Zarr) into a panel store at ``out`` and returns the store's manifest.

    Each file is read once, and host memory is bounded by one block of records. A file may hold several chromosomes.
    Each chromosome becomes one panel; X becomes three panels, split at the borders of its PARs in ``build`` (b37 or
    b38). Without ``build``, the length of X in the header decides. ``info``: fields of INFO that imputed files repeat;
    END, SVTYPE and SVLEN are always kept of records with symbolic alleles. ``maps`` are genetic maps of one or several
    chromosomes; a name may contain ``{chrom}``. Without maps, 1 cM/Mb is assumed. ``holdout`` is the fraction of
    samples for validation, sampled with ``seed``; each split has at least one sample. Copies of a validation sample are
    held out with it (``sample_copies.py``). ``filler`` fills unknown alleles (``unknown_alleles.py``); without it they
    are refused. ``blocks``: the blocks of the only file, if they are already read. ``progress`` is called with the
    number of sites read so far. If the conversion fails, nothing is left at ``out``.

    Raises InputError: panel_missing, panel_unphased, panel_too_small, chromosome_twice, build_unknown, and those of
    ``stream_genotypes`` and ``GeneticMap.read``.
    """
    if not maps:
        _LOG.warning("no genetic map given: 1 cM/Mb is assumed, which lowers accuracy near recombination hotspots")
    wanted = None if region is None else Region.parse(region)
    stored: list[dict[str, Any]] = []
    manifest: dict[str, Any] = {}
    n_sites = 0
    with atomic_folder(out, kind=KIND, version=PANEL_FORMAT, manifest=manifest) as folder:
        for file in files:
            shifted = None if progress is None else partial(_with_earlier_files, progress, n_sites)
            incomplete = filler is not None
            read = blocks or packed_blocks(
                file, region=wanted, build=build, info=info, incomplete=incomplete, progress=shifted
            )
            n_earlier = len(stored)
            for part, group in groupby(read, key=lambda block: block.region):
                place = folder / region_folder(len(stored))
                _refuse_twice(part, stored[:n_earlier], stored[n_earlier:], file)
                facts = _write_region(place, part, group, maps, holdout, seed, file, filler)
                stored.append(facts)
                n_sites += facts["n_sites"]
        if not stored:
            where = ", ".join(map(str, files))
            what = f"no record {'' if wanted is None else f'in {wanted} '}has an ALT allele"
            raise InputError("empty", what, where=where, hint="give a file with variants")
        options = {"region": region, "build": build, "info": list(info), "holdout": holdout, "seed": seed}
        manifest.update(store_manifest(stored, {"files": [file.name for file in files], **options}))
    return manifest


def build_panels(files: Sequence[Path], out: Path, **options: Any) -> tuple[Panel, ...]:
    """Builds a panel store with ``convert_panels`` and opens its panels."""
    convert_panels(files, out, **options)
    return open_panels(out, verify=False)


def panels_of(prepare: PrepareConfig, out: Path, filler: Filler) -> tuple[Panel, ...]:
    """The panels of the store that ``prepare`` names; if it names files, panels are built from them at ``out``.

    ``filler`` fills unknown alleles, unless ``prepare.max_missing`` is 0.
    """
    if len(prepare.panels) == 1 and is_panel(Path(prepare.panels[0])):
        return open_panels(Path(prepare.panels[0]))
    return build_panels(
        chromosome_files(prepare.panels),
        out,
        maps=[Path(path) for path in prepare.maps],
        region=prepare.region,
        build=prepare.build,
        info=prepare.info,
        holdout=prepare.holdout,
        seed=prepare.seed,
        filler=filler if prepare.max_missing > 0.0 else None,
    )


def chromosome_files(patterns: Sequence[str]) -> list[Path]:
    """The named files. A name with ``{chrom}`` is replaced by the existing files of all chromosomes, in their order.

    Raises InputError('file_not_found') where no file matches a name with ``{chrom}``.
    """
    files = []
    for pattern in patterns:
        if CHROM not in pattern:
            files.append(Path(pattern))
            continue
        whole = Path(pattern)
        before, after = whole.name.split(CHROM)
        ranked = [
            (_rank(file.name[len(before) : len(file.name) - len(after)]), file)
            for file in sorted(whole.parent.glob(f"{before}*{after}"))
        ]
        found = [(rank, file) for rank, file in ranked if rank is not None]
        if not found:
            raise InputError("file_not_found", "no file of any chromosome has such a name", where=pattern)
        files += [file for _, file in sorted(found)]
    return files


def _rank(chrom: str) -> tuple[int, str] | None:
    """Place of a chromosome in the order of the genome; None if ``chrom`` is no name of one.

    Numbers come first, as in 2, 2A and 2L, then other names, as X, Z, LG3 and XIV, and MT is last.
    """
    name = bare_chrom(chrom)
    if not _CHROMOSOME.fullmatch(name):
        return None
    digits = re.match(r"\d*", name)
    number = int(digits[0]) if digits and digits[0] else _AFTER_NUMBERS + (name == "MT")
    return number, name


def panel_from_genotypes(
    genotypes: Genotypes,
    *,
    genetic_map: GeneticMap | None = None,
    validation: tuple[int, ...] = (),
    file: Path = Path("genotypes"),
) -> Panel:
    """A panel in memory, made of phased and complete genotypes. ``file`` is named in errors.

    Raises InputError as ``convert_panels`` does.
    """
    region = Region(genotypes.sites.chrom)
    block = next((block for _, block in checked(iter([(region, genotypes)]), file)), None)
    if block is None:
        raise InputError("empty", "no record has an ALT allele", where=str(file), hint="give a file with variants")
    bits = haplotypes(block)
    panel = Panel(
        region=region,
        samples=block.samples,
        sites=block.sites,
        blocks=SiteBlocks.of(np.packbits(bits, axis=1), bits.shape[1]),
        cm=(genetic_map or GeneticMap.uniform()).cm(block.sites.pos),
        allele_count=bits.sum(axis=1, dtype=np.int64),
        validation=validation,
        digest="",
        haploid=tuple(np.flatnonzero(block.haploid).tolist()),
    )
    return dataclasses.replace(panel, digest=panel_digest(panel))


def choose_validation(n_samples: int, *, holdout: float, seed: int, where: str | None = None) -> tuple[int, ...]:
    """Indices of the validation samples, ascending. At least one sample is chosen and at least one is not."""
    if n_samples < 2:
        raise InputError(
            "panel_too_small",
            "the panel has fewer than two samples, and one is needed for validation",
            where=where,
            hint="give a panel with more samples",
        )
    count = min(max(round(holdout * n_samples), 1), n_samples - 1)
    chosen = np.random.default_rng(seed).choice(n_samples, size=count, replace=False)
    return tuple(sorted(chosen.tolist()))


def _write_region(
    folder: Path,
    region: Region,
    blocks: Iterator[PackedBlock],
    maps: Sequence[Path],
    holdout: float,
    seed: int,
    file: Path,
    filler: Filler | None,
) -> dict[str, Any]:
    """Writes the blocks of one region and returns its entry in the manifest."""
    folder.mkdir()
    first = next(blocks)
    chosen = choose_validation(len(first.samples), holdout=holdout, seed=seed, where=str(file))
    finder = CopyFinder(len(first.samples), first.haploid)
    n_haplotypes = 2 * len(first.samples) - len(first.haploid)
    unknown = UnknownAlleles(folder.with_suffix(".unknown"), n_haplotypes, len(first.samples))
    scale = GeneticMap.of_region([_named(path, region.chrom) for path in maps], region)
    writer = PanelWriter(folder, region, first.samples, first.haploid)
    n_outside = 0  # sites beyond the ends of the map
    for block in chain([first], blocks):
        writer.append(block.sites, block.packed, scale.cm(block.sites.pos), block.allele_count)
        finder.add(block.packed, block.allele_count)
        unknown.add(block.unknown, block.unphased, block.allele_count)
        n_outside += int((~scale.covers(block.sites.pos)).sum())
    if maps and n_outside > _MAX_OUTSIDE_MAP * writer.n_sites:
        _LOG.warning(
            "%s: the genetic map, %s, covers %s:%d-%d and not %d of the %d sites of %s. There 1 cM/Mb is assumed",
            file,
            scale.source,
            region.chrom,
            scale.pos[0],
            scale.pos[-1],
            n_outside,
            writer.n_sites,
            region,
        )
    digest = writer.close()
    if filler is not None and unknown:
        what = f"{file}, {region}"
        _LOG.warning(
            "%s: %s. They are filled by the panel's own haplotypes", what, unknown.check(filler.max_share, what)
        )
        facts = region_manifest(region, first.samples, first.haploid, chosen, writer.n_sites, digest, scale.source)
        finder = CopyFinder(len(first.samples), first.haploid)
        digest = _fill(folder, facts, unknown, filler, finder)
    validation = with_copies(chosen, finder.copies_of(chosen), len(first.samples))
    if validation != chosen:
        what = "samples as alike as copies of a validation sample are held out with it"
        _LOG.warning("%s, %s: %s: %d instead of %d", file, region, what, len(validation), len(chosen))
    named = (first.samples, first.haploid, validation, writer.n_sites, digest, scale.source)
    return region_manifest(region, *named, filled=unknown.share)


def _fill(folder: Path, facts: dict[str, Any], unknown: UnknownAlleles, filler: Filler, finder: CopyFinder) -> str:
    """Writes the panel in ``folder`` again with its unknown alleles filled, and returns its digest."""
    panel = open_region(folder, facts)
    filled = folder.with_suffix(".filled")
    filled.mkdir()
    writer = PanelWriter(filled, panel.region, panel.samples, panel.haploid)
    for packed in filler.filled(panel, unknown.packed()):
        rows = slice(writer.n_sites, writer.n_sites + len(packed))
        counts = allele_counts(packed)
        writer.append(panel.sites.take(rows), packed, panel.cm[rows], counts)
        finder.add(packed, counts)
    digest = writer.close()
    shutil.rmtree(folder)
    filled.rename(folder)
    unknown.remove()
    return digest


def _named(path: Path, chrom: str) -> Path:
    """The file that ``path`` names for ``chrom``: 23 or, if there is no such file, X."""
    files = [Path(str(path).replace(CHROM, name)) for name in (bare_chrom(chrom), canonical_chrom(chrom))]
    return next((file for file in files if file.exists()), files[-1])


def _with_earlier_files(progress: Progress, before: int, n_sites: int) -> None:
    progress(before + n_sites)


def _refuse_twice(region: Region, before: Sequence[dict[str, Any]], here: Sequence[dict[str, Any]], file: Path) -> None:
    """Refuses a chromosome of the files ``before``, and a second name of one that is ``here``, in the same file."""
    for one in here:
        if one["chrom"] != region.chrom and has_chrom(region, one["chrom"]):
            raise two_names(file, one["chrom"], region.chrom)
    if any(one["start"] == region.start and has_chrom(region, one["chrom"]) for one in before):
        raise InputError(
            "chromosome_twice",
            f"an earlier file already has chromosome {region.chrom}",
            where=str(file),
            hint="give each chromosome in one file: `bcftools concat` joins files",
        )
