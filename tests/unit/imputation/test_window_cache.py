"""The cache of prepared windows: its limits, and predictions that are the same, bit for bit, with and without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.helpers.panels import subset_panel
from tests.helpers.tiny import perturbed_bundle, random_panel, target_of, tiny_config
from vcfbert.bundle.contents import Bundle
from vcfbert.copying.pbwt import PanelOrder
from vcfbert.copying.window import HmmWindow
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.window_cache import WindowCache
from vcfbert.kernels import Indices
from vcfbert.retrieval.context import WindowContext

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


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of key sites of every window that is built."""
    told: list[int] = []
    of, build = HmmWindow.of, WindowContext.build

    def telling_of(reference: Any, sites: Any, key: Indices, **options: Any) -> HmmWindow:
        told.append(len(key))
        return of(reference, sites, key, **options)

    def telling_build(reference: Any, features: Any, window: Any, key: Indices, *more: Any) -> WindowContext:
        told.append(len(key))
        return build(reference, features, window, key, *more)

    monkeypatch.setattr(HmmWindow, "of", telling_of)
    monkeypatch.setattr(WindowContext, "build", telling_build)
    return told


def imputed(imputer: Imputer, target: MatchedTarget) -> bytes:
    parts = []
    for block in imputer.impute(target):
        parts += [block.haplotype_dosage, block.genotype_probability, block.loo_dosage]
    return b"".join(part.tobytes() for part in parts if part is not None)


@pytest.mark.parametrize(("variant", "k"), [("v17", 2), ("v18", 8), ("v19", 12)])
def test_cached_windows_give_identical_predictions(tmp_path: Path, built: list[int], variant: str, k: int) -> None:
    bundle = bundle_of(tmp_path, variant, k)
    keeping, anew = Imputer(bundle, kept_bytes=PLENTY), Imputer(bundle)
    for samples in ([31], [33, 36], [39], [31, 33, 36, 39]):
        target = target_for(bundle, samples, TYPED, phased=variant != "v19" or len(samples) != 2)
        assert imputed(keeping, target) == imputed(anew, target)
    assert len(built) == len(bundle.parts[0].windows) * (1 + 4)


@pytest.mark.parametrize("variant", ["v18", "v19"])
def test_other_typed_sites_get_their_own_windows(tmp_path: Path, built: list[int], variant: str) -> None:
    bundle = bundle_of(tmp_path, variant, 20)
    keeping = Imputer(bundle, kept_bytes=PLENTY)
    for typed in (TYPED, TYPED[::2], TYPED):
        target = target_for(bundle, [31], typed)
        assert imputed(keeping, target) == imputed(Imputer(bundle), target)
    assert len(built) == len(bundle.parts[0].windows) * (2 + 3)


@dataclass(frozen=True)
class Inner:
    array: npt.NDArray[np.float32]
    tensor: torch.Tensor


@dataclass(frozen=True)
class Prepared:
    """A prepared window of eight bytes per value of its inner array and tensor, and sixteen more."""

    inner: Inner | None
    more: npt.NDArray[np.int64]
    panel: Panel | None = None
    name: str = "window"

    @classmethod
    def of(cls, n: int) -> Prepared:
        return cls(Inner(np.zeros(n, np.float32), torch.zeros(n)), np.zeros(2, np.int64))


def test_size_is_that_of_all_arrays_without_the_panel() -> None:
    cache = WindowCache[Prepared](PLENTY)
    cache.add("a", Prepared.of(10))
    assert cache.n_bytes == 96
    cache.add("b", replace(Prepared.of(10), panel=PANEL))
    assert cache.n_bytes == 192
    cache.add("c", Prepared(None, np.zeros(3, np.int64)))
    assert cache.n_bytes == 216


def test_size_of_an_hmm_window_counts_the_sorted_orders() -> None:
    reference = ReferenceSubset(PANEL, np.arange(60))
    ready = HmmWindow.of(reference, slice(0, 200), TYPED)
    ready = replace(ready, order=PanelOrder.build(ready.order.panel, ready.key_cm, max_searched=0))
    cache = WindowCache[HmmWindow](PLENTY)
    cache.add("a", ready)
    order = ready.order
    sweeps = [array for sweep in order.sweeps or () for array in sweep if isinstance(array, np.ndarray)]
    held = [reference.haplotypes, ready.key, ready.fraction, order.panel, order.cm, *sweeps]
    assert cache.n_bytes == sum(array.nbytes for array in held)


def test_windows_unused_for_longest_are_dropped() -> None:
    cache = WindowCache[Prepared](2 * 96)
    a, b, c = (Prepared.of(10) for _ in range(3))
    cache.add("a", a)
    cache.add("b", b)
    assert cache.get("a") is a
    cache.add("c", c)
    assert cache.n_bytes == 192
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (a, None, c)


def test_large_window_drops_several_small_ones() -> None:
    cache = WindowCache[Prepared](3 * 96)
    for name in "abc":
        cache.add(name, Prepared.of(10))
    large = Prepared.of(20)  # 176 bytes
    cache.add("d", large)
    assert [cache.get(name) is not None for name in "abcd"] == [False, False, True, True]
    assert cache.n_bytes == 96 + 176


@pytest.mark.parametrize("limit", [0, 95])
def test_window_above_the_limit_is_not_cached(limit: int) -> None:
    cache = WindowCache[Prepared](limit)
    cache.add("a", Prepared.of(10))
    assert (cache.get("a"), cache.n_bytes) == (None, 0)


def test_window_added_twice_counts_once() -> None:
    """Two threads may prepare the same window."""
    cache = WindowCache[Prepared](PLENTY)
    first = Prepared.of(10)
    cache.add("a", first)
    cache.add("a", Prepared.of(10))
    assert (cache.get("a"), cache.n_bytes) == (first, 96)


@pytest.mark.parametrize("variant", ["v18", "v19"])
def test_cached_windows_of_an_imputer_stay_within_its_limit(tmp_path: Path, built: list[int], variant: str) -> None:
    bundle = bundle_of(tmp_path, variant, 20)
    n_windows = len(bundle.parts[0].windows)
    target = target_for(bundle, [31], TYPED)
    plenty = Imputer(bundle, kept_bytes=PLENTY)
    expected = imputed(plenty, target)
    n_bytes = plenty._predictor._cache.n_bytes  # type: ignore[attr-defined]
    assert n_bytes > 0
    few = Imputer(bundle, kept_bytes=n_bytes // 2)
    built.clear()
    for _ in range(2):
        assert imputed(few, target) == expected
        assert few._predictor._cache.n_bytes <= n_bytes // 2  # type: ignore[attr-defined]
    assert len(built) == 2 * n_windows  # in the same order every time, each is dropped before it is used again
