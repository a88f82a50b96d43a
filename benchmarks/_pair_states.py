"""States of a sample from both of its haplotypes: what selection could use if the phase were known."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np

from vcfbert.copying.states import ranked_states
from vcfbert.kernels import Bits, Calls, Doubles, Indices, Numbers


def pair_states(
    phased: Calls, panel: Bits, cm: Doubles, k: int, exclude: Indices | None = None, *, threads: int = 1
) -> Numbers:
    """States int32 [n, k] of n samples, ascending: the best of both haplotypes in turn, until there are k.

    ``phased`` int8 [t, n, 2]. ``exclude`` int64 [n, e] holds for both haplotypes. The rest is as in
    ``unphased_states``.
    """
    t, n, _ = phased.shape
    both = phased.reshape(t, 2 * n)
    excluded = None if exclude is None else np.repeat(exclude, 2, axis=0)
    ranked = ranked_states(both == 0, both == 1, panel, cm, k, excluded, threads=threads).reshape(n, 2, k)
    rows = [first_distinct(first.tolist(), second.tolist(), k) for first, second in ranked]
    return np.sort(np.array(rows, np.int32).reshape(n, k), axis=1)


def first_distinct(first: list[int], second: list[int], k: int) -> list[int]:
    """The first ``k`` distinct entries of two lists of one length read in turn."""
    in_turn = chain.from_iterable(zip(first, second, strict=True))
    return list(islice(dict.fromkeys(in_turn), k))
