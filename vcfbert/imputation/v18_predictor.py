"""Prediction of windows by V18 on the CPU, in numpy and compiled code alone."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from vcfbert.bundle.compiled_network import CompiledNetwork
from vcfbert.bundle.contents import Bundle, Part
from vcfbert.genotypes.windows import Window, distance_from, key_sites
from vcfbert.imputation.distinct import distinct_haplotypes
from vcfbert.imputation.phasing import PhasedTarget
from vcfbert.imputation.window_cache import WindowCache
from vcfbert.imputation.window_prediction import PredictorOptions, WindowPrediction
from vcfbert.kernels import Calls, Indices, usable_threads
from vcfbert.model.compiled_v18 import SitePositions
from vcfbert.model.v18_kernel import V18Queries, V18Window, tokens_of
from vcfbert.retrieval.faiss_keys import nearest_rows

# Features of haplotypes x sites x dims that are held at once, of 4 bytes each.
_FEATURES_AT_ONCE: Final = 1 << 23


class V18Predictor:
    """``WindowPredictor`` of a V18 bundle without torch. Targets must be phased."""

    def __init__(self, bundle: Bundle, loaded: CompiledNetwork, options: PredictorOptions) -> None:
        self._loaded = loaded
        self._k = bundle.k
        self._batch_size = options.batch_size
        self._threads = options.threads or usable_threads()
        self._observe = options.observe_retrieval
        self._cache = WindowCache[V18Window](options.kept_bytes)
        self.windows_at_once = self._threads

    def predict(self, part: Part, window: Window, phased: PhasedTarget) -> WindowPrediction:
        target = phased.target
        key = key_sites(window, target.panel_site, part.panel.cm)
        calls = target.alleles[np.searchsorted(target.panel_site, key)]
        distinct, number = distinct_haplotypes(calls.reshape(len(calls), -1))  # [t, u] and [2n]
        queries = np.ascontiguousarray(distinct.T)
        ready = self._window(part, window, key)
        inside = slice(*np.searchsorted(key, [window.start, window.stop]))
        rows = self._retrieve(part, window, key, queries)
        sign = np.where(queries < 0, 0, 1 - 2 * queries).astype(np.int8)
        tokens = tokens_of(queries[:, inside], key[inside] - window.start, window.stop - window.start)
        pairs = number.reshape(-1, 2)
        per_sample = 2 * tokens.shape[1] * self._loaded.network.dims
        at_once = max(self._batch_size, _FEATURES_AT_ONCE // per_sample)
        parts = []
        for start in range(0, len(pairs), at_once):
            some, renumbered = np.unique(pairs[start : start + at_once], return_inverse=True)
            own = V18Queries(tokens[some], sign[some], rows[some])
            pair = renumbered.reshape(-1, 2)
            parts.append(self._loaded.network.predict(ready, own, pair, threads=self._threads))
        haplotype, genotype = (of[0] if len(of) == 1 else np.concatenate(of, axis=1) for of in zip(*parts, strict=True))
        return WindowPrediction(haplotype, genotype, np.empty(0, np.int64), None)

    def _retrieve(self, part: Part, window: Window, key: Indices, queries: Calls) -> Indices:
        """The k nearest rows int64 [u, k] of the reference subset."""
        searched = self._loaded.searched[part.panel.digest]
        profile = self._loaded.network.search_profile(distance_from(window, key, part.panel.cm))
        started = time.perf_counter()
        coordinates = np.where(queries < 0, np.float32(0.5), 0.5 + profile * (queries - np.float32(0.5)))
        rows = np.empty((len(queries), 0), np.int64)
        if self._k:
            weights = searched.weights[key]
            _, rows = nearest_rows(searched.keys.columns(key), weights, coordinates, self._k, one_thread=True)
        self._observe(time.perf_counter() - started)
        return rows

    def _window(self, part: Part, window: Window, key: Indices) -> V18Window:
        name = (part.panel.digest, window.start, window.stop, key.tobytes())
        ready = self._cache.get(name)
        if ready is None:
            searched, cm = self._loaded.searched[part.panel.digest], part.panel.cm
            middle = (cm[window.start] + cm[window.stop - 1]) / 2.0
            ready = self._loaded.network.window(
                searched.features[window.sites],
                searched.features[key],
                SitePositions(cm[window.sites] - middle, distance_from(window, key, cm)),
                part.reference.af[window.sites].astype(np.float32),
                part.reference.alleles(key),
                part.reference.alleles(window.sites),
            )
            self._cache.add(name, ready)
        return ready
