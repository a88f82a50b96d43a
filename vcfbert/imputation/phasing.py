"""Phasing of unphased targets: phasings are sampled from a model of haplotype pairs, window by window, and joined.

Imputation averages over several phasings instead of choosing one. The mean comes close to the exact diploid dosage, and
each phasing can copy from more haplotypes than the model of pairs can hold (``copying/diploid.py``).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcfbert.constants import HALF_REF, MISSING
from vcfbert.copying.diploid import consensus, heterozygous_calls, sample_phasings
from vcfbert.copying.mixture import Rates
from vcfbert.copying.states import alleles_of, unphased_states
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.kernels import Alleles, Calls, Doubles, Indices, Numbers


@dataclass(frozen=True)
class Phasings:
    """Sampled phasings of a target's unphased samples.

    ``samples`` int64 [u]: their indices in the target. ``calls`` int8 [phasings, t, u, 2].
    """

    samples: Indices
    calls: Calls


@dataclass(frozen=True)
class PhasedTarget:
    """A target in which every sample's calls are in phase.

    ``phasings``: those of the samples that were unphased in the input; None if there are none.
    """

    target: MatchedTarget
    phasings: Phasings | None


@dataclass(frozen=True)
class PhasingMode:
    """Accuracy and cost of phasing.

    ``states``: maximum reference haplotypes that the HMM of pairs copies for a target. ``phasings``: number sampled for
    each target. ``window_sites``: typed sites phased at once; ``overlap_sites`` of them are shared with the next
    window.
    """

    states: int
    phasings: int
    window_sites: int = 384
    overlap_sites: int = 96


MODES = {"fast": PhasingMode(states=200, phasings=4), "accurate": PhasingMode(states=640, phasings=8)}
DEFAULT_MODE = "accurate"


def phase_target(
    target: MatchedTarget,
    reference: ReferenceSubset,
    rates: Rates | None,
    mode: PhasingMode,
    *,
    ignore_phase: bool = False,
    threads: int = 1,
    check: Callable[[], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> PhasedTarget:
    """Returns the target with every sample's calls in phase, and phasings of the samples that are unphased in it.

    ``reference``: haplotypes of the target's panel. ``rates``: of the HMM of pairs; None if the variant requires phased
    targets. ``ignore_phase``: treat all samples as unphased. ``check`` and ``progress``: as in ``phase_alleles``.

    Each sample is phased independently. Phasings are consistent along the chromosome, so the target must cover all of
    it. Haploid samples are homozygous-coded. In a phased sample a half call without order, such as 0/., becomes
    missing, because its haplotype is unknown. Raises InputError 'unphased' if a sample is unphased and ``rates`` is
    None.
    """
    target = target.homozygous_coded()
    alleles = target.alleles.copy()
    alleles[~target.phased & (alleles == MISSING).any(axis=2)] = MISSING
    samples = np.flatnonzero(target.unphased.any(axis=0) | ignore_phase)
    phasings = None
    if len(samples):
        if rates is None:
            raise unphased_error(target, reference.panel)
        sampled = phase_alleles(
            rates,
            reference,
            target.panel_site,
            target.alleles[:, samples],
            mode,
            threads=threads,
            check=check,
            progress=progress,
        )
        phasings = Phasings(samples, sampled)
        alleles[:, samples] = consensus(sampled)
    return PhasedTarget(dataclasses.replace(target, alleles=alleles), phasings)


def unphased_error(target: MatchedTarget, panel: Panel) -> InputError:
    """The error of a target with unphased samples, for a variant that requires phased ones."""
    unphased = target.unphased
    n_samples = np.count_nonzero(unphased.any(axis=0))
    first = target.panel_site[np.argmax(unphased.any(axis=1))]
    return InputError(
        "unphased",
        f"{n_samples} of {len(target.samples)} samples have unphased heterozygous calls; this model needs phased ones",
        where=f"target, first at {panel.sites.chrom}:{panel.sites.pos[first]}",
        hint="phase it first, e.g. `beagle gt=TARGET ref=PANEL impute=false out=PHASED` or SHAPEIT5 / Eagle2",
    )


def phase_alleles(
    rates: Rates,
    reference: ReferenceSubset,
    sites: Indices,
    alleles: Calls,
    mode: PhasingMode,
    *,
    threads: int = 1,
    check: Callable[[], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Calls:
    """Samples phasings int8 [phasings, t, n, 2] of unphased ``alleles`` int8 [t, n, 2] at a panel's typed ``sites``
    [t].

    A missing allele is -1; the known allele of a half call is put on either haplotype. A sample's phasings depend on
    its own genotypes alone. Each phasing is consistent along all sites: neighbouring windows are aligned where they
    overlap. ``check`` is called before each window and may raise. After each window ``progress`` receives the fraction
    of the sites that is done.
    """
    windows = unphased_windows(reference, sites, alleles, mode, threads=threads, check=check)
    return sample_windows(windows, rates, mode, threads=threads, progress=progress)


@dataclass(frozen=True)
class UnphasedWindow:
    """A window of t typed sites of n unphased samples, and the haplotypes that the HMM of pairs copies for each.

    None of it depends on the rates.
    """

    start: int  # of all typed sites
    done: float  # fraction of all typed sites up to the window's end
    cm: Doubles  # [t]
    genotypes: Calls  # [t, n]
    alleles: Alleles  # [t, h], of the haplotypes that any sample copies
    states: Numbers  # [n, k], of the h
    seeds: npt.NDArray[np.uint64]  # [n]


def unphased_windows(
    reference: ReferenceSubset,
    sites: Indices,
    alleles: Calls,
    mode: PhasingMode,
    *,
    threads: int = 1,
    check: Callable[[], None] | None = None,
) -> Iterator[UnphasedWindow]:
    """The windows of unphased ``alleles`` int8 [t, n, 2]. All arguments are those of ``phase_alleles``."""
    genotypes = _genotypes(alleles)
    seeds = np.array([_seed(genotypes[:, sample]) for sample in range(genotypes.shape[1])], dtype=np.uint64)
    t = len(genotypes)
    for start in range(0, max(t - mode.overlap_sites, 1), mode.window_sites - mode.overlap_sites):
        if check is not None:
            check()
        stop = min(start + mode.window_sites, t)
        inside, own = sites[start:stop], np.ascontiguousarray(genotypes[start:stop])
        panel, cm = reference.bits(inside), reference.panel.cm[inside]
        states = unphased_states(own, panel, cm, min(mode.states, len(reference)), threads=threads)
        rows, number = np.unique(states, return_inverse=True)
        copied = alleles_of(panel[rows], len(inside))
        yield UnphasedWindow(start, stop / t, cm, own, copied, number.reshape(states.shape).astype(np.int32), seeds)


def sample_windows(
    windows: Iterable[UnphasedWindow],
    rates: Rates,
    mode: PhasingMode,
    *,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
) -> Calls:
    """Samples phasings of consecutive ``windows`` and joins them; result and arguments as of ``phase_alleles``."""
    joined: Calls | None = None
    for window in windows:
        sampled = sample_phasings(
            window.genotypes,
            window.alleles,
            window.states,
            None,
            rates.stay(window.cm),
            np.full(len(window.cm), rates.mismatch, dtype=np.float32),
            n_phasings=mode.phasings,
            seeds=window.seeds,
            threads=threads,
        )
        joined = sampled if joined is None else join_windows(joined, sampled, window.start)
        if progress is not None:
            progress(window.done)
    assert joined is not None
    return joined


def _genotypes(alleles: Calls) -> Calls:
    """Genotypes int8 [t, n] of ``alleles`` [t, n, 2]: the sum of both alleles, HALF_REF or HALF_ALT if one is missing,
    MISSING if both are."""
    n_missing = (alleles < 0).sum(axis=2)
    half = HALF_REF + alleles.max(axis=2)
    genotypes: Calls = np.select([n_missing == 0, n_missing == 1], [alleles.sum(axis=2), half], MISSING).astype(np.int8)
    return genotypes


def join_windows(left: Calls, right: Calls, start: int) -> Calls:
    """Joins each phasing of two overlapping windows; ``right`` begins at typed site ``start`` of ``left``.

    ``right`` is phase-flipped if most of the shared heterozygous calls disagree with ``left``. It takes over in the
    middle of the overlap.
    """
    shared = left.shape[1] - start
    a, b = left[:, start:], right[:, :shared]
    heterozygous = heterozygous_calls(a) & heterozygous_calls(b)
    # Calls near the seam say more about the phase there.
    weight = 1.0 / (1.0 + np.abs(np.arange(shared) - shared // 2))[None, :, None]
    agree = np.where(heterozygous, np.where(a[..., 0] == b[..., 0], weight, -weight), 0.0).sum(axis=1)  # [s, n]
    aligned = np.where((agree < 0)[:, None, :, None], right[..., ::-1], right)
    return np.concatenate([left[:, : start + shared // 2], aligned[:, shared // 2 :]], axis=1)


def orientation(phasings: Calls, reference: Calls, position: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """bool [phasings, t, n]: whether a phasing is phase-flipped against ``reference`` [t, n, 2] at each typed site.

    The nearest heterozygous call decides; ``position`` [t] gives the distances.
    """
    heterozygous = heterozygous_calls(reference)  # [t, n]
    t = len(position)
    place = np.arange(t)[:, None]
    before = np.maximum.accumulate(np.where(heterozygous, place, -1), axis=0)
    after = np.minimum.accumulate(np.where(heterozygous, place, t)[::-1], axis=0)[::-1]
    to_before = np.where(before >= 0, position[:, None] - position[before], np.inf)
    to_after = np.where(after < t, position[np.minimum(after, t - 1)] - position[:, None], np.inf)
    nearest = np.where(to_before <= to_after, np.maximum(before, 0), np.minimum(after, t - 1))
    flipped = phasings[..., 0] != reference[None, ..., 0]
    return np.asarray(np.take_along_axis(flipped, np.broadcast_to(nearest, flipped.shape), axis=1))


def _seed(genotypes: Calls) -> int:
    """A seed made of one sample's genotypes [t], so that its phasings do not depend on other samples or their order."""
    return int.from_bytes(hashlib.sha256(genotypes.tobytes()).digest()[:8], "little")
