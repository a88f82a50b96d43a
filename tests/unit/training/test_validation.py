from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.helpers.tiny import TINY_MODEL, panel_from_alleles, perturbed, random_panel, tiny_config
from tests.unit.training.test_data import Spy, twins
from vcfbert.errors import InputError
from vcfbert.genotypes.encoding import windows_of
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.imputation.network_predictor import held_out_predictor
from vcfbert.imputation.query_batches import distinct_queries
from vcfbert.model.base import Variant
from vcfbert.model.variants import create
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.refresh import build_retriever
from vcfbert.training.validation import Scores, array_typing, figures, masked_typing, score_windows

CPU = torch.device("cpu")


def score(panel: Panel, model: Variant, haplotypes: np.ndarray, *, k: int = 6, **options: float) -> tuple[Scores, Spy]:
    config = tiny_config()
    reference = ReferenceSubset(panel, panel.training_haplotypes)
    features = reference_features(reference, CPU)
    spy = Spy(build_retriever(model, reference, features, device=CPU))
    batch_size = int(options.pop("batch_size", 4))
    predict = held_out_predictor(model, spy, reference, features, k, batch_size=batch_size)  # type: ignore[arg-type]
    windows, typed = windows_of(panel, config.encode), array_typing(reference, config.masks, 1)
    return score_windows(predict, panel, windows, haplotypes, typed, **options), spy


def rows_of_all(panel: Panel, call: tuple[torch.Tensor, ...], haplotypes: np.ndarray) -> np.ndarray:
    """Rows retrieved for each haplotype, though equal haplotypes are retrieved for once."""
    sites, _, found = call
    own = torch.from_numpy(ReferenceSubset(panel, panel.training_haplotypes).rows_of_sample(haplotypes))
    alleles = torch.from_numpy(panel.alleles(sites.numpy(), haplotypes))
    return found[distinct_queries(alleles, None, own)[1]].numpy()


def test_training_haplotypes_never_retrieve_own_rows() -> None:
    panel = twins()
    haplotypes = np.concatenate([panel.training_haplotypes[:6], panel.validation_haplotypes])
    for model in (create("v17", TINY_MODEL), create("v18", TINY_MODEL)):
        for given in (haplotypes, haplotypes[:6], panel.validation_haplotypes):
            _, spy = score(panel, model, given)
            rows = ReferenceSubset(panel, panel.training_haplotypes).rows(given)
            for call in spy.calls:
                own = rows_of_all(panel, call, given) // 2 == (rows // 2)[:, None]
                assert not own[rows >= 0].any()


def test_scores_by_hand() -> None:
    """Untrained V17 with k = 1 predicts 0.98 r + 0.02 AF at untyped sites of the cores."""
    panel = random_panel(12, 130, seed=5, validation=(1, 4))
    haplotypes = panel.validation_haplotypes
    scores, spy = score(panel, create("v17", TINY_MODEL), haplotypes, k=1)
    reference = ReferenceSubset(panel, panel.training_haplotypes)
    typed_sites = array_typing(reference, tiny_config().masks, 1)
    loss, count, hits = 0.0, 0, np.zeros(3, dtype=int)
    for window, call in zip(windows_of(panel, tiny_config().encode), spy.calls, strict=True):
        core = np.arange(*window.core)
        untyped = core[~typed_sites(window)[core - window.retrieval[0]]]
        truth = panel.alleles(untyped, haplotypes) == 1
        voted = reference.alleles(untyped)[rows_of_all(panel, call, haplotypes)[:, 0]]
        p = 0.98 * voted + 0.02 * reference.af[untyped].clip(1e-4, 1 - 1e-4)
        loss -= np.log(np.where(truth, p, 1 - p)).sum()
        count += truth.size
        hits += [(truth & (p >= 0.5)).sum(), (~truth & (p >= 0.5)).sum(), (truth & (p < 0.5)).sum()]
    assert scores.count == count
    assert scores.mean_loss == pytest.approx(loss / count, rel=1e-4)
    assert scores.f1.f1 == pytest.approx(2 * hits[0] / (2 * hits[0] + hits[1] + hits[2]))


def test_scores_do_not_depend_on_batches_or_training_mode() -> None:
    panel = random_panel(12, 130, validation=(1, 4, 7))
    model = create("v18", dataclasses.replace(TINY_MODEL, dropout=0.3))
    model.haplotype_head.project.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    one, _ = score(panel, model.train(), panel.validation_haplotypes, batch_size=1)
    all_at_once, _ = score(panel, model.train(), panel.validation_haplotypes, batch_size=64)
    assert one.mean_loss == pytest.approx(all_at_once.mean_loss, rel=1e-5)
    assert one.f1.values() == all_at_once.f1.values()
    assert one.r2.values() == pytest.approx(all_at_once.r2.values(), rel=1e-4)


def test_min_maf_excludes_rare_sites() -> None:
    panel = random_panel(12, 130, validation=(1, 4))
    model = perturbed("v17")
    everything, _ = score(panel, model, panel.validation_haplotypes)
    common, _ = score(panel, model, panel.validation_haplotypes, min_maf=0.1)
    few = panel.maf < 0.1
    assert 0 < few.sum() < 130
    assert everything.count - common.count == few.sum() * 4  # array-like typing takes none of them


def test_figures_without_varying_site_are_refused() -> None:
    panel = panel_from_alleles(np.zeros((24, 130), dtype=np.uint8), validation=(1, 4))
    scores, _ = score(panel, create("v17", TINY_MODEL), panel.validation_haplotypes)
    with pytest.raises(InputError) as caught:
        figures(scores, scores)
    assert caught.value.code == "too_few_sites"


def test_merged_scores_equal_scores_of_all() -> None:
    panel = random_panel(12, 130, validation=(1, 4))
    model = perturbed("v18")
    whole, _ = score(panel, model, panel.validation_haplotypes)
    merged = Scores()
    for sample in (0, 1):
        merged.merge(score(panel, model, panel.validation_haplotypes[2 * sample : 2 * sample + 2])[0])
    assert merged.count == whole.count
    assert merged.mean_loss == pytest.approx(whole.mean_loss, rel=1e-5)
    assert merged.f1.values() == whole.f1.values()


def test_typed_sites_of_masked_and_array_protocols() -> None:
    panel = random_panel(30, 400, seed=2, validation=(1, 4))
    reference = ReferenceSubset(panel, panel.training_haplotypes)
    config = tiny_config()
    masked = masked_typing(reference, config.evaluate, 1)
    array = array_typing(reference, config.masks, 1)
    for window in windows_of(panel, config.encode):
        maf = panel.maf[window.retrieval_sites]
        assert np.array_equal(masked(window), masked(window))
        assert not masked(window)[maf < config.evaluate.min_maf].any()
        assert np.array_equal(array(window), array(window))
        assert array(window).sum() == round(np.sqrt(0.01 * 0.20) * len(maf))
