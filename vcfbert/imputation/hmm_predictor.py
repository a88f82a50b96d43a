"""Prediction of windows by V19, in numpy and compiled code alone."""

from __future__ import annotations

import time

import numpy as np

from vcfbert.bundle.contents import Bundle, Part
from vcfbert.copying.mixture import CopyingModel, Mixture, inherited
from vcfbert.copying.window import HmmWindow
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window, key_sites
from vcfbert.imputation.phasing import PhasedTarget, orientation
from vcfbert.imputation.window_cache import WindowCache
from vcfbert.imputation.window_prediction import (
    HeldOutPredictor,
    PredictorOptions,
    WindowPrediction,
    nearest_key,
    side_by_side,
)
from vcfbert.kernels import Calls, Floats, Indices, usable_threads


class HmmPredictor:
    """``WindowPredictor`` of a V19 bundle.

    Windows are cached by their typed sites: a service receives many files typed by the same array. Predictions are the
    same with and without the cache.
    """

    def __init__(self, bundle: Bundle, model: CopyingModel, options: PredictorOptions) -> None:
        self._model = model
        self._k = bundle.k
        self._batch_size = options.batch_size
        self._threads = options.threads or usable_threads()
        self._observe = options.observe_retrieval
        self._cache = WindowCache[HmmWindow](options.kept_bytes)

    def predict(self, part: Part, window: Window, phased: PhasedTarget) -> WindowPrediction:
        target, phasings = phased.target, phased.phasings
        key = key_sites(window, target.panel_site, part.panel.cm)
        place = np.searchsorted(target.panel_site, key)
        alleles = target.alleles[place]
        ready = self._window(part.reference, window, key)
        parts: list[tuple[Indices, WindowPrediction]] = []
        with_phasings = np.empty(0, dtype=np.int64) if phasings is None else phasings.samples
        with_phase = np.setdiff1d(np.arange(len(target.samples)), with_phasings)
        if len(with_phase):
            parts.append((with_phase, self._along_phase(ready, window, alleles[:, with_phase])))
        if phasings is not None:
            for start in range(0, len(with_phasings), self._batch_size):  # all at once would need much host memory
                some = slice(start, start + self._batch_size)
                sampled = phasings.calls[:, place, some]
                mean = self._mean_over(ready, window, sampled, alleles[:, with_phasings[some]])
                parts.append((with_phasings[some], mean))
        return side_by_side(parts)

    def _window(self, reference: ReferenceSubset, window: Window, key: Indices) -> HmmWindow:
        name = (reference.panel.digest, window.start, window.stop, key.tobytes())
        ready = self._cache.get(name)
        if ready is None:
            ready = HmmWindow.of(reference, window.sites, key, threads=self._threads)
            self._cache.add(name, ready)
        return ready

    def _along_phase(self, ready: HmmWindow, window: Window, calls: Calls) -> WindowPrediction:
        """Predicts samples with ``calls`` [t, n, 2] at the key sites, each haplotype by itself."""
        t, n, _ = calls.shape
        dosage, loo, number = self._distinct(ready, calls.reshape(t, 2 * n), self._model.phased)
        haplotype = np.ascontiguousarray(dosage[number].T).reshape(-1, n, 2)
        return WindowPrediction(haplotype, None, _at_sites(loo[number].T.reshape(t, n, 2), ready.key, window))

    def _distinct(self, ready: HmmWindow, calls: Calls, mixture: Mixture) -> tuple[Floats, Floats, Indices]:
        """Predicts each distinct haplotype of ``calls`` [t, n] once.

        Returns ALT probabilities [u, l], leave-one-out probabilities [u, t] and each haplotype's number int64 [n]. At
        array density half of the haplotypes of 200 samples equal another one.
        """
        distinct, number = np.unique(calls, axis=1, return_inverse=True)
        distinct = np.ascontiguousarray(distinct)
        started = time.perf_counter()
        chosen = ready.states(distinct, self._k, threads=self._threads)
        self._observe(time.perf_counter() - started)
        targets = ready.targets(distinct, chosen, mixture.prior_strength, threads=self._threads)
        copied = targets.copied(ready.heads(mixture), ready.fraction, threads=self._threads)
        return inherited(copied.dosage), inherited(copied.loo), number.reshape(-1)

    def _mean_over(self, ready: HmmWindow, window: Window, phasings: Calls, phase: Calls) -> WindowPrediction:
        """The mean over ``phasings`` [s, t, n, 2], along the consensus ``phase`` [t, n, 2] of the key sites.

        Given a phasing, the two haplotypes of a sample are independent.
        """
        s, t, n, _ = phasings.shape
        shown = phasings.transpose(1, 0, 2, 3).reshape(t, 2 * s * n)
        dosage, loo, number = self._distinct(ready, shown, self._model.sampled)
        number = number.reshape(s, n, 2)
        flipped = orientation(phasings, phase, ready.key_cm)  # [s, t, n]
        at_sites = nearest_key(ready.reference.panel.cm[ready.sites], ready.key_cm)
        l = dosage.shape[1]
        haplotype, both = np.zeros((l, n, 2), np.float32), np.zeros((l, n), np.float32)
        at_key = np.zeros((t, n, 2), np.float32)
        share = np.float32(1.0 / s)
        for sampled in range(s):
            p, q = dosage[number[sampled, :, 0]].T, dosage[number[sampled, :, 1]].T  # [l, n]
            both += share * p * q
            _add_oriented(haplotype, p, q, flipped[sampled, at_sites], share)
            own = loo[number[sampled, :, 0]].T, loo[number[sampled, :, 1]].T
            _add_oriented(at_key, *own, flipped[sampled], share)
        either = haplotype.sum(axis=2) - both
        genotype = np.stack([1.0 - either, either - both, both], axis=-1)
        return WindowPrediction(haplotype, genotype, _at_sites(at_key, ready.key, window))


def _add_oriented(total: Floats, first: Floats, second: Floats, flipped: np.ndarray, share: np.float32) -> None:
    """Adds ``share`` times both haplotypes' values [m, n] to ``total`` [m, n, 2], exchanged where ``flipped``."""
    total[..., 0] += share * np.where(flipped, second, first)
    total[..., 1] += share * np.where(flipped, first, second)


def _at_sites(loo: Floats, key: Indices, window: Window) -> Floats:
    """[l, n, 2] at the window's sites, NaN where not typed, from ``loo`` [t, n, 2] at the sites ``key``."""
    sites = np.full((window.stop - window.start, *loo.shape[1:]), np.nan, dtype=np.float32)
    inside = (key >= window.start) & (key < window.stop)
    sites[key[inside] - window.start] = loo[inside]
    return sites


def held_out_predictor(model: CopyingModel, reference: ReferenceSubset, k: int, *, threads: int) -> HeldOutPredictor:
    """V19's prediction of the panel's own haplotypes from those of ``reference``, along the panel's phase.

    Without typed sites it is the allele frequency.
    """

    def predict(window: Window, key: Indices, haplotypes: Indices) -> Floats:
        if len(key) == 0:
            af = reference.af[window.sites].astype(np.float32)
            return np.tile(af, (len(haplotypes) // 2, 2, 1))
        ready = HmmWindow.of(reference, window.sites, key, threads=threads)
        calls = np.ascontiguousarray(reference.panel.alleles(key, haplotypes).T.astype(np.int8))
        chosen = ready.states(calls, k, exclude=reference.rows_of_sample(haplotypes), threads=threads)
        targets = ready.targets(calls, chosen, threads=threads)
        copied = targets.copied(ready.heads(model.phased), ready.fraction, threads=threads)
        return inherited(copied.dosage).reshape(len(haplotypes) // 2, 2, -1)

    return predict
