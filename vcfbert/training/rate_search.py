"""Where V19's learning starts: the switch and mismatch rates that serve this panel, found by what they impute.

How long a haplotype is copied depends on the panel: among ten thousand others one finds longer matches than among six
hundred, and gradients would take hundreds of steps from the one to the other. Four numbers are searched, each model's
rate and mismatch rate together: those of the heads that copy, and those of the model of pairs that phases; then the
heads' shares are fitted. The validation samples decide, which the memory does not hold. They are shown as targets come:
typed as by an array, with errors and missing calls, in the phase that is inferred for them (a panel's own has fewer
errors) and over phasings drawn for them.
"""

from __future__ import annotations

import dataclasses
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.constants import MISSING
from vcfbert.copying.diploid import consensus, heterozygous_calls
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.phasing import PhasingMode, phase_alleles
from vcfbert.model.heads import independent
from vcfbert.model.v19 import INITIAL_RATES, INITIAL_SHARES, KNOTS, V19, CompiledWindow, knot_weights
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext
from vcfbert.training.data import TrainingData
from vcfbert.training.mixture_weights import Products, better_weights
from vcfbert.training.validation import array_typing

Calls = npt.NDArray[np.int8]

MAX_SAMPLES = 60
MAX_WINDOWS = 2
MODE = PhasingMode(states=640, phasings=4)
# Of rates and mismatch rates: octaves of the first steps, of the last ones, and bounds.
FIRST_STEPS, LAST_STEPS = (1.0, 2.0), (0.5, 1.0)
BOUNDS = ((0.05, 60.0), (5e-5, 5e-2))

NOISE_STREAM = 5  # of the seed sequence (see genotypes/masks.py)

Rates = tuple[float, float]  # switches per cM, and mismatches


@dataclass(frozen=True)
class _Typed:
    """A window of a panel, and what its samples show there: ``calls`` int8 [t, n, 2] at the ``key``, in their true
    phase."""

    memory: ReferenceSubset
    retriever: Retriever
    window: Window
    context: WindowContext
    calls: Calls
    truth: Tensor  # int64 [n, l], genotypes
    scored: Tensor  # bool [l]


@dataclass(frozen=True)
class _Queries:
    """Phasings of the samples in one window: what does not change while the heads' rates are searched."""

    typed: _Typed
    context: WindowContext  # of the retrieved alone
    encoded: CompiledWindow | None  # with the heads of when it was cut
    alleles: Tensor  # uint8 [2 s n, t]
    known: Tensor  # bool [2 s n, t]
    rows: Tensor  # int64 [2 s n, k]


class RateSearch:
    """The search, on validation samples typed as by an array in some of the data's windows."""

    def __init__(self, model: V19, data: TrainingData, *, k: int) -> None:
        self.model = model
        self.data = data
        self.k = k

    @torch.no_grad()
    def search(self) -> dict[str, float]:
        """Sets the model's rates and says what they are."""
        started, model = time.perf_counter(), self.model
        model.eval()
        true_phase = [self._queries(typed, typed.calls[None]) for typed in self.typed]
        rates = self._best_heads(true_phase, INITIAL_RATES)

        model.set_heads(*rates, drawn=True)

        def phasing_loss(tried: Rates) -> float:
            model.phasing.start_at(*tried)
            return self._loss([self._queries(typed, self._drawn(typed), drawn=True) for typed in self.typed])

        pair_rates = descend(phasing_loss, rates)
        model.phasing.start_at(*pair_rates)
        found = {
            "phasing": pair_rates,
            "phased": self._best_heads(self.inferred, rates),
            "drawn": self._best_heads(self.drawn, rates),
        }
        gains = {
            "start/phased_share_gain": self._fit_shares(self.inferred),
            "start/drawn_share_gain": self._fit_shares(self.drawn),
        }
        rates_of = {f"start/{name}_rate": rate for name, (rate, _) in found.items()}
        mismatches = {f"start/{name}_mismatch": mismatch for name, (_, mismatch) in found.items()}
        about = {"start/switches_per_cm": self.switches_per_cm, "start/seconds": time.perf_counter() - started}
        return rates_of | mismatches | gains | about

    @torch.no_grad()
    def loss(self) -> float:
        """Mean cross-entropy, nats, of the samples' genotypes, whose phase is inferred or drawn."""
        self.model.eval()
        return self._loss(self.inferred + self.drawn) / (2 * len(self.typed))

    @cached_property
    def switches_per_cm(self) -> float:
        """How often the inferred phase changes from one haplotype of a sample to its other one."""
        switches, length = 0, 0.0
        for typed, phasings in self._phasings:
            cm = typed.context.sites.key_offset_cm
            length += float(cm[-1] - cm[0]) * typed.calls.shape[1]
            switches += n_switches(consensus(phasings), typed.calls)
        return switches / max(length, 1e-9)

    @cached_property
    def inferred(self) -> list[_Queries]:
        return [self._queries(typed, consensus(phasings)[None]) for typed, phasings in self._phasings]

    @cached_property
    def drawn(self) -> list[_Queries]:
        return [self._queries(typed, phasings, drawn=True) for typed, phasings in self._phasings]

    @cached_property
    def _phasings(self) -> list[tuple[_Typed, Calls]]:
        """Drawn when first asked for, by the rates that the model then has."""
        return [(typed, self._drawn(typed)) for typed in self.typed]

    def _best_heads(self, queries: list[_Queries], start: Rates) -> Rates:
        drawn = queries[0].context.sites.drawn

        def loss(tried: Rates) -> float:
            self.model.set_heads(*tried, drawn=drawn)
            return self._loss(queries)

        rates = descend(loss, start)
        self.model.set_heads(*rates, drawn=drawn)
        return rates

    def _fit_shares(self, queries: list[_Queries]) -> float:
        """Sets the heads' shares for such queries; the share of the held-out squared error that this saves."""
        first, second = (reduce(operator.add, halves) for halves in zip(*map(self._products, queries), strict=True))
        start = torch.tensor(INITIAL_SHARES, device=first.squares.device).expand(len(KNOTS), -1)
        shares, gain = better_weights((first, second), start)
        self.model.set_shares(shares, drawn=queries[0].context.sites.drawn)
        return gain

    def _products(self, one: _Queries) -> tuple[Products, Products]:
        """Of every other sample, and of the rest."""
        batch, scored = one.context.batch(one.alleles, one.rows, one.known), one.typed.scored
        n = len(one.typed.truth)

        def of_samples(copied: Tensor) -> Tensor:
            """Mean genotype dosage [n, l] over the phasings."""
            return copied[:, scored].view(-1, n, 2, int(scored.sum())).mean(dim=0).sum(dim=1)

        by_head = torch.stack([of_samples(copied) for copied in self.model.by_head(batch, self._encoded(one))])
        af = one.context.sites.af[scored]
        knots, truth = knot_weights(torch.minimum(af, 1.0 - af)), one.typed.truth[:, scored]
        return (
            Products.of(by_head[:, 0::2], truth[0::2], knots),
            Products.of(by_head[:, 1::2], truth[1::2], knots),
        )

    @cached_property
    def typed(self) -> list[_Typed]:
        chosen = np.unique(np.linspace(0, len(self.data.places) - 1, MAX_WINDOWS).round().astype(int))
        return [self._typed(i, np.random.default_rng([self.data.train.seed, NOISE_STREAM, i])) for i in chosen.tolist()]

    def _typed(self, number: int, rng: np.random.Generator) -> _Typed:
        """In the data's window of this ``number``."""
        place, window = self.data.places[number]
        split, masks = self.data.panels[place], self.data.masks
        memory, panel, device = split.memory, split.memory.panel, split.device
        haplotypes = panel.some_validation_haplotypes(MAX_SAMPLES)
        context = split.context(window, array_typing(memory, masks, self.data.train.seed)(window))
        key = context.key.cpu().numpy()
        calls = panel.alleles(key, haplotypes).T.astype(np.int8).reshape(len(key), -1, 2)
        calls ^= rng.random(calls.shape) < masks.typing_error
        calls[rng.random(calls.shape[:2]) < masks.missing] = MISSING
        genotypes = panel.alleles(window.sites, haplotypes).reshape(-1, 2, window.stop - window.start).sum(axis=1)
        truth = torch.from_numpy(genotypes.astype(np.int64)).to(device)
        scored = torch.zeros(len(context.typed), dtype=torch.bool, device=device)
        scored[window.core[0] - window.start : window.core[1] - window.start] = True
        af = context.sites.af
        scored &= ~context.typed & (af > 0.0) & (af < 1.0)  # what the memory lacks cannot be copied
        retriever = self.data.retrievers[place]
        return _Typed(memory, retriever, window, context, np.ascontiguousarray(calls), truth, scored)

    def _drawn(self, typed: _Typed) -> Calls:
        return phase_alleles(self.model.phasing, typed.memory, typed.context.key.cpu().numpy(), typed.calls, MODE)

    def _queries(self, typed: _Typed, phasings: Calls, *, drawn: bool = False) -> _Queries:
        """Of ``phasings`` [s, t, n, 2]."""
        context = dataclasses.replace(typed.context, sites=dataclasses.replace(typed.context.sites, drawn=drawn))
        shown = torch.from_numpy(phasings.transpose(0, 2, 3, 1).reshape(-1, len(context.key))).to(context.key.device)
        known, alleles = shown >= 0, shown.clamp(min=0).to(torch.uint8)
        rows = typed.retriever.retrieve(context.key, context.sites.key_distance_cm, alleles, self.k, known=known)
        kept, renumbered = context.keeping(rows)
        encoded = self.model.encode_patterns(kept.patterns, kept.sites)
        return _Queries(typed, kept, encoded, alleles, known, renumbered)

    def _encoded(self, one: _Queries) -> CompiledWindow | None:
        """With the heads of now."""
        return None if one.encoded is None else self.model.with_heads(one.encoded, one.context.sites)

    def _loss(self, queries: list[_Queries]) -> float:
        """Mean cross-entropy of the genotypes, nats, added up over windows."""
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
    """Times, in all samples, that a ``phase`` [t, n, 2] goes on along the other haplotype of ``truth``."""
    both = heterozygous_calls(phase) & heterozygous_calls(truth)
    along = phase[..., 0] == truth[..., 0]
    return sum(int(np.count_nonzero(np.diff(along[both[:, i], i]))) for i in range(phase.shape[1]))


def descend(loss: Callable[[Rates], float], start: Rates) -> Rates:
    """The rates of the least ``loss`` found by steps along one of the two at a time, halved where none is better
    (Hooke and Jeeves 1961, J. ACM 8:212), all on a logarithmic scale."""
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
    # Rounded, so that a way there and back meets where it was.
    value = float(f"{value:.6g}")
    return (value, rates[1]) if which == 0 else (rates[0], value)
