from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.panels import subset_panel
from tests.helpers.vcf_text import Record, panel_of, vcf_text, write_vcf
from vcfbert.errors import ArtifactError, InputError
from vcfbert.genotypes.conversion import build_panels, choose_validation
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.panel_writer import PanelWriter
from vcfbert.genotypes.store import open_panels, write_panels

RECORDS: list[Record] = [
    (100, "A", "G", "0|1 1|1 0|0"),
    (200, "C", "T,G", "1|2 0|2 0|0"),
    (250, "T", ".", "0|0 0|0 0|0"),
    (300, "AT", "A", "0|1 0|0 0/0"),
]
# Haplotypes x sites, by hand; the record without ALT is no site.
HAPLOTYPES = [[0, 1, 0, 0], [1, 0, 1, 1], [1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def build(tmp_path: Path, records: list[Record], **options: object) -> Panel:
    vcf = write_vcf(tmp_path / "panel.vcf.gz", vcf_text(records))
    (panel,) = build_panels([vcf], tmp_path / "panel", **{"holdout": 0.1, "seed": 1, **options})
    return panel


def open_panel(path: Path, **options: bool) -> Panel:
    (panel,) = open_panels(path, **options)
    return panel


def refused(path: Path) -> ArtifactError:
    """The error of a store that is opened without its hashes."""
    with pytest.raises(ArtifactError) as caught:
        open_panels(path, verify=False)
    return caught.value


def test_built_panel_opens_with_its_values(tmp_path: Path) -> None:
    built = build(tmp_path, RECORDS)
    opened = open_panel(tmp_path / "panel")
    for panel in (built, opened):
        assert panel.samples == ("A", "B", "C")
        assert panel.alleles(slice(None)).tolist() == HAPLOTYPES
        assert panel.allele_count.tolist() == [3, 1, 2, 1]
        assert panel.sites.pos.tolist() == [100, 200, 200, 300]
        assert panel.sites.alt.tolist() == ["G", "T", "G", "A"]
        assert panel.sites.continues.tolist() == [False, False, True, False]
        assert panel.cm == pytest.approx([1e-4, 2e-4, 2e-4, 3e-4])
        assert len(panel.validation) == 1
    assert isinstance(opened.blocks.rows, np.memmap)
    assert isinstance(opened.blocks.number, np.memmap)
    assert opened.digest == built.digest
    manifest = json.loads((tmp_path / "panel/manifest.json").read_text())
    (facts,) = manifest["stretches"]
    assert (facts["chrom"], facts["n_sites"], facts["n_haplotypes"]) == ("20", 4, 6)
    assert facts["digest"] == built.digest
    assert facts["genetic_map"] == "uniform, 1 cM/Mb"
    assert "git_commit" in manifest["provenance"]


def test_build_panels_uses_a_map_and_warns_without_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    genetic_map = tmp_path / "map"
    genetic_map.write_text("100 20 1\n300 20 3\n")
    with caplog.at_level(logging.WARNING):
        assert build(tmp_path, RECORDS, maps=[genetic_map]).cm == pytest.approx([1, 2, 2, 3])
        assert not caplog.records
        build(tmp_path, RECORDS)
    assert "1 cM/Mb" in caplog.text


def test_build_panels_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path, RECORDS)

    def content() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in (tmp_path / "panel").rglob("*") if p.is_file()}

    first = content()
    assert sorted(p.name for p in first) == ["manifest.json", "numbers.npy", "rows.npy", "sites.npz"]
    build(tmp_path, RECORDS)
    assert content() == first


def test_build_panels_of_a_region_has_its_sites_alone(tmp_path: Path) -> None:
    assert build(tmp_path, RECORDS, region="chr20:150-250").sites.pos.tolist() == [200, 200]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ((400, "A", "C", "0|1 .|. 0|0"), "panel_missing"),
        ((400, "A", "C", "0|1 0/1 0|0"), "panel_unphased"),
        ((400, "A", "C", "0|1 1 0|0"), "mixed_ploidy"),
    ],
)
def test_build_panels_of_a_refused_file_leaves_nothing(tmp_path: Path, record: Record, code: str) -> None:
    with pytest.raises(InputError) as caught:
        build(tmp_path, [*RECORDS, record])
    assert caught.value.code == code
    assert "panel.vcf.gz, record 20:400" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["panel.vcf.gz"]


def test_build_panels_of_a_haploid_sample_stores_one_haplotype(tmp_path: Path) -> None:
    panel = build(tmp_path, [(1, "A", "C", "0|0 1 0|1"), (2, "A", "C,G", "0|2 0 1|0")])
    assert panel.haploid == (1,)
    assert panel.n_haplotypes == 5
    assert panel.alleles(slice(None)).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert panel.allele_count.tolist() == [2, 1, 1]
    assert open_panel(tmp_path / "panel").pairs.tolist() == [[0, 1], [2, 2], [3, 4]]
    kept = subset_panel(panel, samples=[2, 1])
    assert (kept.haploid, kept.alleles(slice(None))[:, 0].tolist()) == ((1,), [0, 1, 1])


def test_build_panels_without_variants_or_of_one_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        build(tmp_path, [(1, "A", ".", "0|0 0|0")])
    assert caught.value.code == "empty"
    with pytest.raises(InputError) as caught:
        build(tmp_path, [(1, "A", "C", "0|1")])
    assert caught.value.code == "panel_too_small"


@pytest.mark.parametrize("stop", [InterruptedError, KeyboardInterrupt])
def test_interrupted_build_keeps_the_old_panel(tmp_path: Path, stop: type[BaseException]) -> None:
    before = build(tmp_path, RECORDS).digest

    def interrupt(_: int) -> None:
        raise stop

    with pytest.raises((InputError, KeyboardInterrupt)):
        build(tmp_path, RECORDS[:2], progress=interrupt)
    assert open_panel(tmp_path / "panel").digest == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["panel", "panel.vcf.gz"]


def test_choose_validation_has_the_fraction_and_depends_on_the_seed() -> None:
    chosen = choose_validation(100, holdout=0.1, seed=3)
    assert len(chosen) == 10
    assert chosen == tuple(sorted(set(chosen)))
    assert chosen == choose_validation(100, holdout=0.1, seed=3)
    assert chosen != choose_validation(100, holdout=0.1, seed=4)
    assert len(choose_validation(2, holdout=0.001, seed=1)) == 1
    assert len(choose_validation(2, holdout=0.999, seed=1)) == 1


def test_open_panels_with_a_changed_file_is_refused(tmp_path: Path) -> None:
    build(tmp_path, RECORDS)
    path = tmp_path / "panel/00/rows.npy"
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # of the last row's alleles at the first site
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        open_panel(tmp_path / "panel")
    assert caught.value.code == "panel_hash"
    open_panel(tmp_path / "panel", verify=False)
    path.write_bytes(data[:40])
    with pytest.raises(ArtifactError) as caught:
        open_panel(tmp_path / "panel", verify=False)
    assert caught.value.code == "panel_damaged"


def columns_of(store: Path) -> dict[str, np.ndarray]:
    with np.load(store / "00/sites.npz") as stored:
        return {name: stored[name] for name in stored.files}


COLUMN_FAULTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "fewer REF": ("ref", lambda ref: ref[:-3]),
    "more IDs": ("id", lambda ids: np.concatenate([ids, ids])),
    "no ALT": ("alt", lambda alt: alt[:0]),
    "positions as text": ("pos", lambda pos: pos.astype("U9")),
    "positions descend": ("pos", lambda pos: pos[::-1]),
    "negative positions": ("pos", lambda pos: pos - 1000),
    "fewer cM": ("cm", lambda cm: cm[:-1]),
    "cM not finite": ("cm", lambda cm: cm * np.inf),
    "cM in two dims": ("cm", lambda cm: cm[:, None]),
    "more ALT than haplotypes": ("allele_count", lambda count: count + 7),
    "fewer allele counts": ("allele_count", lambda count: count[1:]),
    "fewer joined sites": ("continues", lambda continues: continues[1:]),
    "blocks of other type": ("first_row", lambda first: first.astype(np.uint64)),
    "blocks without sites": ("first_site", lambda first: first[:0]),
}


@pytest.mark.parametrize("fault", COLUMN_FAULTS)
def test_open_panels_with_a_false_column_is_refused(tmp_path: Path, fault: str) -> None:
    build(tmp_path, RECORDS)
    columns = columns_of(tmp_path / "panel")
    name, falsify = COLUMN_FAULTS[fault]
    columns[name] = falsify(columns[name])
    np.savez(tmp_path / "panel/00/sites.npz", **columns)  # type: ignore[arg-type]  # numpy's stub takes it for an option
    assert refused(tmp_path / "panel").code == "panel_damaged"


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("samples", None),
        ("samples", [1, 2, 3]),
        ("haploid", [9]),
        ("haploid", ["A"]),
        ("validation", [9]),
        ("chrom", None),
        ("start", "x"),
    ],
)
def test_open_panels_with_a_false_manifest_is_refused(tmp_path: Path, entry: str, value: object) -> None:
    build(tmp_path, RECORDS)
    path = tmp_path / "panel/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["stretches"][0][entry] = value
    path.write_text(json.dumps(manifest))
    assert refused(tmp_path / "panel").code == "panel_damaged"


@pytest.mark.parametrize("stretches", [[], {"a": 1}, 3, [{}]], ids=str)
def test_open_panels_without_panels_is_refused(tmp_path: Path, stretches: object) -> None:
    build(tmp_path, RECORDS)
    path = tmp_path / "panel/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stretches": stretches}))
    assert refused(tmp_path / "panel").code == "panel_damaged"


@pytest.mark.parametrize(("name", "content"), [("sites.npz", "rows.npy"), ("rows.npy", "sites.npz")])
def test_open_panels_with_files_exchanged_is_refused(tmp_path: Path, name: str, content: str) -> None:
    build(tmp_path, RECORDS)
    folder = tmp_path / "panel/00"
    (folder / name).write_bytes((folder / content).read_bytes())
    assert refused(tmp_path / "panel").code == "panel_damaged"


def test_open_panels_with_an_empty_file_is_refused(tmp_path: Path) -> None:
    build(tmp_path, RECORDS)
    (tmp_path / "panel/00/rows.npy").write_bytes(b"")
    assert refused(tmp_path / "panel").code == "panel_damaged"


def test_panel_digest_depends_on_the_content() -> None:
    records: list[Record] = [(1, "A", "C", "0|1 0|0"), (2, "A", "C", "0|1 1|0")]
    digest = panel_of(records).digest
    assert panel_of(records).digest == digest
    for other in (
        [(1, "A", "C", "0|1 0|0"), (3, "A", "C", "0|1 1|0")],
        [(1, "A", "C", "0|1 0|0"), (2, "A", "G", "0|1 1|0")],
        [(1, "A", "C", "0|1 0|0"), (2, "A", "C", "0|1 0|1")],
    ):
        assert panel_of(other).digest != digest


@pytest.mark.parametrize(("points", "warned"), [((1, 1000), False), ((250, 1000), True), ((5000, 9000), True)])
def test_map_that_does_not_cover_the_panel_is_warned_about(
    tmp_path: Path, points: tuple[int, int], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Record] = [(pos, "A", "G", "0|1 1|1 0|0") for pos in (100, 200, 300, 400)]
    file = write_vcf(tmp_path / "panel.vcf", vcf_text(records))
    (tmp_path / "map").write_text(f"{points[0]} 20 0.0\n{points[1]} 20 0.1\n")
    build_panels([file], tmp_path / "panel", maps=[tmp_path / "map"], holdout=0.3, seed=1)
    assert ("There 1 cM/Mb is assumed" in caplog.text) == warned


def test_subset_panel_is_written_and_opened_unchanged(tmp_path: Path) -> None:
    panel = build(tmp_path, RECORDS)
    subset = subset_panel(panel, samples=[0, 2], sites=np.array([0, 2, 3]))
    assert subset.samples == ("A", "C")
    assert subset.alleles(slice(None)).tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert subset.allele_count.tolist() == [1, 1, 1]
    assert subset.sites.continues.tolist() == [False, False, False]
    assert {subset.samples[i] for i in subset.validation} <= {panel.samples[i] for i in panel.validation}
    write_panels([subset], tmp_path / "subset")
    assert open_panel(tmp_path / "subset").digest == subset.digest != panel.digest
    assert subset_panel(panel).digest == panel.digest


def test_panel_digest_does_not_depend_on_block_sizes(tmp_path: Path) -> None:
    panel = build(tmp_path, RECORDS)
    for size in (1, 2, 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        writer = PanelWriter(folder, panel.region, panel.samples, panel.haploid)
        for start in range(0, 4, size):
            rows = slice(start, start + size)
            writer.append(panel.sites.take(rows), panel.blocks.packed(rows), panel.cm[rows], panel.allele_count[rows])
        assert writer.n_sites == 4
        assert writer.close() == panel.digest
        for name in ("numbers.npy", "rows.npy", "sites.npz"):
            assert (folder / name).read_bytes() == (tmp_path / "panel/00" / name).read_bytes()


def test_panel_digest_depends_on_chromosome_and_ploidy() -> None:
    records: list[Record] = [(1, "A", "C", "0|1 0|0"), (2, "A", "C", "0|1 1|0")]
    panel = panel_of(records)
    others = [panel_of(records, chrom="21"), panel_of([(1, "A", "C", "0|1 0"), (2, "A", "C", "0|1 1")])]
    assert panel.digest not in {other.digest for other in others}
