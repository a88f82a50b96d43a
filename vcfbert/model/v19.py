"""V19: copying. The attention over retrieved haplotypes takes its scores from a recurrence, not from one distance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vcfbert.config import ModelConfig
from vcfbert.model.base import SiteContext, Variant, WindowBatch, WindowOutput
from vcfbert.model.li_stephens import (
    INITIAL_MISMATCH,
    INITIAL_RATE,
    CopyingProblem,
    LiStephens,
    interpolated_dosage,
)

if TYPE_CHECKING:
    from vcfbert.copying.haploid import Heads, Segments

# Switches per cM and mismatch rate of the first head, the textbook's, and those of all heads as multiples of them. The
# last remembers a few typed sites, so that its weight lies on all haplotypes that match there: on its own a poor model,
# but where ALT is rarest no one match says enough. What serves a panel, rates and shares, is found before learning
# starts (training/rate_search.py).
INITIAL_RATES = (INITIAL_RATE, INITIAL_MISMATCH)
HEADS = ((1.0, 1.0), (2.0, 20.0), (32.0, 10.0))
INITIAL_SHARES = (0.495, 0.495, 0.01)
MIN_SHARE = 1e-3  # or no gradient would ever bring a head back
MAX_MISMATCH = 0.3
# What a prior ratio of e takes in mean weighted mismatches (a share of the typed sites): exp(-strength * mismatches).
INITIAL_STRENGTH = 2.0
# log10 MAF of the knots between which shares and inheritance are interpolated.
KNOTS = (-3.0, -2.3, -2.0, -1.3, -0.5)
# Chance that a copied allele is not inherited, where learning starts.
INITIAL_LOSS = 1e-4


@dataclass(frozen=True)
class CompiledWindow:
    """What the compiled kernel needs of a window, whoever is imputed there."""

    segments: Segments
    fraction: Tensor  # float32 [l], how far a site lies on the way between its typed neighbours
    heads: Heads


class V19(Variant):
    """Several copying heads over a wide window, each a Li-Stephens model with a switch rate and mismatch rate of its
    own, mixed by learned shares that depend on the site's frequency.

    A switch leads to haplotype k with probability softmax(-strength * d_k), d_k the mean of the embedding's weights
    over the typed sites that mismatch. A copied allele is inherited but for a small learned chance, which matters at
    rare sites: p' = p (1 - lost) + (1 - p) gained.
    """

    name = "v19"
    is_hmm = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        # No distance between alleles knows it: it gets no gradient, for which DDP would wait.
        self.embedding.shift.requires_grad_(False)
        self.heads = nn.ModuleList(LiStephens() for _ in HEADS)
        # Phasings are drawn from a model of pairs, and lie along its mosaics: they are copied with other rates than a
        # phase that was inferred once. No gradient passes through a drawn phasing; these rates are searched.
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
        for drawn in (False, True):
            self.set_heads(*INITIAL_RATES, drawn=drawn)
            self.set_shares(torch.tensor(INITIAL_SHARES).expand(len(KNOTS), -1), drawn=drawn)
        self.phasing.start_at(*INITIAL_RATES)

    def set_heads(self, rate: float, mismatch: float, *, drawn: bool = False) -> None:
        """Each head's switches per cM and mismatch rate, given those of the first; of queries that are ``drawn``."""
        for head, (rates, mismatches) in zip(self.copying(drawn), HEADS, strict=True):
            head.start_at(rate * rates, min(mismatch * mismatches, MAX_MISMATCH))

    def set_shares(self, shares: Tensor, *, drawn: bool = False) -> None:
        """Of each head at each knot, [knots, heads], rows of sum 1."""
        with torch.no_grad():
            (self.drawn_share if drawn else self.share).copy_(shares.clamp(min=MIN_SHARE).log())

    def copying(self, drawn: bool = False) -> list[LiStephens]:
        """The heads for queries that are ``drawn`` or not."""
        return list(cast("Iterable[LiStephens]", self.drawn_heads if drawn else self.heads))

    def encode_patterns(self, patterns: Tensor, sites: SiteContext) -> CompiledWindow | None:
        """The rows cut at the typed sites, and the heads' parameters there; None where torch copies."""
        if not self._compiles(patterns):
            return None
        from vcfbert.copying import haploid  # here alone, so that models run where torch and numpy are all there is

        segments = haploid.cut(patterns.numpy(), sites.key_place.numpy())
        return CompiledWindow(segments, segments_of(sites)[1], self._heads_at(sites))

    def with_heads(self, window: CompiledWindow, sites: SiteContext) -> CompiledWindow:
        """A window that was encoded before the heads changed, as it is encoded now: cutting takes the longest."""
        return replace(window, heads=self._heads_at(sites))

    def _heads_at(self, sites: SiteContext) -> Heads:
        from vcfbert.copying import haploid  # as above

        maf, copying = torch.minimum(sites.key_af, 1.0 - sites.key_af), self.copying(sites.drawn)
        return haploid.Heads(
            stay=torch.stack([head.stay(sites.key_offset_cm) for head in copying]).numpy(),
            mismatch=torch.stack([head.mismatch(maf) for head in copying]).numpy(),
            share=self._shares(sites.af, sites.drawn).contiguous().numpy(),
            key_share=self._shares(sites.key_af, sites.drawn).contiguous().numpy(),
        )

    @staticmethod
    def _compiles(given: Tensor) -> bool:
        return given.device.type == "cpu" and not torch.is_grad_enabled()

    def forward(self, batch: WindowBatch, encoded: CompiledWindow | None = None) -> WindowOutput:
        # Probabilities near 0 and 1 and their products over hundreds of sites: bf16 holds neither.
        with torch.autocast(batch.tokens.device.type, enabled=False):
            window = encoded or self.encode_patterns(batch.patterns, batch.sites)
            left_out = None
            if window is None:
                copied = self._copied(batch)
            else:
                copied, left_out = self._copied_compiled(batch, window)
                left_out = _of_samples(self._inherited(left_out, batch.sites.key_af), batch.pairs)
            probability = _of_samples(self._inherited(copied, batch.sites.af), batch.pairs)
        return WindowOutput(probability, left_out=left_out)

    def prior(self, batch: WindowBatch) -> Tensor:
        """Where a switch leads, [n, k] over the retrieved."""
        sign = batch.key_sign.flatten(0, 1).float()  # [n, t]
        weights = self.embedding.allele_weights(batch.sites.key_features)
        # Up to a constant of the query the weighted mismatches are a product (see RetrievalHeads).
        typed = sign.abs().sum(dim=1, keepdim=True).clamp(min=1.0)
        distance = (sign * weights) @ batch.key_rows.float().T / typed
        return torch.softmax(-self.log_strength.exp() * distance.gather(1, batch.key_retrieved.flatten(0, 1)), dim=1)

    def by_head(self, batch: WindowBatch, encoded: CompiledWindow | None = None) -> Iterator[Tensor]:
        """ALT probability [n, l] of what each head copies by itself; ``encoded`` as in ``forward``."""
        window = encoded or self.encode_patterns(batch.patterns, batch.sites)
        if window is None:
            yield from self._copied_by_head(batch)
        else:
            for number in range(len(HEADS)):
                alone = replace(window, heads=window.heads.alone(number))
                yield self._copied_compiled(batch, alone)[0]

    def _shares(self, af: Tensor, drawn: bool) -> Tensor:
        """Of the heads, [heads, l], at sites of ALT frequency ``af`` [l]."""
        share = torch.softmax(self.drawn_share if drawn else self.share, dim=1)
        return (knot_weights(torch.minimum(af, 1.0 - af)) @ share).T

    def _inherited(self, copied: Tensor, af: Tensor) -> Tensor:
        """ALT probability [n, l] of what was copied [n, l]."""
        at = knot_weights(torch.minimum(af, 1.0 - af))
        lost, gained = torch.exp(at @ self.lost), torch.exp(at @ self.gained)
        return torch.addcmul(gained, copied, 1.0 - lost - gained)

    def _copied(self, batch: WindowBatch) -> Tensor:
        """ALT probability [n, l] of the alleles copied, with gradients and on any device."""
        shares = self._shares(batch.sites.af, batch.sites.drawn)
        out = batch.sites.af.new_zeros(())
        for copied, share in zip(self._copied_by_head(batch), shares, strict=True):
            out = out + copied * share
        return out

    def _copied_by_head(self, batch: WindowBatch) -> Iterator[Tensor]:
        """The same of each head by itself."""
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
        segment, fraction = segments_of(sites)
        segment_of, size = torch.unique_consecutive(segment, return_counts=True)
        for head in self.copying(sites.drawn):
            # Haplotypes alike in the window share a row of the products to come.
            weight: list[Tensor] = []  # of each typed site, [n, patterns]
            for _, posterior in head.posteriors(problem):
                onto = number.expand(len(posterior), -1, -1)
                zeros = posterior.new_zeros(*posterior.shape[:2], n_patterns)
                weight.extend(zeros.scatter_add(-1, onto, posterior).unbind())
            parts, start = [], 0
            for s, length in zip(segment_of.tolist(), size.tolist(), strict=True):
                inside = slice(start, start + length)
                left, right = weight[max(s - 1, 0)], weight[min(s, len(weight) - 1)]
                parts.append(interpolated_dosage(left, right, batch.patterns[:, inside], fraction[inside]))
                start += length
            yield torch.cat(parts, dim=1)

    def _copied_compiled(self, batch: WindowBatch, window: CompiledWindow) -> tuple[Tensor, Tensor]:
        """The same, without gradients and on CPU: some fifty times faster; and [n, t] at the key sites, each without
        its own call, NaN where that is missing."""
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
            window.segments.of_haplotypes(pattern_of.numpy()),
            window.fraction.numpy(),
            threads=torch.get_num_threads(),
        )
        return torch.from_numpy(copied.dosage), torch.from_numpy(copied.left_out)


def _of_samples(values: Tensor, pairs: Tensor | None) -> Tensor:
    """[b, 2, ...] of the samples' haplotypes, from those of distinct haplotypes or of all in a row."""
    return values.view(-1, 2, values.shape[-1]) if pairs is None else values[pairs]


def observed(key_sign: Tensor) -> Tensor:
    """Alleles int8, -1 where missing, from signs (1 REF, -1 ALT, 0 unknown)."""
    return torch.where(key_sign == 0, -1, (1 - key_sign) // 2).to(torch.int8)


def segments_of(sites: SiteContext) -> tuple[Tensor, Tensor]:
    """The segment [l] of each site, as in ``haploid.Segments``, and how far [l] it lies, in cM, on the way between the
    segment's two typed sites; beyond the outermost typed sites their copying probabilities hold."""
    key = sites.key_offset_cm
    segment = torch.searchsorted(sites.key_place, torch.arange(len(sites.offset_cm), device=key.device))
    left, right = key[(segment - 1).clamp(min=0)], key[segment.clamp(max=len(key) - 1)]
    fraction = ((sites.offset_cm - left) / (right - left).clamp(min=1e-9)).clamp(0.0, 1.0)
    fraction = torch.where(segment == 0, 1.0, torch.where(segment == len(key), 0.0, fraction))
    return segment, fraction


def knot_weights(maf: Tensor) -> Tensor:
    """[l, knots]: linear interpolation in log10 MAF between the two knots around it."""
    knots = torch.tensor(KNOTS, device=maf.device)
    place = maf.clamp(min=1e-6).log10().clamp(KNOTS[0], KNOTS[-1])
    upper = torch.searchsorted(knots, place).clamp(1, len(KNOTS) - 1)
    low, high = knots[upper - 1], knots[upper]
    share = ((place - low) / (high - low))[:, None]
    eye = torch.eye(len(KNOTS), device=maf.device)
    return eye[upper - 1] * (1.0 - share) + eye[upper] * share
