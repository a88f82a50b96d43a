from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from tests.helpers.batches import mismatches
from tests.helpers.tiny import haploid_panel, perturbed, random_panel, tiny_config
from vcfbert.config import MaskConfig, TrainConfig
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.refresh import build_retriever
from vcfbert.training.data import TrainingData, TrainingPanel, plan_epoch, shard

CPU = torch.device("cpu")


class Spy:
    """A retriever that records its queries and results."""

    def __init__(self, inner: Retriever) -> None:
        self.inner = inner
        self.index = inner.index
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []  # sites, queries, rows

    def retrieve(self, sites, distance_cm, queries, k, *, known=None, exclude=None):  # type: ignore[no-untyped-def]
        rows = self.inner.retrieve(sites, distance_cm, queries, k, known=known, exclude=exclude)
        self.calls.append((sites, queries, rows))
        return rows


CONFIG = tiny_config()


def split_of(panel: Panel, masks: MaskConfig = CONFIG.masks) -> TrainingPanel:
    reference = ReferenceSubset(panel, panel.training_haplotypes)
    return TrainingPanel(reference, encode(panel, CONFIG.encode), masks, CPU)


def data_of(
    split: TrainingPanel, retriever: Retriever | Spy | None = None, train: TrainConfig = CONFIG.train
) -> TrainingData:
    return TrainingData([split], [retriever or retriever_of(split)], split.masks, train)  # type: ignore[list-item]


def retriever_of(data: TrainingPanel, variant: str = "v18") -> Retriever:
    return build_retriever(perturbed(variant), data.reference, data.features, device=CPU)


def twins(seed: int = 0) -> Panel:
    """Every sample is homozygous throughout and has a twin: the nearest rows of each are its own and the twin's."""
    rng = np.random.default_rng(seed)
    founders = (rng.random((6, 130)) < 0.4).astype(np.uint8)
    panel = random_panel(12, 130, validation=(1, 4))
    alleles = np.repeat(founders, 4, axis=0)
    return dataclasses.replace(panel, blocks=SiteBlocks.of_alleles(alleles), allele_count=alleles.sum(axis=0))


def test_plan_covers_every_window_and_sample_once() -> None:
    config = TrainConfig(batch_size=4, samples_per_epoch=0, seed=1)
    steps = plan_epoch([10] * 3, config, epoch=0)
    assert sorted(len(s.samples) for s in steps) == [2, 2, 2, 4, 4, 4, 4, 4, 4]
    for window in range(3):
        drawn = np.concatenate([s.samples for s in steps if s.window == window])
        assert sorted(drawn.tolist()) == list(range(10))
    assert [s.window for s in steps] != sorted(s.window for s in steps)


def test_plan_depends_on_seed_and_epoch_alone() -> None:
    def drawn(seed: int, epoch: int) -> list[tuple[int, list[int]]]:
        config = TrainConfig(batch_size=4, samples_per_epoch=6, seed=seed)
        return [(s.window, s.samples.tolist()) for s in plan_epoch([10] * 3, config, epoch)]

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3)
    assert drawn(1, 2) != drawn(2, 2)
    assert sum(len(samples) for _, samples in drawn(1, 2)) == 18


def test_shards_are_disjoint_and_equally_long() -> None:
    steps = plan_epoch([10] * 5, TrainConfig(batch_size=10), epoch=0)
    parts = [shard(steps, rank, 2) for rank in range(2)]
    assert [len(p) for p in parts] == [2, 2]
    assert {id(s) for s in parts[0]}.isdisjoint(id(s) for s in parts[1])
    assert shard(steps, 0, 1) == steps


def test_queries_never_retrieve_own_sample() -> None:
    data = split_of(twins())
    steps = plan_epoch(data_of(data).n_samples, CONFIG.train, epoch=0)
    for variant in ("v17", "v18"):
        spy = Spy(retriever_of(data, variant))
        examples = list(data_of(data, spy).examples(steps, 0, k=8))
        assert len(spy.calls) == len(examples) == len(steps)
        for (sites, queries, rows), step in zip(spy.calls, steps, strict=True):
            own = np.repeat(step.samples, 2)[:, None]
            assert (rows.numpy() // 2 != own).all()
            truth = data.reference.alleles(sites.numpy())[[2 * s + h for s in step.samples for h in (0, 1)]]
            assert torch.equal(queries, torch.from_numpy(truth))
        unguarded = retriever_of(data, variant).retrieve(sites, torch.zeros(len(sites)), queries, 8)
        assert (unguarded.numpy() // 2 == own).any(axis=1).all(), "nothing to be guarded from"


def test_example_by_hand() -> None:
    """Queries contain typed alleles only; retrieved rows and answers come from the reference subset."""
    panel = random_panel(12, 130, validation=(1, 4))
    data = split_of(panel)
    retriever = retriever_of(data)
    window = data.windows[1]
    typed = np.arange(window.retrieval[1] - window.retrieval[0]) % 4 == 0
    samples = np.array([7, 2])
    context = data.context(window, typed)
    example = data.example(context, samples, retriever, 5)
    rows = np.array([14, 15, 4, 5])
    alleles = data.reference.alleles(window.sites)
    assert torch.equal(example.alleles, torch.from_numpy(alleles[rows]).view(2, 2, -1))
    in_window = typed[window.start - window.retrieval[0] : window.stop - window.retrieval[0]]
    assert torch.equal(example.masked, torch.from_numpy(~in_window))
    shown = example.batch.tokens.view(4, -1)
    assert torch.equal(shown[:, in_window], torch.from_numpy(alleles[rows][:, in_window]).long() + 1)
    assert (shown[:, ~in_window] == 3).all()
    key = np.flatnonzero(typed) + window.retrieval[0]
    queries = torch.from_numpy(data.reference.alleles(key)[rows])
    found = retriever.retrieve(
        torch.from_numpy(key),
        context.sites.key_distance_cm,
        queries,
        5,
        exclude=torch.from_numpy(np.stack([rows, rows ^ 1], 1)),
    )
    batch = example.batch
    assert torch.equal(batch.patterns[batch.retrieved].view(4, 5, -1), torch.from_numpy(alleles)[found])
    expected = torch.from_numpy(data.reference.alleles(key))[found] != queries[:, None]
    assert torch.equal(mismatches(batch).view(4, 5, -1), expected)


def with_other_validation(panel: Panel) -> Panel:
    """The panel with all alleles of its validation samples exchanged."""
    alleles = panel.alleles(slice(None)).copy()
    alleles[panel.validation_haplotypes] ^= 1
    return dataclasses.replace(panel, blocks=SiteBlocks.of_alleles(alleles), allele_count=alleles.sum(axis=0))


def test_examples_do_not_depend_on_validation_samples() -> None:
    panel = random_panel(12, 130, validation=(1, 4))
    one, other = split_of(panel), split_of(with_other_validation(panel))
    assert np.array_equal(one.reference.af, other.reference.af)
    assert np.array_equal(one.maf, other.maf)
    assert torch.equal(one.features, other.features)
    steps = plan_epoch([10] * len(one.windows), CONFIG.train, epoch=1)
    for a, b in zip(data_of(one).examples(steps, 1, 6), data_of(other).examples(steps, 1, 6), strict=True):
        assert torch.equal(a.alleles, b.alleles)
        assert torch.equal(a.masked, b.masked)
        assert torch.equal(a.batch.tokens, b.batch.tokens)
        assert torch.equal(mismatches(a.batch), mismatches(b.batch))
        assert torch.equal(a.batch.patterns[a.batch.retrieved], b.batch.patterns[b.batch.retrieved])


def test_index_does_not_depend_on_validation_samples() -> None:
    panel = random_panel(12, 130, validation=(1, 4))
    for backend in ("faiss", "torch"):
        found: list[npt.NDArray[np.int64]] = []
        for version in (panel, with_other_validation(panel)):
            data = split_of(version)
            retriever = build_retriever(perturbed("v18"), data.reference, data.features, backend=backend, device=CPU)
            queries = torch.from_numpy(panel.alleles(slice(None)))
            found.append(retriever.retrieve(torch.arange(130), torch.zeros(130), queries, 20).numpy())
        assert np.array_equal(*found)


def on(panel: Panel, chrom: str) -> Panel:
    """The same panel as one of another chromosome."""
    return dataclasses.replace(panel, region=Region(chrom), digest=chrom)


def test_steps_cover_windows_of_all_panels() -> None:
    splits = [
        split_of(random_panel(12, 130, seed=1, validation=(1, 4))),
        split_of(on(random_panel(8, 70, seed=2), "21")),
    ]
    data = TrainingData(splits, [retriever_of(split) for split in splits], CONFIG.masks, CONFIG.train)
    n_windows = [len(split.windows) for split in splits]
    assert data.n_samples == [10] * n_windows[0] + [8] * n_windows[1]
    steps = plan_epoch(data.n_samples, CONFIG.train, epoch=0)
    for step, example in zip(steps, data.examples(steps, 0, 5), strict=True):
        number, window = (0, step.window) if step.window < n_windows[0] else (1, step.window - n_windows[0])
        reference, sites = splits[number].reference, splits[number].windows[window].sites
        rows = np.stack([2 * step.samples, 2 * step.samples + 1], axis=1).reshape(-1)
        assert torch.equal(example.alleles.flatten(0, 1), torch.from_numpy(reference.alleles(sites)[rows]))
        assert np.array_equal(data.maf(step), splits[number].maf[sites])


def test_examples_of_first_panel_do_not_depend_on_later_panels() -> None:
    """Windows are numbered over all panels, so those of the first keep their masks."""
    first, second = split_of(random_panel(12, 130, seed=1)), split_of(on(random_panel(8, 70, seed=2), "21"))
    alone = data_of(first)
    both = TrainingData([first, second], [*alone.retrievers, retriever_of(second)], CONFIG.masks, CONFIG.train)
    steps = plan_epoch(alone.n_samples, CONFIG.train, epoch=0)
    for one, other in zip(alone.examples(steps, 0, 5), both.examples(steps, 0, 5), strict=True):
        assert torch.equal(one.batch.tokens, other.batch.tokens)


def test_haploid_sample_has_one_row_and_homozygous_coded_query() -> None:
    panel = haploid_panel()
    split = split_of(panel)
    assert split.reference.pairs.tolist() == [[0, 1], [2, 2], [3, 4], [5, 5], [6, 7], [8, 9]]
    spy = Spy(retriever_of(split, "v17"))
    context = split.context(split.windows[0], np.ones(len(range(*split.windows[0].retrieval)), dtype=bool))
    example = split.example(context, np.array([1, 0]), spy, 3)  # type: ignore[arg-type]
    assert torch.equal(example.alleles[0, 0], example.alleles[0, 1])
    (_, _, rows) = spy.calls[0]
    assert not (rows[:2] == 2).any()
    assert not ((rows[2:] == 0) | (rows[2:] == 1)).any()
