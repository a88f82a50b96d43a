"""Imputation with a bundle: takes a matched target, yields blocks of imputed sites. Knows no HTTP and no MLflow."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Final

import numpy as np

from vcfbert.bundle.contents import Bundle, Part
from vcfbert.constants import MISSING
from vcfbert.copying.mixture import CopyingModel
from vcfbert.errors import InputError
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.genotypes.windows import Window, blend_weights, key_sites
from vcfbert.imputation.phasing import DEFAULT_MODE, MODES, PhasedTarget, phase_target
from vcfbert.imputation.predictors import predictor_of
from vcfbert.imputation.progress import Progress, SitesDone
from vcfbert.imputation.window_prediction import PredictorOptions, WindowPrediction, of_independent
from vcfbert.kernels import Calls, Floats, Indices, usable_threads

# Samples x sites of 28 bytes each. Only for a few samples does writing take longer than predicting.
MAX_HELD_CELLS: Final = 250_000
# Samples x sites of one block.
_CELLS_OF_BLOCK: Final = 1 << 18


class Imputer:
    """Imputes targets with a loaded bundle. One instance serves many calls and threads; it keeps no data of samples.

    Examples:
        >>> imputer = vcfbert.Imputer(vcfbert.load_bundle("bundle"), mode="fast")
        >>> imputed = vcfbert.impute_file(imputer, "array.vcf.gz", "fast.vcf.gz")
        >>> imputed.summary["n_sites"]
        300
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        batch_size: int = 64,
        mode: str = DEFAULT_MODE,
        ignore_phase: bool = False,
        kept_bytes: int = 0,
        device_guard: AbstractContextManager[object] | None = None,
        max_held_cells: int = MAX_HELD_CELLS,
        threads: int | None = None,
        observe_retrieval: Callable[[float], None] | None = None,
    ) -> None:
        """``batch_size``: samples predicted at once. ``mode``: accuracy of unphased targets, a key of
        ``phasing.MODES``. ``ignore_phase``: treat phased targets as unphased; an inferred phase has errors, which the
        mean over phasings evens out. ``kept_bytes``: maximum host memory for windows kept for the next target with the
        same typed sites.

        ``device_guard``: a lock, or another context manager that many threads enter, shared by all users of the
        device. The imputer enters it once for each target, around all computation. A result of at most
        ``max_held_cells`` samples x sites is computed whole and yielded after the guard is left, so others compute
        while it is written. A larger result is yielded block by block inside the guard, so host memory stays bounded.

        ``threads``: all that the process may use if None. ``observe_retrieval`` receives the seconds of each choice of
        haplotypes.

        Raises InputError 'mode' or 'ignore_phase'.
        """
        if mode not in MODES:
            raise InputError("mode", f"there is no mode {mode!r}", hint=f"one of {', '.join(MODES)}")
        if ignore_phase and not bundle.model.takes_unphased:
            raise InputError("ignore_phase", f"{bundle.variant} needs the phase", hint="leave out --ignore-phase")
        self.bundle = bundle
        self.batch_size = batch_size
        self.mode = MODES[mode]
        self.ignore_phase = ignore_phase
        self._guard = device_guard
        self._max_held_cells = max_held_cells
        self._threads = threads or usable_threads()
        options = PredictorOptions(batch_size, kept_bytes, threads)
        if observe_retrieval is not None:
            options = dataclasses.replace(options, observe_retrieval=observe_retrieval)
        self._predictor = predictor_of(bundle, options)

    def impute(
        self,
        target: MatchedTarget | PhasedTarget,
        *,
        sites: tuple[int, int] | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], None] | None = None,
    ) -> Generator[ImputedBlock]:
        """Yields blocks, in order, that tile the panel's sites, or the half-open interval ``sites`` of them.

        Each sample is imputed as if it were alone: along its own phase, or averaged over phasings if any of its
        heterozygous calls is unphased. Host memory is bounded by a few windows times the number of samples.

        ``progress`` receives the number of further sites done; phasing counts as a third of them. ``cancelled`` is
        called before each phased window and each predicted window; it raises to stop.

        Close the generator if you do not exhaust it: it may hold the device guard. Raises InputError 'unphased' if a
        sample is unphased and the variant requires phase.
        """
        matched = target.target if isinstance(target, PhasedTarget) else target
        first, last = sites or (0, self.bundle.part(matched.panel_digest).panel.n_sites)
        blocks = self._blocks(target, first, last, progress, cancelled)
        if self._guard is None:
            yield from blocks
            return
        with self._guard:
            if len(matched.samples) * (last - first) > self._max_held_cells:
                yield from blocks
                return
            held = list(blocks)
        yield from held

    def phase(self, target: MatchedTarget) -> PhasedTarget:
        """Phases the unphased samples of a target, inside the device guard; see ``phasing.phase_target``."""
        with self._guard or nullcontext():
            return self._phase(target)

    def reach(self, part: Part, sites: tuple[int, int], typed: Indices) -> slice:
        """The typed sites that the interval ``sites`` of the part's panel depends on, as a slice of ``typed`` [m]."""
        windows, cm = part.windows, part.panel.cm
        keys = [key_sites(window, typed, cm) for window in _overlapping(windows, *sites)]
        first, last = min(key[0] for key in keys), max(key[-1] for key in keys)
        return slice(int(np.searchsorted(typed, first)), int(np.searchsorted(typed, last)) + 1)

    def _phase(
        self,
        target: MatchedTarget,
        check: Callable[[], None] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> PhasedTarget:
        model = self.bundle.model
        return phase_target(
            target,
            self.bundle.part(target.panel_digest).reference,
            model.pair if isinstance(model, CopyingModel) else None,
            self.mode,
            ignore_phase=self.ignore_phase,
            threads=self._threads,
            check=check,
            progress=progress,
        )

    def _blocks(
        self,
        target: MatchedTarget | PhasedTarget,
        first: int,
        last: int,
        progress: Progress | None,
        cancelled: Callable[[], None] | None,
    ) -> Iterator[ImputedBlock]:
        done = SitesDone(progress, last - first)
        phased = target if isinstance(target, PhasedTarget) else self._phase(target, cancelled, done.phased)
        part = self.bundle.part(phased.target.panel_digest)
        row = _target_rows(phased.target, part.panel.n_sites)
        for start, prediction in self._blended(part, phased, first, last, cancelled):
            low, high = max(start, first), min(start + len(prediction.haplotype), last)
            for block in _blocks_of(prediction, start, low, high, phased, row):
                yield block
                done.imputed(block.stop - block.start)
            del prediction  # before the next window is predicted

    def _blended(
        self, part: Part, phased: PhasedTarget, first: int, last: int, check: Callable[[], None] | None
    ) -> Iterator[tuple[int, WindowPrediction]]:
        """Yields finished intervals of sites, each with its first site. Windows overlap; a site is finished when no
        later window covers it."""
        windows, cm = part.windows, part.panel.cm
        wanted = _overlapping(windows, first, last)
        carried: WindowPrediction | None = None
        with closing(self._predicted(part, wanted, phased, check)) as predictions:
            for window, following in zip(wanted, [*wanted[1:], None], strict=True):
                prediction = next(predictions)
                prediction.weigh(blend_weights(window, windows, cm))
                if carried is not None:
                    prediction.add(carried)
                done = (following.start if following else window.stop) - window.start
                carried = prediction.sites(done, window.stop - window.start).copied()
                yield window.start, prediction.sites(0, done)
                del prediction

    def _predicted(
        self, part: Part, windows: list[Window], phased: PhasedTarget, check: Callable[[], None] | None
    ) -> Generator[WindowPrediction]:
        """The prediction of each window, in order. As many as the predictor takes at once are computed side by side,
        while the caller writes the one before."""
        at_once = min(self._predictor.windows_at_once, len(windows))
        if at_once == 1:
            for window in windows:
                if check is not None:
                    check()
                yield self._predictor.predict(part, window, phased)
            return
        pool = ThreadPoolExecutor(at_once)
        try:
            started: deque[Future[WindowPrediction]] = deque()
            for window in windows:
                if check is not None:
                    check()
                started.append(pool.submit(self._predictor.predict, part, window, phased))
                if len(started) > at_once:
                    yield started.popleft().result()
            while started:
                yield started.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _overlapping(windows: list[Window], first: int, last: int) -> list[Window]:
    return [w for w in windows if w.start < last and w.stop > first]


def _blocks_of(
    prediction: WindowPrediction, start: int, low: int, high: int, phased: PhasedTarget, row: Indices
) -> Iterator[ImputedBlock]:
    """The panel sites [low, high) of a prediction that begins at site ``start``. ``row``: of ``_target_rows``."""
    at_once = max(_CELLS_OF_BLOCK // len(phased.target.samples), 1)
    for site in range(low, high, at_once):
        end = min(site + at_once, high)
        own = prediction.sites(site - start, end - start)
        calls = _dense_calls(row, phased.target, site, end)
        yield ImputedBlock(site, end, own.haplotype, calls, _genotype(own, phased), own.loo_of_sites)


def _genotype(prediction: WindowPrediction, phased: PhasedTarget) -> Floats | None:
    """Genotype probabilities [l, n, 3]; None if all samples' haplotypes are independent.

    In a file that also has unphased samples, phased samples get the probabilities of independent haplotypes, as they do
    in a file of phased samples.
    """
    genotype = prediction.genotype
    if genotype is not None and phased.phasings is not None:
        rest = np.delete(np.arange(genotype.shape[1]), phased.phasings.samples)
        genotype[:, rest] = of_independent(prediction.haplotype[:, rest])
    return genotype


def _target_rows(target: MatchedTarget, n_sites: int) -> Indices:
    """int64 [n_sites]: the target's row for each panel site, -1 where untyped."""
    row = np.full(n_sites, -1, dtype=np.int64)
    row[target.panel_site] = np.arange(len(target.panel_site))
    return row


def _dense_calls(row: Indices, target: MatchedTarget, low: int, high: int) -> Calls:
    """Typed alleles int8 [high - low, n, 2] at panel sites [low, high), -1 where untyped."""
    calls = np.full((high - low, len(target.samples), 2), MISSING, dtype=np.int8)
    typed = row[low:high] >= 0
    calls[typed] = target.alleles[row[low:high][typed]]
    return calls
