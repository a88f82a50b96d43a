"""The haploid copying model of Li and Stephens (2003, Genetics 165:2213), exact, batched and differentiable.

A target haplotype is a mosaic of K reference haplotypes. Between typed sites the copied one changes with probability
1 - exp(-r d) (d in cM) to one drawn from a prior over the K; at a typed site the copied allele is seen wrongly with a
small probability. Forward and backward probabilities are rescaled at every site, so float32 holds them however long
the chromosome. This is attention over haplotypes whose scores come from a recurrence: every constant has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Where learning starts: switches per cM and the probability of seeing the other allele.
INITIAL_RATE = 7.5
INITIAL_MISMATCH = 2e-3


@dataclass(frozen=True)
class CopyingProblem:
    """n target haplotypes over t typed sites, each with k reference haplotypes to copy from.

    ``observed`` int8 [t, n]: alleles, -1 where missing; ``states`` uint8 [t, k], the same for all targets, or
    [t, n, k]; ``cm`` float64 [t], ascending; ``prior`` float32 [n, k] of where a switch leads, rows of sum 1.
    """

    observed: Tensor
    states: Tensor
    cm: Tensor
    prior: Tensor

    def __len__(self) -> int:
        return len(self.observed)


class LiStephens(nn.Module):
    """The model's parameters and its exact inference."""

    def __init__(self) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.tensor(math.log(INITIAL_RATE)))
        self.mismatch_logit = nn.Parameter(torch.tensor(math.log(INITIAL_MISMATCH / (1.0 - INITIAL_MISMATCH))))

    def stay(self, cm: Tensor) -> Tensor:
        """[t]: probability of no switch before each site; 0 at the first, where the prior alone speaks."""
        kept = torch.exp(-self.log_rate.exp() * torch.diff(cm).to(self.log_rate.dtype))
        return torch.cat([kept.new_zeros(1), kept])

    def emission(self, problem: CopyingProblem, site: int) -> Tensor:
        """[n, k]: probability of what was observed at a site, by the haplotype copied; 1 where it is missing."""
        mismatch = self.mismatch_logit.sigmoid()
        observed = problem.observed[site][:, None]
        seen = torch.where(observed == problem.states[site], 1.0 - mismatch, mismatch)
        return torch.where(observed < 0, torch.ones_like(seen), seen)

    def posteriors(self, problem: CopyingProblem, *, chunk: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Posterior copying probabilities [c, n, k] of ``chunk`` sites at a time with their first site, left to right.

        The backward pass comes first and keeps its message at the chunks' ends alone; each chunk's messages are
        computed again when the forward pass reaches it. So memory is 2 sqrt(t) [n, k] matrices (``chunk`` sqrt(t)).
        """
        t = len(problem)
        size = chunk or max(math.isqrt(t), 1)
        stay = self.stay(problem.cm)
        starts = list(range(0, t, size))
        message = torch.ones_like(problem.prior)
        at_end = [message] * len(starts)
        for number in range(len(starts) - 1, 0, -1):
            at_end[number] = message
            for site in range(min(starts[number] + size, t) - 1, starts[number] - 1, -1):
                message = self._backward(problem, stay, site, message)
        at_end[0] = message
        forward = problem.prior
        for start, message in zip(starts, at_end, strict=True):
            stop = min(start + size, t)
            messages = [message]
            for site in range(stop - 1, start, -1):
                messages.append(self._backward(problem, stay, site, messages[-1]))
            posterior = []
            for site, after in zip(range(start, stop), reversed(messages), strict=True):
                forward = self._forward(problem, stay, site, forward)
                joint = forward * after
                posterior.append(joint / joint.sum(dim=-1, keepdim=True))
            yield start, torch.stack(posterior)

    def log_likelihood(self, problem: CopyingProblem) -> Tensor:
        """[n]: log probability of each target's observed alleles."""
        stay = self.stay(problem.cm)
        forward, total = problem.prior, problem.prior.new_zeros(len(problem.prior))
        for site in range(len(problem)):
            joint = self._moved(problem, stay, site, forward) * self.emission(problem, site)
            scale = joint.sum(dim=-1, keepdim=True)
            forward, total = joint / scale, total + scale.squeeze(-1).log()
        return total

    @staticmethod
    def _moved(problem: CopyingProblem, stay: Tensor, site: int, forward: Tensor) -> Tensor:
        """The state's distribution [n, k] just before the alleles of ``site`` are seen."""
        return stay[site] * forward + (1.0 - stay[site]) * problem.prior

    def _forward(self, problem: CopyingProblem, stay: Tensor, site: int, forward: Tensor) -> Tensor:
        joint = self._moved(problem, stay, site, forward) * self.emission(problem, site)
        return joint / joint.sum(dim=-1, keepdim=True)

    def _backward(self, problem: CopyingProblem, stay: Tensor, site: int, message: Tensor) -> Tensor:
        """From the message after ``site`` to the one before it: what the alleles from ``site`` on say of the state
        at the site before. Scaled so that its mean under the prior is 1, which keeps it near 1 for ever."""
        seen = self.emission(problem, site) * message
        expected = (problem.prior * seen).sum(dim=-1, keepdim=True)
        return stay[site] * seen / expected + (1.0 - stay[site])


def interpolated_dosage(left: Tensor, right: Tensor, alleles: Tensor, fraction: Tensor) -> Tensor:
    """ALT probability [n, l] at sites between two typed ones.

    ``left``, ``right`` [n, k]: posteriors at the typed sites; ``alleles`` [k, l] of the reference; ``fraction`` [l]:
    how far, in cM, each site lies on the way from left to right. One product a segment.
    """
    n = len(left)
    both = torch.cat([left, right]) @ alleles.to(left.dtype)
    return both[:n] + fraction * (both[n:] - both[:n])
