"""The haploid HMM of Li and Stephens (2003, Genetics 165:2213): exact, batched and differentiable.

A target haplotype is a mosaic of K reference haplotypes. Between typed sites d cM apart a switch happens with
probability 1 - exp(-r d); the next haplotype is then sampled from a prior over the K. At a typed site the observed
allele differs from the copied one with a small mismatch probability. Forward and backward messages are rescaled at
every site, so float32 does not underflow on long chromosomes. The rate r, the mismatch probability and the prior have
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Initial values.
INITIAL_RATE = 7.5  # switches per cM
INITIAL_MISMATCH = 2e-3  # probability that the observed allele differs from the copied one
_CENTRE_LOG_MAF = math.log10(0.25)  # the MAF at which ``mismatch_logit`` alone gives the mismatch probability


@dataclass(frozen=True)
class CopyingProblem:
    """n target haplotypes over t typed sites, each with k reference haplotypes (states) to copy from."""

    observed: Tensor  # int8 [t, n], alleles, -1 where missing
    states: Tensor  # uint8 [t, n, k], alleles of the states; [t, k] if all targets have the same ones
    cm: Tensor  # [t], genetic positions, ascending
    maf: Tensor  # [t]
    prior: Tensor  # float32 [n, k], probability of each state after a switch; rows sum to 1

    def __len__(self) -> int:
        return len(self.observed)


class LiStephens(nn.Module):
    """The parameters of one Li-Stephens HMM and its exact inference."""

    def __init__(self, rate: float = INITIAL_RATE, mismatch: float = INITIAL_MISMATCH) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.tensor(math.log(rate)))
        self.mismatch_logit = nn.Parameter(torch.tensor(math.log(mismatch / (1.0 - mismatch))))
        self.mismatch_slope = nn.Parameter(torch.tensor(0.0))  # change of the logit a factor of ten in MAF

    def start_at(self, rate: float, mismatch: float) -> None:
        """Sets ``rate`` in switches per cM and the ``mismatch`` probability, the same at all frequencies."""
        with torch.no_grad():
            self.log_rate.fill_(math.log(rate))
            self.mismatch_logit.fill_(math.log(mismatch / (1.0 - mismatch)))
            self.mismatch_slope.zero_()

    def stay(self, cm: Tensor) -> Tensor:
        """[t]: probability of no switch before each site; 0 at the first site, whose state comes from the prior."""
        kept = torch.exp(-self.log_rate.exp() * torch.diff(cm).to(self.log_rate.dtype))
        return torch.cat([kept.new_zeros(1), kept])

    def mismatch(self, maf: Tensor) -> Tensor:
        """[t]: probability that the observed allele differs from the copied one, at sites of ``maf`` [t]."""
        depth = maf.to(self.mismatch_slope.dtype).clamp(1e-4, 0.5).log10() - _CENTRE_LOG_MAF
        return torch.sigmoid(self.mismatch_logit + self.mismatch_slope * depth)

    def posteriors(self, problem: CopyingProblem, *, chunk: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yields, left to right, the first site of a chunk and its posterior copying probabilities [c, n, k].

        ``chunk``: sites of a chunk, by default sqrt(t). The backward pass comes first and keeps only its messages at
        the chunks' ends. Each chunk's messages are computed again when the forward pass reaches it, and once more when
        gradients are computed. Memory is therefore bounded by about sqrt(t) matrices [n, k], besides what the caller
        keeps.
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
                message = _checkpointed(self._backward_chunk, problem, stay, mismatch, start, stop, message)
        forward = problem.prior
        for start, message in zip(range(0, t, size), reversed(at_end), strict=True):
            stop = min(start + size, t)
            posterior, forward = _checkpointed(
                self._forward_chunk, problem, stay, mismatch, start, stop, forward, message
            )
            yield start, posterior

    @staticmethod
    def _backward_chunk(
        problem: CopyingProblem, stay: Tensor, mismatch: Tensor, start: int, stop: int, message: Tensor
    ) -> Tensor:
        for site in range(stop - 1, start - 1, -1):
            message = _backward(problem, stay, mismatch, site, message)
        return message

    @staticmethod
    def _forward_chunk(
        problem: CopyingProblem, stay: Tensor, mismatch: Tensor, start: int, stop: int, forward: Tensor, message: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Forward pass over a chunk. Returns its posteriors [stop - start, n, k] and the forward message at its end.

        ``forward`` is the message before the chunk and ``message`` the backward message after it.
        """
        messages = [message]
        for site in range(stop - 1, start, -1):
            messages.append(_backward(problem, stay, mismatch, site, messages[-1]))
        posterior = []
        for site, after in zip(range(start, stop), reversed(messages), strict=True):
            forward = _forward(problem, stay, mismatch, site, forward)
            joint = forward * after
            posterior.append(joint / joint.sum(dim=-1, keepdim=True))
        return torch.stack(posterior), forward


def _emission(problem: CopyingProblem, mismatch: Tensor, site: int) -> Tensor:
    """[n, k]: probability of the observed allele at a site given each copied haplotype; 1 where it is missing."""
    observed = problem.observed[site][:, None]
    seen = torch.where(observed == problem.states[site], 1.0 - mismatch[site], mismatch[site])
    return torch.where(observed < 0, torch.ones_like(seen), seen)


def _forward(problem: CopyingProblem, stay: Tensor, mismatch: Tensor, site: int, forward: Tensor) -> Tensor:
    """The state's distribution [n, k] given the alleles up to ``site``, from that up to the site before."""
    moved = stay[site] * forward + (1.0 - stay[site]) * problem.prior
    joint = moved * _emission(problem, mismatch, site)
    return joint / joint.sum(dim=-1, keepdim=True)


def _backward(problem: CopyingProblem, stay: Tensor, mismatch: Tensor, site: int, message: Tensor) -> Tensor:
    """The backward message [n, k] before ``site``, from the ``message`` after it.

    It is proportional to the probability of the alleles from ``site`` on given the state at the site before. Its mean
    under the prior is 1, which keeps it from vanishing or overflowing.
    """
    seen = _emission(problem, mismatch, site) * message
    expected = (problem.prior * seen).sum(dim=-1, keepdim=True)
    return stay[site] * seen / expected + (1.0 - stay[site])


def _checkpointed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls ``function`` without keeping intermediate tensors; the backward pass computes them again."""
    return checkpoint(function, *arguments, use_reentrant=False) if torch.is_grad_enabled() else function(*arguments)


def interpolated_dosage(left: Tensor, right: Tensor, alleles: Tensor, fraction: Tensor) -> Tensor:
    """ALT probability [n, l] at l sites between two typed sites, by linear interpolation in cM.

    ``left``, ``right`` [n, k]: posteriors at the typed sites. ``alleles`` [k, l] of the reference haplotypes.
    ``fraction`` [l]: each site's place between them, in genetic distance from 0 (left) to 1 (right).
    """
    n = len(left)
    both = torch.cat([left, right]) @ alleles.to(left.dtype)
    return both[:n] + fraction * (both[n:] - both[:n])
