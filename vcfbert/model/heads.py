"""Output heads of the networks: the ALT logit of each haplotype, and genotype probabilities of the pair."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcfbert.model.genotype_kernel import GenotypeHeadWeights


class HaplotypeHead(nn.Module):
    """A correction to the ALT logit, [..., l]. It starts at zero, where the prediction is that of retrieval alone."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.project = nn.Linear(dims, 1)

    def init_weights(self) -> None:
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., l, dims] -> [..., l]."""
        correction: Tensor = self.project(hidden).squeeze(-1)
        return correction


class GenotypeHead(nn.Module):
    """Probabilities of 0, 1, 2 ALT alleles that agree with both haplotypes' ALT probabilities.

    With ALT probabilities p and q, the joint distribution of the pair has one free parameter, the coupling c:
    P(2) = pq + c, P(0) = (1-p)(1-q) + c, P(1) = 1 - P(0) - P(2). The dosage is p + q for every c, and c = 0 means
    independent haplotypes. The head learns c as a fraction in (-1, 1) of the range that keeps every probability
    non-negative, from the pair's features and the site's Hardy-Weinberg (HWE) frequencies.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * dims + 3, 32)
        self.share = nn.Linear(32, 1)  # gives the coupling; its name is a key of stored weights

    def init_weights(self) -> None:
        nn.init.zeros_(self.share.weight)
        nn.init.zeros_(self.share.bias)

    def forward(self, hidden: Tensor, probability: Tensor, af: Tensor) -> Tensor:
        """``hidden`` [b, 2, l, dims], ``probability`` [b, 2, l], ``af`` [l] -> [b, l, 3]."""
        first, second = hidden[:, 0], hidden[:, 1]
        # One layer over [sum, difference, HWE], applied to each part: joined, they would be the largest tensor here.
        of_sum, of_difference, of_hwe = self._by_part()
        symmetric = F.linear(hidden, of_sum).sum(dim=1) + F.linear((first - second).abs(), of_difference)
        inner = F.gelu(symmetric + F.linear(hwe_frequencies(af.to(hidden.dtype)), of_hwe, self.hidden.bias))
        coupling = torch.tanh(self.share(inner)).squeeze(-1).float()
        return couple(probability[:, 0], probability[:, 1], coupling)

    def _by_part(self) -> tuple[Tensor, ...]:
        """The hidden layer's weights of the features' sum and difference [32, dims] and of the frequencies [32, 3]."""
        dims = (self.hidden.in_features - 3) // 2
        return torch.split(self.hidden.weight, [dims, dims, 3], dim=1)

    def weights(self, af: Tensor) -> GenotypeHeadWeights:
        """Copies of all weights for sites with the ALT frequencies ``af`` [l], on the CPU."""
        of_sum, of_difference, of_hwe = self._by_part()
        of_site = F.linear(hwe_frequencies(af), of_hwe, self.hidden.bias)
        own = (of_sum, of_difference, of_site, self.share.weight[0], self.share.bias)
        return GenotypeHeadWeights(*(np.ascontiguousarray(one.detach().numpy()) for one in own))


def hwe_frequencies(af: Tensor) -> Tensor:
    """Hardy-Weinberg frequencies [l, 3] of 0, 1, 2 ALT alleles, for ALT frequencies ``af`` [l]."""
    return torch.stack([(1 - af) ** 2, 2 * af * (1 - af), af**2], dim=-1)


def independent(p: Tensor, q: Tensor) -> Tensor:
    """Genotype probabilities [..., 3] of two independent haplotypes with ALT probabilities p, q."""
    both = p * q
    either = p + q - both
    return torch.stack([1.0 - either, either - both, both], dim=-1)


def couple(p: Tensor, q: Tensor, coupling: Tensor) -> Tensor:
    """Genotype probabilities [..., 3] of haplotypes with ALT probabilities p and q.

    ``coupling`` in (-1, 1): c as a fraction of its greatest value if positive, of its least value if negative.
    """
    first_alone, second_alone = p * (1 - q), (1 - p) * q
    both, none = p * q, (1 - p) * (1 - q)
    rise, fall = torch.minimum(first_alone, second_alone), torch.minimum(both, none)
    c = torch.where(coupling >= 0, coupling * rise, coupling * fall)
    # P(1) by its own sum: 1 - P(0) - P(2) could be negative by rounding.
    return torch.stack([none + c, first_alone + second_alone - 2 * c, both + c], dim=-1)
