from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from vcfbert.copying.panel_filler import PanelFiller
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.site_blocks import SiteBlocks

Mask = npt.NDArray[np.bool_]


def with_alleles(panel: Panel, alleles: npt.NDArray[np.uint8]) -> Panel:
    """``panel`` with ``alleles`` [h, l]."""
    counts = alleles.sum(axis=0, dtype=np.int64)
    return dataclasses.replace(panel, blocks=SiteBlocks.of_alleles(alleles), allele_count=counts)


def filled(panel: Panel, unknown: Mask) -> npt.NDArray[np.uint8]:
    """The alleles [h, l] of ``panel`` after those that are ``unknown`` [h, l] are filled."""
    known = np.where(unknown, 0, panel.alleles(slice(None))).astype(np.uint8)
    parts = list(PanelFiller(1.0, threads=1).filled(with_alleles(panel, known), np.packbits(unknown.T, axis=1)))
    return np.unpackbits(np.concatenate(parts), axis=1, count=panel.n_haplotypes).T


@pytest.fixture(scope="module")
def unknown(demo_cut: Panel) -> Mask:
    """A twentieth of the calls, drawn at random: both haplotypes of a sample."""
    calls = np.random.default_rng(3).random((len(demo_cut.samples), demo_cut.n_sites)) < 0.05
    return np.repeat(calls, 2, axis=0)


def test_filled_alleles_are_mostly_right_and_known_ones_stay(demo_cut: Panel, unknown: Mask) -> None:
    truth = demo_cut.alleles(slice(None))
    found = filled(demo_cut, unknown)
    assert (found == truth)[~unknown].all()
    wrong = (found != truth)[unknown].mean()
    known_af = (truth & ~unknown).sum(axis=0) / (~unknown).sum(axis=0)
    more_frequent = np.broadcast_to(known_af > 0.5, truth.shape)
    assert wrong < 0.004
    assert wrong < (more_frequent != truth)[unknown].mean() / 5


def test_filled_training_alleles_do_not_depend_on_validation_samples(demo_cut: Panel, unknown: Mask) -> None:
    alleles = demo_cut.alleles(slice(None)).copy()
    held_out = demo_cut.validation_haplotypes
    alleles[held_out] = alleles[held_out][::-1]  # other samples' haplotypes: every frequency stays
    training = demo_cut.training_haplotypes
    complete = unknown.copy()
    complete[held_out] = False
    changed = filled(with_alleles(demo_cut, alleles), complete)
    assert (changed == filled(demo_cut, complete))[training].all()


def test_panel_of_one_training_sample_gets_the_more_frequent_allele(demo_cut: Panel) -> None:
    pair = np.array([0, 1, 2, 3])
    tiny = dataclasses.replace(
        with_alleles(demo_cut, demo_cut.alleles(slice(None), pair)), samples=demo_cut.samples[:2], validation=(1,)
    )
    unknown = np.zeros((4, demo_cut.n_sites), dtype=bool)
    unknown[0] = True
    expected = (2 * tiny.alleles(slice(None))[1:].sum(axis=0) > 3).astype(np.uint8)
    assert filled(tiny, unknown)[0].tolist() == expected.tolist()
