"""Sentinel values, codes and format versions."""

from __future__ import annotations

from typing import Final

# Alleles in panels and targets.
REF: Final = 0
ALT: Final = 1
MISSING: Final = -1
ABSENT: Final = -2  # the second allele of a haploid sample, at every site

# An unphased genotype is coded as its number of ALT alleles (0, 1 or 2), as MISSING, or as a half call, such as 0/.,
# of which only one allele is known: REF or ALT.
HALF_REF: Final = 3
HALF_ALT: Final = 4

# The last position that a VCF and a BCF can have.
MAX_POSITION: Final = 2**31 - 1

# Alleles as input tokens of the models.
PAD_TOKEN: Final = 0
REF_TOKEN: Final = 1
ALT_TOKEN: Final = 2
MASK_TOKEN: Final = 3
N_TOKENS: Final = 4

# Features of a site that exist for any panel (model/embedding.py).
AF_FREQUENCIES: Final = 4
N_SITE_FEATURES: Final = 2 * AF_FREQUENCIES + 3
POSITION_SCALES: Final = 8  # Fourier scales of the genetic position within a window

# Sites of smaller minor-allele frequency (MAF) are rare in F1 scores and in the loss.
RARE_MAF: Final = 0.05
# MAF bins of every reported dosage r2: half-open intervals of the MAF in the panel.
MAF_BINS: Final = ((0.0, 0.005), (0.005, 0.01), (0.01, 0.05), (0.05, 0.5000001))
MAF_BIN_NAMES: Final = ("0-0.5%", "0.5-1%", "1-5%", "5-50%")

VARIANTS: Final = ("v17", "v18", "v19")
# Colour of each variant in figures and in MLflow's charts. The palette (Okabe and Ito 2008) stays distinct under the
# common forms of colour blindness.
VARIANT_COLOURS: Final = {"v17": "#D55E00", "v18": "#0072B2", "v19": "#009E73"}

# Format versions, written into manifests and checked on reading.
PANEL_FORMAT: Final = 3
ENCODING_FORMAT: Final = 2
EMBEDDING_FORMAT: Final = 2
BUNDLE_FORMAT: Final = 5
R2_SUMS_FORMAT: Final = 1
# Kind of artifact in a bundle's manifest.
BUNDLE_KIND: Final = "bundle"

# Recombination rate assumed where no genetic map is given.
DEFAULT_CM_PER_MB: Final = 1.0
