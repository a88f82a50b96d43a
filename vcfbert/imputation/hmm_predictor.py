"""Prediction of windows by V19, in numpy and compiled code alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from vcfbert.bundle.contents import Bundle, Part
from vcfbert.copying.haploid import Heads
from vcfbert.copying.mixture import CopyingModel, Mixture, inherited
from vcfbert.copying.window import HmmWindow
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window, key_sites
from vcfbert.imputation.distinct import distinct_haplotypes
from vcfbert.imputation.phasing import PhasedTarget, orientation
from vcfbert.imputation.sample_means import SampledPhasings, fill_means, sites_nearest
from vcfbert.imputation.window_cache import WindowCache
from vcfbert.imputation.window_prediction import (
    HeldOutPredictor,
    PredictorOptions,
    WindowPrediction,
)
from vcfbert.kernels import Calls, Floats, Indices, usable_threads

# Copying probabilities of haplotypes x sites that are held at once, of 4 bytes each.
_CELLS_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True)
class _ReadyWindow:
    """A window made ready for its typed sites, whatever the samples."""

    name: tuple[str, int, int, bytes]  # of the panel, the window and the typed sites
    hmm: HmmWindow
    nearest: Indices  # [t + 1], of ``sites_nearest``


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
        self._cache = WindowCache[_ReadyWindow | Heads](options.kept_bytes)
        self.windows_at_once = 1  # each uses all threads

    def predict(self, part: Part, window: Window, phased: PhasedTarget) -> WindowPrediction:
        target, phasings = phased.target, phased.phasings
        key = key_sites(window, target.panel_site, part.panel.cm)
        place = np.searchsorted(target.panel_site, key)
        alleles = target.alleles[place]
        ready = self._window(part.reference, window, key)
        inside = slice(*np.searchsorted(key, [window.start, window.stop]))
        shape = window.stop - window.start, len(target.samples)
        into = WindowPrediction.empty(*shape, key[inside] - window.start, coupled=phasings is not None)
        sampled = np.empty(0, dtype=np.int64) if phasings is None else phasings.samples
        for some in self._batches(np.delete(np.arange(len(target.samples)), sampled), 2 * shape[0]):
            known = np.ascontiguousarray(alleles[:, some])
            self._fill(into, some, inside, ready, self._model.phased, known[None], known)
        if phasings is not None:
            s = len(phasings.calls)
            for chosen in self._batches(np.arange(len(sampled)), 2 * s * shape[0]):
                some, calls = sampled[chosen], phasings.calls[:, place][:, :, chosen]
                self._fill(into, some, inside, ready, self._model.sampled, calls, alleles[:, some])
        return into

    def _batches(self, samples: Indices, cells: int) -> Iterator[Indices]:
        """Parts of ``samples``. All at once would need much memory: that of ``cells`` probabilities for each."""
        at_once = min(max(_CELLS_AT_ONCE // cells, 1), self._batch_size)
        for start in range(0, len(samples), at_once):
            yield samples[start : start + at_once]

    def _window(self, reference: ReferenceSubset, window: Window, key: Indices) -> _ReadyWindow:
        name = (reference.panel.digest, window.start, window.stop, key.tobytes())
        ready = self._cache.get(name)
        if not isinstance(ready, _ReadyWindow):
            for_many = self._cache.max_bytes > 0
            hmm = HmmWindow.of(reference, window.sites, key, for_many=for_many, threads=self._threads)
            ready = _ReadyWindow(name, hmm, sites_nearest(reference.panel.cm[window.sites], hmm.key_cm))
            self._cache.add(name, ready)
        return ready

    def _heads(self, ready: _ReadyWindow, mixture: Mixture) -> Heads:
        name = (*ready.name, mixture is self._model.sampled)
        heads = self._cache.get(name)
        if not isinstance(heads, Heads):
            heads = ready.hmm.heads(mixture)
            self._cache.add(name, heads)
        return heads

    def _distinct(self, ready: _ReadyWindow, calls: Calls, mixture: Mixture) -> tuple[Floats, Floats, Indices]:
        """Predicts each distinct haplotype of ``calls`` [t, n] once.

        Returns ALT probabilities [u, l], leave-one-out probabilities [u, t] and each haplotype's number int64 [n]. At
        array density half of the haplotypes of 200 samples equal another one.
        """
        distinct, number = distinct_haplotypes(calls)
        started = time.perf_counter()
        chosen = ready.hmm.states(distinct, self._k, threads=self._threads)
        self._observe(time.perf_counter() - started)
        targets = ready.hmm.targets(distinct, chosen, mixture.prior_strength, threads=self._threads)
        copied = targets.copied(self._heads(ready, mixture), ready.hmm.fraction, threads=self._threads)
        return inherited(copied.dosage), inherited(copied.loo), number

    def _fill(
        self,
        into: WindowPrediction,
        samples: Indices,
        inside: slice,
        ready: _ReadyWindow,
        mixture: Mixture,
        phasings: Calls,
        phase: Calls,
    ) -> None:
        """Fills the predictions of ``samples`` [n] with the mean over ``phasings`` [s, t, n, 2] of the key sites.

        Given a phasing, the two haplotypes of a sample are independent. Their order is that of the consensus ``phase``
        [t, n, 2]. ``inside``: the key sites that lie in the window.
        """
        s, t, n, _ = phasings.shape
        shown = phasings.transpose(1, 0, 2, 3).reshape(t, 2 * s * n)
        dosage, loo, number = self._distinct(ready, shown, mixture)
        flipped = np.ascontiguousarray(orientation(phasings, phase, ready.hmm.key_cm))
        sampled = SampledPhasings(dosage, number.reshape(s, n, 2), flipped.view(np.uint8), samples)
        fill_means(sampled, ready.nearest, into.haplotype, into.genotype, threads=self._threads)
        at_key = loo[sampled.number]  # [s, n, 2, t]
        swapped = np.where(flipped.transpose(0, 2, 1)[:, :, None], at_key[:, :, ::-1], at_key)
        assert into.loo is not None
        into.loo[:, samples] = swapped.mean(axis=0).transpose(2, 0, 1)[inside]


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
