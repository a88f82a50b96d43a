"""V19: a mixture of Li-Stephens HMMs, whose rates and frequency-dependent mixture weights are fitted to each panel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vcfbert.model.base import SiteContext, Variant, WindowBatch, WindowOutput
from vcfbert.model.li_stephens import (
    INITIAL_MISMATCH,
    INITIAL_RATE,
    CopyingProblem,
    LiStephens,
    interpolated_dosage,
)

if TYPE_CHECKING:
    from vcfbert.config import ModelConfig
    from vcfbert.copying.haploid import Heads, Intervals

# The first head starts with textbook values of (switches per cM, mismatch probability). ``HEADS`` gives the values of
# each head as multiples of these. The last head switches so often that its state depends on a few typed sites only, and
# its weight spreads over all haplotypes that match there. By itself it is a poor model, but it helps where ALT is so
# rare that no single match is good evidence. A panel's own rates and mixture weights are found before training
# (training/rate_search.py).
INITIAL_RATES = (INITIAL_RATE, INITIAL_MISMATCH)
HEADS = ((1.0, 1.0), (2.0, 20.0), (32.0, 10.0))
INITIAL_MIXTURE = (0.495, 0.495, 0.01)
MIN_MIXTURE_WEIGHT = 1e-3  # a head of weight 0 would get no gradient and never return
MAX_MISMATCH = 0.3
INITIAL_STRENGTH = 2.0  # prior ratio of two haplotypes: exp(-strength * difference in mean weighted mismatch)
KNOTS = (-3.0, -2.3, -2.0, -1.3, -0.5)  # log10 MAF between which mixture weights and inheritance are interpolated
INITIAL_LOSS = 1e-4  # probability that a copied allele is not inherited


@dataclass(frozen=True)
class CompiledWindow:
    """What the compiled kernel needs of a window and does not depend on the targets."""

    intervals: Intervals
    fraction: Tensor  # float32 [l], as in ``intervals_of``
    heads: Heads


class V19(Variant):
    """Several heads over a wide window, each a Li-Stephens HMM with its own switch rate and mismatch probability.

    Their ALT probabilities are mixed by learned weights that depend on the site's MAF. After a switch the haplotype is
    k with probability softmax(-strength * d_k), where d_k is the mean over typed sites of the embedding's weight of a
    mismatch. A copied ALT is lost, or an ALT gained, with small learned probabilities that matter at rare sites:
    p' = p (1 - lost) + (1 - p) gained.

    Module and parameter names such as ``drawn_heads`` and ``share`` are keys of stored weights, so they stay.
    """

    name = "v19"
    is_hmm = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        # The HMM uses only distances between alleles, and the shift changes none. DDP would wait for its gradient.
        self.embedding.shift.requires_grad_(False)
        self.heads = nn.ModuleList(LiStephens() for _ in HEADS)
        # Phasings sampled from the HMM of pairs follow its mosaics, so they need other rates than a phase that is given
        # or inferred once. No gradient passes through a sampled phasing, so these rates are searched.
        self.phasing = LiStephens().requires_grad_(False)
        self.drawn_heads = nn.ModuleList(LiStephens() for _ in HEADS).requires_grad_(False)
        self.share = nn.Parameter(torch.empty(len(KNOTS), len(HEADS)))
        self.drawn_share = nn.Parameter(torch.empty(len(KNOTS), len(HEADS)), requires_grad=False)
        self.lost = nn.Parameter(torch.empty(len(KNOTS)))
        self.gained = nn.Parameter(torch.empty(len(KNOTS)))
        self.log_strength = nn.Parameter(torch.empty(()))

    @property
    def phasing_hmm(self) -> LiStephens:
        return self.phasing

    def init_weights(self) -> None:
        super().init_weights()
        with torch.no_grad():
            for chance in (self.lost, self.gained):
                chance.fill_(math.log(INITIAL_LOSS))
            self.log_strength.fill_(math.log(INITIAL_STRENGTH))
        for sampled in (False, True):
            self.set_heads(*INITIAL_RATES, sampled=sampled)
            self.set_mixture(torch.tensor(INITIAL_MIXTURE).expand(len(KNOTS), -1), sampled=sampled)
        self.phasing.start_at(*INITIAL_RATES)

    def set_heads(self, rate: float, mismatch: float, *, sampled: bool = False) -> None:
        """Sets all heads from the first one's switches per cM and mismatch probability.

        ``sampled``: the heads for sampled phasings, else those for a phase that is given or inferred.
        """
        for head, (rates, mismatches) in zip(self.hmms(sampled), HEADS, strict=True):
            head.start_at(rate * rates, min(mismatch * mismatches, MAX_MISMATCH))

    def set_mixture(self, weights: Tensor, *, sampled: bool = False) -> None:
        """Sets the mixture weights [knots, heads], rows of sum 1."""
        with torch.no_grad():
            (self.drawn_share if sampled else self.share).copy_(weights.clamp(min=MIN_MIXTURE_WEIGHT).log())

    def hmms(self, sampled: bool = False) -> list[LiStephens]:
        """The heads for sampled phasings, or for a phase that is given or inferred."""
        return list(cast("Iterable[LiStephens]", self.drawn_heads if sampled else self.heads))

    def encode_patterns(self, patterns: Tensor, sites: SiteContext) -> CompiledWindow | None:
        """The rows cut at the typed sites, and the heads' parameters there; None if the torch code runs instead."""
        if not self._compiles(patterns):
            return None
        from vcfbert.copying import haploid  # not at the top: models must import without numba

        intervals = haploid.cut(patterns.numpy(), sites.key_place.numpy())
        return CompiledWindow(intervals, intervals_of(sites)[1], self._heads_at(sites))

    def with_heads(self, window: CompiledWindow, sites: SiteContext) -> CompiledWindow:
        """``window`` with the heads' current parameters. Cutting, which takes most of the time, is not repeated."""
        return replace(window, heads=self._heads_at(sites))

    def _heads_at(self, sites: SiteContext) -> Heads:
        from vcfbert.copying import haploid  # as above

        maf, hmms = torch.minimum(sites.key_af, 1.0 - sites.key_af), self.hmms(sites.sampled)
        return haploid.Heads(
            stay=torch.stack([head.stay(sites.key_offset_cm) for head in hmms]).numpy(),
            mismatch=torch.stack([head.mismatch(maf) for head in hmms]).numpy(),
            mixture=self.mixture_weights(sites.af, sites.sampled).contiguous().numpy(),
            key_mixture=self.mixture_weights(sites.key_af, sites.sampled).contiguous().numpy(),
        )

    @staticmethod
    def _compiles(given: Tensor) -> bool:
        """Whether the compiled kernel can run: on CPU and without gradients."""
        return given.device.type == "cpu" and not torch.is_grad_enabled()

    def forward(self, batch: WindowBatch, encoded: CompiledWindow | None = None) -> WindowOutput:
        # In float32: probabilities lie near 0 and 1, and are multiplied over hundreds of sites.
        with torch.autocast(batch.tokens.device.type, enabled=False):
            window = encoded or self.encode_patterns(batch.patterns, batch.sites)
            loo = None
            if window is None:
                copied = self._copied(batch)
            else:
                copied, loo = self._copied_compiled(batch, window)
                loo = _of_samples(self.inherited(loo, batch.sites.key_af), batch.pairs)
            probability = _of_samples(self.inherited(copied, batch.sites.af), batch.pairs)
        return WindowOutput(probability, loo=loo)

    def prior(self, batch: WindowBatch) -> Tensor:
        """Probabilities [n, k] of the retrieved haplotypes after a switch, for n = 2b query haplotypes."""
        sign = batch.key_sign.flatten(0, 1).float()  # [n, t]
        weights = self.embedding.allele_weights(batch.sites.key_features)
        # Up to a constant of each query, the weighted mismatches are one matrix product (see RetrievalHeads).
        typed = sign.abs().sum(dim=1, keepdim=True).clamp(min=1.0)
        distance = (sign * weights) @ batch.key_rows.float().T / typed
        return torch.softmax(-self.log_strength.exp() * distance.gather(1, batch.key_retrieved.flatten(0, 1)), dim=1)

    def by_head(self, batch: WindowBatch, encoded: CompiledWindow | None = None) -> Iterator[Tensor]:
        """Yields each head's own ALT probability of the copied allele [n, l]; ``encoded`` as in ``forward``."""
        window = encoded or self.encode_patterns(batch.patterns, batch.sites)
        if window is None:
            yield from self._copied_by_head(batch)
        else:
            for number in range(len(HEADS)):
                alone = replace(window, heads=window.heads.alone(number))
                yield self._copied_compiled(batch, alone)[0]

    def mixture_weights(self, af: Tensor, sampled: bool) -> Tensor:
        """Mixture weights [heads, l] at sites of ALT frequency ``af`` [l]; columns sum to 1."""
        weights = torch.softmax(self.drawn_share if sampled else self.share, dim=1)
        return (knot_weights(torch.minimum(af, 1.0 - af)) @ weights).T

    def inherited(self, copied: Tensor, af: Tensor) -> Tensor:
        """ALT probability [n, l] after inheritance, from that of the ``copied`` allele [n, l]; ``af`` [l]."""
        at = knot_weights(torch.minimum(af, 1.0 - af))
        lost, gained = torch.exp(at @ self.lost), torch.exp(at @ self.gained)
        return torch.addcmul(gained, copied, 1.0 - lost - gained)

    def _copied(self, batch: WindowBatch) -> Tensor:
        """ALT probability [n, l] of the copied alleles by all heads, with gradients and on any device."""
        mixture = self.mixture_weights(batch.sites.af, batch.sites.sampled)
        out = batch.sites.af.new_zeros(())
        for copied, weight in zip(self._copied_by_head(batch), mixture, strict=True):
            out = out + copied * weight
        return out

    def _copied_by_head(self, batch: WindowBatch) -> Iterator[Tensor]:
        """As ``_copied``, but yields the probability [n, l] of each head alone."""
        sites = batch.sites
        states = batch.key_retrieved.flatten(0, 1)  # [n, k]
        n_patterns = len(batch.patterns)
        number = batch.retrieved.flatten(0, 1)
        problem = CopyingProblem(
            observed=observed(batch.key_sign).flatten(0, 1).T,
            states=batch.key_rows.T[:, states],
            cm=sites.key_offset_cm,
            maf=torch.minimum(sites.key_af, 1.0 - sites.key_af),
            prior=self.prior(batch),
        )
        interval, fraction = intervals_of(sites)
        numbers, sizes = torch.unique_consecutive(interval, return_counts=True)
        for head in self.hmms(sites.sampled):
            # Posteriors of haplotypes with the same pattern are summed before one product with the patterns.
            weight: list[Tensor] = []  # of each typed site, [n, patterns]
            for _, posterior in head.posteriors(problem):
                onto = number.expand(len(posterior), -1, -1)
                zeros = posterior.new_zeros(*posterior.shape[:2], n_patterns)
                weight.extend(zeros.scatter_add(-1, onto, posterior).unbind())
            parts, start = [], 0
            for s, length in zip(numbers.tolist(), sizes.tolist(), strict=True):
                inside = slice(start, start + length)
                left, right = weight[max(s - 1, 0)], weight[min(s, len(weight) - 1)]
                parts.append(interpolated_dosage(left, right, batch.patterns[:, inside], fraction[inside]))
                start += length
            yield torch.cat(parts, dim=1)

    def _copied_compiled(self, batch: WindowBatch, window: CompiledWindow) -> tuple[Tensor, Tensor]:
        """As ``_copied``, on CPU and without gradients, some fifty times faster.

        Also returns the leave-one-out ALT probability [n, t] at the key sites, NaN where the call is missing.
        """
        from vcfbert.copying import haploid  # as above

        states = batch.key_retrieved.flatten(0, 1)
        pattern_of = torch.zeros(len(batch.key_rows), dtype=torch.long)
        pattern_of[states] = batch.retrieved.flatten(0, 1)
        copied = haploid.copy(
            observed(batch.key_sign).flatten(0, 1).T.contiguous().numpy(),
            batch.key_rows.T.contiguous().numpy(),
            states.int().contiguous().numpy(),
            self.prior(batch).numpy(),
            window.heads,
            window.intervals.of_haplotypes(pattern_of.numpy()),
            window.fraction.numpy(),
            threads=torch.get_num_threads(),
        )
        return torch.from_numpy(copied.dosage), torch.from_numpy(copied.loo)


def _of_samples(values: Tensor, pairs: Tensor | None) -> Tensor:
    """Values [b, 2, ...] of each sample's haplotypes, from ``values`` [n, ...] of distinct haplotypes, or of all
    haplotypes in order if ``pairs`` is None."""
    return values.view(-1, 2, values.shape[-1]) if pairs is None else values[pairs]


def observed(key_sign: Tensor) -> Tensor:
    """Alleles int8, -1 where missing, from ``key_sign`` (1 REF, -1 ALT, 0 unknown)."""
    return torch.where(key_sign == 0, -1, (1 - key_sign) // 2).to(torch.int8)


def intervals_of(sites: SiteContext) -> tuple[Tensor, Tensor]:
    """For each site of the window, its interval (``haploid.Intervals``) int64 [l] and its fraction float32 [l].

    The fraction is the site's place between the interval's two typed sites, in genetic distance from 0 (left) to 1
    (right). Beyond the outermost typed site the copying probabilities of that site hold.
    """
    key = sites.key_offset_cm
    interval = torch.searchsorted(sites.key_place, torch.arange(len(sites.offset_cm), device=key.device))
    left, right = key[(interval - 1).clamp(min=0)], key[interval.clamp(max=len(key) - 1)]
    fraction = ((sites.offset_cm - left) / (right - left).clamp(min=1e-9)).clamp(0.0, 1.0)
    fraction = torch.where(interval == 0, 1.0, torch.where(interval == len(key), 0.0, fraction))
    return interval, fraction


def knot_weights(maf: Tensor) -> Tensor:
    """[l, knots]: weights of linear interpolation in log10 MAF between the two knots around each ``maf`` [l]."""
    knots = torch.tensor(KNOTS, device=maf.device)
    place = maf.clamp(min=1e-6).log10().clamp(KNOTS[0], KNOTS[-1])
    upper = torch.searchsorted(knots, place).clamp(1, len(KNOTS) - 1)
    low, high = knots[upper - 1], knots[upper]
    fraction = ((place - low) / (high - low))[:, None]
    eye = torch.eye(len(KNOTS), device=maf.device)
    return eye[upper - 1] * (1.0 - fraction) + eye[upper] * fraction
