"""How retrieved haplotypes meet the query."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Decay of a key site's weight with its distance from the window, per cM, where each retrieval head starts.
INITIAL_DECAY = (0.5, 4.0, 12.0, 30.0)
# Mismatches (at full weight) that divide a retrieved haplotype's weight by e, where training starts.
INITIAL_TEMPERATURE = 1.0


class RetrievalHeads(nn.Module):
    """Turns distances to the retrieved haplotypes into copying weights, with gradient to the metric.

    Head r measures d_r(q, k) = sum over key sites of w_l exp(-decay_r * distance_l) [q_l != k_l] (w from the allele
    embedding, distance in cM from the window, 0 inside it) and weights the retrieved by softmax(-d_r / tau_r).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.empty(len(INITIAL_DECAY)))
        self.log_temperature = nn.Parameter(torch.empty(len(INITIAL_DECAY)))

    def init_weights(self) -> None:
        with torch.no_grad():
            self.log_decay.copy_(torch.tensor(INITIAL_DECAY).log())
            self.log_temperature.fill_(INITIAL_TEMPERATURE).log_()

    def decay_and_temperature(self) -> tuple[Tensor, Tensor]:
        """Copies of each head's decay per cM and temperature, [heads] each, without gradient."""
        return self.log_decay.detach().exp(), self.log_temperature.detach().exp()

    def site_weights(self, allele_weights: Tensor, distance_cm: Tensor) -> Tensor:
        """[heads, t]: what a mismatch at each key site costs, temperature included."""
        decay = torch.exp(-self.log_decay.exp()[:, None] * distance_cm)
        return allele_weights * decay / self.log_temperature.exp()[:, None]

    def forward(self, sign: Tensor, rows: Tensor, retrieved: Tensor, site_weights: Tensor) -> Tensor:
        """Copying weights [b, 2, heads, k].

        ``sign`` [b, 2, t] of the query's alleles (1 REF, -1 ALT, 0 unknown), ``rows`` [r, t] alleles of the memory,
        ``retrieved`` [b, 2, k] rows, ``site_weights`` [heads, t]. A row's distance is sum_l w_l [q_l != r_l], which
        is sum_l w_l sign_l r_l plus what does not depend on the row and so cancels in the softmax: one product,
        and no [b, 2, k, t] tensor, however dense the key.
        """
        signed = sign[:, :, None] * site_weights  # [b, 2, heads, t]
        distance = signed @ rows.to(signed.dtype).T  # [b, 2, heads, r]
        chosen = retrieved[:, :, None].expand(-1, -1, len(site_weights), -1)
        return torch.softmax(-distance.gather(-1, chosen), dim=-1)


def search_profile(decay: Tensor, temperature: Tensor, distance_cm: Tensor) -> Tensor:
    """[t], largest value 1: the factor on the allele weights by which *searching* ranks, the heads' mean."""
    profile = (torch.exp(-decay[:, None] * distance_cm) / temperature[:, None]).sum(dim=0)
    return profile / (1.0 / temperature).sum()


def fraction_or_frequency(fraction: Tensor, retrieved: Tensor, af: Tensor) -> Tensor:
    """ALT fraction [..., l] among the ``retrieved`` [..., k]; where none are (k = 0) the panel's frequency ``af`` [l]
    is all that is known."""
    return fraction if retrieved.shape[-1] else af.expand_as(fraction)


def smoothed_logit(fraction: Tensor, af: Tensor, smoothing: Tensor) -> Tensor:
    """logit of the retrieved ALT fraction [..., l], pulled towards the panel's AF [l] by ``smoothing`` in (0, 1).

    A site that no retrieved haplotype varies at keeps a finite logit, and the order of the dosages is unchanged.
    """
    p = (1.0 - smoothing) * fraction + smoothing * af.clamp(1e-4, 1.0 - 1e-4)
    return torch.logit(p.float(), eps=1e-6)
