from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vcfbert.imputation.progress import SitesDone


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(0, 5))
def test_every_site_is_told_once_and_the_last_ones_at_the_end(blocks: list[int], n_stretches: int) -> None:
    told: list[int] = []
    done = SitesDone(told.append, sum(blocks))
    for stretch in range(n_stretches):
        done.phased((stretch + 1) / n_stretches)
    assert sum(told) == (sum(blocks) // 3 if n_stretches else 0)
    for block in blocks:
        assert sum(told) < sum(blocks)
        done.imputed(block)
    assert sum(told) == sum(blocks)
    assert min(told) > 0


def test_without_phasing_blocks_are_told_as_they_are() -> None:
    told: list[int] = []
    done = SitesDone(told.append, 60)
    for block in (10, 20, 30):
        done.imputed(block)
    assert told == [10, 20, 30]


def test_nobody_has_to_listen() -> None:
    done = SitesDone(None, 4)
    done.phased(1.0)
    done.imputed(4)
