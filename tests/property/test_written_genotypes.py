"""What is written agrees with itself and with what was imputed, whatever was imputed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.record_formatter import RecordFormatter
from vcfbert.genotypes.regions import Region

# Rounding to thousandths, and the half of a thousandth that float32 adds at a tie.
ROUNDING = 0.00051


def panel_of(n_sites: int) -> Panel:
    sites = Sites(
        "20",
        np.arange(1, n_sites + 1, dtype=np.int32),
        np.full(n_sites, "A", dtype=object),
        np.full(n_sites, "C", dtype=object),
        np.full(n_sites, ".", dtype=object),
        np.zeros(n_sites, dtype=bool),
    )
    empty = np.zeros((n_sites, 1), dtype=np.uint8)
    return Panel(
        Region(sites.chrom), ("P",), sites, empty, np.zeros(n_sites), np.zeros(n_sites, dtype=np.int64), (), digest=""
    )


@dataclass(frozen=True)
class Written:
    """Fields of the records' samples: dims site, sample, value."""

    alleles: list[tuple[str, str]]
    gt: npt.NDArray[np.int64]
    ds: npt.NDArray[np.float64]
    hds: npt.NDArray[np.float64]
    gp: npt.NDArray[np.float64]


def columns_of(formatter: RecordFormatter, block: ImputedBlock) -> list[list[str]]:
    text = b"".join(records.data for records in formatter.records(block)).decode()
    return [line.split("\t") for line in text.splitlines()]


def formatted(block: ImputedBlock, swapped: npt.NDArray[np.bool_]) -> Written:
    panel = panel_of(block.stop)
    formatter = RecordFormatter(panel, ids=None, swapped=swapped, joined=np.zeros(block.stop, dtype=bool))
    records = columns_of(formatter, block)
    cells = [[sample.split(":") for sample in record[9:]] for record in records]

    def field(index: int, separator: str) -> npt.NDArray[np.float64]:
        return np.array([[[float(v) for v in cell[index].split(separator)] for cell in row] for row in cells])

    alleles = [(record[3], record[4]) for record in records]
    return Written(alleles, field(0, "|").astype(np.int64), field(1, ",")[..., 0], field(2, ","), field(3, ","))


@st.composite
def blocks(draw: st.DrawFn) -> ImputedBlock:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5), st.just(2)))
    probability = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.4995, 0.5, 0.0005, 1.0])
    hds = draw(hnp.arrays(np.float32, shape, elements=probability))
    calls = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([-1, -1, -1, 0, 1])))
    gp = None
    if draw(st.booleans()):
        # Any P(two ALT) that is possible with these haplotype dosages (Frechet's bounds).
        low, high = np.maximum(hds.sum(axis=-1) - 1, 0), hds.min(axis=-1)
        share = draw(hnp.arrays(np.float32, shape[:2], elements=st.floats(0, 1, width=32)))
        two = low + share * (high - low)
        gp = np.stack([1 - hds.sum(axis=-1) + two, hds.sum(axis=-1) - 2 * two, two], axis=-1).astype(np.float32)
    return ImputedBlock(0, shape[0], hds, calls, gp)


@settings(max_examples=60, deadline=None)
@given(blocks())
def test_fields_agree_with_each_other_and_with_the_block(block: ImputedBlock) -> None:
    written = formatted(block, np.zeros(block.stop, dtype=bool))
    typed = block.calls >= 0
    expected = np.where(typed, block.calls, block.haplotype_dosage)
    np.testing.assert_allclose(written.hds, expected, atol=ROUNDING)
    np.testing.assert_allclose(written.ds, written.hds.sum(axis=-1), atol=1e-9)
    np.testing.assert_array_equal(written.gt, written.hds >= 0.5)
    np.testing.assert_array_equal(written.gt[typed], block.calls[typed])
    assert written.gp.min() >= 0
    np.testing.assert_allclose(written.gp.sum(axis=-1), 1, atol=1e-9)
    np.testing.assert_allclose(written.gp @ [0, 1, 2], written.ds, atol=1e-9)
    untyped = ~typed.any(axis=-1)
    if block.genotype_probability is None:
        np.testing.assert_allclose(written.gp[..., 2], written.hds.prod(axis=-1), atol=ROUNDING)
    else:
        # Moved by the rounding of the two HDS at most, to stay consistent with them.
        np.testing.assert_allclose(written.gp[untyped], block.genotype_probability[untyped], atol=4 * ROUNDING)


@settings(max_examples=40, deadline=None)
@given(blocks(), st.data())
def test_swapped_site_has_every_field_exchanged(block: ImputedBlock, data: st.DataObject) -> None:
    swapped = data.draw(hnp.arrays(np.bool_, block.stop))
    plain = formatted(block, np.zeros(block.stop, dtype=bool))
    other = formatted(block, swapped)
    assert other.alleles == [("C", "A") if s else ("A", "C") for s in swapped]
    # Exchanged back, the values are those of the panel's orientation.
    turned = swapped[:, None, None]
    np.testing.assert_allclose(np.where(turned, 1 - other.hds, other.hds), plain.hds, atol=1e-9)
    np.testing.assert_allclose(np.where(turned, other.gp[..., ::-1], other.gp), plain.gp, atol=1e-9)
    np.testing.assert_allclose(np.where(turned[..., 0], 2 - other.ds, other.ds), plain.ds, atol=1e-9)
    even = plain.hds == 0.5  # either allele is the most probable one: ALT is called, as written
    np.testing.assert_array_equal(np.where(turned & ~even, 1 - other.gt, other.gt), plain.gt)


@settings(max_examples=40, deadline=None)
@given(blocks(), st.data())
def test_haploid_sample_is_written_as_its_first_haplotype_and_others_are_unchanged(
    block: ImputedBlock, data: st.DataObject
) -> None:
    n_sites, n_samples, _ = block.haplotype_dosage.shape
    swapped, haploid = (data.draw(hnp.arrays(np.bool_, n)) for n in (n_sites, n_samples))
    joined = np.zeros(n_sites, dtype=bool)
    texts = []
    for flags in (None, haploid):
        formatter = RecordFormatter(panel_of(n_sites), ids=None, swapped=swapped, joined=joined, haploid=flags)
        texts.append([columns[9:] for columns in columns_of(formatter, block)])
    for diploid_row, row in zip(*texts, strict=True):
        for before, now, one in zip(diploid_row, row, haploid.tolist(), strict=True):
            gt, _, hds, _ = before.split(":")
            first = hds.split(",")[0]
            expected = f"{gt[0]}:{first}:{first}:{round(1 - float(first), 3):.4g},{first}" if one else before
            assert now == expected
