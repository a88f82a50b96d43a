"""Weights retrieved haplotypes by their distance to the query, and turns their alleles into a base logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INITIAL_DECAY = (0.5, 4.0, 12.0, 30.0)  # each head's decay, per cM, of a key site's weight with distance to the window
INITIAL_TEMPERATURE = 1.0  # number of mismatches, of full weight, that divide a haplotype's weight by e


class RetrievalHeads(nn.Module):
    """Turns distances to the retrieved haplotypes into copying weights, with gradient to the metric.

    Head r measures d_r(q, k) = sum over key sites l of w_l exp(-decay_r * distance_l) [q_l != k_l] and weights the
    retrieved haplotypes by softmax(-d_r / tau_r). w_l comes from the allele embedding. distance_l is in cM from the
    window, 0 inside it.
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
        """[heads, t]: the cost of a mismatch at each key site, divided by the temperature.

        ``allele_weights`` [t]: w_l of the key sites. ``distance_cm`` [t]: their distances to the window.
        """
        decay = torch.exp(-self.log_decay.exp()[:, None] * distance_cm)
        return allele_weights * decay / self.log_temperature.exp()[:, None]

    def forward(self, sign: Tensor, rows: Tensor, retrieved: Tensor, site_weights: Tensor) -> Tensor:
        """Copying weights [b, 2, heads, k].

        ``sign`` [b, 2, t]: the query's alleles as 1 REF, -1 ALT, 0 unknown. ``rows`` [r, t]: alleles of the reference
        subset. ``retrieved`` [b, 2, k]: row numbers. ``site_weights`` [heads, t]. A row's distance sum_l w_l
        [q_l != r_l] equals sum_l w_l sign_l r_l plus a term that does not depend on the row and cancels in the softmax.
        So one matrix product gives all distances, and no [b, 2, k, t] tensor is needed.
        """
        signed = sign[:, :, None] * site_weights  # [b, 2, heads, t]
        distance = signed @ rows.to(signed.dtype).T  # [b, 2, heads, r]
        chosen = retrieved[:, :, None].expand(-1, -1, len(site_weights), -1)
        return torch.softmax(-distance.gather(-1, chosen), dim=-1)


def search_profile(decay: Tensor, temperature: Tensor, distance_cm: Tensor) -> Tensor:
    """[t] in (0, 1]: the factor on the allele weights that the search ranks by, the heads' mean.

    ``decay`` and ``temperature`` [heads], ``distance_cm`` [t].
    """
    profile = (torch.exp(-decay[:, None] * distance_cm) / temperature[:, None]).sum(dim=0)
    return profile / (1.0 / temperature).sum()


def fraction_or_frequency(fraction: Tensor, retrieved: Tensor, af: Tensor) -> Tensor:
    """The ALT ``fraction`` [..., l] among the ``retrieved`` [..., k]; if k is 0, the panel's frequency ``af`` [l]."""
    return fraction if retrieved.shape[-1] else af.expand_as(fraction)


def smoothed_logit(fraction: Tensor, af: Tensor, smoothing: Tensor) -> Tensor:
    """Logit of (1 - s) fraction + s AF, [..., l], with s = ``smoothing`` in (0, 1) and the panel's ``af`` [l].

    A site where all retrieved haplotypes agree keeps a finite logit. At each site the order of dosages is unchanged.
    """
    p = (1.0 - smoothing) * fraction + smoothing * af.clamp(1e-4, 1.0 - 1e-4)
    return torch.logit(p.float(), eps=1e-6)
