"""V18 on the CPU in numpy and compiled code, for inference: the network of ``v18.py`` without torch.

Importing torch takes seconds, and for windows of a few thousand cells its operations cost more than their arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from vcfbert.constants import AF_FREQUENCIES, ALT_TOKEN, N_SITE_FEATURES, N_TOKENS, POSITION_SCALES, REF_TOKEN
from vcfbert.kernels import Alleles, Doubles, Floats, Indices
from vcfbert.model.encoder_kernel import EncoderWeights
from vcfbert.model.genotype_kernel import GenotypeHeadWeights, predict_pairs
from vcfbert.model.v18_kernel import V18Queries, V18Weights, V18Window, run_v18

_BLOCK: Final = {  # fields of ``EncoderWeights`` and the layers of ``encoder.Block`` that they hold
    "attention_norm": "attention_norm",
    "projection": "query_key_value",
    "out": "attention_out",
    "mlp_norm": "mlp_norm",
    "mlp_in": "mlp_in",
    "mlp_out": "mlp_out",
}


@dataclass(frozen=True)
class SitePositions:
    """Genetic positions of a window: float64, in cM."""

    offset: Doubles  # [l], of its sites from its middle
    key_distance: Doubles  # [t], of key sites to its nearer edge, 0 inside


class CompiledV18:
    """The network of a V18 bundle. Thread-safe."""

    takes_unphased: Final = False

    def __init__(self, weights: Mapping[str, Floats], *, dims: int, layers: int, heads: int, mlp_ratio: int) -> None:
        """``weights``: the state of ``V18``. Raises ValueError if their names or shapes are not those of the others."""
        expected = _shapes(dims, layers, mlp_ratio, len(weights.get("mixture", ())))
        found = {name: (value.shape, value.dtype.name) for name, value in weights.items()}
        if dims % heads or found != {name: (shape, "float32") for name, shape in expected.items()}:
            raise ValueError("these are not the weights of the configured network")
        self._of = weights
        self._heads = heads
        self.dims = dims
        self._encoder = _encoder_weights(weights, layers)
        self._network = V18Weights(
            evidence=np.ascontiguousarray(weights["evidence.weight"]),
            mixture=_softmax(weights["mixture"]),
            smoothing=_logistic(weights["smoothing"].reshape(1)),
            correction=weights["haplotype_head.project.weight"][0].copy(),
            constant=weights["haplotype_head.project.bias"],
        )
        self._decay, self._temperature = (np.exp(weights[f"retrieval.log_{name}"]) for name in ("decay", "temperature"))

    def search_profile(self, key_distance: Doubles) -> Floats:
        """As ``fusion.search_profile``, float32 [t]."""
        distance = key_distance.astype(np.float32)
        profile = (np.exp(-self._decay[:, None] * distance) / self._temperature[:, None]).sum(axis=0)
        weighed: Floats = profile / (1.0 / self._temperature).sum()
        return weighed

    def window(
        self,
        features: Floats,
        key_features: Floats,
        at: SitePositions,
        af: Floats,
        key_alleles: Alleles,
        alleles: Alleles,
    ) -> V18Window:
        """A window with ``features`` [l, F] and panel frequencies ``af`` [l] of its sites, and ``key_features`` [t, F].

        ``key_alleles`` [m, t] and ``alleles`` [m, l] are those of the reference subset.
        """
        token = self._of["embedding.token.weight"]
        table = (token[:, None] * (1.0 + self._scale(features)) + self._linear("embedding.shift", features)).astype(
            np.float32
        )
        pooled = (table[ALT_TOKEN] - table[REF_TOKEN]) @ self._of["pooled.weight"].T
        angles = at.offset.astype(np.float32)[:, None] * _position_frequencies()
        position = self._linear("position.project", np.concatenate([np.sin(angles), np.cos(angles)], axis=1))
        table += position + self._of["pooled.bias"] + self._of["evidence.bias"]
        decay = np.exp(-self._decay[:, None] * at.key_distance.astype(np.float32)) / self._temperature[:, None]
        delta = (token[ALT_TOKEN] - token[REF_TOKEN]) * (1.0 + self._scale(key_features))
        return V18Window(
            table=table,
            pooled=np.ascontiguousarray(pooled),
            af=af,
            key_weights=np.ascontiguousarray(np.square(delta).sum(axis=1) * decay, np.float32),
            key_alleles=key_alleles.astype(np.float32),
            alleles=np.ascontiguousarray(alleles),
        )

    def predict(self, window: V18Window, queries: V18Queries, pairs: Indices, *, threads: int) -> tuple[Floats, Floats]:
        """ALT probabilities [l, n, 2] and genotype probabilities [l, n, 3] of n samples.

        ``pairs`` [n, 2]: the two ``queries`` of each sample.
        """
        features, logit = run_v18(window, queries, self._network, self._encoder, self._heads, threads=threads)
        hidden, af = self._of["genotype_head.hidden.weight"], window.af[:, None]
        hwe = np.concatenate([(1 - af) ** 2, 2 * af * (1 - af), af**2], axis=1)
        head = GenotypeHeadWeights(
            of_sum=np.ascontiguousarray(hidden[:, : self.dims]),
            of_difference=np.ascontiguousarray(hidden[:, self.dims : 2 * self.dims]),
            of_site=np.ascontiguousarray(hwe @ hidden[:, 2 * self.dims :].T + self._of["genotype_head.hidden.bias"]),
            coupling=self._of["genotype_head.share.weight"][0].copy(),
            constant=self._of["genotype_head.share.bias"],
        )
        return predict_pairs(features, logit, pairs, head, threads=threads)

    def _scale(self, features: Floats) -> Floats:
        return self._linear("embedding.scale.2", _gelu(self._linear("embedding.scale.0", features)))

    def _linear(self, name: str, x: Floats) -> Floats:
        y: Floats = x @ self._of[f"{name}.weight"].T + self._of[f"{name}.bias"]
        return y


def site_features(af: Doubles, cm: Doubles) -> Floats:
    """As ``embedding.site_features``, float32 [n_sites, F], for ALT frequencies and genetic positions [n_sites]."""
    frequency = af.astype(np.float32)
    root = np.sqrt(frequency.clip(0.0, 1.0))
    angles = np.float32(math.pi) * root[:, None] * np.float32(2.0) ** _steps(AF_FREQUENCIES)
    maf = np.minimum(frequency, 1.0 - frequency)
    gap = np.diff(cm).astype(np.float32)
    before, after = np.concatenate([gap[:1], gap]), np.concatenate([gap, gap[-1:]])
    if len(cm) == 1:
        before = after = np.zeros(1, np.float32)
    spacing = np.stack([before, after], axis=1).clip(0.0)
    columns = [
        np.sin(angles),
        np.cos(angles),
        np.log10(maf + np.float32(1e-4))[:, None] / 4.0 + 0.5,
        (np.log10(spacing + np.float32(1e-5)) + 3.0) / 2.0,
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _steps(n: int) -> Floats:
    return np.arange(n, dtype=np.float32)


def _position_frequencies() -> Floats:
    return np.float32(2.0 * math.pi / 4.0) * np.float32(2.0) ** _steps(POSITION_SCALES)


def _gelu(x: Floats) -> Floats:
    """x times the normal distribution function at x, by formula 7.1.26 of Abramowitz and Stegun: within 2e-7 |x|."""
    size = np.abs(x)
    t = 1.0 / (1.0 + 0.23164190 * size)
    tail = t * (0.12741480 + t * (-0.14224837 + t * (0.71070687 + t * (-0.72657601 + t * 0.53070271))))
    gelu: Floats = np.maximum(x, 0.0) - size * tail * np.exp(-0.5 * x * x)
    return gelu


def _softmax(x: Floats) -> Floats:
    power = np.exp(x - x.max())
    shares: Floats = power / power.sum()
    return shares


def _logistic(x: Floats) -> Floats:
    share: Floats = np.asarray(1.0 / (1.0 + np.exp(-x)), np.float32)
    return share


def _encoder_weights(weights: Mapping[str, Floats], layers: int) -> EncoderWeights:
    stacked = {}
    for field, name in _BLOCK.items():
        own = {
            kind: np.stack([weights[f"encoder.blocks.{layer}.{name}.{kind}"] for layer in range(layers)])
            for kind in ("weight", "bias")
        }
        if field.endswith("norm"):
            stacked[field] = np.stack([own["weight"], own["bias"]], axis=1)
        else:
            stacked[field], stacked[f"{field}_bias"] = own["weight"], own["bias"]
    return EncoderWeights(**stacked, norm=np.stack([weights["encoder.norm.weight"], weights["encoder.norm.bias"]]))


def _shapes(dims: int, layers: int, mlp_ratio: int, retrieval_heads: int) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of ``V18``."""
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.token.weight": (N_TOKENS, dims),
        "mixture": (retrieval_heads,),
        "smoothing": (),
        "retrieval.log_decay": (retrieval_heads,),
        "retrieval.log_temperature": (retrieval_heads,),
    }
    linear = {
        "embedding.scale.0": (64, N_SITE_FEATURES),
        "embedding.scale.2": (dims, 64),
        "embedding.shift": (dims, N_SITE_FEATURES),
        "position.project": (dims, 2 * POSITION_SCALES),
        "pooled": (dims, dims),
        "evidence": (dims, 3 * retrieval_heads),
        "haplotype_head.project": (1, dims),
        "genotype_head.hidden": (32, 2 * dims + 3),
        "genotype_head.share": (1, 32),
    }
    norms = ["encoder.norm"]
    for layer in range(layers):
        block = f"encoder.blocks.{layer}"
        norms += [f"{block}.attention_norm", f"{block}.mlp_norm"]
        linear[f"{block}.query_key_value"] = (3 * dims, dims)
        linear[f"{block}.attention_out"] = (dims, dims)
        linear[f"{block}.mlp_in"] = (mlp_ratio * dims, dims)
        linear[f"{block}.mlp_out"] = (dims, mlp_ratio * dims)
    for name, shape in linear.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    for name in norms:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (dims,)
    return shapes
