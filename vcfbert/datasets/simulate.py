"""Simulates panels and targets of any size for benchmarks: coalescent haplotypes of several populations.

Demography: the out-of-Africa model of Gravel et al. (2011, PNAS 108:11983) with the admixed Americans of Browning et
al. (2018, PLoS Genetics 14:e1007385). Most recombination falls into hot spots (Myers et al. 2005, Science 310:321).
Mutation is binary at discrete positions, so every site is biallelic and no position appears twice. Results on simulated
panels show how cost grows, not how accurate a method is.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import exp
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

import vcfbert
from vcfbert.artifacts import atomic_folder
from vcfbert.errors import InputError, MissingExtraError
from vcfbert.genotypes.bgzf import MAX_TABIX_POSITION, tabix_index
from vcfbert.genotypes.record_formatter import RecordBytes
from vcfbert.genotypes.vcf_writer import write_records

KIND: Final = "simulation"
FORMAT_VERSION: Final = 1
CHROM: Final = "1"
POPULATIONS: Final = ("EUR", "AFR", "EAS", "AMR")

PANEL: Final = "panel.vcf.gz"
TRUTH: Final = "target_truth.vcf.gz"
ARRAY: Final = "target_array.vcf.gz"
ARRAY_PHASED: Final = "target_array_phased.vcf.gz"
TYPED: Final = "typed.tsv"
MAP: Final = "map.gmap.gz"
GROUPS: Final = "groups.tsv"

# Per base and generation.
MUTATION_RATE: Final = 1.25e-8
# In Morgans per base and generation: 1.2 cM/Mb, most of it in hot spots.
MEAN_RECOMBINATION: Final = 1.2e-8
HOT_FRACTION: Final = 0.7  # of recombination
HOT_BASES: Final = 2_000
BASES_PER_HOT_SPOT: Final = 75_000

TYPED_MAF: Final = 0.05
_TRANSITION: Final = 0.68  # fraction of SNPs, as in sequenced genomes
_BASES: Final = np.array(["A", "G", "C", "T"], dtype=object)  # a base's transition is index ^ 1
BLOCK_CELLS: Final = 1 << 24  # alleles decoded and written at once: some 100 MB of temporaries

Alleles = npt.NDArray[np.uint8]
Begin = Callable[[int], None]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Simulation:
    """The parameters of a simulation.

    ``haplotypes``: of the panel, an even number. ``targets``: diploid samples that the panel does not contain. Both are
    split evenly among the first ``populations`` of POPULATIONS. Raises InputError 'simulation_invalid'.
    """

    haplotypes: int = 2000
    targets: int = 100
    length_mb: float = 3.0
    populations: int = 3
    typed_per_mb: float = 165.0  # density of typed sites
    seed: int = 17

    def __post_init__(self) -> None:
        max_mb = (MAX_TABIX_POSITION - 1) / 1e6
        _require(1 <= self.populations <= len(POPULATIONS), f"populations must be 1 to {len(POPULATIONS)}")
        _require(
            self.haplotypes % 2 == 0 and self.haplotypes >= 2 * self.populations,
            "haplotypes must be an even number, at least two for each population",
        )
        _require(self.targets >= 1, "targets must be at least 1")
        _require(HOT_BASES / 1e6 < self.length_mb <= max_mb, f"length must be {HOT_BASES / 1e6:g} to {max_mb:.0f} Mb")
        _require(self.typed_per_mb > 0, "typed sites per Mb must be positive")
        _require(self.seed >= 0, "seed must not be negative")

    @property
    def bases(self) -> int:
        """Length of the region in base pairs."""
        return round(self.length_mb * 1e6)


class SiteTable(NamedTuple):
    """Sites, each field [n_sites]: 1-based positions, bases, and the ALT frequency in the panel."""

    pos: npt.NDArray[np.int64]
    ref: npt.NDArray[np.object_]
    alt: npt.NDArray[np.object_]
    af: npt.NDArray[np.float64]

    def rows(self, at: npt.NDArray[Any] | slice) -> SiteTable:
        """The sites ``at``: their indices, or a slice."""
        return SiteTable(self.pos[at], self.ref[at], self.alt[at], self.af[at])


def simulate(
    simulation: Simulation,
    out: Path,
    *,
    threads: int = 2,
    begin: Begin | None = None,
    progress: Progress | None = None,
    block_cells: int = BLOCK_CELLS,
) -> dict[str, Any]:
    """Simulates a panel and targets, writes them to the folder ``out`` and returns the figures of its manifest.

    The panel and the truth are phased. There is one array file with phased and one with unphased targets. They hold one
    typed site per bin of 1 / ``typed_per_mb`` Mb: a site with panel MAF of at least TYPED_MAF whose alleles are not
    complementary (A/T or C/G). Sites that do not vary in the panel are excluded. The same parameters and version of
    msprime give the same files.

    ``begin`` receives the maximum number of sites, ``progress`` the number of newly written ones.
    ``block_cells``: alleles decoded and written at once; it does not change the files. Host memory grows
    with the tree sequence and with targets x sites / 4 bytes, not with haplotypes x sites.

    Raises MissingExtraError without msprime, and InputError where ``out`` cannot be written or no site can be typed.
    """
    started = time.perf_counter()
    rng = np.random.default_rng(simulation.seed)
    figures: dict[str, Any] = {}
    with atomic_folder(out, kind=KIND, version=FORMAT_VERSION, manifest=figures) as folder:
        edges, rates = recombination_rates(simulation.bases, rng)
        trees = simulate_trees(simulation, edges, rates, rng)
        if begin is not None:
            begin(int(trees.num_sites))
        targets = _Targets(simulation.targets)
        _write_vcf(
            folder / PANEL,
            sample_names("P", simulation.haplotypes // 2),
            _panel_records(_decoded(trees, block_cells), trees, simulation, rng, targets, progress),
            threads,
        )
        typed = _write_targets(folder, simulation, targets, rng, threads)
        _write_map(folder / MAP, edges, rates)
        (folder / GROUPS).write_text(_groups_text(simulation))
        figures |= {
            "parameters": asdict(simulation),
            "msprime": _msprime().__version__,
            "sites": targets.n_sites,
            "typed_sites": len(typed),
            "centimorgans": round(float((rates * np.diff(edges)).sum() * 100), 6),
            "seconds": round(time.perf_counter() - started, 2),
        }
    return figures


def sample_names(letter: str, count: int) -> list[str]:
    """Names of ``count`` samples, such as P00001."""
    return [f"{letter}{i:05d}" for i in range(1, count + 1)]


def split_evenly(count: int, populations: int) -> list[int]:
    """Samples per population. The first populations get one more where ``count`` is not divisible."""
    return [count // populations + (i < count % populations) for i in range(populations)]


def recombination_rates(bases: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Edges [m + 1] of intervals as 0-based positions, and their rates [m] in Morgans per base.

    Hot spots of HOT_BASES, one per BASES_PER_HOT_SPOT on average, have exponentially distributed strengths and lie on
    an even background. Both are scaled to MEAN_RECOMBINATION and HOT_FRACTION.
    """
    edges = np.append(np.arange(0, bases - HOT_BASES // 2, HOT_BASES), bases)
    widths = np.diff(edges)
    n_hot = min(max(round(bases / BASES_PER_HOT_SPOT), 1), len(widths))
    strength = np.zeros(len(widths))
    strength[rng.choice(len(widths), size=n_hot, replace=False)] = rng.exponential(size=n_hot)
    rates = np.full(len(widths), (1 - HOT_FRACTION) * MEAN_RECOMBINATION)
    rates += HOT_FRACTION * MEAN_RECOMBINATION * bases * strength / (strength * widths).sum()
    change = np.append(0, np.flatnonzero(np.diff(rates)) + 1)
    return np.append(edges[change], bases), rates[change]


def simulate_trees(
    simulation: Simulation, edges: npt.NDArray[np.int64], rates: npt.NDArray[np.float64], rng: np.random.Generator
) -> Any:
    """A tree sequence. Its first samples are the targets' haplotypes by population, then the panel's."""
    msprime = _msprime()
    names = POPULATIONS[: simulation.populations]
    split = (split_evenly(n, len(names)) for n in (simulation.targets, simulation.haplotypes // 2))
    samples = [
        msprime.SampleSet(count, population=name)
        for counts in split
        for name, count in zip(names, counts, strict=True)
        if count
    ]
    trees = msprime.sim_ancestry(
        samples,
        demography=_demography(msprime),
        recombination_rate=msprime.RateMap(position=edges, rate=rates),
        random_seed=int(rng.integers(1, 2**31)),
    )
    model = msprime.BinaryMutationModel()
    return msprime.sim_mutations(trees, rate=MUTATION_RATE, model=model, random_seed=int(rng.integers(1, 2**31)))


def _demography(msprime: Any) -> Any:
    """Population sizes in diploids, times in generations before the present, growth and migration per generation."""
    split_of_eurasia, out_of_africa, african_growth, admixture = 920, 2040, 5920, 12
    demography = msprime.Demography()

    def grown(name: str, founders: float, growth: float, since: int) -> None:
        demography.add_population(name=name, initial_size=founders * exp(growth * since), growth_rate=growth)

    grown("EUR", 1032, 0.0038, split_of_eurasia)
    grown("EAS", 554, 0.0048, split_of_eurasia)
    grown("AMR", 30_000, 0.05, admixture)
    for name, size in (("AFR", 14_474), ("OOA", 1861), ("ANC", 14_474)):
        demography.add_population(name=name, initial_size=size)
    for pair, rate in ((("AFR", "EUR"), 2.5e-5), (("AFR", "EAS"), 0.78e-5), (("EUR", "EAS"), 3.11e-5)):
        demography.set_symmetric_migration_rate(pair, rate)
    demography.add_admixture(
        time=admixture, derived="AMR", ancestral=["AFR", "EUR", "EAS"], proportions=[1 / 6, 1 / 3, 1 / 2]
    )
    demography.add_population_split(time=split_of_eurasia, derived=["EUR", "EAS"], ancestral="OOA")
    demography.add_symmetric_migration_rate_change(time=split_of_eurasia, populations=["AFR", "OOA"], rate=15e-5)
    demography.add_population_split(time=out_of_africa, derived=["AFR", "OOA"], ancestral="ANC")
    demography.add_population_parameters_change(time=african_growth, population="ANC", initial_size=7310)
    return demography


class _Targets:
    """Holds the targets' haplotypes, eight alleles per byte, and the sites while the panel is written."""

    def __init__(self, samples: int) -> None:
        self._haplotypes = 2 * samples
        self._packed: list[Alleles] = []
        self._sites: list[SiteTable] = []
        self.n_sites = 0

    def add(self, sites: SiteTable, alleles: Alleles) -> None:
        """``alleles`` [l, n_haplotypes] at ``sites`` [l]."""
        self._packed.append(np.packbits(alleles, axis=1))
        self._sites.append(sites)
        self.n_sites += len(sites.pos)

    def sites(self) -> SiteTable:
        return SiteTable(*(np.concatenate(columns) for columns in zip(*self._sites, strict=True)))

    def blocks(self) -> Iterator[tuple[SiteTable, Alleles]]:
        for sites, packed in zip(self._sites, self._packed, strict=True):
            yield sites, np.unpackbits(packed, axis=1, count=self._haplotypes)


def _panel_records(
    decoded: Iterable[Alleles],
    trees: Any,
    simulation: Simulation,
    rng: np.random.Generator,
    targets: _Targets,
    progress: Progress | None,
) -> Iterator[RecordBytes]:
    """The panel's records, from blocks of the trees' ``decoded`` alleles.

    Fills ``targets`` meanwhile, so that the trees are traversed once.
    """
    n_targets = 2 * simulation.targets
    pos = trees.sites_position.astype(np.int64) + 1
    ref, alt = _bases(len(pos), rng)
    start = 0
    for alleles in decoded:
        stop = start + len(alleles)
        panel = alleles[:, n_targets:]
        sites = SiteTable(pos[start:stop], ref[start:stop], alt[start:stop], panel.mean(axis=1))
        varies = np.flatnonzero((sites.af > 0.0) & (sites.af < 1.0))
        targets.add(sites.rows(varies), alleles[varies, :n_targets])
        yield genotype_records(sites.rows(varies), panel[varies], phased=True)
        if progress is not None:
            progress(len(alleles))
        start = stop


def _decoded(trees: Any, block_cells: int) -> Iterator[Alleles]:
    """Alleles [l, n_haplotypes], 1 for derived, in blocks of sites. A block is valid until the next one."""
    n_sites, n_haplotypes = int(trees.num_sites), int(trees.num_samples)
    block = np.empty((min(max(block_cells // n_haplotypes, 1), n_sites), n_haplotypes), dtype=np.uint8)
    filled = 0
    for done, variant in enumerate(trees.variants(alleles=("0", "1"), copy=False), start=1):
        block[filled] = variant.genotypes
        filled += 1
        if filled == len(block) or done == n_sites:
            yield block[:filled]
            filled = 0


def _bases(count: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """REF and ALT alleles [count], with the fraction of transitions of sequenced genomes."""
    ref = rng.integers(4, size=count)
    transversion = (ref ^ 2) ^ rng.integers(2, size=count)
    alt = np.where(rng.random(count) < _TRANSITION, ref ^ 1, transversion)
    return _BASES[ref], _BASES[alt]


def genotype_records(sites: SiteTable, alleles: Alleles, *, phased: bool) -> RecordBytes:
    """VCF records of ``alleles`` [l, 2 n_samples], a sample's two adjacent. Unphased genotypes are sorted."""
    pairs = alleles.reshape(len(alleles), -1, 2)
    cells = np.empty((*pairs.shape[:2], 4), dtype=np.uint8)  # "\t0|1" [l, n, 4]
    cells[:, :, 0] = ord("\t")
    cells[:, :, 2] = ord("|" if phased else "/")
    cells[:, :, 1::2] = (pairs if phased else np.sort(pairs, axis=2)) + ord("0")
    lines = []
    for pos, ref, alt, row in zip(sites.pos.tolist(), sites.ref, sites.alt, cells, strict=True):
        head = f"{CHROM}\t{pos}\t.\t{ref}\t{alt}\t.\tPASS\t.\tGT"
        lines.append(b"".join((head.encode(), row.tobytes(), b"\n")))
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    return RecordBytes(b"".join(lines), sites.pos - 1, sites.pos, ends)


def choose_typed(sites: SiteTable, simulation: Simulation, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Ascending indices into ``sites``: a random common site of each bin that has one. Bins are of equal length."""
    common = np.minimum(sites.af, 1.0 - sites.af) >= TYPED_MAF
    pair = np.char.add(sites.ref.astype(str), sites.alt.astype(str))
    candidates = np.flatnonzero(common & ~np.isin(pair, ["AT", "TA", "CG", "GC"]))
    if len(candidates) == 0:
        raise InputError(
            "simulation_no_typed",
            f"no site has a MAF of at least {TYPED_MAF:g}, so none can be typed",
            hint="simulate a longer region, or more haplotypes",
        )
    candidates = rng.permutation(candidates)
    n_bins = max(round(simulation.length_mb * simulation.typed_per_mb), 1)
    site_bin = (sites.pos[candidates] - 1) * n_bins // simulation.bases
    return np.sort(candidates[np.unique(site_bin, return_index=True)[1]])


def _write_targets(
    folder: Path, simulation: Simulation, targets: _Targets, rng: np.random.Generator, threads: int
) -> npt.NDArray[np.intp]:
    """Writes the truth, the array files and the table of typed sites. Returns the indices of the typed sites."""
    samples = sample_names("T", simulation.targets)
    truth = (genotype_records(sites, alleles, phased=True) for sites, alleles in targets.blocks())
    _write_vcf(folder / TRUTH, samples, truth, threads)
    all_sites = targets.sites()
    typed = choose_typed(all_sites, simulation, rng)
    sites = all_sites.rows(typed)
    alleles = np.concatenate([rows[np.isin(block.pos, sites.pos)] for block, rows in targets.blocks()])
    _write_vcf(folder / ARRAY, samples, iter([genotype_records(sites, alleles, phased=False)]), threads)
    _write_vcf(folder / ARRAY_PHASED, samples, iter([genotype_records(sites, alleles, phased=True)]), threads)
    (folder / TYPED).write_text("".join(f"{CHROM}\t{pos}\n" for pos in sites.pos.tolist()))
    return typed


def _write_vcf(path: Path, samples: Sequence[str], records: Iterator[RecordBytes], threads: int) -> None:
    columns = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples)
    head = (
        "##fileformat=VCFv4.3",
        f"##source=vcfbert {vcfbert.__version__} simulate",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        f"##contig=<ID={CHROM}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(columns),
    )
    with path.open("wb") as handle:
        offsets = write_records(handle, "".join(f"{line}\n" for line in head).encode(), [(CHROM, records)], threads)
    path.with_name(f"{path.name}.tbi").write_bytes(tabix_index(offsets))


def _write_map(path: Path, edges: npt.NDArray[np.int64], rates: npt.NDArray[np.float64]) -> None:
    """Writes the genetic map in SHAPEIT's columns. The rate is constant between rows, so interpolation is exact."""
    centimorgans = np.append(0.0, np.cumsum(rates * np.diff(edges))) * 100
    rows = (f"{pos}\t{CHROM}\t{cm:.8f}\n" for pos, cm in zip((edges + 1).tolist(), centimorgans.tolist(), strict=True))
    path.write_bytes(gzip.compress(("pos\tchr\tcM\n" + "".join(rows)).encode(), mtime=0))


def _groups_text(simulation: Simulation) -> str:
    """Lines of sample and population: first the targets, then the panel."""
    lines = []
    for letter, count in (("T", simulation.targets), ("P", simulation.haplotypes // 2)):
        of_sample = np.repeat(POPULATIONS[: simulation.populations], split_evenly(count, simulation.populations))
        lines += [f"{name}\t{group}\n" for name, group in zip(sample_names(letter, count), of_sample, strict=True)]
    return "".join(lines)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InputError("simulation_invalid", what, hint="see `vcfbert simulate --help`")


def _msprime() -> Any:
    try:
        import msprime
    except ImportError as error:
        raise MissingExtraError(
            "msprime_missing", "msprime is not installed", hint="pip install 'vcfbert[simulate]'"
        ) from error
    return msprime
