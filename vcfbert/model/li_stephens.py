"""The haploid copying model of Li and Stephens (2003, Genetics 165:2213), exact, batched and differentiable.

A target haplotype is a mosaic of K reference haplotypes. Between typed sites the copied one changes with probability
1 - exp(-r d) (d in cM) to one drawn from a prior over the K; at a typed site the copied allele is seen wrongly with a
small probability. Forward and backward probabilities are rescaled at every site, so float32 holds them however long
the chromosome. This is attention over haplotypes whose scores come from a recurrence: every constant has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Where learning starts: switches per cM and the probability of seeing the other allele.
INITIAL_RATE = 7.5
INITIAL_MISMATCH = 2e-3
# The mismatch rate's own frequency: at MAF 1/4 the rate is what ``mismatch_logit`` says.
_CENTRE_LOG_MAF = math.log10(0.25)


@dataclass(frozen=True)
class CopyingProblem:
    """n target haplotypes over t typed sites, each with k reference haplotypes to copy from.

    ``observed`` int8 [t, n]: alleles, -1 where missing; ``states`` uint8 [t, k], the same for all targets, or
    [t, n, k]; ``cm`` [t], ascending; ``maf`` [t]; ``prior`` float32 [n, k] of where a switch leads, rows of sum 1.
    """

    observed: Tensor
    states: Tensor
    cm: Tensor
    maf: Tensor
    prior: Tensor

    def __len__(self) -> int:
        return len(self.observed)


class LiStephens(nn.Module):
    """The model's parameters and its exact inference."""

    def __init__(self, rate: float = INITIAL_RATE, mismatch: float = INITIAL_MISMATCH) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.tensor(math.log(rate)))
        self.mismatch_logit = nn.Parameter(torch.tensor(math.log(mismatch / (1.0 - mismatch))))
        self.mismatch_slope = nn.Parameter(torch.tensor(0.0))  # by factor ten in MAF

    def start_at(self, rate: float, mismatch: float) -> None:
        """Sets switches per cM and the mismatch rate, the same at all frequencies."""
        with torch.no_grad():
            self.log_rate.fill_(math.log(rate))
            self.mismatch_logit.fill_(math.log(mismatch / (1.0 - mismatch)))
            self.mismatch_slope.zero_()

    def stay(self, cm: Tensor) -> Tensor:
        """[t]: probability of no switch before each site; 0 at the first, where the prior alone speaks."""
        kept = torch.exp(-self.log_rate.exp() * torch.diff(cm).to(self.log_rate.dtype))
        return torch.cat([kept.new_zeros(1), kept])

    def mismatch(self, maf: Tensor) -> Tensor:
        """[t]: probability of seeing the other allele than the copied one."""
        depth = maf.to(self.mismatch_slope.dtype).clamp(1e-4, 0.5).log10() - _CENTRE_LOG_MAF
        return torch.sigmoid(self.mismatch_logit + self.mismatch_slope * depth)

    def posteriors(self, problem: CopyingProblem, *, chunk: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Posterior copying probabilities [c, n, k] of ``chunk`` sites at a time with their first site, left to right.

        The backward pass comes first and keeps its message at the chunks' ends alone; each chunk's messages are
        computed again when the forward pass reaches it, and once more where gradients are asked for. So memory is
        some sqrt(t) [n, k] matrices, beside the posteriors that the caller keeps.
        """
        t = len(problem)
        size = chunk or max(math.isqrt(t), 1)
        stay, mismatch = self.stay(problem.cm), self.mismatch(problem.maf)
        message = torch.ones_like(problem.prior)
        at_end = []
        for start in range((t - 1) // size * size, -1, -size):
            at_end.append(message)
            if start:
                stop = min(start + size, t)
                message = _checkpointed(self._back_through, problem, stay, mismatch, start, stop, message)
        forward = problem.prior
        for start, message in zip(range(0, t, size), reversed(at_end), strict=True):
            stop = min(start + size, t)
            posterior, forward = _checkpointed(self._through, problem, stay, mismatch, start, stop, forward, message)
            yield start, posterior

    def log_likelihood(self, problem: CopyingProblem) -> Tensor:
        """[n]: log probability of each target's observed alleles."""
        stay, mismatch = self.stay(problem.cm), self.mismatch(problem.maf)
        forward, total = problem.prior, problem.prior.new_zeros(len(problem.prior))
        for site in range(len(problem)):
            forward, scale = _forward(problem, stay, mismatch, site, forward)
            total = total + scale.log()
        return total

    @staticmethod
    def _back_through(
        problem: CopyingProblem, stay: Tensor, mismatch: Tensor, start: int, stop: int, message: Tensor
    ) -> Tensor:
        for site in range(stop - 1, start - 1, -1):
            message = _backward(problem, stay, mismatch, site, message)
        return message

    @staticmethod
    def _through(
        problem: CopyingProblem, stay: Tensor, mismatch: Tensor, start: int, stop: int, forward: Tensor, message: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Posteriors [stop - start, n, k] of a chunk, from the forward message before and the backward one after it,
        and the forward message at its end."""
        messages = [message]
        for site in range(stop - 1, start, -1):
            messages.append(_backward(problem, stay, mismatch, site, messages[-1]))
        posterior = []
        for site, after in zip(range(start, stop), reversed(messages), strict=True):
            forward, _ = _forward(problem, stay, mismatch, site, forward)
            joint = forward * after
            posterior.append(joint / joint.sum(dim=-1, keepdim=True))
        return torch.stack(posterior), forward


def _emission(problem: CopyingProblem, mismatch: Tensor, site: int) -> Tensor:
    """[n, k]: probability of what was observed at a site, by the haplotype copied; 1 where it is missing."""
    observed = problem.observed[site][:, None]
    seen = torch.where(observed == problem.states[site], 1.0 - mismatch[site], mismatch[site])
    return torch.where(observed < 0, torch.ones_like(seen), seen)


def _forward(
    problem: CopyingProblem, stay: Tensor, mismatch: Tensor, site: int, forward: Tensor
) -> tuple[Tensor, Tensor]:
    """The state's distribution [n, k] given the alleles up to ``site``, and the probability [n] of the last."""
    moved = stay[site] * forward + (1.0 - stay[site]) * problem.prior
    joint = moved * _emission(problem, mismatch, site)
    scale = joint.sum(dim=-1, keepdim=True)
    return joint / scale, scale.squeeze(-1)


def _backward(problem: CopyingProblem, stay: Tensor, mismatch: Tensor, site: int, message: Tensor) -> Tensor:
    """From the message after ``site`` to the one before it: what the alleles from ``site`` on say of the state at the
    site before. Scaled so that its mean under the prior is 1, which keeps it near 1 for ever."""
    seen = _emission(problem, mismatch, site) * message
    expected = (problem.prior * seen).sum(dim=-1, keepdim=True)
    return stay[site] * seen / expected + (1.0 - stay[site])


def _checkpointed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Forgets what happens inside until gradients are asked for; then it happens again."""
    return checkpoint(function, *arguments, use_reentrant=False) if torch.is_grad_enabled() else function(*arguments)


def interpolated_dosage(left: Tensor, right: Tensor, alleles: Tensor, fraction: Tensor) -> Tensor:
    """ALT probability [n, l] at sites between two typed ones.

    ``left``, ``right`` [n, k]: posteriors at the typed sites; ``alleles`` [k, l] of the reference; ``fraction`` [l]:
    how far, in cM, each site lies on the way from left to right. One product a segment.
    """
    n = len(left)
    both = torch.cat([left, right]) @ alleles.to(left.dtype)
    return both[:n] + fraction * (both[n:] - both[:n])
