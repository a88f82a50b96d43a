"""Prediction of one window for all samples of a target, along their phase or averaged over sampled phasings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vcfbert.bundle import Bundle, Part
from vcfbert.constants import MISSING
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.phasing import PhasedTarget, orientation
from vcfbert.imputation.query_batches import predict_batches
from vcfbert.kernels import Calls, Floats, Indices
from vcfbert.model.base import SiteContext, WindowOutput
from vcfbert.model.heads import independent
from vcfbert.retrieval.context import WindowContext, key_sites
from vcfbert.retrieval.ready import ReadyWindow, ReadyWindows, WindowCache


@dataclass(frozen=True)
class WindowPrediction:
    """The prediction at the l sites of a window for n samples."""

    haplotype: Floats  # [l, n, 2], ALT probabilities
    genotype: Floats | None  # [l, n, 3], genotype probabilities; None if the two haplotypes are independent
    # [l, n, 2]: leave-one-out ALT probabilities of typed sites, each without its own call, NaN elsewhere. None if the
    # model does not give them.
    loo: Floats | None = None

    @property
    def genotypes(self) -> Floats:
        """Genotype probabilities [l, n, 3], also for independent haplotypes."""
        if self.genotype is not None:
            return self.genotype
        return of_independent(self.haplotype)

    def times(self, weight: Floats) -> WindowPrediction:
        """The values of each site multiplied by its ``weight`` [l]."""
        return self._each(lambda values: values * weight[:, None, None])

    def sites(self, inside: slice) -> WindowPrediction:
        return self._each(lambda values: values[inside])

    def _each(self, change: Callable[[Floats], Floats]) -> WindowPrediction:
        genotype, loo = self.genotype, self.loo
        return WindowPrediction(
            change(self.haplotype),
            None if genotype is None else change(genotype),
            None if loo is None else change(loo),
        )


class WindowPredictor:
    """Predicts windows of a bundle's panels. Thread-safe; keeps no data of samples."""

    def __init__(self, bundle: Bundle, *, batch_size: int, kept_bytes: int) -> None:
        """``kept_bytes``: maximum host memory for windows kept for the next target with the same typed sites."""
        self._bundle = bundle
        self._batch_size = batch_size
        cache = WindowCache(kept_bytes)
        self._windows = {
            part.panel.digest: ReadyWindows(bundle.model, part.reference, part.features, bundle.k, cache)
            for part in bundle.parts
        }

    @torch.inference_mode()
    def predict(self, part: Part, window: Window, phased: PhasedTarget) -> WindowPrediction:
        """Predicts all samples of a target at the window's sites.

        A sample with sampled phasings gets the mean over them, with its haplotypes in the order of its consensus phase.
        Every other sample is predicted along its given phase.
        """
        target, phasings = phased.target, phased.phasings
        windows, key = self._windows[part.panel.digest], key_sites(window, target.panel_site, part.panel.cm)
        place = np.searchsorted(target.panel_site, key)
        alleles = target.alleles[place]
        parts: list[tuple[Indices, WindowPrediction]] = []
        with_phasings = np.empty(0, dtype=np.int64) if phasings is None else phasings.samples
        with_phase = np.setdiff1d(np.arange(len(target.samples)), with_phasings)
        if len(with_phase):
            ready = windows.get(window, key)
            parts.append((with_phase, self._along_phase(part, alleles[:, with_phase], ready)))
        if phasings is not None:
            ready = windows.get(window, key, sampled=True)
            for start in range(0, len(with_phasings), self._batch_size):  # all at once would need much host memory
                some = slice(start, start + self._batch_size)
                sampled = phasings.calls[:, place, some]
                mean = self._mean_over(part, sampled, alleles[:, with_phasings[some]], ready)
                parts.append((with_phasings[some], mean))
        return _side_by_side(parts)

    def _along_phase(self, part: Part, calls: Calls, ready: ReadyWindow) -> WindowPrediction:
        """Predicts samples with ``calls`` [t, n, 2] at the key sites, each haplotype by itself."""
        outputs = self._outputs(part, calls, ready)
        probability, coupled, loo = _joined(outputs)
        genotype = None if coupled is None else coupled.permute(1, 0, 2).numpy()
        return WindowPrediction(probability.permute(2, 0, 1).numpy(), genotype, _at_sites(loo, ready.context))

    def _outputs(self, part: Part, calls: Calls, ready: ReadyWindow) -> list[WindowOutput]:
        """The model's outputs for samples with ``calls`` [t, n, 2] at the key sites."""
        alleles = calls.reshape(len(calls), -1).T  # [2n, t]
        device = self._bundle.device
        known = None if (alleles != MISSING).all() else torch.from_numpy(alleles != MISSING).to(device)
        queries = torch.from_numpy(np.maximum(alleles, 0).astype(np.uint8)).to(device)
        model, k = self._bundle.model, self._bundle.k
        return list(predict_batches(model, part.retriever, ready, queries, known, k=k, batch_size=self._batch_size))

    def _mean_over(self, part: Part, phasings: Calls, phase: Calls, ready: ReadyWindow) -> WindowPrediction:
        """The mean over ``phasings`` [s, t, n, 2], along the consensus ``phase`` [t, n, 2] of the key sites.

        Given a phasing, the two haplotypes of a sample are independent.
        """
        s, t, n, _ = phasings.shape
        outputs = self._outputs(part, phasings.transpose(1, 0, 2, 3).reshape(t, s * n, 2), ready)
        sites = ready.context.sites
        flipped = torch.from_numpy(orientation(phasings, phase, sites.key_offset_cm.cpu().numpy()))  # [s, t, n]
        flipped = flipped.permute(0, 2, 1)[:, :, None]  # [s, n, 1, t]
        flipped_sites = flipped[..., nearest_key(sites).cpu()]

        def mean(values: Tensor, flip: Tensor) -> Tensor:
            """[n, 2, ...] along the phase, of values [s n, 2, ...]."""
            values = values.view(s, n, 2, -1)
            return torch.where(flip, values.flip(2), values).mean(dim=0)

        p, _, loo = _joined(outputs)  # [s n, 2, l]
        haplotype = mean(p, flipped_sites)
        both = (p[:, 0] * p[:, 1]).view(s, n, -1).mean(dim=0)
        either = haplotype.sum(dim=1) - both
        genotype = torch.stack([1.0 - either, either - both, both], dim=-1)  # [n, l, 3]
        loo = None if loo is None else mean(loo, flipped)
        return WindowPrediction(
            haplotype.permute(2, 0, 1).numpy(), genotype.permute(1, 0, 2).numpy(), _at_sites(loo, ready.context)
        )


def of_independent(haplotype: Floats) -> Floats:
    """Genotype probabilities [..., 3] of independent haplotypes with ALT probabilities [..., 2]."""
    p, q = torch.from_numpy(haplotype).unbind(dim=-1)
    return independent(p, q).numpy()


def nearest_key(sites: SiteContext) -> Tensor:
    """int64 [l]: the key site that lies nearest to each site of the window, by genetic position."""
    key = sites.key_offset_cm
    right = torch.searchsorted(key, sites.offset_cm).clamp(max=len(key) - 1)
    left = (right - 1).clamp(min=0)
    return torch.where((sites.offset_cm - key[left]).abs() <= (key[right] - sites.offset_cm).abs(), left, right)


def _joined(outputs: list[WindowOutput]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Probabilities, genotype probabilities and leave-one-out probabilities of all batches; None if not given."""

    def joined(name: str) -> Tensor | None:
        parts = [part for part in (getattr(output, name) for output in outputs) if part is not None]
        return torch.cat(parts).float().cpu() if parts else None

    probability = joined("probability")
    assert probability is not None
    return probability, joined("coupled"), joined("loo")


def _at_sites(loo: Tensor | None, context: WindowContext) -> Floats | None:
    """[l, n, 2] at the window's sites, NaN where not typed, from [n, 2, t] at the key sites."""
    if loo is None:
        return None
    place = context.sites.key_place[context.typed_in_key].cpu().numpy()
    sites = np.full((len(context.typed), *loo.shape[:2]), np.nan, dtype=np.float32)
    sites[place] = loo[..., context.typed_in_key.cpu()].permute(2, 0, 1).numpy()
    return sites


def _side_by_side(parts: list[tuple[Indices, WindowPrediction]]) -> WindowPrediction:
    """Joins predictions of disjoint sets of samples, given by their indices, into one of all samples in order."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([samples for samples, _ in parts]))

    def joined(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for _, part in parts], axis=1)[:, order]

    loo = None if any(part.loo is None for _, part in parts) else joined("loo")
    return WindowPrediction(joined("haplotype"), joined("genotypes"), loo)
