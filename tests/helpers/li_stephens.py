"""Dosages from the copying probabilities of ``copying/li_stephens.py``, site by site."""

from __future__ import annotations

import numpy as np

from vcfbert.kernels import Alleles, Doubles, Floats, Indices


def dosages(posterior: Doubles, alleles: Alleles, place: Indices, fraction: Floats) -> Doubles:
    """ALT probability [l] of the copied allele at l sites, of which some are typed.

    ``posterior`` [t, k]: at the typed sites. ``alleles`` [k, l] of the haplotypes. ``place`` [t]: index of each typed
    site among the l; it may lie beyond either end. ``fraction`` [l]: place of each site between its typed neighbours.
    Beyond the outermost typed site that site's copying probabilities hold.
    """
    out = np.empty(alleles.shape[1])
    for site in range(len(out)):
        right = int((place < site).sum())  # the first typed site at or beyond this one
        if right == 0:
            copied = posterior[0]
        elif right == len(place):
            copied = posterior[-1]
        else:
            copied = posterior[right - 1] + float(fraction[site]) * (posterior[right] - posterior[right - 1])
        out[site] = copied @ alleles[:, site]
    return out
