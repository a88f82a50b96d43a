"""Fits V19: searches switch rates and mismatch probabilities by how well they impute, then fits mixture weights.

The best rates depend on the panel: among ten thousand haplotypes a target finds longer matches than among six hundred.
Three pairs of a switch rate and a mismatch probability are searched: of the heads for a given or inferred phase, of the
heads for sampled phasings, and of the HMM of pairs that phasings are sampled from.

The loss is on the validation samples, which are not in the reference subset. They look like targets: typed as by an
array, with errors and missing calls. Each is scored in an inferred phase, which has more errors than the panel's phase,
and over sampled phasings.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vcfbert.config import Config, MaskConfig
from vcfbert.constants import MISSING, RARE_MAF
from vcfbert.copying.diploid import consensus, heterozygous_calls
from vcfbert.copying.mixture import FIRST_RATES, CopyingModel, Mixture, Rates, inherited, knot_weights
from vcfbert.copying.window import HmmWindow, WindowTargets
from vcfbert.errors import InputError
from vcfbert.genotypes.encoding import hmm_windows
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.distinct import distinct_haplotypes
from vcfbert.imputation.phasing import PhasingMode, UnphasedWindow, sample_windows, unphased_windows
from vcfbert.kernels import Calls, Doubles, Floats, Indices
from vcfbert.training.mixture_weights import SufficientStatistics, better_weights
from vcfbert.training.validation import array_typing

MAX_SAMPLES = 60  # validation samples of a window
MAX_WINDOWS = 2
# A small panel's windows are typed anew, by other arrays and with other samples, until so many sites are searched.
SEARCHED_SITES, MAX_TYPINGS = 16_384, 4
MAX_SITES = 4096  # of a window, at which genotypes are scored
MAX_DENSITY = 0.05  # greatest fraction of sites typed: a denser array takes more time and leaves fewer sites to score
MODE = PhasingMode(states=640, phasings=4)
MAX_KEPT = 2048  # haplotypes of a window whose dosages are kept for the next phasings
# Of the samples, when mixture weights are cross-validated. Weights fitted to half of them are so much worse than those
# fitted to all that chance decided whether weights were used.
PARTS = 4
# Of (switch rate, mismatch probability): first and last steps of the search in octaves, and bounds. The rates of cattle
# lie near the lower bound of human panels.
FIRST_STEPS, LAST_STEPS = (1.0, 2.0), (0.5, 1.0)
BOUNDS = ((1e-3, 200.0), (1e-5, 1e-1))

NOISE_STREAM = 5  # of the seed sequence (genotypes/masks.py)


class SearchListener(Protocol):
    """Receives the steps of a search, and knows the steps that an interrupted search took."""

    def begin(self, stage: str) -> None:
        """The search ``stage`` begins: 'panel', 'pair', 'phased' or 'sampled'."""

    def known(self, stage: str) -> Mapping[Rates, float]:
        """Losses that an interrupted search has computed."""

    def tried(self, stage: str, rates: Rates, loss: float) -> None:
        """``rates`` have this loss, in nats."""


@dataclass(frozen=True)
class _Typed:
    """A window and the typed calls of its panel's validation samples."""

    window: HmmWindow  # of the sites that count in the loss
    calls: Calls  # [t, n, 2] at the typed sites, in the panel's phase, -1 where missing
    truth: npt.NDArray[np.int64]  # [n, l], genotypes
    unphased: list[UnphasedWindow]  # of the same calls
    kept: dict[bytes, Floats]  # dosages [l] by one mixture, of the haplotype with these calls [t]; last used last

    @property
    def af(self) -> Doubles:
        """[l]: ALT frequency in the reference subset."""
        return self.window.reference.af[self.window.sites]


@dataclass(frozen=True)
class _Queries:
    """Phasings of the samples in one window, and the haplotypes that each distinct one may copy."""

    typed: _Typed
    targets: WindowTargets
    number: Indices  # [s, n, 2], of the distinct haplotype


@dataclass(frozen=True)
class _Fitted:
    """A mixture, the fraction of held-out squared error that its weights save, and its loss in nats."""

    mixture: Mixture
    gain: float
    loss: float


class RateSearch:
    """The search on one panel or several, on validation samples typed as by an array in some windows."""

    def __init__(
        self,
        references: Sequence[ReferenceSubset],
        config: Config,
        *,
        k: int,
        threads: int,
        listener: SearchListener,
    ) -> None:
        """``references``: the training split of each panel. ``k``: haplotypes that each haplotype may copy."""
        self._config = config
        self._k = k
        self._threads = threads
        self._listener = listener
        encode = config.encode
        self._places = [
            (reference, window)
            for reference in references
            for window in hmm_windows(reference.panel, encode.copy_window, encode.copy_span_cm)
        ]

    def search(self) -> tuple[CopyingModel, dict[str, float]]:
        """The fitted model, and figures of the search to log."""
        started = time.perf_counter()
        first = self._best_rates("panel", self._all_queries([typed.calls[None] for typed in self._typed]), FIRST_RATES)
        sampled_heads = Mixture.first(first)
        phasings: dict[Rates, list[Calls]] = {}

        def pair_loss(tried: Rates) -> float:
            phasings[tried] = [self._sample(typed, tried) for typed in self._typed]
            losses = map(self._kept_loss, itertools.repeat(sampled_heads), self._typed, phasings[tried])
            return sum(losses) / len(self._typed)

        pair = self._descend("pair", pair_loss, first)
        best = phasings.get(pair) or [self._sample(typed, pair) for typed in self._typed]
        phased = self._fit_mixture("phased", [consensus(one)[None] for one in best], first)
        sampled = self._fit_mixture("sampled", best, first)
        model = CopyingModel(phased.mixture, sampled.mixture, pair)
        figures = {"val/genotype_loss": (phased.loss + sampled.loss) / 2.0}
        found = {"pair": pair, "phased": phased.mixture.rates, "sampled": sampled.mixture.rates}
        for name, rates in found.items():
            figures |= {f"search/{name}_rate": rates.switches_per_cm, f"search/{name}_mismatch": rates.mismatch}
        gains = {"search/phased_weights_gain": phased.gain, "search/sampled_weights_gain": sampled.gain}
        switches = {"search/phase_errors_per_cm": self._switches_per_cm(best)}
        return model, figures | gains | switches | {"search/seconds": time.perf_counter() - started}

    def _fit_mixture(self, stage: str, phasings: list[Calls], start: Rates) -> _Fitted:
        """Searches the rates for such ``phasings`` of each window from ``start``, and fits the weights.

        Only one stage's queries are in memory at a time.
        """
        queries = self._all_queries(phasings)
        mixture, gain = self._fitted(queries, self._best_rates(stage, queries, start))
        return _Fitted(mixture, gain, self._loss(mixture, queries))

    def _best_rates(self, stage: str, queries: list[_Queries], start: Rates) -> Rates:
        return self._descend(stage, lambda tried: self._loss(Mixture.first(tried), queries), start)

    def _descend(self, stage: str, loss: Callable[[Rates], float], start: Rates) -> Rates:
        self._listener.begin(stage)

        def computed(rates: Rates) -> float:
            value = loss(rates)
            self._listener.tried(stage, rates, value)
            return value

        return descend(computed, start, self._listener.known(stage))

    def _fitted(self, queries: list[_Queries], rates: Rates) -> tuple[Mixture, float]:
        """The mixture with weights fitted to such queries, and the fraction of held-out squared error they save."""
        start = Mixture.first(rates)
        by_part = zip(*(self._statistics(start, one) for one in queries), strict=True)
        weights, gain = better_weights([reduce(operator.add, part) for part in by_part], start.weights)
        return dataclasses.replace(start, weights=weights), gain

    def _statistics(self, mixture: Mixture, one: _Queries) -> list[SufficientStatistics]:
        """Sufficient statistics of PARTS parts of the samples."""
        heads = one.typed.window.heads(mixture)
        by_head = []
        for number in range(len(heads.stay)):
            copied = one.targets.copied(heads.alone(number), one.typed.window.fraction, threads=self._threads)
            by_head.append(copied.dosage[one.number].mean(axis=0).sum(axis=1))  # [n, l]
        dosage, truth = np.stack(by_head), one.typed.truth
        af = one.typed.af
        knots = knot_weights(np.minimum(af, 1.0 - af))
        return [SufficientStatistics.of(dosage[:, part::PARTS], truth[part::PARTS], knots) for part in range(PARTS)]

    @cached_property
    def _typed(self) -> list[_Typed]:
        """The windows of the search and their typed samples. Raises InputError 'too_few_sites'."""
        chosen = self._searched()
        n_sites = sum(stop - start for start, stop in (self._places[number][1].core for number in chosen))
        typings = min(max(SEARCHED_SITES // max(n_sites, 1), 1), MAX_TYPINGS)
        every = (self._type(number, typing) for typing in range(typings) for number in chosen)
        found = [typed for typed in every if typed is not None]
        if not found:
            raise InputError(
                "too_few_sites",
                "the panel has no sites from which others could be imputed: an array types common sites, and rates are "
                "fitted to those between them",
                hint="give a panel with more sites, or of a longer region",
            )
        return found

    def _searched(self) -> list[int]:
        """The windows in the middle of equal parts of all panels' sites.

        A window without a site to type, or without another that varies, as on a short scaffold, is not searched.
        """
        usable = [number for number, place in enumerate(self._places) if _is_searchable(*place)]
        if not usable:
            return []
        length = [stop - start for start, stop in (self._places[number][1].core for number in usable)]
        ends = np.cumsum(length)
        # Windows of equal width differ by a site. Where a middle is the border of two, it is the second's.
        middles = (np.arange(MAX_WINDOWS) + 0.5) / MAX_WINDOWS * ends[-1] + 0.75
        places = np.searchsorted(ends, middles, side="right").clip(max=len(usable) - 1)
        return [usable[place] for place in np.unique(places).tolist()]

    def _type(self, number: int, typing: int) -> _Typed | None:
        """Window ``number``, with errors and missing calls sampled by its number and that of its ``typing``. None if it
        has no site to type, or none to score."""
        reference, window = self._places[number]
        masks, seed, panel = self._config.masks, self._config.train.seed, reference.panel
        stream = number + typing * len(self._places)
        rng = np.random.default_rng([seed, NOISE_STREAM, stream])
        haplotypes = panel.some_validation_haplotypes(MAX_SAMPLES, typing)
        typed = array_typing(reference, sparse_array(masks), seed)(dataclasses.replace(window, index=stream))
        key = np.flatnonzero(typed).astype(np.int64) + window.retrieval[0]
        sites = _scored(reference, window, key)
        if not (len(key) and len(sites)):
            return None
        calls = panel.alleles(key, haplotypes).T.astype(np.int8).reshape(len(key), -1, 2)
        calls ^= rng.random(calls.shape) < masks.typing_error
        calls[rng.random(calls.shape[:2]) < masks.missing] = MISSING
        genotypes = panel.alleles(sites, haplotypes).reshape(-1, 2, len(sites)).sum(axis=1)
        ready = HmmWindow.of(reference, sites, key, threads=self._threads)
        unphased = list(unphased_windows(reference, key, calls, MODE, threads=self._threads))
        return _Typed(ready, np.ascontiguousarray(calls), genotypes.astype(np.int64), unphased, {})

    def _sample(self, typed: _Typed, rates: Rates) -> Calls:
        return sample_windows(typed.unphased, rates, MODE, threads=self._threads)

    def _all_queries(self, phasings: list[Calls]) -> list[_Queries]:
        return [self._queries(typed, one) for typed, one in zip(self._typed, phasings, strict=True)]

    def _queries(self, typed: _Typed, phasings: Calls) -> _Queries:
        """The queries of ``phasings`` int8 [s, t, n, 2], with the haplotypes that they may copy."""
        calls, number = _distinct(phasings)
        return _Queries(typed, self._targets(typed, calls), number)

    def _targets(self, typed: _Typed, calls: Calls) -> WindowTargets:
        chosen = typed.window.states(calls, self._k, threads=self._threads)
        return typed.window.targets(calls, chosen, threads=self._threads)

    def _kept_loss(self, mixture: Mixture, typed: _Typed, phasings: Calls) -> float:
        """The loss of ``phasings`` in one window. Dosages by the ``mixture``, always the same, are kept: phasings at
        other rates have many of the same haplotypes."""
        calls, number = _distinct(phasings)
        names = [one.tobytes() for one in np.ascontiguousarray(calls.T)]
        new = [place for place, name in enumerate(names) if name not in typed.kept]
        if new:
            targets = self._targets(typed, np.ascontiguousarray(calls[:, new]))
            heads = typed.window.heads(mixture)
            copied = targets.copied(heads, typed.window.fraction, threads=self._threads)
            typed.kept.update(
                (names[place], one.copy()) for place, one in zip(new, inherited(copied.dosage), strict=True)
            )
        alt = np.stack([typed.kept[name] for name in names])
        typed.kept.update([(name, typed.kept.pop(name)) for name in names])
        for name in list(typed.kept)[:-MAX_KEPT]:
            del typed.kept[name]
        return _cross_entropy(alt, number, typed.truth)

    def _loss(self, mixture: Mixture, queries: list[_Queries]) -> float:
        """Mean cross-entropy of the genotypes in nats, over the windows."""
        return sum(self._window_loss(mixture, one) for one in queries) / len(queries)

    def _window_loss(self, mixture: Mixture, one: _Queries) -> float:
        window = one.typed.window
        copied = one.targets.copied(window.heads(mixture), window.fraction, threads=self._threads)
        return _cross_entropy(inherited(copied.dosage), one.number, one.typed.truth)

    def _switches_per_cm(self, phasings: list[Calls]) -> float:
        """Switch errors per cM of a sample's inferred phase, against the panel's phase."""
        switches, length = 0, 0.0
        for typed, one in zip(self._typed, phasings, strict=True):
            cm = typed.window.key_cm
            length += float(cm[-1] - cm[0]) * typed.calls.shape[1]
            switches += n_switches(consensus(one), typed.calls)
        return switches / max(length, 1e-9)


def _scored(reference: ReferenceSubset, window: Window, key: Indices) -> Indices:
    """At most ``MAX_SITES`` untyped sites of the window's core, evenly spaced, at which the subset has both alleles.

    An allele that the subset lacks cannot be copied. Neighbouring sites say much the same about the rates.
    """
    sites = np.setdiff1d(np.arange(*window.core), key)
    af = reference.af[sites]
    sites = sites[(af > 0.0) & (af < 1.0)]
    if len(sites) <= MAX_SITES:
        return sites
    return sites[np.unique(np.linspace(0, len(sites) - 1, MAX_SITES).round().astype(np.int64))]


def _is_searchable(reference: ReferenceSubset, window: Window) -> bool:
    """Whether an array may type a site of the retrieval window, and another one varies."""
    af = reference.af[window.retrieval_sites]
    maf = np.minimum(af, 1.0 - af)
    return bool((maf >= RARE_MAF).any()) and int(np.count_nonzero(maf)) > 1


def _distinct(phasings: Calls) -> tuple[Calls, Indices]:
    """The distinct haplotypes [t, u] of ``phasings`` [s, t, n, 2], and which of them each is: int64 [s, n, 2]."""
    s, t, n, _ = phasings.shape
    calls, number = distinct_haplotypes(phasings.transpose(1, 0, 2, 3).reshape(t, 2 * s * n))
    return calls, number.reshape(s, n, 2)


def _cross_entropy(alt: Floats, number: Indices, truth: npt.NDArray[np.int64]) -> float:
    """Mean cross-entropy of the true genotypes in nats; arguments of ``_genotype_probability``."""
    right = _genotype_probability(alt, number, truth)
    return float(-np.log(right.clip(min=1e-6), dtype=np.float64).mean())


def _genotype_probability(alt: Floats, number: Indices, truth: npt.NDArray[np.int64]) -> Floats:
    """Probability [n, l] of each sample's true genotype, the mean over its phasings.

    ``alt`` [u, l]: of distinct haplotypes; ``number`` [s, n, 2]: those of each phasing; ``truth`` [n, l].
    """
    total, heterozygous, no_alt = np.zeros(truth.shape, np.float32), truth == 1, truth == 0
    for first, second in number.transpose(0, 2, 1):
        p, q = alt[first], alt[second]
        both, neither = p * q, (1.0 - p) * (1.0 - q)
        total += np.where(heterozygous, 1.0 - neither - both, np.where(no_alt, neither, both))
    total /= np.float32(len(number))
    return total


def sparse_array(masks: MaskConfig) -> MaskConfig:
    """``masks`` restricted to sparse arrays: denser ones take more time and leave fewer alleles to score."""
    low, high = masks.array_density
    return dataclasses.replace(masks, array_share=1.0, array_density=(low, max(low, min(high, MAX_DENSITY))))


def n_switches(phase: Calls, truth: Calls) -> int:
    """Switch errors of ``phase`` [t, n, 2] against ``truth`` [t, n, 2], over all samples.

    Only calls that are heterozygous in both count.
    """
    both = heterozygous_calls(phase) & heterozygous_calls(truth)
    along = phase[..., 0] == truth[..., 0]
    return sum(int(np.count_nonzero(np.diff(along[both[:, i], i]))) for i in range(phase.shape[1]))


def descend(loss: Callable[[Rates], float], start: Rates, known: Mapping[Rates, float] | None = None) -> Rates:
    """Minimises ``loss`` from ``start`` by steps in one rate at a time, on a logarithmic scale, within ``BOUNDS``.

    Steps are halved once no step lowers the loss (pattern search, Hooke and Jeeves 1961, J. ACM 8:212). No rates are
    evaluated twice, nor are those whose loss is ``known``.
    """
    losses: dict[Rates, float] = dict(known or {})

    def at(rates: Rates) -> float:
        if rates not in losses:
            losses[rates] = loss(rates)
        return losses[rates]

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
    value = float(np.clip((rates.switches_per_cm, rates.mismatch)[which] * 2.0**octaves, low, high))
    # Rounded, so that a step up and a step down give the same value again.
    value = float(f"{value:.6g}")
    return Rates(value, rates.mismatch) if which == 0 else Rates(rates.switches_per_cm, value)
