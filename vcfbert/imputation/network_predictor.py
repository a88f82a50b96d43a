"""Prediction of windows by V17 and V18."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vcfbert.bundle.contents import Bundle, Part
from vcfbert.bundle.network import LoadedNetwork
from vcfbert.constants import MISSING
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window, key_sites
from vcfbert.imputation.phasing import PhasedTarget
from vcfbert.imputation.query_batches import predict_batches
from vcfbert.imputation.window_cache import WindowCache
from vcfbert.imputation.window_prediction import HeldOutPredictor, PredictorOptions, WindowPrediction
from vcfbert.kernels import Floats, Indices
from vcfbert.model.base import Variant
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext, reference_features
from vcfbert.retrieval.refresh import build_retriever


class NetworkPredictor:
    """``WindowPredictor`` of a V17 or V18 bundle. Targets must be phased."""

    def __init__(self, bundle: Bundle, options: PredictorOptions) -> None:
        """Sets torch's threads for the whole process if ``options`` name their number."""
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        assert isinstance(bundle.model, LoadedNetwork)
        self._loaded = bundle.model
        self._k = bundle.k
        self._batch_size = options.batch_size
        self._observe = options.observe_retrieval
        self._cache = WindowCache[WindowContext](options.kept_bytes)
        self.windows_at_once = 1  # each uses all threads

    @torch.inference_mode()
    def predict(self, part: Part, window: Window, phased: PhasedTarget) -> WindowPrediction:
        target, device = phased.target, self._loaded.device
        key = key_sites(window, target.panel_site, part.panel.cm)
        calls = target.alleles[np.searchsorted(target.panel_site, key)]
        alleles = calls.reshape(len(calls), -1).T  # [2n, t]
        known = None if (alleles != MISSING).all() else torch.from_numpy(alleles != MISSING).to(device)
        queries = torch.from_numpy(np.maximum(alleles, 0).astype(np.uint8)).to(device)
        outputs = list(
            predict_batches(
                self._loaded.network,
                self._loaded.searched[part.panel.digest].retriever,
                self._context(part, window, key),
                queries,
                known,
                k=self._k,
                batch_size=self._batch_size,
                observe=self._observe,
            )
        )
        haplotype = _joined([output.probability.permute(2, 0, 1) for output in outputs])  # [l, n, 2]
        coupled = [output.coupled.permute(1, 0, 2) for output in outputs if output.coupled is not None]
        return WindowPrediction(haplotype, _joined(coupled) if coupled else None, np.empty(0, np.int64), None)

    def _context(self, part: Part, window: Window, key: Indices) -> WindowContext:
        name = (part.panel.digest, window.start, window.stop, key.tobytes())
        context = self._cache.get(name)
        if context is None:
            features = self._loaded.searched[part.panel.digest].features
            context = WindowContext.build(part.reference, features, window, key, features.device)
            self._cache.add(name, context)
        return context


def _joined(parts: list[Tensor]) -> Floats:
    """float32 [l, n, ...] on the CPU, from parts of the n samples. A single part is not copied."""
    joined: Floats = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).float().cpu().numpy()
    return joined


def held_out_predictor(
    model: Variant, retriever: Retriever, reference: ReferenceSubset, features: Tensor, k: int, *, batch_size: int
) -> HeldOutPredictor:
    """The network's prediction of the panel's own haplotypes, from rows retrieved from ``reference``.

    ``features`` [n_sites, F]: ``reference_features``.
    """
    device = features.device

    @torch.no_grad()
    def predict(window: Window, key: Indices, haplotypes: Indices) -> Floats:
        model.eval()
        own = torch.from_numpy(reference.rows_of_sample(haplotypes)).to(device)
        context = WindowContext.build(reference, features, window, key, device)
        queries = torch.from_numpy(reference.panel.alleles(key, haplotypes)).to(device)
        exclude = own if bool((own >= 0).any()) else None  # -1, not in the subset, excludes nothing
        outputs = predict_batches(model, retriever, context, queries, None, k=k, batch_size=batch_size, exclude=exclude)
        probability: Floats = torch.cat([output.probability for output in outputs]).float().cpu().numpy()
        return probability

    return predict


def held_out_predictor_of_bundle(
    bundle: Bundle, subset: ReferenceSubset, k: int, *, batch_size: int
) -> HeldOutPredictor:
    """The predictor of a bundle's network, over a new index of ``subset``."""
    assert isinstance(bundle.model, LoadedNetwork)
    network, device = bundle.model.network, bundle.model.device
    features = reference_features(subset, device)
    retriever = build_retriever(network, subset, features, device=device)
    return held_out_predictor(network, retriever, subset, features, k, batch_size=batch_size)
