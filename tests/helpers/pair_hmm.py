"""The exact diploid Li-Stephens HMM of unphased genotypes: forward and backward over pairs of copied haplotypes.

The two haplotypes of a target copy independently, each as in ``li_stephens``, and the genotype is the sum of their
alleles (Li and Stephens 2003, Genetics 165:2213; Marchini et al. 2007, Nat. Genet. 39:906). Transitions factorise, so
the time a site takes grows with k^2, not k^4. Tests compare ``copying/diploid.py`` with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from vcfbert.model.li_stephens import CopyingProblem

from vcfbert.constants import HALF_ALT, HALF_REF


def genotype_emission(genotypes: Tensor, states: Tensor, mismatch: Tensor) -> Tensor:
    """[n, k, k]: probability of each target's genotype at one site, by the pair of haplotypes copied.

    ``genotypes`` [n]: 0, 1, 2, -1 where missing (probability 1), HALF_REF and HALF_ALT (the known allele is that of
    either haplotype, each with probability 1/2); ``states`` [k] or [n, k]; ``mismatch``: scalar.
    """
    alt = torch.where(states > 0, 1.0 - mismatch, mismatch).expand(len(genotypes), -1)  # [n, k]: copied as ALT
    first, second = alt[:, :, None], alt[:, None, :]
    homozygous_alt = first * second
    homozygous_ref = (1.0 - first) * (1.0 - second)
    seen = genotypes[:, None, None]
    probability = torch.where(seen == 1, first * (1.0 - second) + (1.0 - first) * second, torch.ones_like(first))
    half_alt = (first + second) / 2.0
    probability = torch.where(seen == HALF_ALT, half_alt, torch.where(seen == HALF_REF, 1.0 - half_alt, probability))
    return torch.where(seen == 0, homozygous_ref, torch.where(seen == 2, homozygous_alt, probability))


def pair_posteriors(problem: CopyingProblem, stay: Tensor, mismatch: Tensor) -> Iterator[Tensor]:
    """Posterior probability [n, k, k] of the two haplotypes copied, site by site from left to right.

    ``problem.observed`` holds genotypes (0, 1, 2, -1 missing); ``stay`` [t], 0 at the first site, and ``mismatch``
    [t] are probabilities. Symmetric: the order of a target's haplotypes means nothing. The backward messages are kept
    at sqrt(t) sites and computed again between them, so memory is 2 sqrt(t) [n, k, k] matrices.
    """
    t = len(problem)
    size = max(math.isqrt(t), 1)
    starts = range(0, t, size)
    message = _outer(torch.ones_like(problem.prior), torch.ones_like(problem.prior))
    at_end = {}
    for start in reversed(starts):
        at_end[start] = message
        for site in range(min(start + size, t) - 1, start - 1, -1):
            message = _backward(problem, stay, mismatch, site, message)
    forward = _outer(problem.prior, problem.prior)
    for start in starts:
        messages = [at_end[start]]
        for site in range(min(start + size, t) - 1, start, -1):
            messages.append(_backward(problem, stay, mismatch, site, messages[-1]))
        for site in range(start, start + len(messages)):
            forward, _ = _forward(problem, stay, mismatch, site, forward)
            joint = forward * messages.pop()
            yield joint / joint.sum(dim=(1, 2), keepdim=True)


def copying_posteriors(problem: CopyingProblem, stay: Tensor, mismatch: Tensor) -> Tensor:
    """[t, n, k]: expected copies of each haplotype among the target's two, halved; see ``pair_posteriors``.

    The expected dosage at a site is twice the product of this with the haplotypes' alleles.
    """
    return torch.stack([pair.sum(dim=-1) for pair in pair_posteriors(problem, stay, mismatch)])


def log_likelihood(problem: CopyingProblem, stay: Tensor, mismatch: Tensor) -> Tensor:
    """[n]: log probability of each target's genotypes."""
    forward = _outer(problem.prior, problem.prior)
    total = problem.prior.new_zeros(len(problem.prior))
    for site in range(len(problem)):
        forward, scale = _forward(problem, stay, mismatch, site, forward)
        total = total + scale.log()
    return total


def _outer(first: Tensor, second: Tensor) -> Tensor:
    return first[:, :, None] * second[:, None, :]


def _emission(problem: CopyingProblem, mismatch: Tensor, site: int) -> Tensor:
    return genotype_emission(problem.observed[site], problem.states[site], mismatch[site])


def _forward(
    problem: CopyingProblem, stay: Tensor, mismatch: Tensor, site: int, forward: Tensor
) -> tuple[Tensor, Tensor]:
    """The pair's distribution [n, k, k] given the genotypes up to ``site``, from that before, and the probability
    [n] of the genotype there."""
    kept, jump = stay[site], 1.0 - stay[site]
    # Neither switches, either does, both do; the matrix is symmetric.
    one = _outer(forward.sum(dim=-1), problem.prior)
    both = _outer(problem.prior, problem.prior)
    moved = kept**2 * forward + kept * jump * (one + one.mT) + jump**2 * both
    joint = moved * _emission(problem, mismatch, site)
    scale = joint.sum(dim=(1, 2))
    return joint / scale[:, None, None], scale


def _backward(problem: CopyingProblem, stay: Tensor, mismatch: Tensor, site: int, message: Tensor) -> Tensor:
    """From the message after ``site`` to the one before it, scaled so that its mean under the prior is 1."""
    seen = _emission(problem, mismatch, site) * message
    one = (seen @ problem.prior[:, :, None]).expand_as(seen)  # [n, k, k]: expected where the second has switched
    both = (problem.prior[:, :, None] * one).sum(dim=1, keepdim=True)[:, :, :1]
    kept, jump = stay[site], 1.0 - stay[site]
    return (kept**2 * seen + kept * jump * (one + one.mT)) / both + jump**2
