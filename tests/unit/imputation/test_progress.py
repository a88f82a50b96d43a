from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcfbert.imputation.progress import SitesDone


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(0, 5))
def test_every_site_is_reported_once_and_the_last_block_completes_them(blocks: list[int], n_windows: int) -> None:
    told: list[int] = []
    done = SitesDone(told.append, sum(blocks))
    for window in range(n_windows):
        done.phased((window + 1) / n_windows)
    assert sum(told) == (sum(blocks) // 3 if n_windows else 0)
    for block in blocks:
        assert sum(told) < sum(blocks)
        done.imputed(block)
    assert sum(told) == sum(blocks)
    assert min(told) > 0


def test_blocks_without_phasing_are_reported_in_full() -> None:
    told: list[int] = []
    done = SitesDone(told.append, 60)
    for block in (10, 20, 30):
        done.imputed(block)
    assert told == [10, 20, 30]


def test_progress_without_listener_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    done = SitesDone(None, 4)
    done.phased(1.0)
    done.imputed(4)
    assert capsys.readouterr() == ("", "")
