"""Searches the switch rates and mismatch probabilities that V19 starts training from, by how well they impute.

The best rates depend on the panel: among ten thousand haplotypes a target finds longer matches than among six hundred.
Gradient descent would take hundreds of steps from the rates of one such panel to those of the other. Three pairs of a
switch rate and a mismatch probability are searched: of the heads for a given or inferred phase, of the heads for
sampled phasings, and of the HMM of pairs that phasings are sampled from. Then the heads' mixture weights are fitted.

The loss is on the validation samples, which are not in the reference subset. They look like targets: typed as by an
array, with errors and missing calls. Each is scored in an inferred phase, which has more errors than the panel's phase,
and over sampled phasings.
"""

from __future__ import annotations

import dataclasses
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import torch
from torch import Tensor

from vcfbert.constants import MISSING
from vcfbert.copying.diploid import consensus, heterozygous_calls
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.phasing import PhasingMode, phase_alleles
from vcfbert.kernels import Calls
from vcfbert.model.heads import independent
from vcfbert.model.v19 import INITIAL_MIXTURE, INITIAL_RATES, KNOTS, V19, CompiledWindow, knot_weights
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext
from vcfbert.training.data import TrainingData
from vcfbert.training.mixture_weights import SufficientStatistics, better_weights
from vcfbert.training.validation import array_typing

MAX_SAMPLES = 60  # validation samples of a window
MAX_WINDOWS = 2
MODE = PhasingMode(states=640, phasings=4)
# Of (switch rate, mismatch probability): first and last steps of the search in octaves, and bounds.
FIRST_STEPS, LAST_STEPS = (1.0, 2.0), (0.5, 1.0)
BOUNDS = ((0.05, 60.0), (5e-5, 5e-2))

NOISE_STREAM = 5  # of the seed sequence (genotypes/masks.py)

Rates = tuple[float, float]  # switches per cM and mismatch probability


@dataclass(frozen=True)
class _Typed:
    """A window of a panel and the typed calls of its validation samples."""

    reference: ReferenceSubset
    retriever: Retriever
    window: Window
    context: WindowContext
    calls: Calls  # int8 [t, n, 2] at the key sites, in the panel's phase, -1 where missing
    truth: Tensor  # int64 [n, l], genotypes at the window's sites
    scored: Tensor  # bool [l], sites that count in the loss


@dataclass(frozen=True)
class _Queries:
    """s phasings of the samples in one window, and what does not change while the heads' rates are searched."""

    typed: _Typed
    context: WindowContext  # with the retrieved rows only
    encoded: CompiledWindow | None  # with the heads at the time of cutting; None if the torch code runs
    alleles: Tensor  # uint8 [2 s n, t]
    known: Tensor  # bool [2 s n, t]
    rows: Tensor  # int64 [2 s n, k], retrieved


class RateSearch:
    """The search for one model, on validation samples typed as by an array in some of the data's windows."""

    def __init__(self, model: V19, data: TrainingData, *, k: int) -> None:
        self.model = model
        self.data = data
        self.k = k

    @torch.no_grad()
    def search(self) -> dict[str, float]:
        """Sets the model's rates and mixture weights, and returns the figures to log."""
        started, model = time.perf_counter(), self.model
        model.eval()
        panel_phase = [self._queries(typed, typed.calls[None]) for typed in self.typed]
        rates = self._best_heads(panel_phase, INITIAL_RATES)

        model.set_heads(*rates, sampled=True)

        def phasing_loss(tried: Rates) -> float:
            model.phasing.start_at(*tried)
            return self._loss([self._queries(typed, self._sampled(typed), sampled=True) for typed in self.typed])

        pair_rates = descend(phasing_loss, rates)
        model.phasing.start_at(*pair_rates)
        found = {
            "phasing": pair_rates,
            "phased": self._best_heads(self.inferred, rates),
            "drawn": self._best_heads(self.sampled, rates),
        }
        gains = {
            "start/phased_share_gain": self._fit_mixture(self.inferred),
            "start/drawn_share_gain": self._fit_mixture(self.sampled),
        }
        rates_of = {f"start/{name}_rate": rate for name, (rate, _) in found.items()}
        mismatches = {f"start/{name}_mismatch": mismatch for name, (_, mismatch) in found.items()}
        about = {"start/switches_per_cm": self.switches_per_cm, "start/seconds": time.perf_counter() - started}
        return rates_of | mismatches | gains | about

    @torch.no_grad()
    def loss(self) -> float:
        """Mean cross-entropy, in nats, of the samples' genotypes, in an inferred phase and over sampled phasings."""
        self.model.eval()
        return self._loss(self.inferred + self.sampled) / (2 * len(self.typed))

    @cached_property
    def switches_per_cm(self) -> float:
        """Switch errors per cM of a sample's inferred phase, against the panel's phase."""
        switches, length = 0, 0.0
        for typed, phasings in self._phasings:
            cm = typed.context.sites.key_offset_cm
            length += float(cm[-1] - cm[0]) * typed.calls.shape[1]
            switches += n_switches(consensus(phasings), typed.calls)
        return switches / max(length, 1e-9)

    @cached_property
    def inferred(self) -> list[_Queries]:
        """For each window, the samples in the consensus of their sampled phasings."""
        return [self._queries(typed, consensus(phasings)[None]) for typed, phasings in self._phasings]

    @cached_property
    def sampled(self) -> list[_Queries]:
        """For each window, the samples in all of their sampled phasings."""
        return [self._queries(typed, phasings, sampled=True) for typed, phasings in self._phasings]

    @cached_property
    def _phasings(self) -> list[tuple[_Typed, Calls]]:
        """Sampled at the first access, by the rates that the model has then."""
        return [(typed, self._sampled(typed)) for typed in self.typed]

    def _best_heads(self, queries: list[_Queries], start: Rates) -> Rates:
        """Sets the heads for such queries to the best rates found from ``start``, and returns these."""
        sampled = queries[0].context.sites.sampled

        def loss(tried: Rates) -> float:
            self.model.set_heads(*tried, sampled=sampled)
            return self._loss(queries)

        rates = descend(loss, start)
        self.model.set_heads(*rates, sampled=sampled)
        return rates

    def _fit_mixture(self, queries: list[_Queries]) -> float:
        """Sets the mixture weights for such queries, and returns the fraction of held-out squared error they save."""
        first, second = (reduce(operator.add, halves) for halves in zip(*map(self._statistics, queries), strict=True))
        start = torch.tensor(INITIAL_MIXTURE, device=first.squares.device).expand(len(KNOTS), -1)
        weights, gain = better_weights((first, second), start)
        self.model.set_mixture(weights, sampled=queries[0].context.sites.sampled)
        return gain

    def _statistics(self, one: _Queries) -> tuple[SufficientStatistics, SufficientStatistics]:
        """Sufficient statistics of every other sample, and of the rest."""
        batch, scored = one.context.batch(one.alleles, one.rows, one.known), one.typed.scored
        n = len(one.typed.truth)

        def of_samples(copied: Tensor) -> Tensor:
            """Mean genotype dosage [n, l] over the phasings."""
            return copied[:, scored].view(-1, n, 2, int(scored.sum())).mean(dim=0).sum(dim=1)

        by_head = torch.stack([of_samples(copied) for copied in self.model.by_head(batch, self._encoded(one))])
        af = one.context.sites.af[scored]
        knots, truth = knot_weights(torch.minimum(af, 1.0 - af)), one.typed.truth[:, scored]
        return (
            SufficientStatistics.of(by_head[:, 0::2], truth[0::2], knots),
            SufficientStatistics.of(by_head[:, 1::2], truth[1::2], knots),
        )

    @cached_property
    def typed(self) -> list[_Typed]:
        """The windows of the search, spread over the data, and their typed samples."""
        chosen = np.unique(np.linspace(0, len(self.data.places) - 1, MAX_WINDOWS).round().astype(int))
        return [self._typed(i, np.random.default_rng([self.data.train.seed, NOISE_STREAM, i])) for i in chosen.tolist()]

    def _typed(self, number: int, rng: np.random.Generator) -> _Typed:
        """The data's window ``number``, with errors and missing calls sampled by ``rng``."""
        place, window = self.data.places[number]
        split, masks = self.data.panels[place], self.data.masks
        reference, panel, device = split.reference, split.reference.panel, split.device
        haplotypes = panel.some_validation_haplotypes(MAX_SAMPLES)
        context = split.context(window, array_typing(reference, masks, self.data.train.seed)(window))
        key = context.key.cpu().numpy()
        calls = panel.alleles(key, haplotypes).T.astype(np.int8).reshape(len(key), -1, 2)
        calls ^= rng.random(calls.shape) < masks.typing_error
        calls[rng.random(calls.shape[:2]) < masks.missing] = MISSING
        genotypes = panel.alleles(window.sites, haplotypes).reshape(-1, 2, window.stop - window.start).sum(axis=1)
        truth = torch.from_numpy(genotypes.astype(np.int64)).to(device)
        scored = torch.zeros(len(context.typed), dtype=torch.bool, device=device)
        scored[window.core[0] - window.start : window.core[1] - window.start] = True
        af = context.sites.af
        scored &= ~context.typed & (af > 0.0) & (af < 1.0)  # an allele that the subset lacks cannot be copied
        retriever = self.data.retrievers[place]
        return _Typed(reference, retriever, window, context, np.ascontiguousarray(calls), truth, scored)

    def _sampled(self, typed: _Typed) -> Calls:
        return phase_alleles(self.model.phasing, typed.reference, typed.context.key.cpu().numpy(), typed.calls, MODE)

    def _queries(self, typed: _Typed, phasings: Calls, *, sampled: bool = False) -> _Queries:
        """The queries of ``phasings`` int8 [s, t, n, 2], with their retrieved rows."""
        context = dataclasses.replace(typed.context, sites=dataclasses.replace(typed.context.sites, sampled=sampled))
        shown = torch.from_numpy(phasings.transpose(0, 2, 3, 1).reshape(-1, len(context.key))).to(context.key.device)
        known, alleles = shown >= 0, shown.clamp(min=0).to(torch.uint8)
        rows = typed.retriever.retrieve(context.key, context.sites.key_distance_cm, alleles, self.k, known=known)
        kept, renumbered = context.keeping(rows)
        encoded = self.model.encode_patterns(kept.patterns, kept.sites)
        return _Queries(typed, kept, encoded, alleles, known, renumbered)

    def _encoded(self, one: _Queries) -> CompiledWindow | None:
        """The compiled window with the model's current heads; None if the torch code runs."""
        return None if one.encoded is None else self.model.with_heads(one.encoded, one.context.sites)

    def _loss(self, queries: list[_Queries]) -> float:
        """Mean cross-entropy of the genotypes in nats, summed over windows."""
        total = 0.0
        for one in queries:
            output = self.model(one.context.batch(one.alleles, one.rows, one.known), self._encoded(one))
            p, q = output.probability[..., one.typed.scored].unbind(dim=1)  # [s n, l]
            truth = one.typed.truth[:, one.typed.scored]
            genotype = independent(p, q).view(-1, *truth.shape, 3).mean(dim=0)
            right = genotype.gather(2, truth[:, :, None]).clamp(min=1e-6)
            total -= float(right.log().mean())
        return total


def n_switches(phase: Calls, truth: Calls) -> int:
    """Switch errors of ``phase`` [t, n, 2] against ``truth`` [t, n, 2], over all samples.

    Only calls that are heterozygous in both count.
    """
    both = heterozygous_calls(phase) & heterozygous_calls(truth)
    along = phase[..., 0] == truth[..., 0]
    return sum(int(np.count_nonzero(np.diff(along[both[:, i], i]))) for i in range(phase.shape[1]))


def descend(loss: Callable[[Rates], float], start: Rates) -> Rates:
    """Minimises ``loss`` from ``start`` by steps in one rate at a time, on a logarithmic scale, within ``BOUNDS``.

    Steps are halved once no step lowers the loss (pattern search, Hooke and Jeeves 1961, J. ACM 8:212). No rates are
    evaluated twice.
    """
    known: dict[Rates, float] = {}

    def at(rates: Rates) -> float:
        if rates not in known:
            known[rates] = loss(rates)
        return known[rates]

    best, steps = start, list(FIRST_STEPS)
    while True:
        before = best
        for which in (0, 1):
            for direction in (1.0, -1.0):
                tried = _moved(best, which, direction * steps[which])
                while tried != best and at(tried) < at(best):
                    best, tried = tried, _moved(tried, which, direction * steps[which])
        if best == before:
            if steps == list(LAST_STEPS):
                return best
            steps = list(LAST_STEPS)


def _moved(rates: Rates, which: int, octaves: float) -> Rates:
    low, high = BOUNDS[which]
    value = float(np.clip(rates[which] * 2.0**octaves, low, high))
    # Rounded, so that a step up and a step down give the same value again.
    value = float(f"{value:.6g}")
    return (value, rates[1]) if which == 0 else (rates[0], value)
