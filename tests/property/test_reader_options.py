"""The same records give the same answer, whatever index lies beside the file and however the file is read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysam
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.helpers.vcf_text import Record, record_line, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.vcf_reader import read_genotypes, stream_genotypes

Indexed = Callable[[Path, Path], None]  # writes an index for the first file, given a longer one
REGIONS = (None, "20", "chr20", "21", "20:150-400", "20:400-")


def answers(path: Path) -> list[Any]:
    """What every reader and option makes of the file: sites and alleles, or the code of the error."""
    found: list[Any] = []
    for region in REGIONS:
        readers = [
            lambda region=region: _of_genotypes(read_genotypes(path, region=region)),
            lambda region=region: [
                site
                for block in stream_genotypes(path, region=region, block_genotypes=1)
                for site in _of_genotypes(block)
            ],
            lambda region=region: [
                (panel.sites.pos.tolist(), panel.allele_count.tolist()) for panel in build_panel(path, region)
            ],
        ]
        for read in readers:
            try:
                found.append(read())
            except InputError as error:
                found.append(error.code)
    return found


def build_panel(path: Path, region: str | None) -> tuple[Panel, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return build_panels([path], Path(folder) / "panel", region=region, holdout=0.5, seed=1)


def _of_genotypes(genotypes: Any) -> list[Any]:
    sites = genotypes.sites
    return list(zip(sites.pos.tolist(), sites.ref, sites.alt, genotypes.alleles.tolist(), strict=True))


def _text(chromosomes: list[tuple[str, list[int]]], declared: list[str]) -> str:
    """Chromosomes with the positions of their records, each with a call of two samples."""
    header = vcf_text([], samples=["A", "B"], chrom=declared[0])
    header = header.replace(f"##contig=<ID={declared[0]}>", "\n".join(f"##contig=<ID={name}>" for name in declared))
    rows: list[str] = []
    for name, positions in chromosomes:
        records: list[Record] = [(pos, "A", "G", "0|1 1|1" if pos % 2 else "0|0 0|1") for pos in positions]
        rows += [record_line(record, name) for record in records]
    return header + "".join(f"{row}\n" for row in rows)


def _tabix(path: Path, longer: Path) -> None:
    pysam.tabix_index(str(path), preset="vcf", force=True)


def _csi(path: Path, longer: Path) -> None:
    pysam.tabix_index(str(path), preset="bcf" if path.suffix == ".bcf" else "vcf", force=True, csi=True)


def _of_longer_file(path: Path, longer: Path) -> None:
    _csi(longer, longer)
    shutil.copy(f"{longer}.csi", f"{path}.csi")


def _damaged(path: Path, longer: Path) -> None:
    Path(f"{path}.csi").write_bytes(b"junk")


def _empty(path: Path, longer: Path) -> None:
    Path(f"{path}.csi").write_bytes(b"")


def _cut(path: Path, longer: Path) -> None:
    _csi(path, longer)
    content = Path(f"{path}.csi").read_bytes()
    Path(f"{path}.csi").write_bytes(content[: len(content) // 2])


INDEXES: dict[str, list[Indexed]] = {
    "t.vcf.gz": [_tabix, _csi, _of_longer_file, _damaged, _empty, _cut],
    "t.bcf": [_csi, _of_longer_file, _damaged, _empty, _cut],
}


@pytest.mark.parametrize("name", list(INDEXES))
@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_readers_give_the_same_with_any_index_as_without(name: str, data: st.DataObject) -> None:
    positions = st.lists(st.integers(1, 600), min_size=1, max_size=8, unique=True).map(sorted)
    names = data.draw(
        st.lists(st.sampled_from(["20", "chr20", "21", "x_long_name"]), min_size=1, max_size=3, unique=True)
    )
    declared = data.draw(st.permutations([*names, "22"]))
    chromosomes = [(one, data.draw(positions)) for one in names]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = write_vcf(folder / name, _text(chromosomes, declared))
        further = [(chrom, [*found, 700, 800]) for chrom, found in chromosomes]
        longer = write_vcf(folder / f"longer.{name}", _text(further, declared))
        expected = answers(path)
        for index in INDEXES[name]:
            index(path, longer)
            assert answers(path) == expected, index.__name__
            for suffix in (".tbi", ".csi"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz", "t.bcf"])
def test_records_of_two_names_of_one_chromosome_are_refused(tmp_path: Path, name: str) -> None:
    path = write_vcf(tmp_path / name, _text([("20", [100, 200]), ("chr20", [300])], ["20", "chr20"]))
    for region in (None, "20", "chr20"):
        for read in (read_genotypes, build_panel):
            with pytest.raises(InputError) as caught:
                read(path, region=region)
            assert caught.value.code == "chromosome_names"
            assert "20 and chr20" in str(caught.value)


def test_index_that_is_not_used_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", _text([("20", [100, 200])], ["20"]))
    _damaged(path, path)
    assert len(read_genotypes(path, region="20").sites) == 2
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "the index is not used, because it is damaged. The file is read from its start. `bcftools index -f` writes the "
        "index again"
    ]


@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz", "t.bcf"])
def test_records_at_position_0_are_excluded_with_a_warning(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_vcf(tmp_path / name, _text([("20", [0, 100, 200])], ["20"]))
    assert read_genotypes(path).sites.pos.tolist() == [100, 200]
    assert "1 records at position 0" in caplog.text
    assert build_panel(path, None)[0].sites.pos.tolist() == [100, 200]
