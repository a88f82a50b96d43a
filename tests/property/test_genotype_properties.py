"""Reading, storing, matching and maps on random small inputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.vcf_text import Record, genotypes_of, panel_of, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.genetic_map import GeneticMap
from vcfbert.genotypes.sites import match_target
from vcfbert.genotypes.store import open_panels, panel_digest, write_panels
from vcfbert.genotypes.vcf_reader import read_genotypes

BASES = "ACGT"
COMPLEMENT = dict(zip(BASES, "TGCA", strict=True))


@st.composite
def records(draw: st.DrawFn, *, max_alts: int = 3, missing: bool = True) -> list[Record]:
    """Sorted records at distinct positions, of 1 to 4 diploid samples, some calls unphased or missing."""
    n_samples = draw(st.integers(1, 4))
    positions = sorted(draw(st.sets(st.integers(1, 10_000), min_size=1, max_size=12)))
    found: list[Record] = []
    for pos in positions:
        alleles = draw(st.permutations(BASES))[: 1 + draw(st.integers(1, max_alts))]
        allele = st.sampled_from([*map(str, range(len(alleles))), *(["."] if missing else [])])
        call = st.builds("{}{}{}".format, allele, st.sampled_from("|/" if missing else "|"), allele)
        calls = draw(st.lists(call, min_size=n_samples, max_size=n_samples))
        found.append((pos, alleles[0], ",".join(alleles[1:]), " ".join(calls)))
    return found


def joined(path: Path) -> list[Record]:
    """The records of a file, read, split and joined again by ``continues``; missing and unphased calls as '.'."""
    found = read_genotypes(path)
    sites = found.sites
    result: list[Record] = []
    starts = np.flatnonzero(~sites.continues).tolist()
    for start, stop in zip(starts, [*starts[1:], len(sites)], strict=True):
        rows = found.alleles[start:stop].astype(int)  # [alts, samples, 2]
        number = (rows * np.arange(1, stop - start + 1)[:, None, None]).sum(axis=0)
        alleles = np.where(rows[0] < 0, ".", number.astype(str))
        calls = [normal("|".join(alleles[s])) for s in range(len(found.samples))]
        result.append((int(sites.pos[start]), sites.ref[start], ",".join(sites.alt[start:stop]), " ".join(calls)))
    return result


def normal(call: str) -> str:
    return "." if call in ("./.", ".|.") else call.replace("/", "|")


@settings(max_examples=40, deadline=None)
@given(records(), st.sampled_from(["t.vcf", "t.vcf.gz", "t.bcf"]))
def test_multiallelic_records_read_and_rejoined_are_unchanged(written: list[Record], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_vcf(Path(folder) / name, vcf_text(written))
        expected = [(p, r, a, " ".join(map(normal, calls.split()))) for p, r, a, calls in written]
        assert joined(path) == expected


@settings(max_examples=40, deadline=None)
@given(records(max_alts=1, missing=False))
def test_stored_panel_opens_unchanged(written: list[Record]) -> None:
    panel = panel_of(written)
    with tempfile.TemporaryDirectory() as folder:
        write_panels([panel], Path(folder) / "panel")
        (opened,) = open_panels(Path(folder) / "panel")
        assert opened.digest == panel.digest == panel_digest(opened)
        everything = slice(None)
        assert opened.alleles(everything).tolist() == panel.alleles(everything).tolist()
        assert opened.alleles(everything).sum(axis=0).tolist() == opened.allele_count.tolist()
        for name in ("pos", "ref", "alt", "id", "continues"):
            assert getattr(opened.sites, name).tolist() == getattr(panel.sites, name).tolist()


@settings(max_examples=50, deadline=None)
@given(records(max_alts=1), st.data())
def test_matching_undoes_swaps_and_flips(written: list[Record], data: st.DataObject) -> None:
    written = [r for r in written if COMPLEMENT[r[1]] != r[2]]
    if not written:
        return
    panel = panel_of([(pos, ref, alt, "0|1 0|0") for pos, ref, alt, _ in written])
    expected, _ = match_target(genotypes_of(written), panel)
    disturbed: list[Record] = []
    swaps, flips = [], []
    for pos, ref, alt, calls in written:
        swap, flip = data.draw(st.booleans()), data.draw(st.booleans())
        if swap:
            ref, alt, calls = alt, ref, calls.translate(str.maketrans("01", "10"))
        if flip:
            ref, alt = COMPLEMENT[ref], COMPLEMENT[alt]
        swaps.append(swap)
        flips.append(flip)
        disturbed.append((pos, ref, alt, calls))
    found, report = match_target(genotypes_of(disturbed), panel)
    assert found.panel_site.tolist() == expected.panel_site.tolist()
    assert found.alleles.tolist() == expected.alleles.tolist()
    assert found.swapped.tolist() == swaps
    assert len(report.notes) == sum(s or f for s, f in zip(swaps, flips, strict=True))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 10_000_000), min_size=1, max_size=20, unique=True),
    st.lists(st.floats(0, 5), min_size=20, max_size=20),
    st.lists(st.integers(1, 20_000_000), min_size=1, max_size=50),
)
def test_genetic_map_never_falls_and_keeps_its_points(points: list[int], steps: list[float], asked: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map"
        cm = np.cumsum(steps[: len(points)])
        rows = zip(sorted(points), cm.tolist(), strict=True)
        path.write_text("".join(f"{pos} 20 {value!r}\n" for pos, value in rows))
        if len(cm) > 1 and cm[0] == cm[-1]:  # also where the steps are too small to change the first value
            with pytest.raises(InputError, match="the map has no length"):
                GeneticMap.read(path, "20")
            return
        genetic_map = GeneticMap.read(path, "20")
    assert (np.diff(genetic_map.cm(np.sort(asked))) >= 0).all()
    assert genetic_map.cm(np.sort(points)) == pytest.approx(cm)
