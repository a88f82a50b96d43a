"""The imputed block that imputation passes to a writer, and the estimated and empirical r2 of its sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Doubles, Floats, compiled


@dataclass(frozen=True)
class ImputedBlock:
    """Imputed panel sites [start, stop) of n samples. Dims: site, sample, haplotype.

    A haploid sample has its haplotype first; its second place is never written.
    """

    start: int
    stop: int
    haplotype_dosage: npt.NDArray[np.float32]  # [l, n, 2], probability that the haplotype carries ALT (VCF's HDS)
    # [l, n, 2]: the input's typed alleles in the panel's orientation, negative where the sample was not typed. A typed
    # call is written unchanged.
    calls: npt.NDArray[np.int8]
    # [l, n, 3]: probabilities of 0, 1 and 2 ALT alleles (GP). They agree with the dosages: P(1) + 2 P(2) = HDS1 + HDS2.
    # None means that the two haplotypes are independent.
    genotype_probability: npt.NDArray[np.float32] | None = None
    # [l, n, 2]: leave-one-out dosages. At a typed site it is the dosage without that site's own call, elsewhere NaN.
    # None where the model does not compute them.
    loo_dosage: npt.NDArray[np.float32] | None = None

    @property
    def typed(self) -> npt.NDArray[np.bool_]:
        """[l]: True where at least one sample was typed."""
        return np.asarray((self.calls >= 0).any(axis=(1, 2)))

    def rows(self, start: int, stop: int) -> ImputedBlock:
        """The sites [start, stop) of the block, counted from its first site, without a copy."""
        gp, loo_dosage = self.genotype_probability, self.loo_dosage
        return ImputedBlock(
            self.start + start,
            self.start + stop,
            self.haplotype_dosage[start:stop],
            self.calls[start:stop],
            None if gp is None else gp[start:stop],
            None if loo_dosage is None else loo_dosage[start:stop],
        )


def estimated_r2(
    haplotype_dosage: npt.NDArray[np.float32], haploid: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """DR2 [l]: variance of the haplotype dosages [l, n, 2] divided by that of known haplotypes, p (1 - p).

    Only the first haplotype of a ``haploid`` [n] sample counts. This is Minimac's estimate (Das et al. 2016,
    Nat. Genet. 48:1284). It is 0 where the dosages do not vary.
    """
    flat = haplotype_dosage.reshape(len(haplotype_dosage), -1)
    if haploid is not None and haploid.any():
        flat = flat[:, np.stack([np.ones_like(haploid), ~haploid], axis=1).reshape(-1)]
    p, variance = np.empty(len(flat)), np.empty(len(flat))
    moments(np.ascontiguousarray(flat, dtype=np.float32), p, variance)
    expected = p * (1.0 - p)
    return np.asarray(np.where(expected > 1e-9, variance / np.maximum(expected, 1e-9), 0.0).clip(0.0, 1.0))


@compiled
def moments(values: Floats, mean: Doubles, variance: Doubles) -> None:
    """Fills the mean [l] and variance [l] of each row of ``values`` [l, m]."""
    mean[:] = values.mean(axis=1, dtype=np.float64) if values.shape[1] else 0.0
    variance[:] = values.var(axis=1, dtype=np.float64) if values.shape[1] else 0.0


def empirical_r2(
    loo_dosage: npt.NDArray[np.float32], calls: npt.NDArray[np.int8], haploid: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """ER2 [l]: squared correlation of ``loo_dosage`` [l, n, 2] with the typed alleles ``calls`` [l, n, 2].

    Haplotypes that have both are counted; of a ``haploid`` [n] sample only the first. This is Minimac's empirical R2
    (Das et al. 2016). It is NaN where the site is not typed, and where dosages or alleles do not vary.
    """
    both = (calls >= 0) & np.isfinite(loo_dosage)
    if haploid is not None:
        both[:, haploid, 1] = False
    n = np.maximum(both.sum(axis=(1, 2)), 1)

    def centred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        mean = np.where(both, values, 0.0).sum(axis=(1, 2)) / n
        return np.where(both, values - mean[:, None, None], 0.0)

    x, y = centred(loo_dosage.astype(np.float64)), centred(calls.astype(np.float64))
    varies = np.minimum((x**2).sum(axis=(1, 2)) / n, (y**2).sum(axis=(1, 2)) / n) > 1e-12
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = (x * y).sum(axis=(1, 2)) ** 2 / ((x**2).sum(axis=(1, 2)) * (y**2).sum(axis=(1, 2)))
    return np.where(varies, r2, np.nan)
