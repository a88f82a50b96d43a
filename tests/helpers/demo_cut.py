"""Small cuts of the real demo data, as files: few samples, few sites, everything else as it is."""

from __future__ import annotations

import gzip
from pathlib import Path

import pysam

DEMO = Path(__file__).parents[2] / "data" / "demo"
GENETIC_MAP = DEMO / "chr20.b37.gmap.gz"


def cut_vcf(
    name: str, out: Path, *, samples: int, sites: int | None = None, last_pos: int | None = None, varying: bool = False
) -> Path:
    """The first ``samples`` of a demo VCF at its first ``sites``, or as far as ``last_pos``, bgzipped and indexed.

    ``varying``: only sites where these samples do.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    left = sites
    with gzip.open(DEMO / name, "rt") as source, pysam.BGZFile(str(out), "wb") as sink:
        for line in source:
            if line.startswith("##"):
                sink.write(line.encode())
                continue
            fields = line.rstrip("\n").split("\t", 9 + samples)[: 9 + samples]
            if not line.startswith("#"):
                if left == 0 or (last_pos is not None and int(fields[1]) > last_pos):
                    break
                if varying and len({allele for call in fields[9:] for allele in call.split("|")}) < 2:
                    continue
                left = None if left is None else left - 1
            sink.write(("\t".join(fields) + "\n").encode())
    pysam.tabix_index(str(out), preset="vcf", force=True)
    return out


def last_position(path: Path) -> int:
    with gzip.open(path, "rt") as lines:
        return max(int(line.split("\t", 2)[1]) for line in lines if not line.startswith("#"))


def cut_demo(folder: Path, *, samples: int, sites: int, targets: int) -> Path:
    """Panel, targets' truth and typed sites in ``folder`` under the names they have in ``data/demo``."""
    panel = cut_vcf("panel.vcf.gz", folder / "panel.vcf.gz", samples=samples, sites=sites, varying=True)
    end = last_position(panel)
    for name in ("target_truth.vcf.gz", "target_array.vcf.gz", "target_array_phased.vcf.gz"):
        cut_vcf(name, folder / name, samples=targets, last_pos=end)
    return panel
