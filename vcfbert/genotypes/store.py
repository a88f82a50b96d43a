"""The panel store: a folder with bit-packed, memory-mapped haplotypes, their sites and a manifest.

``alleles.npy`` uint8 [n_sites, ceil(n_haplotypes / 8)], as ``Panel.packed``; ``sites.npz`` positions, alleles, IDs,
genetic positions and allele counts; ``manifest.json`` samples, validation split, digest and provenance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import atomic_folder, read_manifest
from vcfbert.constants import PANEL_FORMAT
from vcfbert.errors import ArtifactError, InputError
from vcfbert.genotypes.genetic_map import GeneticMap
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.vcf_reader import NO_ALT, Genotypes, Progress, join_sites, stream_genotypes
from vcfbert.provenance import provenance

KIND = "panel"
ALLELES = "alleles.npy"
SITES = "sites.npz"

_LOG = logging.getLogger(__name__)
_ROWS = 8192  # sites packed or hashed at a time


@dataclass(frozen=True)
class PackedBlock:
    """Consecutive sites of a panel: ``packed`` and ``allele_count`` as in ``Panel``."""

    samples: tuple[str, ...]
    sites: Sites
    packed: npt.NDArray[np.uint8]
    allele_count: npt.NDArray[np.int64]


def packed_blocks(vcf: Path, *, region: str | None = None, progress: Progress | None = None) -> Iterator[PackedBlock]:
    """A panel's file in blocks of bounded memory. Raises InputError as ``build_panel`` does."""
    for block in _checked(stream_genotypes(vcf, region=region, progress=progress), vcf):
        bits = block.alleles.reshape(len(block.sites), -1)  # [sites, n_haplotypes]
        packed = np.packbits(bits.view(np.uint8), axis=1)
        yield PackedBlock(block.samples, block.sites, packed, bits.sum(axis=1, dtype=np.int64))


def build_panel(
    vcf: Path,
    out: Path,
    *,
    genetic_map: Path | None,
    region: str | None = None,
    holdout: float,
    seed: int,
    blocks: Iterator[PackedBlock] | None = None,
    progress: Progress | None = None,
) -> Panel:
    """Streams a phased VCF or BCF into a panel store at ``out`` and opens it.

    ``holdout`` is the share of samples kept for validation, drawn with ``seed``, at least one on each side. ``blocks``:
    the file's, if they were read before. ``progress`` is called with the number of sites read so far. Nothing is left
    at ``out`` when this fails.
    Raises InputError: haploid, panel_missing, panel_unphased, panel_too_small, and those of ``stream_genotypes`` and
    ``GeneticMap.read``.
    """
    if genetic_map is None:
        _LOG.warning("no genetic map given: 1 cM/Mb is assumed, which costs accuracy near recombination hotspots")
    manifest: dict[str, Any] = {}
    with atomic_folder(out, kind=KIND, version=PANEL_FORMAT, manifest=manifest) as folder:
        blocks = blocks or packed_blocks(vcf, region=region, progress=progress)
        samples, sites, counts = _write_alleles(folder / ALLELES, blocks, vcf)
        scale = GeneticMap.uniform() if genetic_map is None else GeneticMap.read(genetic_map, sites.chrom)
        panel = Panel(
            samples=samples,
            sites=sites,
            packed=np.load(folder / ALLELES, mmap_mode="r"),
            cm=scale.cm(sites.pos),
            allele_count=counts,
            validation=choose_validation(len(samples), holdout=holdout, seed=seed, where=str(vcf)),
            digest="",
        )
        _write_sites(folder / SITES, panel)
        source = {"vcf": vcf.name, "region": region, "holdout": holdout, "seed": seed}
        manifest.update(_manifest(panel, panel_digest(panel), genetic_map=scale.source, source=source))
    return open_panel(out, verify=False)


def write_panel(panel: Panel, out: Path) -> None:
    """Writes a panel that is in memory, with its digest computed anew."""
    manifest = _manifest(panel, panel_digest(panel), genetic_map="as given", source={})
    with atomic_folder(out, kind=KIND, version=PANEL_FORMAT, manifest=manifest) as folder:
        np.save(folder / ALLELES, np.ascontiguousarray(panel.packed))
        _write_sites(folder / SITES, panel)


def open_panel(path: Path, *, verify: bool = True) -> Panel:
    """The panel stored at ``path``, its alleles memory-mapped. ``verify`` checks every file's sha256 first.

    Raises ArtifactError: panel_missing, panel_unfinished, panel_damaged, panel_format, panel_hash.
    """
    manifest = read_manifest(path, kind=KIND, version=PANEL_FORMAT, verify=verify)
    try:
        with np.load(path / SITES) as stored:
            table = {name: stored[name] for name in stored.files}
        panel = Panel(
            samples=tuple(manifest["samples"]),
            sites=_sites(str(manifest["chrom"]), table),
            packed=np.load(path / ALLELES, mmap_mode="r"),
            cm=table["cm"],
            allele_count=table["allele_count"],
            validation=tuple(manifest["validation"]),
            digest=str(manifest["digest"]),
        )
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    if panel.packed.shape != (panel.n_sites, _row_bytes(len(panel.samples))):
        raise _damaged(path, f"{ALLELES} does not fit sites and samples")
    return panel


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError("panel_damaged", what, where=str(path), hint="build the panel again")


def choose_validation(n_samples: int, *, holdout: float, seed: int, where: str | None = None) -> tuple[int, ...]:
    """Indices of the validation samples, sorted; at least one sample is chosen and at least one is not."""
    if n_samples < 2:
        raise InputError(
            "panel_too_small",
            "a panel needs at least two samples, one of them for validation",
            where=where,
            hint="give a panel with more samples",
        )
    count = min(max(round(holdout * n_samples), 1), n_samples - 1)
    chosen = np.random.default_rng(seed).choice(n_samples, size=count, replace=False)
    return tuple(sorted(chosen.tolist()))


def panel_digest(panel: Panel) -> str:
    """sha256 over samples, positions, alleles and haplotypes: the identity of a panel, whatever folder holds it."""
    sites = panel.sites
    parts: list[Iterable[bytes]] = [
        ["\n".join(panel.samples).encode()],
        [np.ascontiguousarray(sites.pos, dtype="<i4").tobytes()],
        ["\n".join(f"{ref}\t{alt}" for ref, alt in zip(sites.ref, sites.alt, strict=True)).encode()],
        (np.ascontiguousarray(panel.packed[row : row + _ROWS]).tobytes() for row in range(0, panel.n_sites, _ROWS)),
    ]
    whole = hashlib.sha256()
    for part in parts:  # each is hashed by itself, so that no byte can move from one to the next
        inner = hashlib.sha256()
        for chunk in part:
            inner.update(chunk)
        whole.update(inner.digest())
    return whole.hexdigest()


def subset_panel(
    panel: Panel,
    *,
    samples: Sequence[int] | None = None,
    sites: npt.NDArray[np.int64] | slice | None = None,
) -> Panel:
    """A panel of some samples and sites (indices), in memory, with a digest of its own.

    Of the validation samples those that are kept stay so. A ``continues`` flag falls where the site before is gone.
    """
    kept_samples = np.arange(len(panel.samples)) if samples is None else np.asarray(samples, dtype=np.int64)
    kept_sites = np.arange(panel.n_sites)[slice(None) if sites is None else sites]
    haplotypes = np.stack([2 * kept_samples, 2 * kept_samples + 1], axis=1).reshape(-1)
    bits = np.unpackbits(np.asarray(panel.packed[kept_sites]), axis=1, count=panel.n_haplotypes)[:, haplotypes]
    table = panel.sites.take(kept_sites)
    follows = np.append(False, np.diff(kept_sites) == 1)
    held_out = set(panel.validation)
    subset = Panel(
        samples=tuple(panel.samples[i] for i in kept_samples),
        sites=Sites(table.chrom, table.pos, table.ref, table.alt, table.id, table.continues & follows),
        packed=np.packbits(bits, axis=1),
        cm=panel.cm[kept_sites],
        allele_count=bits.sum(axis=1, dtype=np.int64),
        validation=tuple(new for new, old in enumerate(kept_samples.tolist()) if old in held_out),
        digest="",
    )
    return _with_digest(subset)


def panel_from_genotypes(
    genotypes: Genotypes, *, genetic_map: GeneticMap | None = None, validation: tuple[int, ...] = ()
) -> Panel:
    """A panel in memory from phased, complete genotypes. Raises InputError as ``build_panel`` does."""
    (block,) = _checked(iter([genotypes]), Path("genotypes"))
    bits = block.alleles.reshape(len(block.sites), -1)
    panel = Panel(
        samples=block.samples,
        sites=block.sites,
        packed=np.packbits(bits.astype(np.uint8), axis=1),
        cm=(genetic_map or GeneticMap.uniform()).cm(block.sites.pos),
        allele_count=bits.sum(axis=1, dtype=np.int64),
        validation=validation,
        digest="",
    )
    return _with_digest(panel)


def _with_digest(panel: Panel) -> Panel:
    return dataclasses.replace(panel, digest=panel_digest(panel))


def _row_bytes(n_samples: int) -> int:
    return (2 * n_samples + 7) // 8


def _checked(blocks: Iterator[Genotypes], vcf: Path) -> Iterator[Genotypes]:
    """The blocks, refused where a panel may not be used; records without ALT, which hold no variation, left out."""
    for block in blocks:
        _refuse_haploid(block, vcf)
        _refuse(
            "panel_missing",
            "the panel has missing genotypes here",
            "leave such records out (bcftools view -g ^miss) or impute and phase the panel first",
            np.asarray((block.alleles < 0).any(axis=(1, 2))),
            block,
            vcf,
        )
        _refuse(
            "panel_unphased",
            "the panel has unphased heterozygous genotypes here",
            "phase it first, with SHAPEIT, Beagle or Eagle",
            np.asarray(~block.phased.all(axis=1)),
            block,
            vcf,
        )
        kept = np.flatnonzero(block.sites.alt != NO_ALT)
        if len(kept):
            yield Genotypes(block.samples, block.sites.take(kept), block.alleles[kept], block.phased[kept])


def _refuse_haploid(block: Genotypes, vcf: Path) -> None:
    """A panel's haplotypes come in pairs: validation, search and leave-one-out all go by sample."""
    haploid = np.flatnonzero(block.haploid)
    if len(haploid):
        raise InputError(
            "haploid",
            f"{len(haploid)} of the panel's {len(block.samples)} samples are haploid, such as "
            f"{block.samples[haploid[0]]!r}",
            where=f"{vcf}, record {block.sites.chrom}:{block.sites.pos[0]}",
            hint="leave them out (bcftools view -S ^HAPLOID_SAMPLES), or write their calls as homozygous "
            "(bcftools +fixploidy); targets may be haploid",
        )


def _refuse(code: str, what: str, hint: str, bad: npt.NDArray[np.bool_], block: Genotypes, vcf: Path) -> None:
    if bad.any():
        pos = block.sites.pos[int(np.flatnonzero(bad)[0])]
        raise InputError(code, what, where=f"{vcf}, record {block.sites.chrom}:{pos}", hint=hint)


def _write_alleles(
    path: Path, blocks: Iterator[PackedBlock], vcf: Path
) -> tuple[tuple[str, ...], Sites, npt.NDArray[np.int64]]:
    """Writes the blocks into ``path``; returns samples, sites and ALT counts [n_sites]."""
    sites: list[Sites] = []
    counts: list[npt.NDArray[np.int64]] = []
    samples: tuple[str, ...] = ()
    with path.open("wb") as handle:
        for block in blocks:
            if not sites:
                samples = block.samples
                _write_header(handle, 0, len(samples))
            handle.write(block.packed.tobytes())
            counts.append(block.allele_count)
            sites.append(block.sites)
        n_sites = sum(map(len, sites))
        if n_sites == 0:
            raise InputError("empty", "no record has an ALT allele", where=str(vcf), hint="a panel needs variants")
        # numpy leaves room in the header for the first dimension to grow, so writing it anew moves nothing.
        handle.seek(0)
        _write_header(handle, n_sites, len(samples))
    return samples, join_sites(sites), np.concatenate(counts)


def _write_header(handle: Any, n_sites: int, n_samples: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (n_sites, _row_bytes(n_samples))}
    np.lib.format.write_array_header_1_0(handle, header)


def _write_sites(path: Path, panel: Panel) -> None:
    sites = panel.sites
    text = {name: _pack_text(getattr(sites, name)) for name in ("ref", "alt", "id")}
    np.savez(
        path,
        pos=sites.pos,
        continues=sites.continues,
        cm=panel.cm,
        allele_count=panel.allele_count,
        allow_pickle=False,
        **text,
    )


def _sites(chrom: str, table: dict[str, npt.NDArray[Any]]) -> Sites:
    ref, alt, identifier = (_unpack_text(table[name]) for name in ("ref", "alt", "id"))
    return Sites(chrom, table["pos"], ref, alt, identifier, table["continues"])


def _pack_text(values: npt.NDArray[np.object_]) -> npt.NDArray[np.uint8]:
    """Strings as one line of UTF-8 bytes each: one long deletion would make a fixed-width array of them huge."""
    return np.frombuffer("\n".join(values).encode(), dtype=np.uint8)


def _unpack_text(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.object_]:
    return np.array(data.tobytes().decode().split("\n"), dtype=object)


def _manifest(panel: Panel, digest: str, *, genetic_map: str, source: dict[str, Any]) -> dict[str, Any]:
    return {
        "chrom": panel.sites.chrom,
        "samples": list(panel.samples),
        "validation": list(panel.validation),
        "n_sites": panel.n_sites,
        "n_haplotypes": panel.n_haplotypes,
        "digest": digest,
        "genetic_map": genetic_map,
        "source": source,
        "provenance": provenance(),
    }
