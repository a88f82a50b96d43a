"""Targets of another genome build: lifted by a chain file, or refused with what to do."""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pysam
import pytest

import vcfbert
from tests.helpers.chains import COMPLEMENT, Block, chain_text, moved_vcf, write_chain
from tests.helpers.chromosomes import X_POSITIONS, between
from tests.helpers.chromosomes import write as write_chromosomes
from tests.helpers.tiny import perturbed_bundle, tiny_config
from tests.helpers.vcf_text import Record, panel_of, record_line, vcf_text, write_vcf
from vcfbert.bundle.contents import Bundle
from vcfbert.bundle.load import load_bundle
from vcfbert.distributed.imputation import plan_job, run_job
from vcfbert.distributed.job import ChunkSpec, Settings
from vcfbert.distributed.scheduler import InProcess
from vcfbert.errors import InputError
from vcfbert.genotypes import qc
from vcfbert.genotypes.builds import LENGTHS, build_of
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.lift import TargetLift
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.qc import RefusedTargetError
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.sex_chromosomes import BUILDS
from vcfbert.imputation.files import ImputeOptions, impute_file, read_target
from vcfbert.imputation.imputer import Imputer

# The demo's first 100 kb, 20:1000000-1100000, in another build: moved by 7 Mb, with a gap, an inversion, and two
# stretches in exchanged order.
TO_OTHER = [
    Block(999_000, 31_000, 7_999_500),
    Block(1_030_500, 9_500, 8_031_000),
    Block(1_040_000, 20_000, 8_041_000, "-"),
    Block(1_060_000, 20_000, 8_085_000),
    Block(1_080_000, 24_000, 8_061_000),
]
CHAIN = [block.turned() for block in TO_OTHER]


@pytest.fixture(scope="module")
def folder(demo_cut: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config({"encode": {"window": 256, "flank": 16}})
    out = tmp_path_factory.mktemp("bundle") / "v19"
    perturbed_bundle(out, [demo_cut], "v19", config, size=0.1)
    return out


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load_bundle(folder)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    return write_chain(tmp_path / "otherToOurs.over.chain.gz", chain_text(CHAIN))


def is_lifted(pos: int, ref: str, alt: str) -> bool:
    block = next((block for block in TO_OTHER if block.lift(pos) is not None), None)
    if block is None or block.lift(pos + len(ref) - 1) is None:
        return False
    return block.strand == "+" or len(ref) == len(alt) == 1


def typed(panel: Panel, every: int = 6, seed: int = 3) -> list[Record]:
    """Some biallelic sites of a panel with the calls of three of its samples, those that can be lifted."""
    sites, rng = panel.sites, np.random.default_rng(seed)
    alone = ~sites.continues & ~np.append(sites.continues[1:], False)
    rows = []
    for site in np.flatnonzero(alone)[::every].tolist():
        pos, ref, alt = int(sites.pos[site]), sites.ref[site], sites.alt[site]
        a = panel.alleles(np.array([site])).ravel()[rng.integers(0, 40, 1)[0] :: 17][:6]
        if is_lifted(pos, ref, alt):
            rows.append((pos, ref, alt, f"{a[0]}|{a[1]} {a[2]}|{a[3]} {a[4]}/{a[5]}"))
    return rows


def records(path: Path) -> list[bytes]:
    return [line for line in gzip.decompress(path.read_bytes()).splitlines() if not line.startswith(b"##")]


@pytest.mark.parametrize("name", ["other.vcf", "other.vcf.gz", "other.bcf", "other.vcz"])
def test_same_person_in_both_builds_has_the_same_output(bundle: Bundle, chain: Path, tmp_path: Path, name: str) -> None:
    text = vcf_text(typed(bundle.panels[0]))
    ours = write_vcf(tmp_path / "ours.vcf", text)
    vcf = write_vcf(tmp_path / name.replace(".vcz", ".vcf.gz"), moved_vcf(text, TO_OTHER))
    other = to_zarr(vcf, tmp_path / name) if name.endswith(".vcz") else vcf
    first = impute_file(Imputer(bundle), ours, tmp_path / "1.vcf.gz")
    second = impute_file(Imputer(bundle), other, tmp_path / "2.vcf.gz", ImputeOptions(chain=str(chain)))
    assert records(tmp_path / "1.vcf.gz") == records(tmp_path / "2.vcf.gz")
    assert first.report.n_used == second.report.n_used > 100
    assert second.report.lift == {"lifted": first.report.n_target_sites}
    assert second.report.counts == first.report.counts


def to_zarr(vcf: Path, out: Path) -> Path:
    from bio2zarr.vcf import convert

    pysam.tabix_index(str(vcf), preset="vcf", force=True)
    convert([str(vcf)], str(out))
    return out


def test_front_door_takes_the_chain_file(bundle: Bundle, chain: Path, tmp_path: Path) -> None:
    text = moved_vcf(vcf_text(typed(bundle.panels[0], every=30)), TO_OTHER)
    other = write_vcf(tmp_path / "other.vcf", text)
    imputed = vcfbert.impute_file(bundle, other, tmp_path / "out.vcf", chain=chain)
    assert imputed.report.n_used == imputed.report.n_lifted > 20
    with pytest.raises(InputError, match="no site of the target"):
        vcfbert.impute_file(bundle, other, tmp_path / "none.vcf")


def test_exchanged_ref_of_the_other_build_is_exchanged_back(bundle: Bundle, chain: Path, tmp_path: Path) -> None:
    (panel,) = bundle.panels
    rows = [row for row in typed(panel, every=8) if len(row[1]) == len(row[2]) == 1 and COMPLEMENT[row[1]] != row[2]]
    turned = [(pos, alt, ref, calls.translate(str.maketrans("01", "10"))) for pos, ref, alt, calls in rows]
    other = write_vcf(tmp_path / "other.vcf", moved_vcf(vcf_text(rows[::2] + turned[1::2]), TO_OTHER))
    (lifted,), report = read_target(other, [panel], chain=chain)
    (ours,), _ = read_target(write_vcf(tmp_path / "ours.vcf", vcf_text(rows)), [panel])
    assert lifted.panel_site.tolist() == ours.panel_site.tolist()
    assert lifted.alleles.tolist() == ours.alleles.tolist()
    assert report.counts[qc.SWAPPED] == len(turned[1::2]) > 20


def test_tasks_lift_as_one_process_does(bundle: Bundle, folder: Path, chain: Path, tmp_path: Path) -> None:
    text = moved_vcf(vcf_text(typed(bundle.panels[0])), TO_OTHER)
    other, options = write_vcf(tmp_path / "other.vcf", text), ImputeOptions(chain=str(chain))
    impute_file(Imputer(bundle), other, tmp_path / "1.vcf.gz", options)
    settings = Settings(folder, "accurate", False, 64, 1)
    plans = []
    for number in (1, 2):
        plan = plan_job(
            settings, other, tmp_path / "2.vcf.gz", options, chunking=ChunkSpec(), work=tmp_path / f"w{number}"
        )
        plans.append(plan.job.folder.name)
        imputed = run_job(plan, InProcess(), tmp_path / "2.vcf.gz")
        assert records(tmp_path / "1.vcf.gz") == records(tmp_path / "2.vcf.gz")
        assert imputed.report.lift["lifted"] > 100
        write_chain(chain, chain_text(CHAIN) + "\n# changed")
    assert plans[0] != plans[1]  # a job of another chain file does not resume


# In the other build: position of each kind of record, and why it is not lifted.
SMALL = [
    Block(100, 100, 1100),
    Block(200, 50, 1300),
    Block(220, 60, 1500),
    Block(300, 100, 1600, "-"),
    Block(500, 50, 1100),
]


def small(tmp_path: Path, rows: Sequence[Record], panel: Sequence[Record], extra: str = "") -> qc.QcReport:
    chain = chain_text(SMALL) + "\n" + chain_text([Block(600, 50, 1100)], to="chr9")
    target = write_vcf(tmp_path / "t.vcf", vcf_text(rows) + extra)
    _, report = read_target(target, [panel_of(panel)], chain=write_chain(tmp_path / "a.chain", chain))
    return report


CALLS = "0|1 1|0 0|0 1|1"
UNLIFTED: dict[str, tuple[list[Record], str]] = {
    "gap": ([(290, "A", "G", CALLS)], "no_block"),
    "two blocks": ([(230, "A", "G", CALLS)], "several_blocks"),
    "REF over a border": ([(199, "ATT", "A", CALLS)], "split"),
    "another chromosome": ([(605, "A", "G", CALLS)], "other_chromosome"),
    "deletion on the reverse strand": ([(310, "AT", "A", CALLS)], "reverse_indel"),
    "insertion on the reverse strand": ([(310, "A", "AT", CALLS)], "reverse_indel"),
    "multiallelic with an indel on the reverse strand": ([(310, "A", "G,AT", CALLS)], "reverse_indel"),
    "two positions on one": ([(131, "A", "G", CALLS), (531, "A", "G", CALLS)], "same_position"),
}


@pytest.mark.parametrize("case", UNLIFTED)
def test_what_cannot_be_lifted_is_excluded_and_counted(tmp_path: Path, case: str) -> None:
    rows, reason = UNLIFTED[case]
    good: list[Record] = [(102, "A", "G", CALLS), (110, "A", "G", CALLS), (350, "T", "C", CALLS)]
    panel: list[Record] = [(pos, "A", "G", CALLS) for pos in (1102, 1110, 1131, 1651)]
    report = small(tmp_path, sorted([*good, *rows]), panel)
    unlifted = [note for note in report.notes if note.status == qc.UNLIFTED]
    n_sites = sum(row[2].count(",") + 1 for row in rows)
    assert report.lift == {"lifted": 3, reason: n_sites}
    assert sorted({(note.pos, note.ref) for note in unlifted}) == sorted({(row[0], row[1]) for row in rows})
    assert report.n_used == 3
    assert report.summary()["lift"] == report.lift


def test_record_on_the_reverse_strand_has_complemented_alleles(tmp_path: Path) -> None:
    target = write_vcf(tmp_path / "t.vcf", vcf_text([(310, "A", "C", CALLS), (311, "G", "T,A", "0|1 1|2 0|0 2|2")]))
    chain = write_chain(tmp_path / "a.chain", chain_text(SMALL))
    rows: list[Record] = [(1690, "C", "A", CALLS), (1691, "T", "G", CALLS)]  # 310 is the tenth of 100 bases
    (matched,), report = read_target(target, [panel_of([(1691, "T", "G", CALLS)])], chain=chain)
    assert report.n_used == 1
    assert matched.alleles[0].tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]
    (matched,), report = read_target(target, [panel_of(rows)], chain=chain)
    assert matched.panel_site.tolist() == [0, 1]
    assert matched.alleles[0].tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]  # ALT of the panel is the first of two


def test_reference_block_is_not_lifted_but_for_its_first_base(tmp_path: Path) -> None:
    end = '##INFO=<ID=END,Number=1,Type=Integer,Description="End">\n'
    block = record_line((110, "A", "<NON_REF>", "0/0")).replace("\t.\t.\t.\tGT", "\t.\t.\tEND=190\tGT")
    text = vcf_text([(102, "A", "G", "0/1")]).replace("##FORMAT", f"{end}##FORMAT", 1) + f"{block}\n"
    target = write_vcf(tmp_path / "t.vcf", text)
    panel = panel_of([(pos, "A", "G", CALLS) for pos in (1102, 1110, 1131, 1150)])
    (matched,), report = read_target(target, [panel], chain=write_chain(tmp_path / "a.chain", chain_text(SMALL)))
    assert matched.panel_site.tolist() == [0, 1]
    assert report.lift == {"lifted": 2, "reference_block": 2}


def refusal(target: Path, panels: Sequence[Panel], chain: Path | None = None) -> RefusedTargetError:
    with pytest.raises(RefusedTargetError) as caught:
        read_target(target, panels, chain=chain)
    return caught.value


def with_length(text: str, build: str) -> str:
    return text.replace("<ID=20>", f"<ID=20,length={LENGTHS[build]['20']}>")


def test_other_build_by_few_common_sites_is_refused_with_its_name(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    (panel,) = bundle.panels
    pos = np.unique(rng.integers(panel.sites.pos[0], panel.sites.pos[-1], 300)).tolist()
    rows: list[Record] = [(one, *"AGCTCTGA"[2 * (one % 4) : 2 * (one % 4) + 2], "0|1 0|0") for one in pos]
    target = write_vcf(tmp_path / "t.vcf", with_length(vcf_text(rows), "GRCh37"))
    error = refusal(target, [panel])
    assert error.code == "wrong_build"
    assert error.what.endswith("its header shows GRCh37")
    assert "--chain hg19ToHg38.over.chain.gz" in str(error.hint)
    assert error.report.n_target_sites == len(pos)
    bare = refusal(write_vcf(tmp_path / "bare.vcf", vcf_text(rows)), [panel])
    assert "--chain FILE" in str(bare.hint)


def test_other_build_without_common_site_is_refused_with_its_name(tmp_path: Path) -> None:
    target = write_vcf(tmp_path / "t.vcf", with_length(vcf_text([(5000, "A", "G", CALLS)]), "T2T-CHM13"))
    error = refusal(target, [panel_of([(100, "A", "G", CALLS)])])
    assert error.code == "no_overlap"
    assert "--chain hs1ToHg38.over.chain.gz" in str(error.hint)


def test_gvcf_of_another_build_is_refused_though_its_blocks_cover_the_panel(bundle: Bundle, tmp_path: Path) -> None:
    (panel,) = bundle.panels
    end = '##INFO=<ID=END,Number=1,Type=Integer,Description="End">\n'
    lines, rng = [], np.random.default_rng(7)
    for start in range(1_000_000, 1_100_000, 1000):
        ref, alt = rng.permutation(list("ACGT"))[:2]
        block = record_line((start + 1, "A", "<NON_REF>", "0/0"))
        lines += [block.replace("\t.\t.\t.\tGT", f"\t.\t.\tEND={start + 999}\tGT")]
        lines += [record_line((start + 1000, str(ref), str(alt), "0/1"))]
    text = vcf_text([(999_000, "A", "G", "0/1")]).replace("##FORMAT", f"{end}##FORMAT", 1)
    target = write_vcf(tmp_path / "t.vcf", text + "\n".join(lines) + "\n")
    assert refusal(target, [panel]).code == "wrong_build"


def test_sparse_panel_of_the_same_build_accepts_a_dense_target() -> None:
    from vcfbert.genotypes.build_fit import BuildFit

    array_panel = BuildFit(n_sites=100_000, n_shared=800, n_agreeing=790, by_chance=1.2)
    assert not array_panel.is_chance
    assert not array_panel.has_other_alleles
    other = BuildFit(n_sites=1000, n_shared=9, n_agreeing=5, by_chance=8.0)
    assert other.is_chance
    few = BuildFit(n_sites=9, n_shared=0, n_agreeing=0, by_chance=0.0)
    assert not few.is_chance


def test_chain_for_a_target_that_is_of_the_panels_build_is_refused(bundle: Bundle, chain: Path, tmp_path: Path) -> None:
    ours = write_vcf(tmp_path / "ours.vcf", vcf_text(typed(bundle.panels[0])))
    error = refusal(ours, bundle.panels, chain)
    assert error.code == "nothing_lifted"
    assert "give no chain file" in str(error.hint)
    close = write_chain(tmp_path / "close.chain", chain_text([Block(900_000, 300_000, 900_040)]))
    error = refusal(ours, bundle.panels, close)
    assert error.code == "wrong_build"
    assert "give no chain file" in str(error.hint)


def test_chain_in_the_wrong_direction_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = write_vcf(tmp_path / "other.vcf", moved_vcf(vcf_text(typed(bundle.panels[0])), TO_OTHER))
    error = refusal(other, bundle.panels, write_chain(tmp_path / "a.chain", chain_text(TO_OTHER)))
    assert error.code == "nothing_lifted"
    assert "give the chain file that leads" in str(error.hint)


def test_chain_without_the_targets_chromosome_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = write_vcf(tmp_path / "other.vcf", moved_vcf(vcf_text(typed(bundle.panels[0])), TO_OTHER))
    error = refusal(other, bundle.panels, write_chain(tmp_path / "a.chain", chain_text(CHAIN, chrom="chr21")))
    assert error.code == "chain_chromosome"
    assert "20" in error.what
    assert error.report.lift == {"no_chromosome": sum(not line.startswith("#") for line in other.open())}


def test_broken_chain_is_refused_before_the_target_is_read(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_target(tmp_path / "none.vcf", bundle.panels, chain=write_chain(tmp_path / "a.chain", "chain 1\n"))
    assert caught.value.code == "chain_invalid"


@pytest.mark.parametrize("names", ["X", "chrX"])
def test_parts_of_x_are_lifted_each(tmp_path: Path, names: str) -> None:
    x, y = BUILDS["b37"], BUILDS["b38"]
    vcf = write_chromosomes(tmp_path / "panel.vcf.gz", ["X"], 12, males=(0, 3), samples=slice(0, 9))
    panels = build_panels([vcf], tmp_path / "panel", holdout=0.2, seed=3)
    to_other = [
        Block(0, x.par1_end, y.par1_end - x.par1_end),
        Block(x.par1_end, x.par2_start - 1 - x.par1_end - 200, y.par1_end),
        Block(x.par2_start - 1, x.x_length - x.par2_start + 1, y.par2_start - 1),
    ]
    ours = write_chromosomes(tmp_path / "ours.vcf", ["X"], 12, males=(10,), samples=slice(9, 12))
    text = moved_vcf(ours.read_text(), to_other).replace("ID=X", f"ID={names}").replace("\nX\t", f"\n{names}\t")
    other = write_vcf(tmp_path / "other.vcf", text)
    back = chain_text([block.turned() for block in to_other], chrom="chrX", to="chrX", bases=2 * 10**8)
    chain = write_chain(tmp_path / "a.chain", back.replace("100000000", "200000000"))
    lifted, report = read_target(other, panels, chain=chain)
    expected, _ = read_target(ours, panels)
    assert [one.alleles.tolist() for one in lifted] == [one.alleles.tolist() for one in expected]
    assert [one.haploid.any() for one in lifted] == [False, True, False]
    assert report.lift == {"lifted": len(X_POSITIONS)}
    assert any(between(pos) for pos in X_POSITIONS)


def test_build_is_told_by_lengths_or_else_by_name() -> None:
    assert build_of({"chr20": 64444167}, ["##reference=hg19.fa"]) == "GRCh38"
    assert build_of({"20": 63025520}, []) == "GRCh37"
    assert build_of({"20": 5}, ["##contig=<ID=20,length=5,assembly=b37>"]) == "GRCh37"
    assert build_of({}, ["##reference=file:///ref/GRCh38.fa", "##source=hg19"]) == "GRCh38"
    assert build_of({}, ["##reference=hs1.fa"]) == "T2T-CHM13"
    assert build_of({"20": 64444167, "21": 48129895}, []) is None
    assert build_of({}, ["##source=x"]) is None
    assert {name: lengths["X"] for name, lengths in LENGTHS.items()}["GRCh37"] == BUILDS["b37"].x_length
    assert LENGTHS["GRCh38"]["X"] == BUILDS["b38"].x_length
    assert [len(lengths) for lengths in LENGTHS.values()] == [24, 24, 24]


def test_lift_of_a_million_sites_takes_under_four_cpu_seconds(tmp_path: Path) -> None:
    n = 1_000_000
    pos = np.arange(1, n + 1, dtype=np.int32) * 50
    blocks = [Block(start, 2900, start + 70, "+-"[start % 2]) for start in range(0, 50 * n, 2999)]
    chain = write_chain(tmp_path / "a.chain", chain_text(blocks))
    ref, alt = np.array(["A", "C"], dtype=object)[np.arange(n) % 2], np.full(n, "G", dtype=object)
    sites = Sites("20", pos, ref, alt, np.full(n, ".", dtype=object), np.zeros(n, dtype=bool))
    genotypes = Genotypes(("A",), sites, np.zeros((n, 1, 2), dtype=np.int8), np.ones((n, 1), dtype=bool))
    panel = panel_of([(one, "A", "G", CALLS) for one in (120, 170)])
    begin = time.process_time()
    lift = TargetLift.read(chain, [panel])
    lifted = lift.lift(genotypes, 0)
    assert time.process_time() - begin < 4.0
    assert isinstance(lifted, Genotypes)
    assert 0.95 * n < len(lifted.sites) == lift.counts["lifted"] < 0.98 * n
    assert (np.diff(lifted.sites.pos) > 0).all()
