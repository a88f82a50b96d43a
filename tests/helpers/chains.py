"""Chain files written by hand, and targets moved to another genome build with them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


class Block(NamedTuple):
    """``size`` bases from ``start`` on are those from ``to`` on in the other build, 0-based and on forward strands.

    On the reverse strand the first base of ``start`` is the last one of ``to``.
    """

    start: int
    size: int
    to: int
    strand: str = "+"

    def turned(self) -> Block:
        """The block of the chain in the other direction."""
        return Block(self.to, self.size, self.start, self.strand)

    def lift(self, pos: int) -> int | None:
        """The 1-based position in the other build, one at a time; None outside of the block."""
        within = pos - 1 - self.start
        if not 0 <= within < self.size:
            return None
        return self.to + (within if self.strand == "+" else self.size - 1 - within) + 1


def chain_text(
    blocks: Iterable[Block], *, chrom: str = "chr20", to: str = "chr20", bases: int = 10**8, to_bases: int = 10**8
) -> str:
    """A chain file with one chain for each block."""
    lines = []
    for number, block in enumerate(blocks, start=1):
        there = block.to if block.strand == "+" else to_bases - block.to - block.size
        lines += [
            f"chain 1000 {chrom} {bases} + {block.start} {block.start + block.size} "
            f"{to} {to_bases} {block.strand} {there} {there + block.size} {number}",
            f"{block.size}",
            "",
        ]
    return "\n".join(lines)


def write_chain(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def moved_vcf(text: str, blocks: Sequence[Block]) -> str:
    """The text of a VCF of one chromosome in the other build. Records outside of the blocks are removed."""
    lines = text.splitlines()
    moved = []
    for line in lines:
        if line.startswith("#"):
            continue
        chrom, pos, name, ref, alt, *rest = line.split("\t")
        for block in blocks:
            there = block.lift(int(pos))
            last = block.lift(int(pos) + len(ref) - 1)
            if there is None or last is None:
                continue
            if block.strand == "-":
                if max(map(len, [ref, *alt.split(",")])) > 1:
                    break
                ref, alt = COMPLEMENT[ref], ",".join(COMPLEMENT.get(one, one) for one in alt.split(","))
            moved.append((there, "\t".join([chrom, str(there), name, ref, alt, *rest])))
            break
    header = [line for line in lines if line.startswith("#")]
    return "\n".join([*header, *(line for _, line in sorted(moved, key=lambda record: record[0]))]) + "\n"
