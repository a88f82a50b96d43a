from __future__ import annotations

import numpy as np

from benchmarks._pair_states import first_distinct, pair_states
from vcfbert.copying.states import packed_alleles, ranked_states


def test_first_distinct_reads_lists_in_turn() -> None:
    assert first_distinct([1, 2, 3], [2, 5, 6], 3) == [1, 2, 5]
    assert first_distinct([4, 3], [4, 3], 2) == [4, 3]


def test_pair_states_are_the_best_of_both_haplotypes() -> None:
    rng = np.random.default_rng(7)
    alleles = rng.integers(0, 2, (150, 40), dtype=np.uint8)
    cm = np.arange(150) / 128.0
    phased = alleles[:, rng.integers(40, size=8)].astype(np.int8).reshape(150, 4, 2)
    panel = packed_alleles(alleles)
    found = pair_states(phased, panel, cm, 9, np.zeros((4, 1), np.int64))
    for sample, states in enumerate(found):
        ranks = [
            ranked_states(one[:, None] == 0, one[:, None] == 1, panel, cm, 9, np.zeros((1, 1), np.int64))[0].tolist()
            for one in phased[:, sample].T
        ]
        assert states.tolist() == sorted(first_distinct(*ranks, 9))
        assert 0 not in states
