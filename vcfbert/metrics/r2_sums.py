"""Sufficient statistics of aggregate dosage r2, by sample and by genome block.

An evaluation stores them. A comparison resamples them by sample and by block, without reading genotypes again.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import atomic_file
from vcfbert.constants import MAF_BIN_NAMES, R2_SUMS_FORMAT
from vcfbert.errors import ArtifactError, InputError
from vcfbert.metrics.accuracy import Floats, maf_bin, oriented, site_sums

BLOCKS = 50  # of consecutive scored sites, an equal number in each
_N_BINS = len(MAF_BIN_NAMES)
_OF_TRUTH = [0, 1, 3]  # indices of the sums that do not depend on the dosage


@dataclass(frozen=True)
class R2Sums:
    """Sums over (site, sample) pairs: their number, and the sums of t, d, t^2, d^2 and t d.

    t is the true count of minor alleles and d the dosage. ``samples``: names [n]. ``by_sample`` [n, bins, 6]: sums over
    all sites. ``by_block`` [blocks, bins, 6]: sums over all samples and the sites of a block.
    """

    samples: tuple[str, ...]
    by_sample: Floats
    by_block: Floats

    def pairs_with(self, other: R2Sums) -> bool:
        """Whether both have the same truth (samples, sites, blocks and bins), as a paired comparison requires."""
        return self.samples == other.samples and all(
            own.shape == others.shape and np.array_equal(own[..., _OF_TRUTH], others[..., _OF_TRUTH])
            for own, others in ((self.by_sample, other.by_sample), (self.by_block, other.by_block))
        )

    def write(self, path: Path) -> None:
        """Writes an .npz file, which ``read_r2_sums`` reads."""
        with atomic_file(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(
                handle,
                version=R2_SUMS_FORMAT,
                samples=np.array(self.samples, dtype=np.str_),
                by_sample=self.by_sample,
                by_block=self.by_block,
            )


def read_r2_sums(path: Path) -> R2Sums:
    """Reads what ``R2Sums.write`` wrote. Raises InputError 'file_not_found', ArtifactError if it is damaged."""
    hint = "run `dvc repro evaluate` again"
    try:
        with np.load(path, allow_pickle=False) as stored:
            if int(stored["version"]) != R2_SUMS_FORMAT:
                raise ArtifactError("moments_version", "R2 sums of another format version", where=str(path), hint=hint)
            r2_sums = R2Sums(tuple(stored["samples"].tolist()), stored["by_sample"], stored["by_block"])
    except FileNotFoundError as error:
        raise InputError("file_not_found", "no R2 sums of an evaluation here", where=str(path), hint=hint) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError("moments_invalid", f"not R2 sums ({error})", where=str(path), hint=hint) from error
    shapes = r2_sums.by_sample.shape, r2_sums.by_block.shape[1:]
    if shapes != ((len(r2_sums.samples), _N_BINS, 6), (_N_BINS, 6)):
        raise ArtifactError("moments_invalid", "R2 sums of other bins or samples", where=str(path), hint=hint)
    return r2_sums


class R2SumsBuilder:
    """Accumulates the R2 sums of ``sites`` sites for ``samples``."""

    def __init__(self, samples: tuple[str, ...], sites: int) -> None:
        self._samples = samples
        self._sites = sites
        self._by_sample = np.zeros((len(samples), _N_BINS, 6))
        self._by_block = np.zeros((min(BLOCKS, sites), _N_BINS, 6))

    def update(
        self, at: npt.NDArray[np.intp], truth: npt.ArrayLike, dosage: npt.ArrayLike, af: npt.NDArray[np.float64]
    ) -> None:
        """Adds sites ``at`` [l], by their index among all. The other arguments are those of ``SiteScores.update``."""
        bins, t, d, valid = oriented(truth, dosage, af)
        of_bin = np.eye(_N_BINS)[bins].T  # [bins, l]
        for column, values in enumerate((valid.astype(np.float64), t, d, t * t, d * d, t * d)):
            self._by_sample[..., column] += (of_bin @ values).T
        block = at[maf_bin(af) >= 0] * len(self._by_block) // self._sites
        np.add.at(self._by_block, (block, bins), site_sums(t, d, valid))

    def result(self) -> R2Sums:
        """The sums of all added sites."""
        return R2Sums(self._samples, self._by_sample, self._by_block)
