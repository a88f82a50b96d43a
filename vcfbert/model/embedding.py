"""Embeddings of alleles and sites, which retrieval measures distances by and the encoder reads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcfbert.constants import AF_FREQUENCIES, ALT_TOKEN, N_SITE_FEATURES, N_TOKENS, POSITION_SCALES, REF_TOKEN


def site_features(af: Tensor, cm: Tensor) -> Tensor:
    """Features of sites that exist for any panel, float32 [n_sites, N_SITE_FEATURES].

    ``af`` [n_sites]: ALT frequencies in the reference subset. ``cm`` float64 [n_sites]: genetic positions. The features
    are Fourier features of the square root of AF, log10 MAF, and the log10 distance in cM to the next site on either
    side. The square root spreads rare alleles out.
    """
    root = af.clamp(0.0, 1.0).sqrt()
    angles = math.pi * root[:, None] * 2.0 ** torch.arange(AF_FREQUENCIES, device=af.device)
    maf = torch.minimum(af, 1.0 - af)
    gap = torch.diff(cm).float()
    before, after = torch.cat([gap[:1], gap]), torch.cat([gap, gap[-1:]])
    if len(cm) == 1:
        before = after = torch.zeros(1, device=af.device)
    spacing = torch.stack([before, after], dim=1).clamp(min=0.0)
    columns = [
        angles.sin(),
        angles.cos(),
        (maf + 1e-4).log10()[:, None] / 4.0 + 0.5,
        ((spacing + 1e-5).log10() + 3.0) / 2.0,
    ]
    return torch.cat([c.float() for c in columns], dim=1)


class AlleleEmbedding(nn.Module):
    """E(l, token) = token vector x (1 + scale(site)) + shift(site), a vector of ``dims``.

    The product of token and site lets the metric learn. With a sum alone, REF and ALT would be equally far apart at
    every site, and L2 between embeddings would rank as Hamming distance does. ``scale`` starts at zero and |ALT - REF|
    at one, so an untrained embedding ranks by Hamming distance.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.token = nn.Embedding(N_TOKENS, dims)
        self.scale = nn.Sequential(nn.Linear(N_SITE_FEATURES, 64), nn.GELU(), nn.Linear(64, dims))
        self.shift = nn.Linear(N_SITE_FEATURES, dims)

    def init_weights(self) -> None:
        nn.init.normal_(self.token.weight, std=0.5)
        with torch.no_grad():
            delta = torch.randn_like(self.token.weight[0])
            self.token.weight[ALT_TOKEN] = self.token.weight[REF_TOKEN] + delta / delta.norm()
        last = self.scale[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """``tokens`` [..., l], ``features`` [l, F] -> [..., l, dims]."""
        return look_up(tokens, self.table(features))

    def allele_delta(self, features: Tensor) -> Tensor:
        """E(l, ALT) - E(l, REF), [l, dims], for ``features`` [l, F]."""
        difference = self.token.weight[ALT_TOKEN] - self.token.weight[REF_TOKEN]
        delta: Tensor = difference * (1.0 + self.scale(features))
        return delta

    def allele_weights(self, features: Tensor) -> Tensor:
        """w_l = |E(l, ALT) - E(l, REF)|^2, [l]: the squared L2 distance that a mismatch at site l adds."""
        return self.allele_delta(features).square().sum(dim=-1)

    def table(self, features: Tensor) -> Tensor:
        """E [l, N_TOKENS, dims]: every token at every site, for ``features`` [l, F]."""
        table: Tensor = self.token.weight * (1.0 + self.scale(features))[:, None] + self.shift(features)[:, None]
        return table


def look_up(tokens: Tensor, table: Tensor) -> Tensor:
    """Looks ``tokens`` [..., l] up in ``table`` [l, N_TOKENS, dims], giving [..., l, dims].

    Terms that all haplotypes of a batch share are added to the table, which has only N_TOKENS rows per site.
    """
    place = tokens + N_TOKENS * torch.arange(len(table), device=tokens.device)
    return F.embedding(place, table.flatten(0, 1))


class PositionEmbedding(nn.Module):
    """Fourier features of the genetic position within the window, in cM from its middle, projected to [l, dims]."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * POSITION_SCALES, dims)
        # Wavelengths from 4 cM down to 0.03 cM: from a whole retrieval window to a few neighbouring sites.
        self.register_buffer("frequency", 2.0 * math.pi / 4.0 * 2.0 ** torch.arange(POSITION_SCALES), persistent=False)

    def forward(self, offset_cm: Tensor) -> Tensor:
        """``offset_cm`` [l] -> [l, dims]."""
        frequency = self.get_buffer("frequency")
        angles = offset_cm[:, None] * frequency
        projected: Tensor = self.project(torch.cat([angles.sin(), angles.cos()], dim=1))
        return projected
