"""The cache of prepared windows: predictions are the same, bit for bit, with and without it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.helpers.panels import subset_panel
from tests.helpers.tiny import perturbed_bundle, random_panel, target_of, tiny_config
from vcfbert.bundle import Bundle
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.imputation.imputer import Imputer
from vcfbert.retrieval.context import WindowContext, key_sites
from vcfbert.retrieval.ready import ReadyWindows, WindowCache

PANEL = random_panel(40, 200, seed=1)
TYPED = np.arange(1, 200, 5)
PLENTY = 10**9


def bundle_of(folder: Path, variant: str, k: int) -> Bundle:
    windows = {"window": 64, "flank": 8, "span_cm": 0.05, "copy_window": 64, "copy_span_cm": 0.3}
    config = tiny_config({"encode": windows, "retrieval": {"k": {"v17": k, "v18": k, "v19": k}}})
    reference = subset_panel(PANEL, samples=list(range(30)))
    return perturbed_bundle(folder / "bundle", [reference], variant, config)


def target_for(
    bundle: Bundle, samples: list[int], typed: npt.NDArray[np.int64], *, phased: bool = True
) -> MatchedTarget:
    """A target of samples of the panel that the bundle's panel was taken from."""
    target = target_of(PANEL, samples, typed, phased=phased)
    return replace(target, panel_digest=bundle.panels[0].digest)


def ready_windows(bundle: Bundle, kept: WindowCache) -> ReadyWindows:
    part = bundle.parts[0]
    return ReadyWindows(bundle.model, part.reference, part.features, bundle.k, kept)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of key sites of every window that is built."""
    told: list[int] = []
    build = WindowContext.build

    def telling(
        reference: object, features: object, window: object, key: npt.NDArray[np.int64], *more: object
    ) -> object:
        told.append(len(key))
        return build(reference, features, window, key, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(WindowContext, "build", telling)
    return told


def imputed(imputer: Imputer, target: MatchedTarget) -> bytes:
    parts = []
    for block in imputer.impute(target):
        parts += [block.haplotype_dosage, block.genotype_probability, block.loo_dosage]
    return b"".join(part.tobytes() for part in parts if part is not None)


@pytest.mark.parametrize(("variant", "k"), [("v17", 2), ("v18", 8), ("v19", 12), ("v19", 20)])
def test_cached_windows_give_identical_predictions(tmp_path: Path, built: list[int], variant: str, k: int) -> None:
    bundle = bundle_of(tmp_path, variant, k)  # of 60 haplotypes: encoded whole for k = 20 alone, as 4 * 12 < 60
    keeping, anew = Imputer(bundle, kept_bytes=PLENTY), Imputer(bundle)
    for samples in ([31], [33, 36], [39], [31, 33, 36, 39]):
        target = target_for(bundle, samples, TYPED, phased=variant != "v19" or len(samples) != 2)
        assert imputed(keeping, target) == imputed(anew, target)
    times = (2 if variant == "v19" else 1) + 4  # sampled phasings have their own windows
    assert len(built) == len(bundle.parts[0].windows) * times


def test_other_typed_sites_get_their_own_windows(tmp_path: Path, built: list[int]) -> None:
    bundle = bundle_of(tmp_path, "v19", 20)
    keeping = Imputer(bundle, kept_bytes=PLENTY)
    for typed in (TYPED, TYPED[::2], TYPED):
        target = target_for(bundle, [31], typed)
        assert imputed(keeping, target) == imputed(Imputer(bundle), target)
    assert len(built) == len(bundle.parts[0].windows) * (2 + 3)


def test_cache_keeps_last_used_windows_within_limit(tmp_path: Path, built: list[int]) -> None:
    bundle = bundle_of(tmp_path, "v19", 20)
    keys = [key_sites(window, TYPED, PANEL.cm) for window in bundle.parts[0].windows[:3]]
    (one, two, three), (a, b, c) = bundle.parts[0].windows[:3], keys
    kept = WindowCache(PLENTY)
    both = ready_windows(bundle, kept)
    both.get(one, a)
    both.get(two, b)
    room = WindowCache(kept.n_bytes)
    few = ready_windows(bundle, room)
    del built[:]
    for window, key in ((one, a), (two, b), (one, a), (three, c), (one, a), (two, b)):
        few.get(window, key)
        assert room.n_bytes <= kept.n_bytes
    assert built == [len(key) for key in (a, b, c, b)]
    del built[:]
    none = ready_windows(bundle, WindowCache())
    for _ in range(2):
        none.get(one, a)
    assert len(built) == 2


def test_narrowed_window_equals_newly_cut_window(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "v19", 20)
    window = bundle.parts[0].windows[1]
    ready = ready_windows(bundle, WindowCache(PLENTY)).get(window, key_sites(window, TYPED, PANEL.cm))
    rng = np.random.default_rng(3)
    with torch.inference_mode():
        for n in (1, 5, 40):
            rows = torch.from_numpy(rng.choice(60, size=(2, n)))
            context, renumbered, narrowed = ready.narrowed(bundle.model, rows)
            expected = bundle.model.encode_patterns(context.patterns, context.sites)
            assert torch.equal(context.alleles(renumbered), ready.context.alleles(rows))
            for part in fields(expected.intervals):
                one, other = getattr(narrowed.intervals, part.name), getattr(expected.intervals, part.name)
                np.testing.assert_array_equal(one, other, err_msg=part.name)
                assert one.dtype == other.dtype
