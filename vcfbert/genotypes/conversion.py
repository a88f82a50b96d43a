"""Converts files of genotypes to panels: streamed into a panel store, or in memory."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import atomic_folder
from vcfbert.config import PrepareConfig
from vcfbert.constants import ABSENT, MISSING, PANEL_FORMAT
from vcfbert.errors import InputError
from vcfbert.genotypes.genetic_map import GeneticMap
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.panel_writer import PanelWriter, region_folder
from vcfbert.genotypes.parsing.messages import REGION, SITES, Array, Numbers, Record, Texts, in_range
from vcfbert.genotypes.parsing.process import in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.plain_text import plain_sites
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.record_info import NO_ALT
from vcfbert.genotypes.regions import Region, bare_chrom, canonical_chrom
from vcfbert.genotypes.sample_copies import CopyFinder, with_copies
from vcfbert.genotypes.sex_chromosomes import NO_PARS, build_of, has_chrom, is_autosome_number, is_x, regions_of_x
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.genotypes.store import (
    KIND,
    is_panel,
    open_panels,
    panel_digest,
    region_manifest,
    store_manifest,
)
from vcfbert.genotypes.vcf_reader import Progress, open_source, stream_parts, two_names
from vcfbert.genotypes.vcf_records import Source, VcfRecords

_LOG = logging.getLogger(__name__)
CHROM = "{chrom}"  # placeholder in a file name for the chromosome, such as 20 or X
_CHROMOSOME = re.compile(r"\d{1,3}[A-Za-z]?|[A-Za-z]{1,2}|LG\d{1,3}|[IVX]{1,6}")
_AFTER_NUMBERS = 1000
# A larger share of sites beyond the ends of a genetic map is warned about.
_MAX_OUTSIDE_MAP: Final = 0.05


@dataclass(frozen=True)
class PackedBlock:
    """Consecutive sites of one panel; ``packed`` as in ``SiteBlocks.of``, others as in ``Panel``."""

    region: Region
    samples: tuple[str, ...]
    haploid: tuple[int, ...]
    sites: Sites
    packed: npt.NDArray[np.uint8]
    allele_count: npt.NDArray[np.int64]


def packed_blocks(
    file: Path,
    *,
    region: Region | None = None,
    build: str | None = None,
    info: Sequence[str] = (),
    progress: Progress | None = None,
) -> Iterator[PackedBlock]:
    """Reads a file once, in blocks of bounded memory. A parser process does it (``genotypes.parsing``).

    ``progress`` is called with the number of sites so far. Raises InputError as ``convert_panels`` does.
    """
    n_sites = 0
    for block in in_parser(parsed_blocks, file, region, build, tuple(info), kinds=(_PACKED_BLOCK,)):
        n_sites += len(block.sites)
        if progress is not None:
            progress(n_sites)
        yield block


def _fits(block: PackedBlock) -> bool:
    n_haplotypes = 2 * len(block.samples) - len(block.haploid)
    return (
        block.packed.shape[1] == -(-n_haplotypes // 8)
        and all(0 <= sample < len(block.samples) for sample in block.haploid)
        and in_range(block.allele_count, 0, n_haplotypes)
    )


_PACKED_BLOCK: Final = Record(
    PackedBlock,
    _fits,
    region=REGION,
    samples=Texts("sample", as_tuple=True),
    haploid=Numbers(),
    sites=SITES,
    packed=Array("uint8", "site", "byte"),
    allele_count=Array("int64", "site"),
)


def parsed_blocks(
    path: Path, trace: Trace, region: Region | None, build: str | None, info: Sequence[str]
) -> Iterator[PackedBlock]:
    """The blocks of ``packed_blocks``, which has the arguments. Runs in a parser process.

    INFO of records with symbolic alleles is kept (``record_info.py``), and the fields ``info`` of all records. Records
    are read from the text of a VCF as far as they are plain (``plain_text.py``). htslib then parses the file
    from its start, so that all of its checks see all records.
    """
    source = open_source(path, trace)
    n_plain = 0
    if region is None and not info and isinstance(source, VcfRecords):
        n_plain, complete = yield from _plain_blocks(source)
        if complete:
            return
    blocks = stream_parts(source, partial(_ploidy_regions, source, build), region=region, symbolic=True, info=info)
    for part, block in _checked(blocks, path):
        if n_plain >= len(block.sites):
            n_plain -= len(block.sites)
            continue
        packed = np.packbits(_haplotypes(block)[n_plain:], axis=1)
        haploid = tuple(np.flatnonzero(block.haploid).tolist())  # no call is missing, so one site is enough
        sites = block.sites.take(np.arange(n_plain, len(block.sites)))
        yield PackedBlock(part, block.samples, haploid, sites, packed, _allele_counts(packed))
        n_plain = 0


def _plain_blocks(source: VcfRecords) -> Generator[PackedBlock, None, tuple[int, bool]]:
    """The plain records up to the first other one, or up to X. Returns their number and whether no others follow."""
    n_sites = 0
    blocks = plain_sites(source.file)
    while True:
        try:
            sites, packed = next(blocks)
        except StopIteration as end:
            return n_sites, bool(end.value)
        if is_x(sites.chrom):  # or an autosome 23 or 25, which is read as X is
            return n_sites, False
        n_sites += len(sites)
        yield PackedBlock(Region(sites.chrom), source.samples, (), sites, packed, _allele_counts(packed))


def _allele_counts(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.asarray(np.bitwise_count(packed).sum(axis=1, dtype=np.int64))


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
    held out with it (``sample_copies.py``). ``blocks``: the blocks of the only file, if they are already read.
    ``progress`` is called with the number of sites read so far. If the conversion fails, nothing is left at ``out``.

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
            read = blocks or packed_blocks(file, region=wanted, build=build, info=info, progress=shifted)
            n_earlier = len(stored)
            for part, group in groupby(read, key=lambda block: block.region):
                place = folder / region_folder(len(stored))
                _refuse_twice(part, stored[:n_earlier], stored[n_earlier:], file)
                facts = _write_region(place, part, group, maps, holdout, seed, file)
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


def panels_of(prepare: PrepareConfig, out: Path) -> tuple[Panel, ...]:
    """The panels of the store that ``prepare`` names; if it names files, panels are built from them at ``out``."""
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
    block = next((block for _, block in _checked(iter([(region, genotypes)]), file)), None)
    if block is None:
        raise InputError("empty", "no record has an ALT allele", where=str(file), hint="give a file with variants")
    bits = _haplotypes(block)
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


def _ploidy_regions(source: Source, build: str | None, chrom: str) -> Sequence[Region]:
    if not is_x(chrom) or build == NO_PARS:
        return (Region(chrom),)
    length = source.length_of(chrom)
    if is_autosome_number(chrom, length, build):
        return (Region(chrom),)
    return regions_of_x(chrom, build_of(length, build, str(source.path)))


def _write_region(
    folder: Path,
    region: Region,
    blocks: Iterator[PackedBlock],
    maps: Sequence[Path],
    holdout: float,
    seed: int,
    file: Path,
) -> dict[str, Any]:
    """Writes the blocks of one region and returns its entry in the manifest."""
    folder.mkdir()
    first = next(blocks)
    chosen = choose_validation(len(first.samples), holdout=holdout, seed=seed, where=str(file))
    finder = CopyFinder(len(first.samples), first.haploid)
    scale = GeneticMap.of_region([_named(path, region.chrom) for path in maps], region)
    writer = PanelWriter(folder, region, first.samples, first.haploid)
    n_outside = 0  # sites beyond the ends of the map
    for block in chain([first], blocks):
        writer.append(block.sites, block.packed, scale.cm(block.sites.pos), block.allele_count)
        finder.add(block.packed, block.allele_count)
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
    validation = with_copies(chosen, finder.copies_of(chosen), len(first.samples))
    if validation != chosen:
        what = "samples as alike as copies of a validation sample are held out with it"
        _LOG.warning("%s, %s: %s: %d instead of %d", file, region, what, len(validation), len(chosen))
    digest = writer.close()
    return region_manifest(region, first.samples, first.haploid, validation, writer.n_sites, digest, scale.source)


def _named(path: Path, chrom: str) -> Path:
    """The file that ``path`` names for ``chrom``: 23 or, if there is no such file, X."""
    files = [Path(str(path).replace(CHROM, name)) for name in (bare_chrom(chrom), canonical_chrom(chrom))]
    return next((file for file in files if file.exists()), files[-1])


def _haplotypes(block: Genotypes) -> npt.NDArray[np.uint8]:
    """Alleles [n_sites, n_haplotypes]; a haploid sample has one haplotype."""
    flat = block.alleles.reshape(len(block.sites), -1).view(np.uint8)
    return flat[:, block.alleles[0].reshape(-1) != ABSENT] if block.haploid.any() else flat


def _with_earlier_files(progress: Progress, before: int, n_sites: int) -> None:
    progress(before + n_sites)


def _checked(blocks: Iterator[tuple[Region, Genotypes]], file: Path) -> Iterator[tuple[Region, Genotypes]]:
    """The blocks without records that have no ALT. Raises InputError at a missing or an unphased heterozygous call."""
    for region, block in blocks:
        _refuse(
            "panel_missing",
            "the panel has missing genotypes here",
            "remove such records (bcftools view -g ^miss), or impute and phase the panel first",
            np.asarray((block.alleles == MISSING).any(axis=(1, 2))),
            block,
            file,
        )
        _refuse(
            "panel_unphased",
            "the panel has unphased heterozygous genotypes here",
            "phase it first, with SHAPEIT, Beagle or Eagle",
            np.asarray(~block.phased.all(axis=1)),
            block,
            file,
        )
        kept = np.flatnonzero(block.sites.alt != NO_ALT)
        if len(kept) == len(block.sites):
            yield region, block
        elif len(kept):
            yield region, Genotypes(block.samples, block.sites.take(kept), block.alleles[kept], block.phased[kept])


def _refuse(code: str, what: str, hint: str, bad: npt.NDArray[np.bool_], block: Genotypes, file: Path) -> None:
    if bad.any():
        pos = block.sites.pos[int(np.flatnonzero(bad)[0])]
        raise InputError(code, what, where=f"{file}, record {block.sites.chrom}:{pos}", hint=hint)


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
