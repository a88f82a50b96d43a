"""Phasings of targets typed without phase: drawn from the diploid copying model, window by window, and joined.

No one phase is chosen: imputation averages over several phasings, which comes close to the exact diploid dosage and
lets each phasing copy from more haplotypes than pairs of them could be kept (``copying/diploid.py``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vcfbert.copying.diploid import consensus, sample_phasings
from vcfbert.copying.states import phased_states, unphased_states
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.model.v19 import V19

Calls = npt.NDArray[np.int8]

# Typed sites phased at a time, and how many of them two neighbouring stretches share.
STRETCH = 384
OVERLAP = 96


@dataclass(frozen=True)
class PhasingMode:
    """``states``: haplotypes that a target's pair may copy; ``phasings`` drawn of each target; ``rounds`` of choosing
    states, the first by the genotypes, each other by the haplotypes of the round before."""

    states: int
    phasings: int
    rounds: int


MODES = {"fast": PhasingMode(states=160, phasings=4, rounds=1), "accurate": PhasingMode(states=320, phasings=16, rounds=2)}


def draw_phasings(model: V19, panel: Panel, target: MatchedTarget, mode: PhasingMode) -> Calls:
    """Phasings int8 [phasings, t, n, 2] of a target's typed sites, -1 where a call is missing. A sample's depend on its
    own genotypes alone. They are whole along the chromosome: stretches are turned to agree where they overlap."""
    alleles = target.alleles
    genotypes = np.where((alleles < 0).any(axis=2), -1, alleles.sum(axis=2)).astype(np.int8)  # [t, n]
    seeds = np.array([_seed(genotypes[:, sample]) for sample in range(genotypes.shape[1])], dtype=np.uint64)
    t = len(genotypes)
    joined: Calls | None = None
    for start in range(0, max(t - OVERLAP, 1), STRETCH - OVERLAP):
        stop = min(start + STRETCH, t)
        drawn = _stretch(model, panel, target.panel_site[start:stop], genotypes[start:stop], seeds, mode)
        joined = drawn if joined is None else _joined(joined, drawn, start)
    assert joined is not None
    return joined


def _stretch(
    model: V19,
    panel: Panel,
    sites: npt.NDArray[np.int64],
    genotypes: Calls,
    seeds: npt.NDArray[np.uint64],
    mode: PhasingMode,
) -> Calls:
    alleles, cm = np.ascontiguousarray(panel.alleles(sites).T), panel.cm[sites]
    genotypes = np.ascontiguousarray(genotypes)
    k, threads = min(mode.states, panel.n_haplotypes), torch.get_num_threads()
    head = model.heads[0]
    with torch.no_grad():
        stay = head.stay(torch.from_numpy(cm - cm[0]).float()).numpy()
        mismatch = head.mismatch(torch.from_numpy(panel.maf[sites]).float()).numpy()

    def drawn(states: npt.NDArray[np.int32], count: int) -> Calls:
        return sample_phasings(
            genotypes, alleles, states, None, stay, mismatch, n_phasings=count, seeds=seeds, threads=threads
        )

    states = unphased_states(genotypes, alleles, cm, k, threads=threads)
    for _ in range(mode.rounds - 1):
        if k < panel.n_haplotypes:
            states = _pair_states(consensus(drawn(states, 4)), alleles, cm, k, threads)
    return drawn(states, mode.phasings)


def _pair_states(
    phased: Calls, alleles: npt.NDArray[np.uint8], cm: npt.NDArray[np.float64], k: int, threads: int
) -> npt.NDArray[np.int32]:
    """Half of the k states [n, k] for each of a sample's two haplotypes [t, n, 2]: the best of both in turn."""
    t, n, _ = phased.shape
    ranked = phased_states(np.ascontiguousarray(phased.reshape(t, 2 * n)), alleles, cm, k, threads=threads)
    both = ranked.reshape(n, 2, k).transpose(0, 2, 1).reshape(n, 2 * k)
    # The first k distinct ones: a sort by (haplotype, rank) finds repeats, a second one restores the ranks.
    order = np.argsort(both, axis=1, kind="stable")
    repeated = np.zeros(both.shape, dtype=bool)
    in_order = np.take_along_axis(both, order, axis=1)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    keep = np.argsort(repeated, axis=1, kind="stable")[:, :k]
    return np.ascontiguousarray(np.sort(np.take_along_axis(both, keep, axis=1), axis=1))


def _joined(left: Calls, right: Calls, start: int) -> Calls:
    """Two overlapping stretches of every phasing as one: ``right``, from typed site ``start`` on, is turned where most
    of the shared heterozygous calls say so, and takes over in the middle of the overlap."""
    shared = left.shape[1] - start
    a, b = left[:, start:], right[:, :shared]
    heterozygous = (a[..., 0] != a[..., 1]) & (b[..., 0] != b[..., 1])
    # The nearer to the seam, the more a call says of the phase there.
    weight = 1.0 / (1.0 + np.abs(np.arange(shared) - shared // 2))[None, :, None]
    agree = np.where(heterozygous, np.where(a[..., 0] == b[..., 0], weight, -weight), 0.0).sum(axis=1)  # [s, n]
    turned = np.where((agree < 0)[:, None, :, None], right[..., ::-1], right)
    return np.concatenate([left[:, : start + shared // 2], turned[:, shared // 2 :]], axis=1)


def orientation(phasings: Calls, reference: Calls, position: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """bool [phasings, t, n]: where a phasing's first haplotype runs along the second of ``reference`` [t, n, 2], as the
    nearest heterozygous call at ``position`` [t] says."""
    heterozygous = reference[..., 0] != reference[..., 1]  # [t, n]
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
