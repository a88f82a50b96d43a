"""Writes a simulated phased panel of any size as BCF, block by block: mosaics of founders, with mostly rare sites."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.bgzf import BgzfWriter

FOUNDERS = 400
SITES_PER_SWITCH = 2000  # mean length of a segment copied from one founder
PRIVATE = 0.4  # fraction of sites with one or two carriers; they are the majority in sequenced panels
BASES_PER_SITE = 60
BLOCK = 2000  # sites sampled at a time

Bits = npt.NDArray[np.uint8]


def write_large_bcf(path: Path, n_samples: int, n_sites: int, *, seed: int = 17, threads: int = 2) -> None:
    """Writes the BCF. One block bounds the memory. No index is written, because a conversion reads the whole file."""
    names = "\t".join(f"L{i}" for i in range(n_samples))
    header = (
        '##fileformat=VCFv4.3\n##FILTER=<ID=PASS,Description="All filters passed",IDX=0>\n'
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype",IDX=1>\n##contig=<ID=20,IDX=0>\n'
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n\0"
    ).encode()
    with path.open("wb") as handle, BgzfWriter(handle, threads=threads) as writer:
        writer.write(b"BCF\2\2" + struct.pack("<I", len(header)) + header)
        site = 0
        for alleles in _blocks(np.random.default_rng(seed), 2 * n_samples, n_sites):
            for row in alleles:
                writer.write(_record(site, row, n_samples))
                site += 1


def _blocks(rng: np.random.Generator, n_haplotypes: int, n_sites: int) -> Iterator[Bits]:
    """Alleles uint8 [sites of a block, n_haplotypes]."""
    founder = rng.integers(FOUNDERS, size=n_haplotypes)
    for start in range(0, n_sites, BLOCK):
        size = min(BLOCK, n_sites - start)
        frequency = rng.beta(0.15, 1.2, size=size).clip(0.5 / FOUNDERS, 0.99)
        pool = (rng.random((size, FOUNDERS)) < frequency[:, None]).astype(np.uint8)
        private = np.flatnonzero(rng.random(size) < PRIVATE)
        pool[private] = 0
        block = pool[:, founder]
        # Some haplotypes switch founders within a block. All switches of a block are sampled at once.
        switching = np.flatnonzero(rng.random(n_haplotypes) < size / SITES_PER_SWITCH)
        founder[switching] = rng.integers(FOUNDERS, size=len(switching))
        for haplotype, place in zip(switching.tolist(), rng.integers(size, size=len(switching)).tolist(), strict=True):
            block[place:, haplotype] = pool[place:, founder[haplotype]]
        for _ in range(2):
            block[private, rng.integers(n_haplotypes, size=len(private))] = 1
        yield block


def _record(site: int, alleles: Bits, n_samples: int) -> bytes:
    """One site (VCF specification, section 6.3): typed values are a byte of length and type, then the value."""
    identifier = f"rs{site}".encode()
    ref, alt = ("AG", "GA", "CT", "TC")[site % 4]
    shared = struct.pack("<iiifII", 0, 1_000_000 + BASES_PER_SITE * site, 1, 0.0, 2 << 16, 1 << 24 | n_samples)
    shared = shared[:12] + struct.pack("<I", 0x7F800001) + shared[16:]  # QUAL is missing
    shared += bytes([0xF7, 0x11, len(identifier)]) if len(identifier) > 14 else bytes([len(identifier) << 4 | 7])
    shared += identifier + b"\x17" + ref.encode() + b"\x17" + alt.encode() + b"\x11\0"  # FILTER is PASS
    calls = (alleles + 1) << 1
    calls[1::2] |= 1  # phased
    genotypes = b"\x11\1\x21" + calls.tobytes()  # GT is entry 1 of the header; each sample has two one-byte values
    return struct.pack("<II", len(shared), len(genotypes)) + shared + genotypes
