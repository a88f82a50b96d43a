"""Phasings of targets typed without phase: drawn from the diploid copying model, window by window, and joined.

No one phase is chosen: imputation averages over several phasings, which comes close to the exact diploid dosage and
lets each phasing copy from more haplotypes than pairs of them could be kept (``copying/diploid.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vcfbert.constants import HALF_REF, MISSING
from vcfbert.copying.diploid import heterozygous_calls, sample_phasings
from vcfbert.copying.states import unphased_states
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.li_stephens import LiStephens

Calls = npt.NDArray[np.int8]

# Typed sites phased at a time, and how many of them two neighbouring stretches share.
STRETCH = 384
OVERLAP = 96


@dataclass(frozen=True)
class Phasings:
    """Of those ``samples`` [u] of a target, by number, that came without phase: ``calls`` int8 [phasings, t, u, 2]."""

    samples: npt.NDArray[np.int64]
    calls: Calls


@dataclass(frozen=True)
class PhasingMode:
    """``states``: haplotypes that a target's pair may copy; ``phasings`` drawn of each target."""

    states: int
    phasings: int


MODES = {"fast": PhasingMode(states=200, phasings=4), "accurate": PhasingMode(states=640, phasings=8)}
DEFAULT_MODE = "accurate"


def draw_phasings(
    hmm: LiStephens,
    memory: ReferenceSubset,
    sites: npt.NDArray[np.int64],
    alleles: Calls,
    mode: PhasingMode,
    *,
    check: Callable[[], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Calls:
    """Phasings int8 [phasings, t, n, 2] of ``alleles`` int8 [t, n, 2] at a panel's typed ``sites`` [t], -1 where a call
    is missing; the known allele of a half call is drawn onto either haplotype. A sample's depend on its own genotypes
    alone. They are whole along the chromosome: stretches are turned to agree where they overlap. ``check`` is called
    before each, and may raise; ``progress`` is told after each which share of the sites is done."""
    genotypes = _genotypes(alleles)
    seeds = np.array([_seed(genotypes[:, sample]) for sample in range(genotypes.shape[1])], dtype=np.uint64)
    t = len(genotypes)
    joined: Calls | None = None
    for start in range(0, max(t - OVERLAP, 1), STRETCH - OVERLAP):
        if check is not None:
            check()
        stop = min(start + STRETCH, t)
        drawn = _stretch(hmm, memory, sites[start:stop], genotypes[start:stop], seeds, mode)
        joined = drawn if joined is None else _joined(joined, drawn, start)
        if progress is not None:
            progress(stop / t)
    assert joined is not None
    return joined


def _genotypes(alleles: Calls) -> Calls:
    """[t, n] of ``alleles`` [t, n, 2]: the sum of both, MISSING, or HALF_REF or HALF_ALT where one is missing."""
    n_missing = (alleles < 0).sum(axis=2)
    half = HALF_REF + alleles.max(axis=2)
    genotypes: Calls = np.select([n_missing == 0, n_missing == 1], [alleles.sum(axis=2), half], MISSING).astype(np.int8)
    return genotypes


def _stretch(
    hmm: LiStephens,
    memory: ReferenceSubset,
    sites: npt.NDArray[np.int64],
    genotypes: Calls,
    seeds: npt.NDArray[np.uint64],
    mode: PhasingMode,
) -> Calls:
    alleles, cm = np.ascontiguousarray(memory.alleles(sites).T), memory.panel.cm[sites]
    genotypes = np.ascontiguousarray(genotypes)
    k, threads = min(mode.states, len(memory)), torch.get_num_threads()
    maf = np.minimum(memory.af[sites], 1.0 - memory.af[sites])
    with torch.no_grad():
        stay = hmm.stay(torch.from_numpy(cm - cm[0]).float()).numpy()
        mismatch = hmm.mismatch(torch.from_numpy(maf).float()).numpy()

    states = unphased_states(genotypes, alleles, cm, k, threads=threads)
    return sample_phasings(
        genotypes, alleles, states, None, stay, mismatch, n_phasings=mode.phasings, seeds=seeds, threads=threads
    )


def _joined(left: Calls, right: Calls, start: int) -> Calls:
    """Two overlapping stretches of every phasing as one: ``right``, from typed site ``start`` on, is turned where most
    of the shared heterozygous calls say so, and takes over in the middle of the overlap."""
    shared = left.shape[1] - start
    a, b = left[:, start:], right[:, :shared]
    heterozygous = heterozygous_calls(a) & heterozygous_calls(b)
    # The nearer to the seam, the more a call says of the phase there.
    weight = 1.0 / (1.0 + np.abs(np.arange(shared) - shared // 2))[None, :, None]
    agree = np.where(heterozygous, np.where(a[..., 0] == b[..., 0], weight, -weight), 0.0).sum(axis=1)  # [s, n]
    turned = np.where((agree < 0)[:, None, :, None], right[..., ::-1], right)
    return np.concatenate([left[:, : start + shared // 2], turned[:, shared // 2 :]], axis=1)


def orientation(phasings: Calls, reference: Calls, position: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """bool [phasings, t, n]: where a phasing's first haplotype runs along the second of ``reference`` [t, n, 2], as the
    nearest heterozygous call at ``position`` [t] says."""
    heterozygous = heterozygous_calls(reference)  # [t, n]
    t = len(position)
    place = np.arange(t)[:, None]
    before = np.maximum.accumulate(np.where(heterozygous, place, -1), axis=0)
    after = np.minimum.accumulate(np.where(heterozygous, place, t)[::-1], axis=0)[::-1]
    to_before = np.where(before >= 0, position[:, None] - position[before], np.inf)
    to_after = np.where(after < t, position[np.minimum(after, t - 1)] - position[:, None], np.inf)
    nearest = np.where(to_before <= to_after, np.maximum(before, 0), np.minimum(after, t - 1))
    turned = phasings[..., 0] != reference[None, ..., 0]
    return np.asarray(np.take_along_axis(turned, np.broadcast_to(nearest, turned.shape), axis=1))


def _seed(genotypes: Calls) -> int:
    return int.from_bytes(hashlib.sha256(genotypes.tobytes()).digest()[:8], "little")
