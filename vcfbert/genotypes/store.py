"""The panel store: a folder with the panels of one or several chromosomes, and a manifest.

PANEL/manifest.json    region, samples, haploid samples, validation split and digest of each panel; provenance
      00/rows.npy      uint64 [rows], the distinct rows of each block of sites (``site_blocks.py``), memory-mapped
      00/numbers.npy   uint16 [blocks, n_haplotypes], each haplotype's row in each block, memory-mapped
      00/sites.npz     positions, alleles, IDs, genetic positions, allele counts, and each block's first site and row;
                       kept INFO and its header's lines, if the panel has any
      01/...
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from vcfbert.artifacts import atomic_folder, provenance, read_manifest, sha256_json
from vcfbert.constants import PANEL_FORMAT
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.panel_faults import panel_fault
from vcfbert.genotypes.panel_writer import (
    NUMBERS,
    ROWS,
    SITES,
    TEXTS,
    PanelDigest,
    PanelWriter,
    region_folder,
    row_bytes,
    unpack_info,
    unpack_text,
)
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.site_blocks import BLOCK_SITES, SiteBlocks
from vcfbert.genotypes.vcf_zarr import is_vcf_zarr

KIND = "panel"

# Written or hashed at a time, in full blocks: at most so many sites, and bytes of alleles.
_SITES, _BYTES = 8192, 1 << 26


def write_panels(panels: Sequence[Panel], out: Path) -> None:
    """Writes panels that are in memory; their digests are computed again."""
    manifest: dict[str, Any] = {}
    with atomic_folder(out, kind=KIND, version=PANEL_FORMAT, manifest=manifest) as folder:
        stored = []
        for number, panel in enumerate(panels):
            place = folder / region_folder(number)
            place.mkdir()
            writer = PanelWriter(place, panel.region, panel.samples, panel.haploid)
            for rows in _pieces(panel):
                writer.append(
                    panel.sites.take(rows), panel.blocks.packed(rows), panel.cm[rows], panel.allele_count[rows]
                )
            facts = (panel.samples, panel.haploid, panel.validation, panel.n_sites, writer.close())
            stored.append(region_manifest(panel.region, *facts, "as given", panel.filled))
        manifest.update(store_manifest(stored, {}))


def open_panels(path: Path, *, verify: bool = True) -> tuple[Panel, ...]:
    """The panels stored at ``path``, in order, with memory-mapped alleles.

    ``verify`` compares the sha256 of every file with the manifest first.

    Raises ArtifactError: panel_missing, panel_unfinished, panel_damaged, panel_format, panel_hash.
    """
    manifest = read_manifest(path, kind=KIND, version=PANEL_FORMAT, verify=verify)
    try:
        panels = tuple(
            open_region(path / region_folder(number), facts) for number, facts in enumerate(manifest["stretches"])
        )
        faults = [fault for panel in panels if (fault := panel_fault(panel)) is not None]
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    if not panels:
        raise _damaged(path, "it has no panels")
    if faults:
        raise _damaged(path, faults[0])
    return panels


def open_region(folder: Path, facts: Mapping[str, Any]) -> Panel:
    """The panel in ``folder``, unchecked; ``facts``: its entry in the manifest."""
    with np.load(folder / SITES) as stored:
        table = {name: stored[name] for name in stored.files}
    region = Region(facts["chrom"], facts["start"], facts["stop"])
    return Panel(
        region=region,
        samples=tuple(facts["samples"]),
        sites=_sites(region.chrom, table),
        blocks=SiteBlocks(
            table["first_site"],
            table["first_row"],
            open_memmap(folder / ROWS, mode="r"),
            open_memmap(folder / NUMBERS, mode="r"),
        ),
        cm=table["cm"],
        allele_count=table["allele_count"],
        validation=tuple(facts["validation"]),
        digest=str(facts["digest"]),
        haploid=tuple(facts["haploid"]),
        filled=float(facts.get("filled", 0.0)),
    )


def is_panel(path: Path) -> bool:
    """Whether ``path`` is a panel store, complete or not, and no file of genotypes."""
    return path.is_dir() and not is_vcf_zarr(path)


def panel_digest(panel: Panel) -> str:
    """The identity of a panel (see ``PanelDigest``)."""
    digest = PanelDigest(panel.region, panel.samples, panel.haploid)
    for rows in _pieces(panel):
        digest.update(panel.sites.take(rows), panel.blocks.packed(rows))
    return digest.hexdigest()


def panels_digest(panels: Sequence[Panel]) -> str:
    """The identity of a store: a hash of its panels' digests, in order."""
    return _joint_digest([panel.digest for panel in panels])


def data_digest(panels: Sequence[Panel]) -> str:
    """Digest of the training data. It covers the validation split and the genetic map, which ``Panel.digest`` omits."""
    maps = [hashlib.sha256(np.ascontiguousarray(panel.cm).tobytes()).hexdigest() for panel in panels]
    return sha256_json([[panel.digest, panel.validation, cm] for panel, cm in zip(panels, maps, strict=True)])


def _joint_digest(digests: Sequence[str]) -> str:
    return sha256_json(list(digests))


def region_manifest(
    region: Region,
    samples: Sequence[str],
    haploid: Sequence[int],
    validation: Sequence[int],
    n_sites: int,
    digest: str,
    genetic_map: str,
    filled: float = 0.0,
) -> dict[str, Any]:
    """A panel's entry in the store's manifest. ``filled``: as in ``Panel``."""
    entry = {
        "chrom": region.chrom,
        "start": region.start,
        "stop": region.stop,
        "samples": list(samples),
        "haploid": list(haploid),
        "validation": list(validation),
        "n_sites": n_sites,
        "n_haplotypes": 2 * len(samples) - len(haploid),
        "digest": digest,
        "genetic_map": genetic_map,
    }
    return entry | ({"filled": round(filled, 6)} if filled else {})


def store_manifest(stored: Sequence[Mapping[str, Any]], source: Mapping[str, Any]) -> dict[str, Any]:
    """The store's manifest. The key ``stretches`` has the entries of the panels, in order."""
    digest = _joint_digest([facts["digest"] for facts in stored])
    return {"stretches": list(stored), "digest": digest, "source": dict(source), "provenance": provenance()}


def _pieces(panel: Panel) -> Iterator[slice]:
    most = min(_BYTES // row_bytes(panel.n_haplotypes), _SITES)
    sites = max(most // BLOCK_SITES, 1) * BLOCK_SITES
    return (slice(start, start + sites) for start in range(0, panel.n_sites, sites))


def _sites(chrom: str, table: dict[str, npt.NDArray[Any]]) -> Sites:
    ref, alt, identifier = (unpack_text(table[name]) for name in TEXTS)
    return Sites(chrom, table["pos"], ref, alt, identifier, table["continues"], unpack_info(table))


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError("panel_damaged", what, where=str(path), hint="build the panel again")
